"""Drawings as part of the page, so that they take its colours, in the dark too.

A drawing is an SVG file of ``class="drawing"`` below ``pages/images``. Its colours are those of
``_extra/drawings.css``, which says what each becomes on a dark page. Other SVG files stay images.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from companion.rendering.builders import PRINT, SITE, makes

_OPENING = re.compile(r"<svg\b([^>]*)>")
_REPLACED = re.compile(r'\s(?:class|width|height|role|aria-labelledby)="[^"]*"')
_INSTEAD = re.compile(r"<title\b.*?</title>\s*|<style>.*?</style>\s*", re.DOTALL)


def is_drawing(svg: str) -> bool:
    """Whether the text of an SVG file says that it is a drawing."""
    opening = _OPENING.search(svg)
    return opening is not None and 'class="drawing"' in opening[1]


def inline(svg: str, alt: str, width: str) -> str:
    """HTML of a drawing that is ``width`` wide at most; ``alt`` stands for it where it is not seen."""
    drawing = _INSTEAD.sub("", svg[svg.index("<svg") :]).strip()
    shown = f'class="drawing" role="img" aria-label="{escape(alt)}" style="max-width:{width}"'
    return _OPENING.sub(lambda found: f"<svg {shown}{_REPLACED.sub('', found[1])}>", drawing, count=1)


def on_page(app: Sphinx, document: nodes.document, name: str) -> None:
    """Put the drawings of a page into it, for HTML alone."""
    if not makes(app, SITE, PRINT):
        return
    for image in list(document.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".svg" and path.exists() and is_drawing(text := path.read_text(encoding="utf-8")):
            shown = inline(text, image.get("alt", ""), image.get("width", "640px"))
            image.replace_self(nodes.raw("", shown, format="html"))


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("doctree-resolved", on_page)
