"""Each figure as it suits the reader's screen and page, and at its full size at a click.

A notebook shows one version of a figure and carries the others in its output's metadata
(:mod:`companion.pictures`). They are written beside the first, and a browser takes the one it needs: the
narrow one on a phone, the dark one in dark mode. Other builders, and paper, have the first.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from pathlib import Path
from struct import unpack

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

from companion.pictures import VECTOR, VERSIONS
from companion.rendering.builders import PRINT, SITE, makes

#: Where the narrow version takes over.
PHONE = "(max-width: 600px)"
KIND = "image/png"
PNG = b"\x89PNG"
#: Words of a caption that mean panels side by side, which a phone has one below another.
SIDES = re.compile(r"\b(Left|Right|Middle|(left|right|middle) panel)\b")


def carried(notebook: Path) -> dict[str, dict[str, bytes]]:
    """The versions of each figure of ``notebook``, by the name under which the book keeps the first.

    A figure that does not carry all of them is left out.
    """
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            shown = output.get("data", {}).get(KIND)
            texts = {**output.get("metadata", {}).get(KIND, {}), VERSIONS[0]: shown}
            if all(texts.get(name) for name in VERSIONS):
                images = {name: b64decode(texts[name]) for name in (*VERSIONS, VECTOR) if name in texts}
                found[file_name(images[VERSIONS[0]])] = images
    return found


def file_name(image: bytes) -> str:
    """The name under which the book keeps ``image``: that of what it holds, as MyST-NB has it."""
    return f"{sha256(image).hexdigest()}.{'png' if image.startswith(PNG) else 'svg'}"


def size(image: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    width, height = unpack(">II", image[16:24])
    return width, height


def markup(images: dict[str, bytes], folder: str, alt: str) -> str:
    """HTML of one figure whose ``images`` lie in ``folder``: a link to the whole, which shows what suits; for
    the printed edition the drawing itself."""
    if VECTOR in images:
        return f'<img class="figure-vector" alt="{escape(alt)}" src="{folder}/{file_name(images[VECTOR])}">'
    pictures = "".join(_picture(images, folder, alt, page) for page in ("", "-dark"))
    whole = f"{folder}/{file_name(images[VERSIONS[0]])}"
    return f'<a class="figure-whole" href="{whole}" title="Enlarge">{pictures}</a>'


def on_page(app: Sphinx, document: nodes.document, name: str) -> None:
    """Put the versions of the figures of a page in their places, for HTML alone."""
    path = Path(app.env.doc2path(name))
    if not makes(app, SITE, PRINT) or path.suffix != ".ipynb":
        return
    versions = carried(path)
    folder = relative_uri(app.builder.get_target_uri(name), app.builder.imagedir)
    for image in list(document.findall(nodes.image)):
        images = versions.get(Path(image["uri"]).name)
        if images is not None:
            _write(images, Path(app.outdir, app.builder.imagedir))
            figure = next((up for up in _above(image) if isinstance(up, nodes.figure)), None)
            if figure is not None and SIDES.search(figure.astext()):
                figure["classes"].append("panels")
            image.replace_self(nodes.raw("", markup(images, folder, image.get("alt", "")), format="html"))


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("doctree-resolved", on_page)


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while (node := node.parent) is not None:
        yield node


def _picture(images: dict[str, bytes], folder: str, alt: str, page: str) -> str:
    wide, narrow = (_source(images[f"{shape}{page}"], folder) for shape in ("wide", "narrow"))
    kind = f"figure{page or '-light'}"
    lazy = ' loading="lazy"' if page else ""  # hidden until dark mode, and then fetched
    return (
        f'<picture class="{kind}"><source media="{PHONE}" srcset={narrow}>'
        f'<img class="dark-light" alt="{escape(alt)}" src={wide}{lazy}></picture>'
    )


def _source(image: bytes, folder: str) -> str:
    width, height = size(image)
    return f'"{folder}/{file_name(image)}" width="{width}" height="{height}"'


def _write(images: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in images.values():
        path = folder / file_name(image)
        if not path.exists():
            path.write_bytes(image)
