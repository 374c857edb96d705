"""Run records: one JSON per run, committed, and the sweeps that ask for them.

A record holds its resolved parameters, per-seed or per-chip results, the digests of its data, wall
time, versions, the commit, a digest of the code that made it and one of what it says. It is written
under another name and renamed, so a record that exists is whole; its name is a hash of its parameters,
so none is made twice; both are checked when it is read. Command line::

    python -m companion.records run data/sweeps/deployed.yml KEY
    python -m companion.records stale
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from pydantic import Strict
from pydantic.dataclasses import dataclass as declared
from sklearn.model_selection import ParameterGrid

from cimlib.datasets import loading as data
from companion import definitions, experiments, sources, yaml_files
from companion.fields import Count, Filed, Positive, filed, one_of

ROOT = Path(__file__).resolve().parents[1]


RESULTS = ROOT / "data" / "results"


@declared(frozen=True)
class Sweep(Filed):
    """A file of ``data/sweeps``. Each of the points adds to the ``defaults``; a list means a grid.

    Args:
        experiment: what is run.
        threads: cores for one run.
        minutes: the estimate for one run.
        defaults: parameters of all points.
        points: parameters of each.
    """

    experiment: Annotated[str, one_of(experiments.names())]
    threads: Annotated[Count, Strict()]
    minutes: Annotated[Positive, Strict()]
    defaults: dict[str, Any]
    points: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Point:
    """One run that a sweep asks for: ``minutes`` is the estimate for one run on ``threads`` cores."""

    experiment: str
    params: Any
    threads: int
    minutes: float

    @property
    def key(self) -> str:
        """Hash of the parameters that differ from the defaults."""
        return key_of(self.experiment, asdict(self.params))

    @property
    def path(self) -> Path:
        return RESULTS / self.experiment / f"{self.key}.json"


def key_of(experiment: str, params: Mapping[str, Any]) -> str:
    """Name of the record with these parameters: a hash of those that differ from the defaults."""
    return _hash([experiment, experiments.changed(experiment, params)])


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def points(sweep: Path) -> list[Point]:
    """The runs of a sweep file; those asked for twice are there once.

    Raises ``ValueError`` that names file, point (counted from one), field, value and what is allowed.
    """
    asked = filed(Sweep, yaml_files.read(sweep), str(sweep))
    found: dict[str, Point] = {}
    for number, entry in enumerate(asked.points, 1):
        given = {**asked.defaults, **entry}
        grid = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
        for params in ParameterGrid(grid):
            try:
                resolved = experiments.resolve(asked.experiment, params)
            except ValueError as error:
                raise ValueError(f"{sweep}: point {number}: {error}") from error
            point = Point(asked.experiment, resolved, asked.threads, asked.minutes)
            found.setdefault(point.key, point)
    return list(found.values())


@cache
def code_digest(experiment: str) -> str:
    """Digest of the definitions that a run of the experiment reaches; see :mod:`companion.definitions`."""
    return definitions.digest(f"{experiments.__name__}.{experiment}", "run", "data")


def commit(experiment: str) -> str | None:
    """The commit, marked if the experiment's code differs from it; ``None`` outside a checkout."""
    reached = [str(path) for path in sources.sources(f"companion.experiments.{experiment}")]

    def git(*command: str) -> str:
        whole = ["git", "-C", str(ROOT), *command]
        done = subprocess.run(whole, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", *reached) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def run(point: Point) -> Path:
    """Make the record of ``point``, unless one made by the present code exists; returns its path."""
    point.path.parent.mkdir(parents=True, exist_ok=True)
    locks = ROOT / "_build" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(str(locks / f"{point.key}.lock")):
        if point.path.exists() and not is_stale(load(point.path)):
            return point.path
        torch.set_num_threads(point.threads)
        start = time.perf_counter()
        result = experiments.run(point.experiment, asdict(point.params))
        record = {
            "experiment": point.experiment,
            "params": asdict(point.params),
            "result": result,
            "data": {
                name: {"digest": data.digest(name), "n_train": n_train}
                for name, n_train in experiments.data(point.experiment, point.params).items()
            },
            "seconds": round(time.perf_counter() - start, 2),
            "threads": point.threads,
            "digest": code_digest(point.experiment),
            "commit": commit(point.experiment),
            "versions": {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")},
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        }
        write(point.path, record)
    return point.path


def load(path: Path) -> dict[str, Any]:
    """The record at ``path``. Raises ``ValueError`` if it is damaged, or its name does not belong to its
    parameters, or its results are not those that were written with them."""
    again = "delete it and run `make sweep`"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        key, said, found = key_of(path.parent.name, record["params"]), record["content"], content(record)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a record ({type(error).__name__}: {error}): {again}") from error
    if key != path.stem:
        raise ValueError(
            f"{path} is another record's copy, or its parameters were edited (key {key}): {again}"
        )
    if said != found:
        raise ValueError(f"the results in {path} are not those that were written there: {again}")
    return record


def content(record: Mapping[str, Any]) -> str:
    """Digest of what a record says: experiment, parameters and results."""
    return _hash([record["experiment"], record["params"], record["result"]])


def is_stale(record: Mapping[str, Any]) -> bool:
    """Whether ``record`` was made by other code than the present."""
    return bool(record["digest"] != code_digest(record["experiment"]))


def read(experiment: str) -> pd.DataFrame:
    """All records of ``experiment``: a row each, parameters and results as columns.

    The columns ``key`` and ``stale`` are added. Each record is opened once, and again if it has changed.
    Raises ``FileNotFoundError`` if there is none, ``ValueError`` as :func:`load` does.
    """
    paths = sorted((RESULTS / experiment).glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no records in {RESULTS / experiment}: run `make sweep`")
    return _table(tuple((path, path.stat().st_mtime_ns) for path in paths)).copy()


@lru_cache(maxsize=32)
def _table(files: tuple[tuple[Path, int], ...]) -> pd.DataFrame:
    """The records in these files, each with the time of its last change."""
    return pd.DataFrame([_row(*file) for file in files])


@cache
def _row(path: Path, changed: int) -> dict[str, Any]:
    """What a table says of the record at ``path`` as it was when it ``changed``."""
    record = load(path)
    return {**record["params"], **record["result"], "key": path.stem, "stale": is_stale(record)}


def select(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Rows of ``table`` whose columns equal ``where``. Raises ``ValueError`` if there is none."""
    unknown = set(where) - set(table.columns)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are not columns; allowed: {sorted(table.columns)}")
    fits = [table[name].to_numpy() == value for name, value in where.items()]
    chosen = table[np.all(fits, axis=0)] if fits else table
    if chosen.empty:
        raise ValueError(f"no record has {where}")
    return chosen


def tuned(table: pd.DataFrame, over: str, by: str = "validation_error") -> pd.DataFrame:
    """Of rows that differ only in ``over``, the one whose mean ``by`` is least.

    Selection on a validation split, so that what is reported on the test split is not selected.
    """
    score = table[by].map(lambda values: sum(values) / len(values))
    mixed = [name for name in table.columns if table[name].dtype == object]
    results = [name for name in mixed if table[name].map(lambda value: isinstance(value, list)).any()]
    same = table.drop(columns=[over, "key", "stale", *results]).apply(tuple, axis=1)
    return table.loc[score.groupby(same).idxmin().sort_values()]


def stale() -> list[Path]:
    """Paths of all records made by older code."""
    paths = sorted(RESULTS.glob("*/*.json"))
    return [path for path in paths if is_stale(load(path))]


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Store ``record`` at ``path``, whole or not at all, with the digest of what it says."""
    record = json.loads(json.dumps(record))
    record = {**record, "content": content(record)}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
    os.replace(partial, path)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m companion.records", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="make one record of a sweep")
    one.add_argument("sweep", type=Path)
    one.add_argument("key")
    commands.add_parser("stale", help="list records made by older code")
    args = parser.parse_args(arguments)
    if args.command == "stale":
        print("\n".join(str(path.relative_to(ROOT)) for path in stale()))
        return
    known = {point.key: point for point in points(args.sweep)}
    if args.key not in known:
        parser.error(f"{args.sweep} has no point {args.key!r}; it has {len(known)} others")
    run(known[args.key])


if __name__ == "__main__":
    main()
