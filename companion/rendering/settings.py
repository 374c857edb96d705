"""A figure's caption says what it shows; the settings behind it are folded.

A caption of two paragraphs is a caption and, below it, a legend: so it is in docutils. The legend is folded.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def on_page(app: Sphinx, document: nodes.document, name: str) -> None:
    """Fold the legends of a page's figures, for HTML alone."""
    if app.builder.format != "html":
        return
    for legend in list(document.findall(nodes.legend)):
        opening = '<details class="settings"><summary>Settings</summary>'
        legend.insert(0, nodes.raw("", opening, format="html"))
        legend.append(nodes.raw("", "</details>", format="html"))


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("doctree-resolved", on_page)
