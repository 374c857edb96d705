"""Claims as readers see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from companion.claims.evidence import COUNTED, Estimate
from companion.claims.ledger import Evidence
from companion.claims.verdicts import Claim

#: The mark of a rule that was written when its records had been seen.
SEEN = "†"


def table(claims: Sequence[Claim]) -> str:
    """The claims as a Markdown table: statement and source, what we measured, verdict.

    Below the verdict stand what it says of direction and size, if it judges both, what is not known, and
    how many members a family has; below the table what :data:`SEEN` means, if it is there.
    """
    rows = ["| The claim | What we measured | Verdict |", "|---|---|---|"]
    for claim in claims:
        said = f"{claim.statement} *({claim.where}; {claim.provenance})*"
        found = [part for part in (claim.measure, claim.reason) if part]
        found += [
            f"• {_measured(evidence, m, claim.unit, claim.digits)}"
            for evidence, m in zip(claim.evidence, claim.measured, strict=True)
        ]
        cells = (said, "<br>".join(found), "<br>".join(_judged(claim)))
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    if any(claim.seen for claim in claims):
        rows += ["", f"{SEEN} The rule was written after its records had been seen."]
    return "\n".join(rows)


def _judged(claim: Claim) -> list[str]:
    """The verdict, and what stands below it."""
    lines = [f"**{claim.verdict}** ({claim.scale}){SEEN if claim.seen else ''}"]
    if "none" not in (claim.direction, claim.size) and not claim.unknown:
        lines.append(f"direction: {claim.direction}; size: {claim.size}")
    if claim.turned is None and claim.measured:
        lines.append("how many resamples turn it is not known")
    if claim.turned:
        found = f"{100 * claim.turned:.0f} % of resamples say otherwise"
        lines.append(found if claim.verdict == claim.leaning else f"leans to {claim.leaning}; {found}")
    if claim.quantifier == "any":
        judges = [piece.judges for piece in claim.evidence]
        of = " and ".join(f"{judges.count(kind)} for the {kind}" for kind in dict.fromkeys(judges))
        lines.append(f"one is enough, of {of}: {claim.family}")
    if claim.unknown:
        lines.append(f"not known: {claim.unknown}")
    return lines


def _covered(m: Estimate) -> str:
    """What the interval covers: the values, and images if they share some."""
    return f" {m.unit} × {m.images:,} images" if m.images else f" {m.unit}"


def _measured(evidence: Evidence, m: Estimate, unit: str, digits: int) -> str:
    """One piece: what it is, what was found, and whether it holds."""
    estimate, low, high = (f"{value:.{digits}f}" for value in (m.estimate, m.low, m.high))
    if m.low < m.high:
        found = f" [{low}, {high}] {unit}, n = {m.n}{_covered(m)}"
    elif evidence.statistic in COUNTED:
        which = {"max": "the largest of", "min": "the smallest of"}.get(evidence.statistic, "of")
        found = f" {unit}, {which} n = {m.n}"
    elif np.isnan(m.low):
        found = f" {unit}, n = {m.n}, without an interval"
    else:
        found = f" {unit}, the same for all n = {m.n}"
    if evidence.settled == "by arithmetic":
        found = f" {unit}, by arithmetic"
    text = evidence.label if m.status == "missing" else f"{evidence.label}: {estimate}{found}"
    if evidence.why:
        text = f"{text} (decided from n = {evidence.least}: {evidence.why})"
    elif m.status == "open" and m.n < evidence.least:
        text = f"{text} (needs n = {evidence.least})"
    return f"{text}: *{m.status}*"
