"""A rule in words, as its limits say it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from companion.claims.ledger import Evidence

_SUBJECTS = {
    "mean": "the whole 95 % interval",
    "std": "the whole 95 % interval of the standard deviation",
    "max": "the largest value",
    "min": "the smallest value",
    "stragglers": "the count",
}


def allowed(evidence: Evidence, unit: str = "") -> str:
    """The range in words: "above 0 points", "between 0.49 and 0.51"."""
    after = f" {unit}" if unit else ""
    limits = {name: f"{limit:.5g}" for name, limit in evidence.limits.items()}
    if len(limits) == 2:
        return f"between {limits['above']} and {limits['below']}{after}"
    return "".join(f"{name} {limit}{after}" for name, limit in limits.items())


def rule(evidence: Evidence, unit: str = "") -> str:
    """What has to be so for the piece to hold: one sentence."""
    subject = "the number" if evidence.settled == "by arithmetic" else _SUBJECTS[evidence.statistic]
    sentence = f"{subject} must lie {allowed(evidence, unit)}"
    if evidence.judges == "direction" and (margin := _margin(evidence)):
        sentence += f" ({margin})"
    if evidence.least > 1:
        sentence += f", over at least {evidence.least} values"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _margin(evidence: Evidence) -> str:
    """What a margin does: what lies within it still counts as no difference, or it has to be passed."""
    nothing, margin = evidence.neutral, evidence.margin
    if not margin:
        return "" if nothing in evidence.limits.values() and not nothing else f"{nothing:g} is no difference"
    asked = {"above": nothing + margin, "below": nothing - margin}
    passed = any(math.isclose(limit, asked[name]) for name, limit in evidence.limits.items())
    how = f"by more than {margin:g}" if passed else f"and up to {margin:g} from it counts as none"
    return f"{nothing:g} is no difference, {how}"


def grouped(evidence: Sequence[Evidence], unit: str = "") -> list[tuple[str, list[str]]]:
    """Each rule once, with the labels of the pieces that it judges."""
    found = dict[str, list[str]]()
    for piece in evidence:
        found.setdefault(rule(piece, unit), []).append(piece.label)
    return list(found.items())
