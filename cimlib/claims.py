"""The ledger: what a paper says, what we measured, and a verdict that code computes.

``data/claims/<paper>.yml`` holds a paper's claims. Each names the records that decide it and the
range in which the 95 % interval must lie; nothing about the verdict is written by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from cimlib import records
from cimlib.montecarlo import Values, interval

CLAIMS = records.ROOT / "data" / "claims"


@dataclass(frozen=True)
class Evidence:
    """One measurement that bears on a claim.

    Args:
        experiment: whose records are read.
        given: parameters that select exactly one record, up to ``tuned``.
        value: the result measured, one value per seed or chip.
        against: parameters that differ in the record compared with, pair by pair; none: no pairing.
        compare: ``"difference"`` or ``"percent"`` (change relative to the other's mean).
        statistic: ``"mean"`` (Student's t) or ``"std"`` (paired bootstrap, 9,999 resamples).
        tuned: a parameter chosen by the least ``validation_error`` among the records selected.
        above, below: the whole interval must lie in (above, below) for the claim to hold here.
        label: what this measurement is, in words.
    """

    experiment: str
    given: dict[str, Any]
    value: str
    label: str
    against: dict[str, Any] | None = None
    compare: Literal["difference", "percent"] = "difference"
    statistic: Literal["mean", "std"] = "mean"
    tuned: str | None = None
    above: float = -np.inf
    below: float = np.inf


@dataclass(frozen=True)
class Measured:
    """An evidence's estimate, 95 % interval and n; ``status`` holds, fails, open (undecided) or stale."""

    estimate: float
    low: float
    high: float
    n: int
    status: Literal["holds", "fails", "open", "stale"]


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
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    measured: tuple[Measured, ...] = field(default=(), compare=False)

    @property
    def verdict(self) -> str:
        """reproduced · partly · not reproduced · not testable here · stale records."""
        status = [m.status for m in self.measured]
        if not status:
            return "not testable here"
        if "stale" in status:
            return "stale records"
        if all(s == "holds" for s in status):
            return "reproduced"
        return "partly" if "holds" in status else "not reproduced"


def _spread_difference(a: Values, b: Values | None) -> tuple[float, float, float]:
    """Standard deviation of ``a`` (minus that of ``b``, paired) with a bootstrap 95 % interval."""
    data = (a,) if b is None else (a, b)

    def statistic(*sample: Values, axis: int = -1) -> Any:
        spread = [np.std(s, ddof=1, axis=axis) for s in sample]
        return spread[0] if b is None else spread[0] - spread[1]

    result = stats.bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return float(statistic(*data)), float(low), float(high)


def _one(evidence: Evidence, where: dict[str, Any]) -> tuple[Values, bool]:
    found = records.select(records.read(evidence.experiment), **where)
    if evidence.tuned is not None:
        found = records.tuned(found, evidence.tuned)
    if len(found) != 1:
        raise ValueError(f"{len(found)} records have {where}; evidence needs exactly one")
    return np.asarray(found.iloc[0][evidence.value], dtype=float), bool(found.iloc[0]["stale"])


def measure(evidence: Evidence) -> Measured:
    """Read the records and compare; raises ``ValueError`` unless exactly one record is selected."""
    a, stale = _one(evidence, evidence.given)
    b = None
    if evidence.against is not None:
        b, other_stale = _one(evidence, {**evidence.given, **evidence.against})
        stale = stale or other_stale
        if len(a) != len(b):
            raise ValueError(f"{evidence.label}: {len(a)} and {len(b)} values cannot be paired")
        if evidence.compare == "percent":
            a, b = 100 * a / b.mean(), 100 * b / b.mean()
    if evidence.statistic == "std":
        estimate, low, high = _spread_difference(a, b)
    else:
        values = a if b is None else a - b
        estimate, (low, high) = float(values.mean()), interval(values)
    if stale:
        status: Literal["holds", "fails", "open", "stale"] = "stale"
    elif evidence.above < low and high < evidence.below:
        status = "holds"
    else:
        outside = high <= evidence.above or low >= evidence.below
        status = "fails" if outside else "open"
    return Measured(estimate, low, high, len(a), status)


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
        evidence = tuple(Evidence(**item) for item in entry.pop("evidence", []))
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
    rows = ["| The paper | What we measured | Verdict |", "|---|---|---|"]
    for claim in claims:
        said = f"{claim.statement} *({claim.where}; {claim.provenance})*"
        found = [claim.measure]
        for evidence, m in zip(claim.evidence, claim.measured, strict=True):
            found.append(
                f"{evidence.label}: {m.estimate:.1f} [{m.low:.1f}, {m.high:.1f}] {claim.unit}, "
                f"n = {m.n}, {m.status}"
            )
        if claim.reason:
            found.append(claim.reason)
        rows.append(f"| {said} | {'<br>'.join(found)} | **{claim.verdict}** ({claim.scale}) |")
    return "\n".join(rows)


def summary() -> pd.DataFrame:
    """All ledgers: a row per claim with paper, id, statement and verdict."""
    claims = [claim for paper in papers() for claim in load(paper)]
    return pd.DataFrame([{k: getattr(c, k) for k in ("paper", "id", "statement", "verdict")} for c in claims])
