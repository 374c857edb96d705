"""Claims in the rendered book: their style, and beside the scoreboard what it says, in files of its own.

The scoreboard's page has its claims in it as JSON. Once it is written, ``claims.csv`` and ``claims.json``
stand beside it, and a badge for each paper in ``badges/``: they say what the page says.
"""

from __future__ import annotations

import csv
import io
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from companion.rendering.builders import SITE, makes

PAGE = "chapters/scoreboard"
_DATA = re.compile(r'<script type="application/json" id="scoreboard-data">(.*?)</script>', re.DOTALL)
_GOOD, _PART, _BAD, _EXACT, _GREY = "#16703f", "#b7791f", "#b3261e", "#1f5fa8", "#6b7280"
#: The colour of every verdict, in the order of the verdicts.
COLOURS = {
    "reproduced": _GOOD,
    "direction only": _GOOD,
    "holds where decided": _GOOD,
    "partly": _PART,
    "not reproduced": _BAD,
    "undecided": _GREY,
    "by arithmetic": _EXACT,
    "not by arithmetic": _BAD,
    "not testable here": _GREY,
    "stale records": _GREY,
    "not run yet": _GREY,
}
_TITLE, _LETTER, _HEIGHT = "computing-in-memory, reproduced", 6.4, 22  # px a letter at 11 px


def told(page: str) -> list[dict[str, Any]]:
    """The claims that the HTML of a page has in it as JSON; none if it has none."""
    found = _DATA.search(page)
    claims: list[dict[str, Any]] = json.loads(found.group(1)) if found else []
    return claims


def as_csv(claims: list[dict[str, Any]]) -> str:
    """The claims as a table, a line each."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(claims[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(claims)
    return text.getvalue()


def badge(verdicts: list[str]) -> str:
    """An SVG that says how many claims have each of the ``verdicts``, with a bar of their colours."""
    counts = {verdict: verdicts.count(verdict) for verdict in COLOURS if verdict in verdicts}
    said = " · ".join(f"{n} {verdict}" for verdict, n in counts.items())
    left, right = (round(_LETTER * len(text) + 14) for text in (_TITLE, said))
    bars, place = [], float(left)
    for verdict, n in counts.items():
        width = right * n / len(verdicts)
        box = f'x="{place:.1f}" y="{_HEIGHT - 3}" width="{width:.1f}" height="3"'
        bars.append(f'<rect {box} fill="{COLOURS[verdict]}"/>')
        place += width
    words = escape(f"{_TITLE}: {said}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" role="img"'
        f' aria-label="{words}"><title>{words}</title>'
        f'<rect width="{left}" height="{_HEIGHT}" fill="#2b303b"/>'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="#f3f4f6"/>{"".join(bars)}'
        f'<g font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{_text(7, left, _TITLE, "#fff")}'
        f"{_text(left + 7, right, said, '#111827')}</g></svg>\n"
    )


def _text(x: int, width: int, words: str, colour: str) -> str:
    """Words as wide as their box, whichever fonts there are."""
    return f'<text x="{x}" y="14" textLength="{width - 14}" fill="{colour}">{escape(words)}</text>'


def write(app: Sphinx, exception: Exception | None) -> None:
    """The files, for the HTML builder alone, and if the book has a scoreboard."""
    if exception is not None or not makes(app, SITE) or PAGE not in app.env.found_docs:
        return
    out = Path(app.outdir)
    claims = told((out / f"{PAGE}.html").read_text(encoding="utf-8"))
    if not claims:
        return
    (out / "claims.csv").write_text(as_csv(claims), encoding="utf-8")
    content = json.dumps(claims, ensure_ascii=False, indent=1)
    (out / "claims.json").write_text(f"{content}\n", encoding="utf-8")
    (out / "badges").mkdir(exist_ok=True)
    for paper in dict.fromkeys(claim["paper"] for claim in claims if claim["counted"]):
        verdicts = [c["verdict"] for c in claims if c["paper"] == paper and c["counted"]]
        (out / "badges" / f"{paper}.svg").write_text(badge(verdicts), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.add_css_file("../claims.css")
    app.connect("build-finished", write)
