"""Claims as readers see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from companion.claims.evidence import COUNTED
from companion.claims.verdicts import Claim


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
