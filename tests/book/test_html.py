"""Every page of the rendered book works without a network: what it loads is beside it."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag

BOOK = Path(__file__).resolve().parents[2] / "_build" / "committed"
PAGES = sorted(set(BOOK.rglob("*.html")) - set(BOOK.glob("_static/*.html")))  # theme templates
LOADING = "script[src], img[src], source[src], iframe[src], video[src], audio[src], embed[src]"
IN_CSS = re.compile(r"""url\(\s*["']?(?!data:|\#)([^"')]+)|@import\s+["']([^"']+)""")
IN_SCRIPT = re.compile(r"""(?:import\s*\(?|from|importScripts\()\s*["']((?:https?:)?//[^"']+)""")


def loaded(page: Tag) -> list[str]:
    """Addresses that a browser fetches to show the page."""
    found = [str(tag["src"]) for tag in page.select(LOADING)]
    found += [str(tag["href"]) for tag in page.select("link[href]:not([rel=canonical])")]
    found += [str(tag["data"]) for tag in page.select("object[data]")]
    for tag in page.select("[srcset]"):
        found += [part.split()[0] for part in str(tag["srcset"]).split(",")]
    for tag in [*page.select("style"), *page.select("[style]")]:
        found += in_css(tag.get_text() if tag.name == "style" else str(tag["style"]))
    for tag in page.select("script:not([src])"):
        found += IN_SCRIPT.findall(tag.get_text())
    return found


def in_css(text: str) -> list[str]:
    return ["".join(match) for match in IN_CSS.findall(text)]


def linked(page: Tag) -> list[str]:
    """Addresses of other pages of the book that the page links to."""
    found = [str(tag["href"]) for tag in page.select("a[href]")]
    return [address for address in found if not urlsplit(address).scheme]


def missing(addresses: list[str], page: Path) -> list[str]:
    """What of `addresses` lies outside the book or is not there."""
    wrong = []
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme == "data":
            continue
        path = page.parent / unquote(parts.path) if parts.path else page
        if parts.scheme or parts.netloc or not path.exists():
            wrong.append(address)
    return wrong


def soup(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


def test_the_book_is_rendered() -> None:
    assert BOOK / "index.html" in PAGES, "render the book first: make html"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(BOOK).as_posix())
def test_page_loads_and_links_only_what_is_there(path: Path) -> None:
    page = soup(path.read_text(encoding="utf-8"))
    assert missing(loaded(page) + linked(page), path) == []


@pytest.mark.parametrize("path", sorted(BOOK.glob("pages/api/*.html")), ids=lambda path: path.stem)
def test_page_of_a_room_opens_fast(path: Path) -> None:
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize(
    "path", sorted(BOOK.rglob("*.css")), ids=lambda path: path.relative_to(BOOK).as_posix()
)
def test_style_sheet_loads_only_what_is_there(path: Path) -> None:
    assert missing(in_css(path.read_text(encoding="utf-8")), path) == []


def test_maths_is_typeset_by_the_bundled_mathjax() -> None:
    typeset = 0
    for path in PAGES:
        page = soup(path.read_text(encoding="utf-8"))
        sources = [address.split("?")[0] for address in loaded(page)]
        sent = any(source.endswith("mathjax/tex-mml-chtml.js") for source in sources)
        equations = page.select_one(".math") is not None
        assert sent == equations, path
        typeset += equations
    assert typeset
    fonts = BOOK / "mathjax" / "mathjax-tex-font" / "chtml" / "woff2"
    assert (fonts / "mjx-tex-i.woff2").exists()


@pytest.mark.parametrize(
    "markup",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<script src="//cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link rel="icon" href="gone.svg">',
        '<img src="gone.png">',
        '<img srcset="here.png 1x, gone.png 2x">',
        '<p style="background: url(gone.png)">',
        "<style>@import 'https://fonts.example/css';</style>",
        "<style>@font-face {src: url('//fonts.example/a.woff')}</style>",
        '<script type="module">import x from "https://cdn.example/x.js"</script>',
        '<a href="gone.html#part">elsewhere</a>',
    ],
)
def test_what_is_fetched_from_elsewhere_or_missing_is_caught(tmp_path: Path, markup: str) -> None:
    (tmp_path / "here.png").touch()
    page = soup(markup)
    assert missing(loaded(page) + linked(page), tmp_path / "page.html")


def test_what_is_there_passes(tmp_path: Path) -> None:
    for name in ("here.png", "page.html"):
        (tmp_path / name).touch()
    page = soup(
        '<img src="here.png?v=1"><img src="data:image/png;base64,AA"><a href="#part">up</a>'
        '<a href="https://doi.org/10.1000/x">a paper</a><a href="mailto:a@b">write</a>'
    )
    assert missing(loaded(page) + linked(page), tmp_path / "page.html") == []
