"""The book as an EPUB: figures as images, equations as MathML, and every page well-formed.

What Sphinx and its extensions write is HTML, which an e-book may not hold: each page is read as a browser
would read it, and written again as XHTML. Scripts, and styles of the pages, are left out.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx
from sphinx.builders.epub3 import Epub3Builder
from sphinx.config import Config

from companion.rendering.mathml import NAME

SPACES = {
    "html": "http://www.w3.org/1999/xhtml",
    "svg": "http://www.w3.org/2000/svg",
    "math": "http://www.w3.org/1998/Math/MathML",
}
SCRIPTS = ("page", "figures", "scoreboard", "search-from-disk", "search-scorer")
#: Styles that readers of e-books understand.
STYLES = {"epub.css", "pygments.css", "custom.css", "claims.css", "reading.css"}
LISTING = {"": "http://www.idpf.org/2007/opf", "dc": "http://purl.org/dc/elements/1.1/"}
#: What is copied for pages alone.
UNUSED = ("mathjax", "moving", "drawings.css", "figures.css", *(f"{name}.js" for name in SCRIPTS))
#: Parts that do nothing in an e-book.
IDLE = "script, link[rel=preload], form, button, input, .moving, a.headerlink, [data-copybutton]"


def wellformed(page: str, here: Path) -> str:
    """A page as XHTML; what it links to, and is not in the e-book, is text. ``here``: its folder."""
    soup = BeautifulSoup(page.partition("?>")[2] if page.startswith("<?xml") else page, "html5lib")
    for part in soup.select(IDLE):
        part.decompose()
    for link in soup.select("link[rel=stylesheet]"):
        if str(link["href"]).split("?")[0].split("/")[-1] not in STYLES:
            link.decompose()
    for name, space in SPACES.items():
        for element in soup.select(name):
            element["xmlns"] = space
    for inner in soup.select("summary p, label p, span p"):
        inner.name = "span"  # no paragraph may stand there
    for entry in soup.select("[role^=doc-biblio]"):
        del entry["role"]  # no longer known
    for link in soup.select("a[href]"):
        _lead(link, here)
    for image in soup.select("img[src]"):
        if not (here / str(image["src"])).exists():
            image.decompose()
    whole = soup.select_one("html")
    assert isinstance(whole, Tag)
    whole["xmlns"] = SPACES["html"]
    whole["xmlns:epub"] = "http://www.idpf.org/2007/ops"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n{whole.decode(formatter="minimal")}\n'


def _lead(link: Tag, here: Path) -> None:
    """Let a link lead to a page of the e-book, to another machine, or nowhere."""
    address, mark, part = str(link["href"]).partition("#")
    if ":" in address or not address:
        return
    page = address.removesuffix(".html") + ".xhtml" if address.endswith(".html") else address
    if (here / page).exists():
        link["href"] = page + mark + part
    else:
        link.unwrap()


class Ebook(Epub3Builder):
    """Sphinx's builder of an EPUB, whose pages are well-formed and say what they hold."""

    math_renderer_name = NAME

    def handle_finish(self) -> None:
        out = Path(self.outdir)
        for name in UNUSED:
            shutil.rmtree(out / name, ignore_errors=True)
            (out / name).unlink(missing_ok=True)
        pages = {path: path.read_text(encoding="utf-8") for path in out.rglob("*.xhtml")}
        for path, page in pages.items():
            path.write_text(wellformed(page, path.parent), encoding="utf-8")
        super().handle_finish()

    def build_content(self) -> None:
        super().build_content()
        path = Path(self.outdir, "content.opf")
        path.write_text(declared(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")


def declared(listing: str, folder: Path) -> str:
    """The list of an e-book's files, which says of a page whether it holds equations and drawings."""
    for prefix, space in LISTING.items():
        ElementTree.register_namespace(prefix, space)
    package = ElementTree.fromstring(listing)
    for item in package.iterfind("{*}manifest/{*}item[@media-type='application/xhtml+xml']"):
        path = folder / item.attrib["href"]  # but for the contents, which are written last
        page = path.read_text(encoding="utf-8") if path.exists() else ""
        held = [kind for kind, element in (("mathml", "<math"), ("svg", "<svg")) if element in page]
        if kinds := [*item.get("properties", "").split(), *held]:
            item.set("properties", " ".join(kinds))
    return ElementTree.tostring(package, encoding="unicode", xml_declaration=True)


def named(app: Sphinx, config: Config) -> None:
    """Name and version of the e-book, which has no files beside its pages."""
    config.version = config.release = version("cimlib")
    config.epub_title, config.epub_author = config.project, config.author
    config.epub_basename = "computing-in-memory-reproduced"
    config.epub_description = "Neural networks computed in crossbars of non-volatile memory, paper by paper"
    config.epub_show_urls = "no"


def setup(app: Sphinx) -> None:
    """Add the builder."""
    app.add_builder(Ebook, override=True)
    app.connect("config-inited", named)
