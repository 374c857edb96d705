"""Search that shows where a word stands, from disk too.

Sphinx's search fetches each page that it finds to show an excerpt, which a browser refuses for a page from
disk. So the text of every page is written into one script, which the search page loads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

TEXTS = "search-texts.js"
#: Parts of a page in which nobody looks for a word.
HIDDEN = (nodes.raw, nodes.comment, nodes.math, nodes.math_block, nodes.substitution_definition)


def text(document: nodes.document) -> str:
    """The text of a page in one line, without its mathematics."""
    found = (node for node in document.findall(nodes.Text) if not _within(node, HIDDEN))
    return " ".join(" ".join(node.astext().split()) for node in found if node.strip())


def _within(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def write(app: Sphinx, exception: Exception | None) -> None:
    """The texts of all pages, by the address that the search asks for, for the HTML builder alone."""
    if exception is not None or app.builder.format != "html":
        return
    env: BuildEnvironment = app.env
    texts = {app.builder.get_target_uri(name): text(env.get_doctree(name)) for name in sorted(env.found_docs)}
    script = f"const SEARCH_TEXTS = {json.dumps(texts, ensure_ascii=False)};\n"
    (Path(app.outdir) / TEXTS).write_text(script, encoding="utf-8")


def on_search_page(app: Sphinx, name: str, *_: Any) -> None:
    """Give the search page, and no other, the texts and what reads them."""
    if name == "search":
        app.add_js_file(f"../{TEXTS}", priority=900)
        app.add_js_file("../search-from-disk.js", priority=901)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("html-page-context", on_search_page)
    app.connect("build-finished", write)
