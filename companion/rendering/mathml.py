"""Equations as MathML, for e-books, in which no script typesets them."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

NAME = "mathml"
#: What latex2mathml does not know, and what looks the same; the room below a line is left out.
ALIKE = {"{aligned}": "{split}", "{gathered}": "{matrix}", r"\\[2pt]": r"\\"}
#: What it leaves as it is, and what it means.
LEFT = {r"\lVert": "‖", r"\rVert": "‖", r"\arg": "arg"}
UNKNOWN = re.compile(r"\\|&(?![#\w]+;)")


def written(latex: str, display: str) -> str:
    """MathML of an equation, ``display`` ``"inline"`` or ``"block"``. Raises ``ValueError`` if a command of
    TeX is left in it."""
    lines = "\\\\" in latex and "\\begin" not in latex  # as Sphinx does, too
    known = rf"\begin{{split}}{latex}\end{{split}}" if lines else latex
    for unknown, alike in ALIKE.items():
        known = known.replace(unknown, alike)
    found = convert(known, display=display).replace("<mtable>", '<mtable displaystyle="true">')
    for command, meant in LEFT.items():
        found = found.replace(f">{command}<", f">{meant}<")
    if UNKNOWN.search(found):
        raise ValueError(f"equation {latex!r} is not allowed; allowed: commands that latex2mathml knows")
    return found


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """An equation within a line."""
    translator.body.append(f'<span class="math">{written(node.astext(), "inline")}</span>')
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """An equation of its own, with its number."""
    mark = translator.starttag(node, "div", CLASS="math")
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    translator.body.append(f"{mark}{number}{written(node.astext(), 'block')}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Give Sphinx this way to write equations, which a builder asks for by its name."""
    app.add_html_math_renderer(NAME, inline_renderers=(inline, None), block_renderers=(block, None))
