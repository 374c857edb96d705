"""Run records: one JSON per run, committed, and the sweeps that ask for them.

A record holds its resolved parameters, per-seed or per-chip results, the digests of its data, wall
time, versions, the commit and a digest of the code that made it. It is written under another name
and renamed, so a record that exists is whole; its name is a hash of its parameters, so none is made
twice. Command line::

    python -m cimlib.records run data/sweeps/deployed.yml KEY
    python -m cimlib.records stale
    python -m cimlib.records recheck deployed
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from filelock import FileLock
from sklearn.model_selection import ParameterGrid

from cimlib import data, experiments, sources

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"


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
        changed = experiments.changed(self.experiment, self.params)
        text = json.dumps([self.experiment, changed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        return RESULTS / self.experiment / f"{self.key}.json"


def points(sweep: Path) -> list[Point]:
    """The runs of a sweep file: ``defaults`` plus each entry of ``points``, lists meaning grids.

    Raises ``ValueError`` for unknown keys, parameters or values, naming the file.
    """
    spec = yaml.safe_load(sweep.read_text())
    expected = {"experiment", "threads", "minutes", "defaults", "points"}
    if set(spec) != expected:
        raise ValueError(f"{sweep}: keys {sorted(spec)}; allowed and needed: {sorted(expected)}")
    found: dict[str, Point] = {}
    for entry in spec["points"]:
        given = {**spec["defaults"], **entry}
        grid = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
        for params in ParameterGrid(grid):
            try:
                resolved = experiments.resolve(spec["experiment"], params)
            except ValueError as error:
                raise ValueError(f"{sweep}: {error}") from error
            point = Point(spec["experiment"], resolved, spec["threads"], spec["minutes"])
            found.setdefault(point.key, point)
    return list(found.values())


@cache
def code_digest(experiment: str) -> str:
    """Digest of the experiment's code and all that it imports, without comments and docstrings."""
    return sources.digest(f"cimlib.experiments.{experiment}")


def _commit(experiment: str) -> str | None:
    """The commit, marked if the experiment's code differs from it; ``None`` outside a checkout."""
    reached = [str(path) for path in sources.sources(f"cimlib.experiments.{experiment}")]

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True)
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
        if point.path.exists() and not is_stale(_load(point.path)):
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
            "commit": _commit(point.experiment),
            "versions": {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")},
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        }
        _write(point.path, record)
    return point.path


def _load(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a record ({error}): delete it and run `make sweep`") from error
    return record


def is_stale(record: Mapping[str, Any]) -> bool:
    """Whether ``record`` was made by other code than the present."""
    return bool(record["digest"] != code_digest(record["experiment"]))


def read(experiment: str) -> pd.DataFrame:
    """All records of ``experiment``: a row each, parameters and results as columns.

    The columns ``key`` and ``stale`` are added. Raises ``FileNotFoundError`` if there is none.
    """
    paths = sorted((RESULTS / experiment).glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no records in {RESULTS / experiment}: run `make sweep`")
    records = [_load(path) for path in paths]
    rows = [
        {**record["params"], **record["result"], "key": path.stem, "stale": is_stale(record)}
        for path, record in zip(paths, records, strict=True)
    ]
    return pd.DataFrame(rows)


def select(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Rows of ``table`` whose columns equal ``where``. Raises ``ValueError`` if there is none."""
    unknown = set(where) - set(table.columns)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are not columns; allowed: {sorted(table.columns)}")
    chosen = table[(table[list(where)] == pd.Series(where)).all(axis=1)]
    if chosen.empty:
        raise ValueError(f"no record has {where}")
    return chosen


def tuned(table: pd.DataFrame, over: str, by: str = "validation_error") -> pd.DataFrame:
    """Of rows that differ only in ``over``, the one whose mean ``by`` is least.

    Selection on a validation split, so that what is reported on the test split is not selected.
    """
    score = table[by].map(lambda values: sum(values) / len(values))
    results = [name for name in table.columns if table[name].map(lambda value: isinstance(value, list)).any()]
    same = table.drop(columns=[over, "key", "stale", *results]).apply(tuple, axis=1)
    return table.loc[score.groupby(same).idxmin().sort_values()]


def stale() -> list[Path]:
    """Paths of all records made by older code."""
    paths = sorted(RESULTS.glob("*/*.json"))
    return [path for path in paths if is_stale(_load(path))]


def covering(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Some of these records, cheap ones first, that together have every value of every parameter."""

    def values(record: Mapping[str, Any]) -> set[tuple[str, str]]:
        return {(name, repr(value)) for name, value in record["params"].items()}

    missing: set[tuple[str, str]] = set().union(*map(values, found))
    chosen = []
    while missing:
        best = max(found, key=lambda record: len(values(record) & missing) / max(record["seconds"], 1e-3))
        chosen.append(best)
        missing -= values(best)
    return chosen


def recheck(experiment: str) -> list[str]:
    """Accept the records of older code, if the present code makes the same of a sample of them.

    The sample has every value of every parameter at least once. It is run again and compared number by
    number; only times (results whose names end in ``_seconds``) may differ. If all agree, every stale record
    of the experiment becomes one of the present code and says so under ``rechecked``. Meant for changes that
    should change nothing, in which code was moved or added.

    Returns the keys that were run. Raises ``ValueError`` naming those that differ, and then changes nothing.
    """
    older = {path.stem: _load(path) for path in stale() if path.parent.name == experiment}
    by_params = {json.dumps(record["params"], sort_keys=True): key for key, record in older.items()}
    sample = [by_params[json.dumps(r["params"], sort_keys=True)] for r in covering(list(older.values()))]
    differ = []
    for key in sample:
        torch.set_num_threads(older[key]["threads"])
        again, before = experiments.run(experiment, older[key]["params"]), older[key]["result"]
        measured = {name for name in {*again, *before} if not name.endswith("_seconds")}
        differ += [key] if any(again.get(name) != before.get(name) for name in measured) else []
    if differ:
        raise ValueError(f"records {differ} of {experiment} are not what the present code makes of them")
    for key, record in older.items():
        note = {"digest": record["digest"], "commit": _commit(experiment), "rerun": sample}
        change = {"digest": code_digest(experiment), "rechecked": [*record.get("rechecked", []), note]}
        _write(RESULTS / experiment / f"{key}.json", {**record, **change})
    return sample


def _write(path: Path, record: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record) + "\n")
    os.replace(partial, path)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m cimlib.records", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="make one record of a sweep")
    one.add_argument("sweep", type=Path)
    one.add_argument("key")
    commands.add_parser("stale", help="list records made by older code")
    again = commands.add_parser("recheck", help="accept records of older code if a sample comes out the same")
    again.add_argument("experiment", choices=experiments.names())
    args = parser.parse_args(arguments)
    if args.command == "recheck":
        print(f"the same again: {', '.join(recheck(args.experiment)) or 'nothing is stale'}")
        return
    if args.command == "stale":
        print("\n".join(str(path.relative_to(ROOT)) for path in stale()))
        return
    known = {point.key: point for point in points(args.sweep)}
    if args.key not in known:
        parser.error(f"{args.sweep} has no point {args.key!r}; it has {len(known)} others")
    run(known[args.key])


if __name__ == "__main__":
    main()
