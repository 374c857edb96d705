"""The scoreboard's picture: filters, a row of marks for each chapter, and the list of all claims, as HTML.

It reads without its script: the filters stay hidden then.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from companion.claims import scoreboard
from companion.claims.contests import ASKED, CONTESTED
from companion.claims.marks import mark
from companion.claims.scoreboard import SOURCES, Row
from companion.claims.verdicts import VERDICTS

SORTS = {
    "chapter": "as in the book",
    "verdict": "by verdict",
    "paper": "by paper",
    "turned": "least firm first",
}
#: The line below a mark, by what controls make of the cause.
_LINES = {CONTESTED: "contested", ASKED: "asked"}


def board(found: Sequence[Row]) -> str:
    """All of it but the tables below; ``found`` as :func:`~companion.claims.scoreboard.rows` gives it."""
    parts = (scoreboard.sentence, filters, papers, own, listed, scoreboard.data)
    return "\n\n".join(part(found) for part in parts)


def filters(found: Sequence[Row]) -> str:
    """The filters, which the script shows."""
    chapters = {row.chapter.file: row.chapter.name for row in found}
    verdicts = {kind: kind for kind in VERDICTS if any(row.claim.verdict == kind for row in found)}
    sources = {kind: kind for kind in SOURCES if any(row.source == kind for row in found)}
    scales: dict[str, str] = {row.claim.scale: row.claim.scale for row in found}
    fields = [
        '<label>Text <input type="search" name="text" placeholder="46.71, drift …"></label>',
        _select("verdict", "Verdict", verdicts),
        _select("source", "Source", sources),
        _select("scale", "Scale", scales),
        _select("chapter", "Chapter", chapters),
        _select("sort", "Order", SORTS, first=False),
        '<button type="reset">Clear</button>',
        '<output aria-live="polite"></output>',
        '<span class="take">Take away: <a href="../claims.csv" download>CSV</a>, '
        '<a href="../claims.json" download>JSON</a></span>',
    ]
    form = "\n".join(['<form id="scoreboard-filters" hidden>', *fields[:-1], "</form>"])
    return f'<div class="board-top">\n{form}\n{fields[-1]}\n</div>'


def _select(name: str, label: str, options: dict[str, str], *, first: bool = True) -> str:
    values = {"": "all", **options} if first else options
    inside = "".join(f'<option value="{escape(v)}">{escape(text)}</option>' for v, text in values.items())
    return f'<label>{label} <select name="{name}">{inside}</select></label>'


def papers(found: Sequence[Row]) -> str:
    """A row for each chapter that judges a paper: its name, what it finds, and a mark for each claim."""
    lines = []
    for chapter in dict.fromkeys(row.chapter for row in found if row.counted):
        own = [row for row in found if row.chapter == chapter and row.counted]
        groups = dict.fromkeys(row.claim.paper for row in own)
        marks = "".join(
            f'<span class="group">{_marks([row for row in own if row.claim.paper == paper])}</span>'
            for paper in groups
        )
        lines.append(
            f'<li><a class="name" href="{chapter.file}.html">{escape(chapter.name)}</a> '
            f'<span class="finding">{escape(chapter.finding)}</span><span class="marks">{marks}</span></li>'
        )
    return '<ul class="board">\n' + "\n".join(lines) + "\n</ul>"


def own(found: Sequence[Row]) -> str:
    """The band of what is this book's own: conventions, controls, and what it derives."""
    mine = [row for row in found if not row.counted]
    lines = [
        f'<li><span class="name">{escape(chapter.name)}</span>'
        f'<span class="marks">{_marks([row for row in mine if row.chapter == chapter])}</span></li>'
        for chapter in dict.fromkeys(row.chapter for row in mine)
    ]
    said = (
        f"<strong>This book's own</strong>, not counted above: {len(mine)} controls, conventions, derivations"
    )
    return f'<div class="board-own"><p>{said}</p>\n<ul class="board">\n' + "\n".join(lines) + "\n</ul></div>"


def _marks(found: Sequence[Row]) -> str:
    return "".join(
        f'<a class="claim-dot {_LINES.get(row.contested, "")}" href="{escape(row.address)}" '
        f'tabindex="-1" data-id="{escape(row.claim.id)}" title="{escape(row.words)}" '
        f'aria-label="{escape(row.words)}">{mark(row.claim.verdict)}</a>'
        for row in found
    )


def listed(found: Sequence[Row]) -> str:
    """Every claim in a line of a table; the script shows the first of them, until it is asked for all."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Verdict", "Claim", "Where"))
    lines = "\n".join(_line(row) for row in found)
    return (
        '<div class="board-list" role="region" aria-label="All claims">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n</div>"
    )


def _line(row: Row) -> str:
    claim = row.claim
    both = [
        f"{kind} {getattr(claim, kind)}" for kind in ("direction", "size") if getattr(claim, kind) != "none"
    ]
    cause = f'<br><em class="cause">{row.contested}</em>' if row.contested else ""
    apart = f"<br><small>{', '.join(both)}</small>" if both else ""
    where = f"{escape(claim.paper)}, {escape(claim.where)}" if row.counted else "this book"
    return (
        f'<tr data-id="{escape(claim.id)}"><td>{mark(claim.verdict)} {claim.verdict}{apart}</td>'
        f'<td><a href="{escape(row.address)}">{escape(claim.statement)}</a>{cause}</td>'
        f"<td><small>{where}<br>{escape(row.chapter.name)}, {claim.scale}</small></td></tr>"
    )
