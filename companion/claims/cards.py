"""Claims as readers see them: a card each, with its verdict first and what lies behind it folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from companion.claims import rules
from companion.claims.chapters import OWN, chapter_of
from companion.claims.contests import contested, contesting, says
from companion.claims.evidence import COUNTED, Estimate
from companion.claims.ledger import Evidence
from companion.claims.marks import Axis, axes, mark, strip
from companion.claims.turned import FIRM
from companion.claims.verdicts import Claim

#: The mark of a rule that was written when its records had been seen.
SEEN = "†"
#: Words of the cards.
WORDS = (
    "*Open*: the interval crosses a limit. *Resamples*: chips, images and trainings, drawn again a thousand "
    "times; where more than a tenth turn a verdict, it is undecided. More: {ref}`sec-verdicts`."
)
LATER = "The rule was written after its records had been seen."


def cards(claims: Sequence[Claim]) -> str:
    """The claims as cards, in Markdown with HTML around it; each can be linked to as ``#claim-<id>``.

    On the card: the verdict, with direction and size apart; whether a control contests the cause; the
    statement; what is measured, and of each piece its interval, as a number and as a strip. Folded: source,
    rule, figure, and the command that makes its records again. Below the cards stand :data:`WORDS`, and what
    :data:`SEEN` means, if it is there.
    """
    against = contesting(claims)
    parts = [part for claim in claims for part in _card(claim, against[claim.id])]
    if any(claim.seen for claim in claims):
        parts.append(f"{SEEN} {LATER}")
    parts.append(WORDS)
    return "\n\n".join(parts)


def _card(claim: Claim, controls: Sequence[Claim]) -> Iterator[str]:
    """The blocks of one card; between two of them stands an empty line."""
    name = escape(claim.id)
    yield f'<article class="claim" id="claim-{name}" aria-label="Claim {name}">\n{_chips(claim, controls)}'
    yield f"**{claim.statement}**"
    yield from _beside(claim)
    if claim.measure or claim.reason:
        yield '<div class="claim-measure">'
        yield " ".join(part for part in (claim.measure, claim.reason) if part)
        yield "</div>"
    yield from _pieces(claim)
    yield '<details class="claim-more"><summary>Source, rule, and how to run it again</summary>'
    yield "\n".join(f"- {line}" for line in _folded(claim, controls))
    yield "</details>\n</article>"


def _chips(claim: Claim, controls: Sequence[Claim]) -> str:
    """Verdict, direction and size, and whether the cause is contested, as chips; and the permanent link."""
    seen = f'<abbr title="{LATER}">{SEEN}</abbr>' if claim.seen else ""
    chips = [f'<span class="chip verdict">{mark(claim.verdict)}{claim.verdict} ({claim.scale}){seen}</span>']
    if "none" not in (claim.direction, claim.size) and not claim.unknown:
        apart = {"direction": claim.direction, "size": claim.size}
        chips += [f'<span class="chip">{kind}: {found}</span>' for kind, found in apart.items()]
    if said := contested(controls):
        chips.append(f'<span class="chip contested">{said}</span>')
    link = f"#claim-{escape(claim.id)}"
    return f'<div class="chips">{" ".join(chips)} <a class="claim-link" href="{link}">{link}</a></div>'


def _beside(claim: Claim) -> Iterator[str]:
    """What stands beside the verdict: how firm it is, how many members a family has, what is not known."""
    lines = []
    if claim.turned is None and claim.measured:
        lines.append("How many resamples turn it is not known.")
    if claim.turned:
        found = f"{share(claim.turned)} of resamples say otherwise"
        firm = f"more than {100 * FIRM:.0f} % leave it undecided"
        leans = f"The pieces together say *{claim.leaning}*, but {found}; {firm}."
        lines.append(f"{found}." if claim.verdict == claim.leaning else leans)
    if claim.quantifier == "any":
        judges = [piece.judges for piece in claim.evidence]
        counts = [f"{judges.count(kind)} judge the {kind}" for kind in dict.fromkeys(judges)]
        enough = "One piece that holds is enough" + " of each kind" * (len(counts) > 1)
        lines.append(f"{enough}: {', '.join(counts)} ({claim.family}).")
    if claim.unknown:
        lines.append(f"Not known: {claim.unknown}. Until it is, no piece decides.")
    if lines:
        yield " ".join(lines)


def share(turned: float) -> str:
    """A share in per cent, with a decimal where a whole number would hide on which side of a limit it is."""
    near = any(round(100 * turned) == round(100 * limit) for limit in (0.0, FIRM))
    return f"{100 * turned:.{1 if near else 0}f} %" if turned >= 0.0005 else "less than 0.1 %"


def _pieces(claim: Claim) -> Iterator[str]:
    """Each piece of evidence: in words, and as a strip; below the last strip of an axis its ends."""
    drawn = axes(claim)
    ends = {axis: place for place, axis in enumerate(drawn) if axis is not None}
    for place, (piece, m, axis) in enumerate(zip(claim.evidence, claim.measured, drawn, strict=True)):
        yield '<div class="piece">'
        yield said_of(piece, m, claim.unit, claim.digits)
        shown = "" if axis is None else strip(piece, m, axis, rules.allowed(piece, claim.unit))
        if axis is not None and ends[axis] == place:
            shown += _ends(axis, claim)
        yield f"{shown}</div>" if not shown else f"<div>{shown}</div></div>"


def _ends(axis: Axis, claim: Claim) -> str:
    low, high = (f"{value:z.{claim.digits}f}" for value in (axis.low, axis.high))
    return (
        f'<div class="ends" aria-hidden="true"><span>{low}</span> <span>shaded: allowed</span> '
        f"<span>{high} {escape(claim.unit)}</span></div>"
    )


def _folded(claim: Claim, controls: Sequence[Claim]) -> Iterator[str]:
    """Where it is said, the rule, what contests it, the figure, and the command, each a line."""
    first, *more = claim.provenance.split("; ")
    cited = "" if claim.paper in OWN else f"{{cite:t}}`{claim.paper}`, "
    yield f"*Source.* {cited}{claim.where}; {first}."
    yield from (f"{part[0].upper() if part[0].isascii() else part[0]}{part[1:]}." for part in more)
    found = rules.grouped(claim.evidence, claim.unit)
    for sentence, labels in found:
        yield f"*Rule.* {sentence}" + (f" For: {'; '.join(labels)}." if len(found) > 1 else "")
    if len(claim.evidence) > 1:
        yield "One piece of each kind is enough." if claim.quantifier == "any" else "Every piece has to hold."
    for control in controls:
        yield f"*{says(control).capitalize()}.* {_linked(control)}: {control.verdict}."
    if claim.contests:
        yield f"It contests the cause of {', '.join(f'`{name}`' for name in claim.contests)}."
    if claim.figure:
        yield f"*Figure.* {{numref}}`{claim.figure}`."
    if keys := list(dict.fromkeys(key for m in claim.measured for key in m.keys)):
        yield again(keys)


def _linked(control: Claim) -> str:
    """The statement of a control, linked to its card."""
    card = f"{chapter_of(control).file}.html#claim-{control.id}"
    return f'<a href="{escape(card)}">{escape(control.statement)}</a>'


def again(keys: Sequence[str]) -> str:
    """How to make the first of these records again, ``experiment/key``, and how many there are."""
    experiment, key = keys[0].split("/")
    run = f"python -m companion.sweeps run data/sweeps/{experiment}.yml {key}"
    command = f"`rm data/results/{experiment}/{key}.* && {run}`"
    if len(keys) == 1:
        return f"*Again.* Its one record: {command}"
    return f"*Again.* The first of its {len(keys)} records: {command}; what is missing: `make sweep`"


def _covered(m: Estimate) -> str:
    """What the interval covers: the values, and images if they share some."""
    return f" {m.unit} × {m.images:,} images" if m.images else f" {m.unit}"


def said_of(evidence: Evidence, m: Estimate, unit: str, digits: int) -> str:
    """One piece in words: what it is, what was found, and whether it holds."""
    estimate, low, high = (f"{value:z.{digits}f}" for value in (m.estimate, m.low, m.high))
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
