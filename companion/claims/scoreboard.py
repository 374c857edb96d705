"""The scoreboard: every claim of the book with its verdict, to be looked through, filtered and taken away.

What is on the page is in it once more as JSON: the script that filters reads that, and so does the build,
which writes ``claims.csv``, ``claims.json`` and the badges from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pybtex.database import parse_file

from companion import records
from companion.claims import contests
from companion.claims.chapters import OWN, Chapter, chapter_of, chapters
from companion.claims.marks import mark
from companion.claims.verdicts import VERDICTS, Claim, load

#: Where a claim is said; "this book" are its own controls and conventions, and what it derives.
SOURCES = ("paper", "abstract", "authors' code", "third party", "no number known", "this book")
#: Verdicts as the sentence puts them together.
_TOGETHER = {
    "reproduced": ("reproduced",),
    "in part": ("direction only", "holds where decided", "partly"),
    "not reproduced": ("not reproduced", "not by arithmetic"),
    "undecided": ("undecided",),
    "settled by arithmetic": ("by arithmetic",),
    "not testable here": ("not testable here",),
    "waiting for records": ("stale records", "not run yet"),
}
_SAYS = ("holds", "holds where decided", "partly", "open", "fails", "none")


@dataclass(frozen=True)
class Row:
    """A claim with the chapter in which it stands, the kind of its source, one of :data:`SOURCES`, and what
    controls make of its cause."""

    claim: Claim
    chapter: Chapter
    source: str
    contested: str

    @property
    def counted(self) -> bool:
        """Whether it is a paper's claim, and not this book's own."""
        return self.source != "this book"

    @property
    def address(self) -> str:
        """Its card."""
        return f"{self.chapter.file}.html#claim-{self.claim.id}"

    @property
    def words(self) -> str:
        """Statement and verdict in one line."""
        claim = self.claim
        apart = [f"{kind} {getattr(claim, kind)}" for kind in ("direction", "size")]
        found = "; ".join([claim.verdict, *(one for one in apart if not one.endswith("none"))])
        return f"{claim.statement}: {found}" + (f"; {self.contested}" if self.contested else "")

    def told(self) -> dict[str, Any]:
        """What files and the script are told: the columns of :func:`~companion.claims.verdicts.summary`, and
        more."""
        shown = ("paper", "id", "statement", "verdict", "direction", "size", "scale", "where", "turned")
        more = {"chapter": self.chapter.file, "source": self.source, "cause": self.contested}
        more["authors"] = authors().get(self.claim.paper, "")
        return {name: getattr(self.claim, name) for name in shown} | more | {"counted": self.counted}


@cache
def authors() -> dict[str, str]:
    """Last names of the authors of each publication in the bibliography."""
    entries = parse_file(str(records.ROOT / "references.bib"), bib_format="bibtex").entries
    people = {key: entry.persons.get("author", []) for key, entry in entries.items()}
    return {key: ", ".join(" ".join(one.last_names) for one in each) for key, each in people.items()}


def source_of(claim: Claim) -> str:
    """Which of :data:`SOURCES` its provenance is."""
    said = claim.provenance
    if claim.paper in OWN or said.startswith(("ours", "derived here")):
        return "this book"
    if said.startswith("summary by a third party"):
        return "third party"
    if "repository" in said:
        return "authors' code"
    if said.startswith("reported in the abstract"):
        return "abstract"
    return "paper" if said.startswith(("reported in the paper", "read off")) else "no number known"


def rows(papers: Iterable[str]) -> list[Row]:
    """The claims of these ledgers, each measured: those of papers first, in the order of the chapters, then
    this book's own. Raises as :func:`~companion.claims.verdicts.load` does."""
    found = [claim for paper in papers for claim in load(paper)]
    order = [chapter.file for chapter in chapters()]
    against = contests.contesting(found)
    made = [Row(c, chapter_of(c), source_of(c), contests.contested(against[c.id])) for c in found]
    return sorted(made, key=lambda row: (not row.counted, order.index(row.chapter.file), _place(row)))


def _place(row: Row) -> int:
    """Papers as their chapter lists them, what has none after them."""
    papers = row.chapter.papers
    return papers.index(row.claim.paper) if row.claim.paper in papers else len(papers)


def counts(found: Sequence[Row]) -> dict[str, int]:
    """How many claims have each verdict, in the order of the verdicts; those that none has are left out."""
    verdicts = [row.claim.verdict for row in found]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts}


def in_words(numbers: dict[str, int]) -> str:
    """Counts as an enumeration."""
    return ", ".join(f"{n} {verdict}" for verdict, n in numbers.items())


def sentence(found: Sequence[Row]) -> str:
    """What became of the papers' claims, in one sentence and one bar with its legend."""
    numbers = counts([row for row in found if row.counted])
    said = ", ".join(
        f"{n} {words}" for words, kinds in _TOGETHER.items() if (n := sum(numbers.get(k, 0) for k in kinds))
    )
    total = sum(numbers.values())
    bar = "".join(
        f'<span class="is-{kind.replace(" ", "-")}" style="flex-grow:{n}"></span>'
        for kind, n in numbers.items()
    )
    legend = " ".join(f"<span>{mark(kind)} {kind} {n}</span>" for kind, n in numbers.items())
    return (
        f"**Of {total} claims of papers: {said}.**\n\n"
        f'<div class="board-sum"><div class="bar" role="img" aria-label="{in_words(numbers)}">{bar}</div>'
        f'<div class="legend">{legend}</div></div>'
    )


def data(found: Sequence[Row]) -> str:
    """The claims as JSON in a script, and the script that filters by them."""
    told = json.dumps([row.told() for row in found], ensure_ascii=False).replace("</", "<\\/")
    return (
        f'<script type="application/json" id="scoreboard-data">{told}</script>\n'
        '<script src="../scoreboard.js" defer></script>'
    )


def meanings(found: Sequence[Row]) -> str:
    """Every verdict, how many claims of papers have it, and what it means: a Markdown table, folded."""
    numbers = counts([row for row in found if row.counted])
    lines = [f"| {kind} | {numbers.get(kind, 0)} | {means} |" for kind, means in VERDICTS.items()]
    table = "\n".join(["| Verdict | Claims | What it means |", "|---|---|---|", *lines])
    return folded("What the verdicts mean", table)


def apart(found: Sequence[Row]) -> str:
    """How many papers' claims hold in direction, and how many in size: a Markdown table, folded."""
    lines = ["| | " + " | ".join([*_SAYS[:-1], "not judged"]) + " |", "|---" * 7 + "|"]
    for kind in ("direction", "size"):
        said = [getattr(row.claim, kind) for row in found if row.counted]
        lines.append(f"| {kind} | " + " | ".join(str(said.count(word)) for word in _SAYS) + " |")
    return folded("Direction and size apart", "\n".join(lines))


def badges(found: Sequence[Row]) -> str:
    """The papers one by one: their counts, and a badge with the Markdown that shows it; folded.

    The build draws the badges, see :mod:`companion.rendering.claims`.
    """
    parts = []
    for paper in dict.fromkeys(row.claim.paper for row in found if row.counted):
        own = [row for row in found if row.claim.paper == paper and row.counted]
        said, chapter = in_words(counts(own)), own[0].chapter.file
        shown = f'<img class="paper-badge" src="../badges/{paper}.svg" alt="{said}">'
        shown += f'<span class="paper-said">{said}</span>'  # on a phone
        line = f"[![{said}](badges/{paper}.svg)](chapters/{chapter}.html)"
        parts.append(f"- {{cite:t}}`{paper}`, in {{doc}}`{chapter}`<br>{shown}<br>`{line}`")
    told = "To show a badge elsewhere, put the address of this book before both of its addresses."
    return folded("Paper by paper, with a badge for each", "\n".join([told, "", *parts]))


def folded(title: str, content: str) -> str:
    """Markdown that a reader opens."""
    return f'<details class="board-more"><summary>{title}</summary>\n\n{content}\n\n</details>'
