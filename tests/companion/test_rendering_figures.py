"""A page must offer the version of a figure that suits its reader, and lose nothing of the figure by it."""

import shutil
from base64 import b64decode
from copy import deepcopy
from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinxed import made

from companion.pictures import VECTOR, VERSIONS, bundle
from companion.plots import figure
from companion.rendering import figures

ROOT = Path(__file__).resolve().parents[2]
ALT = 'A line, "y" against x & no more.'


@pytest.fixture(scope="module")
def drawn():
    """The outputs of a figure with its versions and of one without."""
    with mpl.rc_context({"backend": "agg"}):
        found = []
        for columns in (1, 2):
            first, others = bundle(figure("x", "y", columns=columns)[0])
            found.append(new_output("display_data", {"image/png": first}, metadata={"image/png": others}))
        mpl.pyplot.close("all")
    found[1].metadata = {}
    return found


@pytest.fixture(scope="module")
def source(drawn, tmp_path_factory):
    """A small book: a figure with its versions, one without, and a reference to the first."""
    folder = tmp_path_factory.mktemp("book") / "source"
    (folder / "part").mkdir(parents=True)
    cells = [new_markdown_cell("# Page\n\nSee {numref}`fig-carried`.")]
    for name, output in zip(("fig-carried", "fig-alone"), drawn, strict=True):
        options = {"figure": {"caption": f"Caption of {name}.", "name": name}, "image": {"alt": ALT}}
        cells.append(new_code_cell("draw()", outputs=[output], metadata={"mystnb": options}))
    language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(new_notebook(cells=cells, metadata=language), folder / "part" / "page.ipynb")
    (folder / "index.md").write_text("# Book\n\n```{toctree}\npart/page\n```\n", encoding="utf-8")
    return folder


def built(source: Path, builder: str) -> Path:
    """The folder into which Sphinx has built the book, warnings as errors."""
    settings = ["extensions=myst_nb,companion.rendering.figures", "nb_execution_mode=off", "numfig=1"]
    return made(source, builder, source.parent / builder, settings)


@pytest.fixture(scope="module")
def folder(source):
    return built(source, "html") / "part"


@pytest.fixture(scope="module")
def page(folder):
    return BeautifulSoup((folder / "page.html").read_text(encoding="utf-8"), "html.parser")


def test_a_page_offers_every_version_that_the_notebook_carries(drawn, folder, page):
    whole = page.select_one("figure#fig-carried a.figure-whole")
    light, dark = whole.select("picture")
    offered = {
        "wide": light.img["src"],
        "narrow": light.source["srcset"],
        "wide-dark": dark.img["src"],
        "narrow-dark": dark.source["srcset"],
    }
    texts = {VERSIONS[0]: drawn[0].data["image/png"], **drawn[0].metadata["image/png"]}
    assert {name: (folder / path).read_bytes() for name, path in offered.items()} == {
        name: b64decode(text) for name, text in texts.items()
    }
    assert light["class"] == ["figure-light"] and dark["class"] == ["figure-dark"]


def test_the_narrow_version_is_for_a_phone(page):
    assert {tag["media"] for tag in page.select("source")} == {"(max-width: 600px)"}


def test_without_a_script_the_figure_links_to_itself(page):
    whole = page.select_one("a.figure-whole")
    assert whole["href"] == whole.img["src"]


def test_every_version_has_the_alternative_text_and_its_size(drawn, page):
    for tag in page.select("a.figure-whole img"):
        assert tag["alt"] == ALT
        assert "dark-light" in tag["class"]  # or the theme darkens it
    wide = b64decode(drawn[0].data["image/png"])
    first = page.select_one("a.figure-whole img")
    assert (int(first["width"]), int(first["height"])) == figures.size(wide)


def test_captions_numbers_and_references_stay(page):
    caption = page.select_one("figure#fig-carried figcaption").get_text()
    assert "Fig. 1" in caption and "Caption of fig-carried." in caption
    assert page.select_one("a.reference[href='#fig-carried']").get_text() == "Fig. 1"


def test_a_figure_without_versions_is_shown_as_ever(folder, page):
    (image,) = page.select("figure#fig-alone img")
    assert image.find_parent("picture") is None and image["alt"] == ALT
    assert (folder / image["src"]).exists()


def test_for_the_printed_edition_a_figure_is_a_drawing_and_a_page_takes_it(source, drawn, monkeypatch):
    monkeypatch.setenv("FIGURES", "vector")
    with mpl.rc_context({"backend": "agg"}):
        first, others = bundle(figure("x", "y")[0])
        mpl.pyplot.close("all")
    assert set(others) == {*VERSIONS[1:], VECTOR} and b64decode(others[VECTOR]).startswith(b"<?xml")
    notebook = nbformat.read(source / "part" / "page.ipynb", 4)
    printed = source.parent / "printed" / "source"
    shutil.copytree(source, printed)
    notebook.cells[1].outputs[0].update(data={"image/png": first}, metadata={"image/png": others})
    nbformat.write(notebook, printed / "part" / "page.ipynb")
    single = built(printed, "singlehtml")
    page = BeautifulSoup((single / "index.html").read_text(encoding="utf-8"), "html.parser")
    (image,) = page.select("figure#fig-carried img")
    assert image["alt"] == ALT and (single / image["src"]).read_bytes() == b64decode(others[VECTOR])


def test_what_is_not_html_has_the_first_version(source):
    text = (built(source, "latex") / "projectnamenotset.tex").read_text(encoding="utf-8")
    assert text.count("includegraphics") == 2 and "figure-whole" not in text


@pytest.mark.parametrize("lost", VERSIONS)
def test_a_figure_that_lacks_a_version_is_left_out(drawn, tmp_path, lost):
    output, path = deepcopy(drawn[0]), tmp_path / "page.ipynb"
    notebook = new_notebook(cells=[new_code_cell(outputs=[output])])
    nbformat.write(notebook, path)
    assert len(figures.carried(path)) == 1
    del (output.data if lost == VERSIONS[0] else output.metadata["image/png"])[
        "image/png" if lost == VERSIONS[0] else lost
    ]
    nbformat.write(notebook, path)
    assert figures.carried(path) == {}
