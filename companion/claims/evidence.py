"""Evidence measured: the values that records have, an estimate, its 95 % interval, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion import experiments, records, sweeps
from companion.claims import intervals
from companion.claims.intervals import Sample
from companion.claims.ledger import Evidence, Reading
from companion.provenance import ADDED
from companion.records import Point

SWEEPS = records.ROOT / "data" / "sweeps"

Tables = Callable[[str], pd.DataFrame]  # experiment -> its records, as of `records.read`

#: Statistics that are what they are, without an interval.
COUNTED: dict[str, Callable[[Any], Any]] = {
    "max": lambda values: values.max(-1),
    "min": lambda values: values.min(-1),
    "stragglers": lambda values: (values < values.mean(-1, keepdims=True) - 5).sum(-1),
}


class NotRunYet(LookupError):
    """No record fits, but a sweep asks for one that would."""


@dataclass(frozen=True)
class Estimate:
    """An evidence's estimate, 95 % interval and n; ``status`` holds, fails, open (undecided), stale (made by
    older code) or missing (not run yet). ``images``: how many the interval covers besides; 0 if none.
    ``made``: digests of the records' contents."""

    estimate: float
    low: float
    high: float
    n: int
    status: Literal["holds", "fails", "open", "stale", "missing"]
    images: int = 0
    made: tuple[str, ...] = ()


def values(reading: Reading, tables: Tables = records.read) -> tuple[pd.Series[float], bool]:
    """The values (n,), indexed by ``over`` if there is one, and whether older code made any of them.

    ``NotRunYet`` if no record fits and a sweep asks for one, else ``ValueError`` unless one record fits, or
    one for each value of ``over``, and has such a result, in finite numbers.
    """
    found = _found(reading, tables)
    return _values(reading, found), bool(found["stale"].any())


def _values(reading: Reading, found: pd.DataFrame) -> pd.Series[float]:
    if reading.over is None:
        return pd.Series(found.iloc[0][reading.value], dtype=float)
    return found[reading.value].map(np.mean).astype(float)


def _found(reading: Reading, tables: Tables) -> pd.DataFrame:
    """The records of :func:`values`, indexed by ``over`` if there is one."""
    given, over = {**sweeps.evidence(reading.experiment), **reading.given}, reading.over
    for name in given:
        _among("given", name, _parameters(reading.experiment))
    try:
        table = tables(reading.experiment)
        found = records.select(table, **given)
    except (ValueError, FileNotFoundError) as error:
        asked = (asdict(point.params) for point in _points(reading.experiment))
        if any(given.items() <= params.items() for params in asked):
            raise NotRunYet(str(error)) from error
        raise ValueError(str(error)) from error
    _among("value", reading.value, set(table) - _parameters(reading.experiment) - {*ADDED})
    if found[reading.value].isna().any():
        raise ValueError(f"not every record of {reading.experiment} with {given} has {reading.value!r}")
    if reading.tuned is not None:
        _among("tuned", reading.tuned, set(table))
        found = records.tuned(found, reading.tuned)
    for each in found[reading.value]:
        _finite(each, reading.value)
    if over is not None:
        _among("over", over, set(table))
        found = found.set_index(over).sort_index()
        if not found.index.is_unique:
            raise ValueError(f"records of {reading.experiment} with {given} differ not only in {over}")
    elif len(found) != 1:
        raise ValueError(f"{len(found)} records of {reading.experiment} have {given}; one is needed")
    return found


def _right(reading: Reading, found: pd.DataFrame) -> NDArray[np.float32] | None:
    """Shares of right predictions, %, (n, images), of those values, if all records keep them."""
    if not all(reading.value in kept for kept in found["right"]):
        return None
    shares = [100 * records.right(row, reading.value).astype(np.float32) for _, row in found.iterrows()]
    if len({each.shape[1] for each in shares}) > 1:
        return None
    return shares[0] if reading.over is None else np.stack([each.mean(0) for each in shares])


@cache
def _parameters(experiment: str) -> set[str]:
    """The columns of a table of records that are parameters."""
    return {field.name for field in fields(experiments.resolve(experiment, {}))}


def _finite(values: Any, name: str) -> None:
    """Raises ``ValueError`` unless ``values`` are finite numbers, at least one, in one list."""
    found = np.asarray(values) if isinstance(values, list) else np.empty(0)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "if" or not np.isfinite(found).all():
        what = f"{found.shape} values" if found.ndim > 1 else repr(values)[:80]
        raise ValueError(f"value = {name!r} is not allowed: {what}; allowed: a list of finite numbers")


def _among(field: str, name: str, known: set[Any]) -> None:
    if name not in known:
        raise ValueError(f"{field} = {name!r} is not allowed; allowed: {', '.join(sorted(known))}")


@cache
def _points(experiment: str) -> list[Point]:
    """What the sweep of that experiment asks for."""
    path = SWEEPS / f"{experiment}.yml"
    return sweeps.points(path) if path.exists() else []


def measure(evidence: Evidence, tables: Tables = records.read) -> Estimate:
    """Read the records and compare; of trainings, those whose ``over`` both readings have.

    ``ValueError`` as :func:`values` raises it, and if the values cannot be paired.
    """
    try:
        found = _both(evidence, tables)
    except NotRunYet:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "missing")
    samples = _paired(evidence, found)
    estimate, low, high = _estimated(evidence, samples)
    n, images = len(samples[0].values), min(sample.images for sample in samples)
    stale = any(each["stale"].any() for each in found)
    status = "stale" if stale else judged(evidence, n, low, high)
    made = tuple(sorted({content for each in found for content in each["content"]}))
    return Estimate(estimate, low, high, n, status, images, made)


def judged(evidence: Evidence, n: int, low: float, high: float) -> Literal["holds", "fails", "open"]:
    """What an interval from ``low`` to ``high`` over ``n`` values says."""
    if n < evidence.least:
        return "open"
    if evidence.above < low and high < evidence.below:
        return "holds"
    return "fails" if high <= evidence.above or low >= evidence.below else "open"


def samples_of(evidence: Evidence, tables: Tables = records.read) -> tuple[Sample, ...]:
    """What is measured, and what it is compared with if anything, paired. Raises as :func:`values` does."""
    return _paired(evidence, _both(evidence, tables))


def _both(evidence: Evidence, tables: Tables) -> tuple[pd.DataFrame, ...]:
    """The records of what is measured, and of what it is compared with if anything."""
    readings = (each for each in (evidence.of, evidence.against) if each is not None)
    return tuple(_found(reading, tables) for reading in readings)


def _paired(evidence: Evidence, found: tuple[pd.DataFrame, ...]) -> tuple[Sample, ...]:
    read, right = _values(evidence.of, found[0]), _right(evidence.of, found[0])
    if evidence.against is None:
        return (Sample(np.asarray(read, dtype=np.float64), right),)
    other, other_right = _values(evidence.against, found[1]), _right(evidence.against, found[1])
    if evidence.of.over is not None and evidence.of.over == evidence.against.over:
        shared = read.index.intersection(other.index)
        right, other_right = _rows(right, read, shared), _rows(other_right, other, shared)
        read, other = read.loc[shared], other.loc[shared]
    elif len(other) == 1:  # of the digital network, say: the same for every chip
        other = pd.Series(other.iloc[0], index=read.index)
        other_right = None if other_right is None else np.repeat(other_right, len(read), axis=0)
    elif len(read) == 1:
        read = pd.Series(read.iloc[0], index=other.index)
        right = None if right is None else np.repeat(right, len(other), axis=0)
    if len(read) != len(other) or len(read) == 0:
        raise ValueError(f"{evidence.label}: {len(read)} and {len(other)} values cannot be paired")
    both = ((read, right), (other, other_right))
    return tuple(Sample(np.asarray(each, dtype=np.float64), of) for each, of in both)


def _rows(
    right: NDArray[np.float32] | None, series: pd.Series[float], shared: pd.Index[Any]
) -> NDArray[np.float32] | None:
    return None if right is None else right[series.index.get_indexer(shared)]


def _estimated(evidence: Evidence, samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Estimate and the ends of its interval."""
    estimator, nan = estimator_of(evidence), float("nan")
    if evidence.of.over is not None and len(samples[0].values) == 1 and evidence.statistic == "std":
        return nan, nan, nan
    estimate = float(estimator(*(sample.values for sample in samples)))
    if evidence.statistic in COUNTED:
        return estimate, estimate, estimate
    if evidence.of.over is not None and len(samples[0].values) == 1:  # one training tells not of the spread
        return estimate, nan, nan
    if evidence.statistic == "mean" and len(samples) == 2 and evidence.compare == "ratio":
        return estimate, *intervals.of_ratio(*samples)
    if evidence.statistic == "mean":
        return estimate, *intervals.of_mean(samples[0] if len(samples) == 1 else samples[0] - samples[1])
    if all(np.ptp(sample.values) == 0 for sample in samples) and not any(sample.images for sample in samples):
        return estimate, estimate, estimate
    return estimate, *intervals.of_resamples(samples, estimator)


def estimator_of(evidence: Evidence) -> intervals.Estimator:
    """What the evidence compares, as a function of one or two arrays (..., n), over the last axis."""

    def estimate(*samples: Any) -> Any:
        if evidence.statistic in COUNTED:
            return COUNTED[evidence.statistic](_compared(evidence, samples))
        each = [s.mean(-1) if evidence.statistic == "mean" else s.std(-1, ddof=1) for s in samples]
        return _compared(evidence, each)

    return estimate


def _compared(evidence: Evidence, samples: Sequence[Any]) -> Any:
    if len(samples) == 1:
        return samples[0]
    return samples[0] / samples[1] if evidence.compare == "ratio" else samples[0] - samples[1]
