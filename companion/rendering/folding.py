"""What not every reader needs is folded: the settings of a figure, and a chapter's ablations.

A caption of two paragraphs is a caption and, below it, a legend: so it is in docutils. The legend is folded.
Of a section that is called *Ablations* its title and what follows it at once stay, a paragraph and a table if
one comes next; the rest is folded.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

from companion.rendering.builders import EBOOK, SITE, makes

SECTION = "Ablations"


def on_page(app: Sphinx, document: nodes.document, name: str) -> None:
    """Fold what a page has to be folded, for HTML alone."""
    if not makes(app, SITE, EBOOK):
        return
    for legend in list(document.findall(nodes.legend)):
        _fold(legend, 0, "settings", "Settings")
    for section in list(document.findall(nodes.section)):
        if section[0].astext() == SECTION:
            table = any(isinstance(child, nodes.table) for child in section.children[2:3])
            figures = sum(1 for _ in section.findall(nodes.figure))
            _fold(
                section, 3 if table else 2, "ablations", f"Show them ({figures} figure{'s' * (figures != 1)})"
            )


def _fold(node: nodes.Element, first: int, kind: str, title: str) -> None:
    """Fold the children of ``node`` from ``first`` on."""
    opening = f'<details class="{kind}"><summary>{title}</summary>'
    node.insert(first, nodes.raw("", opening, format="html"))
    node.append(nodes.raw("", "</details>", format="html"))


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("doctree-resolved", on_page)
