"""Evidence measured: the values that records have, an estimate, its 95 % interval, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from cimlib.chip.montecarlo import Values, interval
from companion import experiments, records
from companion.claims.ledger import Evidence, Reading

SWEEPS = records.ROOT / "data" / "sweeps"

Tables = Callable[[str], pd.DataFrame]  # experiment -> its records, as of `records.read`

#: Statistics that are what they are, without an interval.
COUNTED: dict[str, Callable[[Values], Any]] = {
    "max": np.max,
    "min": np.min,
    "stragglers": lambda values: (values < values.mean() - 5).sum(),
}


class NotRunYet(LookupError):
    """No record fits, but a sweep asks for one that would."""


@dataclass(frozen=True)
class Estimate:
    """An evidence's estimate, 95 % interval and n; ``status`` holds, fails, open (undecided), stale (made by
    older code) or missing (not run yet)."""

    estimate: float
    low: float
    high: float
    n: int
    status: Literal["holds", "fails", "open", "stale", "missing"]


def values(reading: Reading, tables: Tables = records.read) -> tuple[pd.Series[float], bool]:
    """The values (n,), indexed by ``over`` if there is one, and whether older code made any of them.

    ``NotRunYet`` if no record fits and a sweep asks for one, else ``ValueError`` unless one record fits, or
    one for each value of ``over``, and has such a result, in finite numbers.
    """
    given, over = reading.given, reading.over
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
    _among("value", reading.value, set(table) - _parameters(reading.experiment) - {"key", "stale"})
    if found[reading.value].isna().any():
        raise ValueError(f"not every record of {reading.experiment} with {given} has {reading.value!r}")
    if reading.tuned is not None:
        _among("tuned", reading.tuned, set(table))
        found = records.tuned(found, reading.tuned)
    for each in found[reading.value]:
        _finite(each, reading.value)
    if over is not None:
        _among("over", over, set(table))
        read = found.set_index(over)[reading.value].map(np.mean).astype(float).sort_index()
        if not read.index.is_unique:
            raise ValueError(f"records of {reading.experiment} with {given} differ not only in {over}")
        return read, bool(found["stale"].any())
    if len(found) != 1:
        raise ValueError(f"{len(found)} records of {reading.experiment} have {given}; one is needed")
    return pd.Series(found.iloc[0][reading.value], dtype=float), bool(found.iloc[0]["stale"])


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
def _points(experiment: str) -> list[records.Point]:
    """What the sweep of that experiment asks for."""
    path = SWEEPS / f"{experiment}.yml"
    return records.points(path) if path.exists() else []


def measure(evidence: Evidence, tables: Tables = records.read) -> Estimate:
    """Read the records and compare; of trainings, those whose ``over`` both readings have.

    ``ValueError`` as :func:`values` raises it, and if the values cannot be paired.
    """
    try:
        data, stale = _paired(evidence, tables)
    except NotRunYet:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "missing")
    estimate, low, high = _estimated(evidence, data)
    n = len(data[0])
    outside = high <= evidence.above or low >= evidence.below
    status: Literal["holds", "fails", "open", "stale"] = "fails" if outside else "open"
    if stale:
        status = "stale"
    elif n < evidence.least:
        status = "open"
    elif evidence.above < low and high < evidence.below:
        status = "holds"
    return Estimate(estimate, low, high, n, status)


def _paired(evidence: Evidence, tables: Tables) -> tuple[tuple[Values, ...], bool]:
    """What is measured, and what it is compared with if anything, (n,) each; and whether any is stale."""
    read, stale = values(evidence.of, tables)
    if evidence.against is None:
        return (np.asarray(read, dtype=np.float64),), stale
    other, other_stale = values(evidence.against, tables)
    if evidence.of.over is not None and evidence.of.over == evidence.against.over:
        read, other = read.align(other, join="inner")
    elif len(other) == 1:  # of the digital network, say: the same for every chip
        other = pd.Series(other.iloc[0], index=read.index)
    elif len(read) == 1:
        read = pd.Series(read.iloc[0], index=other.index)
    if len(read) != len(other) or len(read) == 0:
        raise ValueError(f"{evidence.label}: {len(read)} and {len(other)} values cannot be paired")
    both = np.asarray(read, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return both, stale or other_stale


def _estimated(evidence: Evidence, data: tuple[Values, ...]) -> tuple[float, float, float]:
    """Estimate and the ends of its interval."""
    a = data[0]
    single = len(data) == 1 or evidence.compare == "difference"
    compared = a if len(data) == 1 else a - data[1] if single else a / data[1]
    if evidence.statistic in COUNTED:
        return (float(COUNTED[evidence.statistic](compared)),) * 3
    if evidence.of.over is not None and len(a) == 1:  # one training tells nothing of the spread
        estimate = float(compared[0]) if evidence.statistic == "mean" else float("nan")
        return estimate, float("nan"), float("nan")
    if evidence.statistic == "mean" and single:
        return float(compared.mean()), *interval(compared)
    return _bootstrap(evidence, data)


def _bootstrap(evidence: Evidence, data: tuple[Values, ...]) -> tuple[float, float, float]:
    """Estimate and interval of what has no t interval: paired, percentile, the same every time."""

    def estimate(*sample: Values, axis: int = -1) -> Any:
        by_mean = evidence.statistic == "mean"
        each = [s.mean(axis) if by_mean else s.std(axis, ddof=1) for s in sample]
        if len(each) == 1:
            return each[0]
        return each[0] / each[1] if evidence.compare == "ratio" else each[0] - each[1]

    if all(np.ptp(sample) == 0 for sample in data):
        return (float(estimate(*data)),) * 3
    rng = np.random.default_rng(0)
    result = stats.bootstrap(data, estimate, paired=True, method="percentile", rng=rng)
    low, high = result.confidence_interval
    return float(estimate(*data)), float(low), float(high)
