"""Figures that move: behind each stands a place for its script, with its data in the page.

A script takes that place over, and hides what stands before it; where none runs, and on paper, the drawing or
the figure stays. Everything works from disk, and nothing is asked of other machines.
"""

from __future__ import annotations

import json
from base64 import b64decode
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from companion.moving import DATA
from companion.rendering.builders import SITE, makes
from companion.rendering.figures import KIND, file_name

CLASS = "moving-"


def carried(notebook: Path) -> dict[str, dict[str, Any]]:
    """What moves each figure of ``notebook`` that moves, by the name under which the book keeps its image."""
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            moving = output.get("metadata", {}).get(KIND, {}).get("moving")
            if moving:
                found[file_name(b64decode(output["data"][KIND]))] = moving
    return found


def markup(name: str, data: dict[str, Any]) -> str:
    """HTML of the place of a script, with its data."""
    inline = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    held = f'<script type="application/json">{inline}</script>'
    return f'<div class="moving" data-moving="{escape(name)}" hidden>{held}</div>'


def on_page(app: Sphinx, document: nodes.document, name: str) -> None:
    """Put a place behind each figure of a page that moves, for HTML alone."""
    if not makes(app, SITE):
        return
    path = Path(app.env.doc2path(name))
    known = carried(path) if path.suffix == ".ipynb" else {}
    for image in list(document.findall(nodes.image)):
        moving = known.get(Path(image["uri"]).name) or _drawing(image)
        if moving:
            place = nodes.raw("", markup(**moving), format="html", moving=moving["name"])
            image.parent.insert(image.parent.index(image) + 1, place)


def scripts(
    app: Sphinx, name: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    """The scripts and the style that a page needs, and no others."""
    found = {node["moving"] for node in (document or nodes.Element()).findall(nodes.raw) if "moving" in node}
    if found:
        app.add_css_file("../moving/moving.css")
        for each in ("moving", *sorted(found)):
            app.add_js_file(f"../moving/{each}.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events; the places are put before images are replaced."""
    app.connect("doctree-resolved", on_page, priority=400)
    app.connect("html-page-context", scripts)


def _drawing(image: nodes.image) -> dict[str, Any] | None:
    """What moves a drawing, if it or its figure has a class that says so."""
    classes = [*image.get("classes", []), *image.parent.get("classes", [])]
    names = [each.removeprefix(CLASS) for each in classes if each.startswith(CLASS)]
    return {"name": names[0], "data": DATA[names[0]]()} if names else None
