"""An e-book holds well-formed pages, equations that need no script, and links that lead somewhere."""

import json
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sphinxed import made

from companion.rendering.ebook import wellformed
from companion.rendering.mathml import written

ROOT = Path(__file__).resolve().parents[2]
HTML = "{http://www.w3.org/1999/xhtml}"
DISPLAYED, IN_LINE = re.compile(r"\$\$(.+?)\$\$", re.DOTALL), re.compile(r"(?<!\\)\$([^$\n]+?)\$")
IN_CODE = re.compile(r":math:`([^`]+)`|\.\. math::\s*(.+?)\n\s*\n", re.DOTALL)


def equations() -> list[str]:
    """Every equation of the book: of its chapters and pages, and of docstrings."""
    texts = [path.read_text(encoding="utf-8") for path in [ROOT / "intro.md", *ROOT.glob("pages/**/*.md")]]
    for path in ROOT.glob("chapters/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    found = {each for text in texts for each in DISPLAYED.findall(text)}
    found |= {each for text in texts for each in IN_LINE.findall(DISPLAYED.sub("", text))}
    for folder in ("cimlib", "companion"):
        for path in ROOT.glob(f"{folder}/**/*.py"):
            found |= {a or b for a, b in IN_CODE.findall(path.read_text(encoding="utf-8"))}
    return sorted(found)


def test_every_equation_of_the_book_becomes_mathml_without_a_command_left() -> None:
    known = equations()
    assert len(known) > 500
    for latex in known:
        ElementTree.fromstring(written(latex, "block"))


def test_a_command_that_is_not_known_is_refused_by_its_equation() -> None:
    with pytest.raises(ValueError, match=r"equation 'a \\\\nonsense b' is not allowed"):
        written(r"a \nonsense b", "inline")


def test_a_page_is_read_as_a_browser_reads_it_and_written_as_xml(tmp_path: Path) -> None:
    (tmp_path / "other.xhtml").touch()
    page = wellformed(
        "<html><body><p>one<br>two<img alt='' src=gone.png><p>three"
        "<details><summary><p>more</p></summary></details><form hidden><input></form>"
        "<a href='other.html#there'>kept</a> <a href='gone.html'>left</a> <a href='https://example.org'>far</a>"
        "<svg viewBox='0 0 1 1'></svg><script>fetch('x')</script></body></html>",
        tmp_path,
    )
    tree = ElementTree.fromstring(page)
    links = {link.text: link.get("href") for link in tree.iter(f"{HTML}a")}
    assert links == {"kept": "other.xhtml#there", "far": "https://example.org"}
    assert "left" in "".join(tree.itertext()) and "more" in "".join(tree.itertext())
    assert not [*tree.iter(f"{HTML}img"), *tree.iter(f"{HTML}script"), *tree.iter(f"{HTML}form")]
    assert next(tree.iter("{http://www.w3.org/2000/svg}svg")).get("viewBox") == "0 0 1 1"


@pytest.fixture(scope="module")
def ebook(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A small e-book: an equation with a number, a drawing, and a link to another page."""
    source = tmp_path_factory.mktemp("book") / "source"
    source.mkdir()
    (source / "index.md").write_text(
        "# Book\n\n```{toctree}\nother\n```\n\n$$\na = \\frac{b}{c}\n$$ (eq-one)\n\nSee {eq}`eq-one`.\n",
        encoding="utf-8",
    )
    (source / "other.md").write_text("# Other\n\nBack to [the first](index.md).\n", encoding="utf-8")
    settings = """
extensions = ["myst_parser", "companion.rendering.ebook", "companion.rendering.mathml"]
myst_enable_extensions = ["dollarmath"]
project = author = copyright = "Somebody"
"""
    (source / "conf.py").write_text(settings, encoding="utf-8")
    target = made(source, "epub", source.parent / "made")
    return zipfile.ZipFile(target / "computing-in-memory-reproduced.epub")


def test_an_ebook_is_what_readers_open(ebook: zipfile.ZipFile) -> None:
    first = ebook.infolist()[0]
    assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    assert ebook.read("mimetype") == b"application/epub+zip"
    for name in ebook.namelist():
        if name.endswith((".xhtml", ".opf", ".ncx", ".xml")):
            ElementTree.fromstring(ebook.read(name).replace(b"<!DOCTYPE html>", b""))


def test_every_file_is_listed_and_a_page_says_that_it_holds_equations(ebook: zipfile.ZipFile) -> None:
    listing = ElementTree.fromstring(ebook.read("content.opf"))
    items = {item.get("href"): item for item in listing.iter("{http://www.idpf.org/2007/opf}item")}
    pages = {name for name in ebook.namelist() if name.endswith(".xhtml")}
    assert pages <= set(items) and set(items) <= set(ebook.namelist())
    assert items["index.xhtml"].get("properties") == "mathml" and not items["other.xhtml"].get("properties")
    assert b"(1)" in ebook.read("index.xhtml") and b"<mfrac>" in ebook.read("index.xhtml")
