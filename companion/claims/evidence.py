"""Evidence measured: an estimate, its 95 % interval, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from companion import records
from companion.claims import intervals
from companion.claims.intervals import Sample
from companion.claims.ledger import Evidence
from companion.claims.readings import NotRunYet, Read, Tables, read

#: Statistics that are what they are, without an interval.
COUNTED: dict[str, Callable[[Any], Any]] = {
    "max": lambda values: values.max(-1),
    "min": lambda values: values.min(-1),
    "stragglers": lambda values: (values < values.mean(-1, keepdims=True) - 5).sum(-1),
}


@dataclass(frozen=True)
class Estimate:
    """An evidence's estimate, 95 % interval and n; ``status`` holds, fails, open (undecided), stale (made by
    older code) or missing (not run yet). ``images``: how many the interval covers besides; 0 if none.
    ``unit``: what n counts, chips, seeds or trainings. ``made``: digests of what was read; ``keys``: of which
    records, ``experiment/key``."""

    estimate: float
    low: float
    high: float
    n: int
    status: Literal["holds", "fails", "open", "stale", "missing"]
    images: int = 0
    unit: str = "chips"
    made: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def measure(evidence: Evidence, tables: Tables = records.read) -> Estimate:
    """Read the records and compare; of trainings, those whose ``over`` both readings have.

    ``ValueError`` as :func:`~companion.claims.readings.read` raises it, and if the values cannot be paired.
    """
    try:
        found = _both(evidence, tables)
    except NotRunYet:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "missing")
    samples = _paired(evidence, found)
    estimate, low, high = _estimated(evidence, samples)
    n, images = len(samples[0].values), min(sample.images for sample in samples)
    status = "stale" if any(each.stale for each in found) else judged(evidence, n, low, high)
    unit = max(found, key=lambda each: len(each.numbers)).unit
    made = tuple(made for each in found for made in each.made)
    keys = tuple(dict.fromkeys(key for each in found for key in each.keys))
    return Estimate(estimate, low, high, n, status, images, unit, made, keys)


def judged(evidence: Evidence, n: int, low: float, high: float) -> Literal["holds", "fails", "open"]:
    """What an interval from ``low`` to ``high`` over ``n`` values says."""
    if n < evidence.least:
        return "open"
    if evidence.above < low and high < evidence.below:
        return "holds"
    return "fails" if high <= evidence.above or low >= evidence.below else "open"


def samples_of(evidence: Evidence, tables: Tables = records.read) -> tuple[Sample, ...]:
    """What is measured, and what it is compared with if anything, paired. Raises as :func:`measure` does."""
    return _paired(evidence, _both(evidence, tables))


def _both(evidence: Evidence, tables: Tables) -> tuple[Read, ...]:
    """What is read, and what it is compared with if anything: both as evidence, or where any of that is not
    run yet, both from the other records."""
    readings = [each for each in (evidence.of, evidence.against) if each is not None]
    try:
        return tuple(read(reading, tables) for reading in readings)
    except NotRunYet:
        return tuple(read(reading, tables, evidence=False) for reading in readings)


def _paired(evidence: Evidence, found: tuple[Read, ...]) -> tuple[Sample, ...]:
    """The samples value by value: of the same chips, seeds or trainings, and images only where they are those
    of one data set. Raises ``ValueError`` for others."""
    if len(found) == 1:
        return (found[0].sample,)
    of, against = found
    n, m = len(of.numbers), len(against.numbers)
    if of.unit == against.unit == "trainings":
        both = sorted(set(of.numbers) & set(against.numbers))
        pair = of.only(both), against.only(both)
    elif m == 1:  # of the digital network, say: the same for every chip
        pair = of.sample, against.sample.rows([0] * n)
    elif n == 1:
        pair = of.sample.rows([0] * m), against.sample
    else:
        pair = of.sample, against.sample
        if (of.unit, of.numbers) != (against.unit, against.numbers):
            each = (f"{len(one.numbers)} {one.unit} from {one.numbers[0]} on" for one in found)
            raise ValueError(f"{evidence.label}: {' and '.join(each)} cannot be paired")
    if not len(pair[0].values):
        raise ValueError(f"{evidence.label}: no training is in both readings")
    if of.dataset == against.dataset and pair[0].images == pair[1].images:
        return pair
    return tuple(Sample(sample.values) for sample in pair)


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
