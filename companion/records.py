"""Run records: one JSON per run, committed, and the sweeps that ask for them.

A record holds its resolved parameters, per-seed or per-chip results, the digests of its data, wall
time, versions, the commit, a digest of the code that made it and digests of all this. It is written
under another name and renamed, so a record that exists is whole; its name is a hash of its parameters,
so none is made twice; all this is checked when it is read. What is to be run, :mod:`companion.sweeps` says.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock

from cimlib.datasets import loading as data
from companion import definitions, experiments, provenance, sidecars, sources
from companion.provenance import ADDED
from companion.tasks.results import Right

ROOT = Path(__file__).resolve().parents[1]


RESULTS = ROOT / "data" / "results"
TRUTH = (bool, np.bool_)


@dataclass(frozen=True)
class Point:
    """One run that a sweep asks for: ``minutes`` is the estimate for one run on ``threads`` cores. Its record
    is in ``folder``, by default :data:`RESULTS`."""

    experiment: str
    params: Any
    threads: int
    minutes: float
    folder: Path | None = None

    @property
    def key(self) -> str:
        """Hash of the parameters that differ from the defaults."""
        return key_of(self.experiment, asdict(self.params))

    @property
    def path(self) -> Path:
        return (self.folder or RESULTS) / self.experiment / f"{self.key}.json"


Made = tuple[dict[str, Any], dict[str, Right]]  # results, and which images were predicted right


def key_of(experiment: str, params: Mapping[str, Any]) -> str:
    """Name of the record with these parameters: a hash of those that differ from the defaults."""
    return provenance.digest([experiment, experiments.changed(experiment, params)])


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


def run(point: Point, make: Callable[[Point], Made] | None = None, on: str = "") -> Path:
    """Make the record of ``point``, unless one made by the present code exists; returns its path.

    Args:
        make: runs the experiment with the point's parameters in another way than all at once.
        on: what it runs on beside the processor, for the record.
    """
    point.path.parent.mkdir(parents=True, exist_ok=True)
    locks = ROOT / "_build" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(str(locks / f"{point.key}.lock")):
        if point.path.exists() and not is_stale(load(point.path)):
            return point.path
        torch.set_num_threads(point.threads)
        start = time.perf_counter()
        result, right = (make or _at_once)(point)
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
            "platform": ", ".join(filter(None, (*_platform(), on))),
        }
        point.path.unlink(missing_ok=True)  # an older one has other images
        if right:
            record["right"] = sidecars.write(point.path, right)
        write(point.path, record)
    return point.path


def _at_once(point: Point) -> Made:
    return experiments.run_with_images(point.experiment, asdict(point.params))


def _platform() -> tuple[str, str]:
    return f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"


def load(path: Path) -> dict[str, Any]:
    """The record at ``path``. Raises ``ValueError`` if it is damaged, or its name does not belong to its
    parameters, or its results or its provenance are not those that were written with them."""
    again = "restore it (`git restore`), or delete it and run `make sweep`"
    try:
        record = provenance.parsed(path.read_text(encoding="utf-8"))
        key, written = key_of(path.parent.name, record["params"]), provenance.sealed(record)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a record ({error}): {again}") from error
    if key != path.stem:
        raise ValueError(
            f"{path} is another record's copy, or its parameters were edited (key {key}): {again}"
        )
    for part, said in {"content": "results", "provenance": "provenance"}.items():
        if record.get(part, written[part]) != written[part]:
            raise ValueError(f"the {said} in {path} are not those that were written there: {again}")
    return record


def is_stale(record: Mapping[str, Any]) -> bool:
    """Whether ``record`` was made by other code than the present."""
    return bool(record["digest"] != code_digest(record["experiment"]))


def read(experiment: str) -> pd.DataFrame:
    """All records of ``experiment``: a row each, parameters and results as columns.

    The columns :data:`~companion.provenance.ADDED` come on top. Each record is opened once, and again
    if it has changed.
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
    """What a table says of the record at ``path`` as it was when it ``changed``; parameters that it was made
    without are as by default."""
    record = load(path)
    params = {**experiments.defaults(record["experiment"]), **record["params"]}
    added = (path.stem, is_stale(record), record["experiment"], record["content"], record.get("right", {}))
    return {**params, **record["result"], **dict(zip(ADDED, added, strict=True))}


def right(row: pd.Series[Any], name: str) -> Right:
    """Which images the accuracy ``name`` of a record in a table is right about, (values, images).

    Raises ``ValueError`` if that was not kept, and as :func:`~companion.sidecars.read` does.
    """
    kept: Mapping[str, str] = row["right"]
    if name not in kept:
        raise ValueError(f"name = {name!r} is not allowed; allowed: {sorted(kept)}, whose images are kept")
    return sidecars.read(RESULTS / row["experiment"] / f"{row['key']}.json", name, kept[name])


def select(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """Rows of ``table`` whose columns equal ``where``. Raises ``ValueError`` if there is none, for a column
    that is not there and for a list of values."""
    unknown = set(where) - set(table.columns)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are not columns; allowed: {sorted(table.columns)}")
    for name, value in where.items():
        if np.ndim(value) or isinstance(value, Mapping):
            raise ValueError(f"{name} = {value!r} is not allowed; allowed: one value")
    rows = np.arange(len(table))
    for name, value in where.items():
        rows = rows[[_equal(item, value) for item in table[name].to_numpy()[rows]]]
    if not rows.size:
        raise ValueError(f"no record has {where}")
    return table.iloc[rows] if where else table


def _equal(item: Any, value: Any) -> bool:
    """Whether ``item`` of a table is ``value``, true not being one."""
    return isinstance(item, TRUTH) is isinstance(value, TRUTH) and bool(item == value)


def tuned(table: pd.DataFrame, over: str, by: str = "validation_error") -> pd.DataFrame:
    """Of rows that differ only in ``over``, the one whose mean ``by`` is least.

    Selection on a validation split, so that what is reported on the test split is not selected. Raises
    ``ValueError`` for a column that is not there, and if ``by`` is not a finite number everywhere.
    """
    for name in (over, by):
        if name not in table:
            raise ValueError(f"{name!r} is not a column; allowed: {sorted(table.columns)}")
    score = table[by].map(lambda values: sum(values) / len(values) if values else np.nan).astype(float)
    if not np.isfinite(score).all():
        raise ValueError(f"{by} is not a finite number in records {sorted(table.key[~np.isfinite(score)])}")
    mixed = [name for name in table.columns if table[name].dtype == object]
    results = [name for name in mixed if table[name].map(lambda value: isinstance(value, list)).any()]
    same = table.drop(columns=[over, *ADDED, *results], errors="ignore").apply(tuple, axis=1)
    return table.loc[score.groupby(same).idxmin().sort_values()]


def stale() -> list[Path]:
    """Paths of all records made by older code."""
    paths = sorted(RESULTS.glob("*/*.json"))
    return [path for path in paths if is_stale(load(path))]


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Store ``record`` at ``path``, whole or not at all, with the digests of what it holds."""
    record = provenance.sealed(json.loads(json.dumps(record)))
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
    os.replace(partial, path)
