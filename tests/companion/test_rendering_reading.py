"""What helps to read a page: drawings that take its colours, settings that fold, marks of provenance."""

import io
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

from companion.rendering import drawings, provenance

DRAWING = (
    '<?xml version="1.0"?>\n<svg class="drawing" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 32"'
    ' width="64" height="32">\n<title id="t">A cell</title><style>.code { color: red }</style>\n'
    '<rect width="9" height="9" fill="#0072B2"/></svg>\n'
)
PLOT = DRAWING.replace(' class="drawing"', "")
PAGE = """# Page

It follows {from}`derived here`.

(where-a-statement-comes-from)=
## Sources

Here.

:::{figure} images/cell.svg
:width: 300px
:alt: A cell, "asked" & obtained.

**The message.** How to read it.

Data, network, n = 5.
:::

:::{figure} images/plot.svg
:alt: A plot.

Its caption.
:::

### Ablations

What they are.

| a | b |
|---|---|
| 1 | 2 |

More of them.

:::{figure} images/plot.svg
:alt: Another plot.

Another caption.
:::

## Last

The end.
"""


def built(folder: Path, page: str, builder: str = "html") -> tuple[Path, str]:
    """The folder into which Sphinx has built ``page``, and what it warned of."""
    source, target = folder / "source", folder / builder
    (source / "images").mkdir(parents=True, exist_ok=True)
    (source / "images" / "cell.svg").write_text(DRAWING, encoding="utf-8")
    (source / "images" / "plot.svg").write_text(PLOT, encoding="utf-8")
    (source / "index.md").write_text(page, encoding="utf-8")
    parts = ("drawings", "folding", "provenance")
    settings = {
        "extensions": ["myst_parser", *(f"companion.rendering.{part}" for part in parts)],
        "myst_enable_extensions": ["colon_fence"],
    }
    warned = io.StringIO()
    app = Sphinx(source, None, target, folder / "trees", builder, settings, status=None, warning=warned)
    app.build()
    return target, warned.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> BeautifulSoup:
    folder, warned = built(tmp_path_factory.mktemp("book"), PAGE)
    assert warned == ""
    return BeautifulSoup((folder / "index.html").read_text(encoding="utf-8"), "html.parser")


def test_a_drawing_stands_in_the_page_with_its_words_for_who_does_not_see_it(page: BeautifulSoup) -> None:
    (drawing,) = page.select("figure svg.drawing")
    assert drawing["role"] == "img" and drawing["aria-label"] == 'A cell, "asked" & obtained.'
    assert drawing["style"] == "max-width:300px" and drawing["viewbox"] == "0 0 64 32"
    assert not {"width", "height"} & set(drawing.attrs)
    assert not drawing.select("title, style") and drawing.rect["fill"] == "#0072B2"


def test_what_has_colours_of_its_own_stays_an_image(page: BeautifulSoup) -> None:
    assert [tag["alt"] for tag in page.select("img")] == ["A plot.", "Another plot."]
    assert drawings.is_drawing(DRAWING) and not drawings.is_drawing(PLOT)


def test_a_caption_is_shown_and_its_settings_are_folded(page: BeautifulSoup) -> None:
    folded, *others = page.select("figure details.settings")
    assert not others and folded.summary.get_text() == "Settings" and not folded.has_attr("open")
    assert "n = 5" in folded.get_text() and "The message." not in folded.get_text()
    assert page.select_one("figcaption .caption-text strong").get_text() == "The message."


def test_of_ablations_the_title_and_what_follows_at_once_stay_open(page: BeautifulSoup) -> None:
    (folded,) = page.select("section#ablations > details.ablations")
    assert folded.summary.get_text() == "Show them (1 figure)" and not folded.has_attr("open")
    assert "More of them" in folded.get_text() and "Another caption" in folded.get_text()
    assert "What they are" not in folded.get_text() and not folded.select("table")
    assert "The end." not in folded.get_text()


def test_other_builders_have_the_drawing_as_an_image_and_the_settings_in_the_text(tmp_path: Path) -> None:
    folder, _ = built(tmp_path, PAGE, "xml")
    told = (folder / "index.xml").read_text(encoding="utf-8")
    assert "cell.svg" in told and "n = 5" in told and "<details" not in told


def test_a_mark_leads_to_what_it_means(page: BeautifulSoup) -> None:
    mark = page.select_one("span.from.from-derived-here a")
    assert mark.get_text() == "derived here" and mark["href"] == "#where-a-statement-comes-from"


@pytest.mark.parametrize("mark", ["guessed", "Derived here", ""])
def test_another_mark_is_refused_by_name(tmp_path: Path, mark: str) -> None:
    _, warned = built(tmp_path, PAGE.replace("{from}`derived here`", "{from}`%s`" % (mark or " ")))
    assert f"from = {mark or ' '!r} is not allowed; allowed: derived here, inferred" in warned


def test_every_mark_is_explained_where_it_leads() -> None:
    sources = Path(__file__).resolve().parents[2] / "pages" / "sources.md"
    told = sources.read_text(encoding="utf-8").partition("## IEICE")[0]
    assert all(f"{{from}}`{mark}`" in told for mark in provenance.MARKS)
