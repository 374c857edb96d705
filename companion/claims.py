"""The ledger: what a paper says, what we measured, and a verdict that code computes.

``data/claims/<paper>.yml`` holds a paper's claims. Each names the records that decide it and the
range in which the 95 % interval must lie; nothing about the verdict is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from cimlib.chip.montecarlo import Values, interval
from companion import records

CLAIMS = records.ROOT / "data" / "claims"


SWEEPS = records.ROOT / "data" / "sweeps"


#: Statistics that are what they are, without an interval.
COUNTED: dict[str, Callable[[Values], Any]] = {
    "max": np.max,
    "min": np.min,
    "stragglers": lambda values: (values < values.mean() - 5).sum(),
}


class NotRunYet(LookupError):
    """No record fits, but a sweep asks for one that would."""


@dataclass(frozen=True)
class Reading:
    """Which values to read: one result of one record, with one value per seed or chip.

    Args:
        experiment: whose records are read.
        given: parameters that select one record, or several that differ only in ``tuned`` or ``over``.
        value: the name of the result.
        tuned: a parameter chosen by the least mean ``validation_error`` of the records selected.
        over: a parameter, the seed of a training say, of which each record has another value: a
            record then gives one value, its mean.
    """

    experiment: str
    given: dict[str, Any]
    value: str
    tuned: str | None = None
    over: str | None = None

    def values(self) -> tuple[pd.Series[float], bool]:
        """The values (n,), indexed by ``over`` if there is one, and whether older code made any of them.
        ``NotRunYet`` if no record fits and a sweep asks for one, else ``ValueError`` unless one record fits,
        or one for each value of ``over``."""
        try:
            found = records.select(records.read(self.experiment), **self.given)
        except (ValueError, FileNotFoundError) as error:
            asked = (asdict(point.params) for point in _points(self.experiment))
            if any(self.given.items() <= params.items() for params in asked):
                raise NotRunYet(str(error)) from error
            raise
        if self.tuned is not None:
            found = records.tuned(found, self.tuned)
        if self.over is not None:
            values = found.set_index(self.over)[self.value].map(np.mean).astype(float).sort_index()
            if not values.index.is_unique:
                raise ValueError(
                    f"records of {self.experiment} with {self.given} differ not only in {self.over}"
                )
            return values, bool(found["stale"].any())
        if len(found) != 1:
            raise ValueError(f"{len(found)} records of {self.experiment} have {self.given}; one is needed")
        return pd.Series(found.iloc[0][self.value], dtype=float), bool(found.iloc[0]["stale"])


@cache
def _points(experiment: str) -> list[records.Point]:
    """What the sweep of that experiment asks for."""
    path = SWEEPS / f"{experiment}.yml"
    return records.points(path) if path.exists() else []


@dataclass(frozen=True)
class Evidence:
    """One measurement that bears on a claim.

    Args:
        label: what it is, in words.
        of: what is measured.
        against: what it is compared with, value by value on the same seeds or chips; may be absent. One
            value, on either side, is compared with all.
        compare: ``"difference"`` or ``"ratio"`` of the two.
        statistic: ``"mean"`` or ``"std"`` over the values; ``"max"`` or ``"min"`` for what must hold of
            each of them; ``"stragglers"``: how many lie more than five below their mean.
        above, below: the whole 95 % interval must lie between them for the claim to hold here.
        needs: fewer values than this leave it open.

    The interval is Student's t for a mean or a difference of means, and for a ratio or a standard
    deviation a paired percentile bootstrap with 9,999 resamples. The largest or smallest of the values is
    what it is, without an interval, and so is a count.
    """

    label: str
    of: Reading
    against: Reading | None = None
    compare: Literal["difference", "ratio"] = "difference"
    statistic: Literal["mean", "std", "max", "min", "stragglers"] = "mean"
    above: float = -np.inf
    below: float = np.inf
    needs: int = 1


@dataclass(frozen=True)
class Measured:
    """An evidence's estimate, 95 % interval and n; ``status`` holds, fails, open (undecided), stale (made by
    older code) or missing (not run yet)."""

    estimate: float
    low: float
    high: float
    n: int
    status: Literal["holds", "fails", "open", "stale", "missing"]


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, where it stands, and what decides it."""

    paper: str
    id: str
    statement: str
    where: str
    provenance: str
    measure: str
    scale: str
    unit: str
    number: float | None = None
    digits: int = 1
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    measured: tuple[Measured, ...] = field(default=(), compare=False)

    @property
    def verdict(self) -> str:
        """reproduced · partly · not reproduced · undecided · not testable here · stale records ·
        not run yet."""
        status = [m.status for m in self.measured]
        if not status:
            return "not testable here"
        if "stale" in status:
            return "stale records"
        if "missing" in status:
            return "not run yet"
        if all(s == "holds" for s in status):
            return "reproduced"
        if "holds" in status:
            return "partly"
        return "not reproduced" if "fails" in status else "undecided"


def _bootstrap(evidence: Evidence, data: tuple[Values, ...]) -> tuple[float, float, float]:
    """Estimate and interval of what has no t interval: paired, percentile, the same every time."""

    def estimate(*sample: Values, axis: int = -1) -> Any:
        by_mean = evidence.statistic == "mean"
        each = [s.mean(axis) if by_mean else s.std(axis, ddof=1) for s in sample]
        if len(each) == 1:
            return each[0]
        return each[0] / each[1] if evidence.compare == "ratio" else each[0] - each[1]

    if all(np.ptp(values) == 0 for values in data):
        return (float(estimate(*data)),) * 3
    rng = np.random.default_rng(0)
    result = stats.bootstrap(data, estimate, paired=True, method="percentile", rng=rng)
    low, high = result.confidence_interval
    return float(estimate(*data)), float(low), float(high)


def measure(evidence: Evidence) -> Measured:
    """Read the records and compare; of trainings, those whose ``over`` both readings have.

    ``ValueError`` if the values cannot be paired.
    """
    try:
        read, stale = evidence.of.values()
        other, other_stale = (read, stale) if evidence.against is None else evidence.against.values()
    except NotRunYet:
        return Measured(float("nan"), float("nan"), float("nan"), 0, "missing")
    data: tuple[Values, ...]
    if evidence.against is None:
        data = (np.asarray(read, dtype=np.float64),)
    else:
        stale = stale or other_stale
        if evidence.of.over is not None and evidence.of.over == evidence.against.over:
            read, other = read.align(other, join="inner")
        elif len(other) == 1:  # of the digital network, say: the same for every chip
            other = pd.Series(other.iloc[0], index=read.index)
        elif len(read) == 1:
            read = pd.Series(read.iloc[0], index=other.index)
        if len(read) != len(other) or len(read) == 0:
            raise ValueError(f"{evidence.label}: {len(read)} and {len(other)} values cannot be paired")
        data = (np.asarray(read, dtype=np.float64), np.asarray(other, dtype=np.float64))
    a = data[0]
    single = len(data) == 1 or evidence.compare == "difference"
    values = a if len(data) == 1 else a - data[1] if single else a / data[1]
    if evidence.statistic in COUNTED:
        estimate = low = high = float(COUNTED[evidence.statistic](values))
    elif evidence.of.over is not None and len(a) == 1:  # one training tells nothing of the spread
        estimate = float(values[0]) if evidence.statistic == "mean" else float("nan")
        low = high = float("nan")
    elif evidence.statistic == "mean" and single:
        estimate, (low, high) = float(values.mean()), interval(values)
    else:
        estimate, low, high = _bootstrap(evidence, data)
    outside = high <= evidence.above or low >= evidence.below
    status: Literal["holds", "fails", "open", "stale"] = "fails" if outside else "open"
    if stale:
        status = "stale"
    elif len(a) < evidence.needs:
        status = "open"
    elif evidence.above < low and high < evidence.below:
        status = "holds"
    return Measured(estimate, low, high, len(a), status)


def _evidence(label: str, of: dict[str, Any], against: dict[str, Any] | None = None, **rule: Any) -> Evidence:
    """From the ledger's form, in which ``against`` names only what differs from ``of``."""
    if against is None:
        return Evidence(label, Reading(**of), **rule)
    given = against.get("given", {})
    if "experiment" not in against:
        given = {**of["given"], **given}
    return Evidence(label, Reading(**of), Reading(**{**of, **against, "given": given}), **rule)


def load(paper: str, directory: Path | None = None) -> list[Claim]:
    """All claims of ``data/claims/<paper>.yml``, measured.

    Raises ``ValueError`` for an unknown paper, naming those that have a ledger, and for a claim
    that has neither evidence nor a reason why it is not testable.
    """
    directory = CLAIMS if directory is None else directory
    path = directory / f"{paper}.yml"
    if not path.exists():
        raise ValueError(f"paper = {paper!r} has no ledger; allowed: {', '.join(papers(directory))}")
    claims = []
    for entry in yaml.safe_load(path.read_text()):
        evidence = tuple(_evidence(**item) for item in entry.pop("evidence", []))
        if bool(evidence) == bool(entry.get("reason")):
            raise ValueError(f"{path}: claim {entry['id']!r} needs evidence or a reason, not both")
        measured = tuple(measure(item) for item in evidence)
        claims.append(Claim(paper=paper, evidence=evidence, measured=measured, **entry))
    return claims


def papers(directory: Path | None = None) -> list[str]:
    """Papers that have a ledger."""
    return sorted(path.stem for path in (CLAIMS if directory is None else directory).glob("*.yml"))


def table(claims: Sequence[Claim]) -> str:
    """The claims as a Markdown table: statement and source, what we measured, verdict."""
    rows = ["| The claim | What we measured | Verdict |", "|---|---|---|"]
    for claim in claims:
        said = f"{claim.statement} *({claim.where}; {claim.provenance})*"
        found = [part for part in (claim.measure, claim.reason) if part]
        for evidence, m in zip(claim.evidence, claim.measured, strict=True):
            estimate, low, high = (f"{value:.{claim.digits}f}" for value in (m.estimate, m.low, m.high))
            if m.low < m.high:
                found_in = f" [{low}, {high}] {claim.unit}, n = {m.n}"
            elif evidence.statistic in COUNTED:
                which = {"max": "the largest of", "min": "the smallest of"}.get(evidence.statistic, "of")
                found_in = f" {claim.unit}, {which} n = {m.n}"
            elif np.isnan(m.low):
                found_in = f" {claim.unit}, n = {m.n}, without an interval"
            else:
                found_in = f" {claim.unit}, the same for all n = {m.n}"
            text = evidence.label if m.status == "missing" else f"{evidence.label}: {estimate}{found_in}"
            found.append(f"• {text}: *{m.status}*")
        cells = (said, "<br>".join(found), f"**{claim.verdict}** ({claim.scale})")
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows)


def summary() -> pd.DataFrame:
    """All ledgers: a row per claim with paper, id, statement and verdict."""
    claims = [claim for paper in papers() for claim in load(paper)]
    return pd.DataFrame([{k: getattr(c, k) for k in ("paper", "id", "statement", "verdict")} for c in claims])
