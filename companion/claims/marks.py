"""Verdicts as marks, of which no two share both shape and colour, and measurements as strips."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from companion.claims.evidence import Estimate
from companion.claims.ledger import Evidence
from companion.claims.verdicts import Claim

#: The shape of each verdict, in a square of sixteen units; its colour is the style sheet's.
SHAPES = {
    "reproduced": '<circle cx="8" cy="8" r="7"/>',
    "direction only": '<path d="M8 1 15 14H1z"/>',
    "holds where decided": '<circle class="line" cx="8" cy="8" r="6"/><circle cx="8" cy="8" r="3"/>',
    "partly": '<path class="line" d="M8 2 14 8 8 14 2 8z"/><path d="M8 1V15L1 8z"/>',
    "not reproduced": '<path class="thick" d="M3 3 13 13M13 3 3 13"/>',
    "undecided": '<circle class="line" cx="8" cy="8" r="6"/>',
    "by arithmetic": '<path d="M2 2H14V14H2z"/>',
    "not by arithmetic": '<path class="line" d="M2 2H14V14H2zM4 4 12 12"/>',
    "not testable here": '<path class="thick" d="M2 8H14"/>',
    "stale records": '<path class="line" d="M3 2H13L3 14H13z"/>',
    "not run yet": '<circle cx="3" cy="8" r="2"/><circle cx="8" cy="8" r="2"/><circle cx="13" cy="8" r="2"/>',
}


def mark(verdict: str) -> str:
    """The mark of ``verdict`` as SVG; its meaning has to stand beside it, or in a link around it."""
    kind = verdict.replace(" ", "-")
    return f'<svg class="claim-mark is-{kind}" viewBox="0 0 16 16" aria-hidden="true">{SHAPES[verdict]}</svg>'


@dataclass(frozen=True)
class Axis:
    """A strip's ends, in the claim's unit."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where ``value`` lies, % of the strip from its left end; what lies outside is at the end."""
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 1)


def axes(claim: Claim) -> list[Axis | None]:
    """The axis of each piece, shared by pieces that judge the same kind of number; ``None`` for one that has
    no records yet."""
    kinds = [(e.judges, e.compare, e.statistic, e.against is None) for e in claim.evidence]
    found = dict[object, Axis]()
    for kind in kinds:
        both = [pair for k, pair in zip(kinds, _pairs(claim), strict=True) if k == kind]
        shown = [value for e, m in both for value in _shown(e, m)]
        low, high = min(shown, default=0.0), max(shown, default=0.0)
        room = 0.06 * (high - low) or 0.5
        found[kind] = Axis(low - room, high + room)
    return [None if math.isnan(m.estimate) else found[k] for k, m in zip(kinds, claim.measured, strict=True)]


def _pairs(claim: Claim) -> list[tuple[Evidence, Estimate]]:
    return list(zip(claim.evidence, claim.measured, strict=True))


def _shown(evidence: Evidence, m: Estimate) -> list[float]:
    """What an axis has to show of a piece."""
    limits = list(evidence.limits.values())
    nothing = [evidence.neutral] if evidence.judges == "direction" else []
    return [value for value in (m.estimate, m.low, m.high, *limits, *nothing) if not math.isnan(value)]


def strip(evidence: Evidence, m: Estimate, axis: Axis, words: str) -> str:
    """The interval as HTML, before what is allowed; ``words`` say the latter to whoever does not see it."""
    left, right = axis.at(evidence.above), axis.at(evidence.below)
    parts = [_bar("allowed", left, right)]
    if evidence.judges == "direction":
        parts.append(f'<i class="none" style="left:{axis.at(evidence.neutral)}%"></i>')
    if m.low < m.high:
        parts.append(_bar(f"interval is-{m.status}", axis.at(m.low), axis.at(m.high)))
    parts.append(f'<i class="dot is-{m.status}" style="left:{axis.at(m.estimate)}%"></i>')
    said = escape(f"{m.status}; allowed: {words}")
    return f'<div class="strip" role="img" aria-label="{said}">{"".join(parts)}</div>'


def _bar(kind: str, left: float, right: float) -> str:
    return f'<i class="{kind}" style="left:{left}%;width:{round(right - left, 1)}%"></i>'
