"""Search that shows where a word stands, from disk too.

Sphinx's search fetches each page that it finds to show an excerpt, which a browser refuses for a page from
disk. So the text of every page is written into one script, which the search page loads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx

from companion.rendering.builders import SITE, makes

TEXTS = "search-texts.js"
#: Parts of a page in which nobody looks for a word.
HIDDEN = "script, style, nav, form, .headerlink, .cell_input, details.hide, .claim-link"


def text(page: str) -> str:
    """What a reader sees of a page, in one line: without code and links, and an ellipsis for mathematics."""
    main = BeautifulSoup(page, "html.parser").select_one("article")
    if main is None:
        return ""
    for part in main.select(HIDDEN):
        part.decompose()
    for maths in main.select(".math"):
        maths.replace_with("…")
    return " ".join(main.get_text().split())


def write(app: Sphinx, exception: Exception | None) -> None:
    """Texts and titles of all pages, by the address that the search asks for, for the HTML builder alone."""
    if exception is not None or not makes(app, SITE):
        return
    pages = [app.builder.get_target_uri(name) for name in sorted(app.env.found_docs)]
    texts = {page: text(Path(app.outdir, page).read_text(encoding="utf-8")) for page in pages}
    titles = {app.builder.get_target_uri(name): app.env.titles[name].astext() for name in app.env.found_docs}
    told = {"SEARCH_TEXTS": texts, "SEARCH_TITLES": titles}
    script = "".join(f"const {name} = {json.dumps(one, ensure_ascii=False)};\n" for name, one in told.items())
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
