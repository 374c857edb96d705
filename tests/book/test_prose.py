"""Chapters are written for their readers, and each rule of prose is shown to catch what it is there for."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import prose
import pytest
from guards import PAPERS
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from companion.claims.chapters import chapters
from companion.rendering.drawings import is_drawing

ROOT = Path(__file__).resolve().parents[2]

FIRST = """# A chapter

No two chips hold quite the same conductances, so no two chips are the same network.

:::{figure} ../pages/images/one_network_many_chips.svg
:name: fig-many
:alt: One network, three chips.

**One network becomes three.** Marked cells differ.
:::

:::{admonition} At a glance
:class: glance

Question
: How different are chips?

Answer
: They differ by {glue:text}`std:s` points at a tenth.

Needs
: nothing before it

Takes
: 1 minute to read, 10 seconds to run

Run it
: ```bash
  make run CHAPTER=chapter
  ```
:::
"""
IDEA = """## The idea

Phase-change memory (PCM) fades.

$$
w = 2 g
$$ (eq-w)

With 3 µS that is 6.
"""
LAST = """## Where we differ, and what to try next

:::{admonition} Take away
:class: tip
- **If you build chips:** one.
- **If you train networks:** two.
- **Either way:** three.
:::

:::{admonition} Answer
:class: dropdown
1 and 2 and 3 and 4 and 5 are five numbers.
:::
"""
FILLING = "Chips differ. " * 70


def sound() -> NotebookNode:
    """A small chapter with which nothing is wrong."""
    shown = {"figure": {"caption": "**Chips differ.** Dots are chips.\n\nDigits, n = 5.", "name": "fig-a"}}
    cells = [new_markdown_cell(text) for text in (FIRST, IDEA, "## Try it\n\nTen chips:")]
    cells.append(new_code_cell("from cimlib import fit\n\nfit()"))
    cells.append(new_code_cell("draw()", metadata={"mystnb": shown}))
    return new_notebook(cells=[*cells, new_markdown_cell(FILLING), new_markdown_cell(LAST)])


def reword(old: str, new: str) -> Callable[[NotebookNode], None]:
    def breaking(notebook: NotebookNode) -> None:
        assert any(old in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return breaking


def say(text: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells.insert(1, new_markdown_cell(text))


def uncaptioned(notebook: NotebookNode) -> None:
    notebook.cells[4].metadata["mystnb"]["figure"]["caption"] = "Accuracy against time."


LONG = " ".join(["word"] * 31)
BREAKING: list[tuple[prose.Guard, str, Callable[[NotebookNode], None]]] = [
    (prose.opens_with_a_sentence_a_picture_and_a_box, "no sentence", reword("No two chips", "no")),
    (prose.opens_with_a_sentence_a_picture_and_a_box, "no picture", reword(":::{figure}", ":::{note}")),
    (prose.opens_with_a_sentence_a_picture_and_a_box, "no needs", reword("Needs\n:", "For\n:")),
    (prose.opens_with_a_sentence_a_picture_and_a_box, "no number", reword("{glue:text}`std:s`", "some")),
    (prose.opens_with_a_sentence_a_picture_and_a_box, "no command", reword("make run", "run")),
    (prose.opens_with_a_sentence_a_picture_and_a_box, "a long answer", reword("They differ", "very " * 40)),
    (prose.says_how_long_it_takes, "no minutes", reword("1 minute to read", "a while")),
    (prose.says_how_long_it_takes, "too few minutes", reword(FILLING, FILLING * 3)),
    (prose.says_how_long_it_takes, "too many minutes", reword("1 minute", "9 minutes")),
    (prose.keeps_numbers_few, "typed", say("Of 10 chips 3 lose 2 points, 4 lose 1 and 3 none.")),
    (prose.keeps_numbers_few, "glued", say("{glue:text}`a:s` " * 5)),
    (prose.keeps_numbers_few, "in a list", say("- 1 or 2 or 3 or 4 or 5")),
    (prose.keeps_sentences_short, "most are long", say(f"{LONG}. W{LONG}. " * 10)),
    (prose.spells_acronyms_out, "one is not", reword("Phase-change memory (PCM)", "PCM")),
    (prose.captions_begin_with_their_message, "of a plot", uncaptioned),
    (
        prose.captions_begin_with_their_message,
        "of a drawing",
        reword("**One network becomes three.**", "Chips."),
    ),
    (prose.equations_are_followed_by_a_number, "words only", reword("With 3 µS that is 6.", "So it is.")),
    (prose.equations_are_followed_by_a_number, "an index", reword("With 3 µS that is 6.", "So is $w_2$.")),
    (prose.try_it_begins_with_what_one_types, "without cimlib", reword("from cimlib", "from companion")),
    (prose.try_it_begins_with_what_one_types, "too long", reword("fit()", "fit()\n" * 12)),
    (prose.ends_with_take_aways, "two", reword("- **Either way:** three.\n", "")),
]


def name(value: Path | prose.Guard) -> str:
    return value.stem if isinstance(value, Path) else value.__name__


@pytest.mark.parametrize("guard", prose.IN_PAPERS, ids=name)
@pytest.mark.parametrize("path", PAPERS, ids=name)
def test_chapter_keeps_to(path: Path, guard: prose.Guard) -> None:
    assert guard(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("guard", prose.IN_PAPERS, ids=name)
def test_guard_accepts_a_sound_chapter(guard: prose.Guard) -> None:
    assert guard(sound()) == []


@pytest.mark.parametrize(
    ("guard", "breaking"),
    [pytest.param(g, breaking, id=f"{g.__name__}: {what}") for g, what, breaking in BREAKING],
)
def test_guard_catches(guard: prose.Guard, breaking: Callable[[NotebookNode], None]) -> None:
    notebook = sound()
    breaking(notebook)
    assert guard(notebook)


PAGES = [ROOT / "intro.md", *(ROOT / "pages" / f"{page}.md" for page in ("limits", "reproducing", "sources"))]


@pytest.mark.parametrize("guard", [prose.keeps_numbers_few, prose.keeps_sentences_short], ids=name)
@pytest.mark.parametrize("path", PAGES, ids=name)
def test_page_keeps_to(path: Path, guard: prose.Guard) -> None:
    page = new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
    assert guard(page) == []


def test_a_card_of_the_first_page_has_the_question_of_its_chapter_and_what_it_finds() -> None:
    cards = (ROOT / "intro.md").read_text(encoding="utf-8").split(":::{grid-item-card}")[1:]
    for chapter in chapters():
        (card,) = (one for one in cards if f":link: chapters/{chapter.file}\n" in one)
        assert f"**{chapter.finding}**" in card
        first = nbformat.read(ROOT / "chapters" / f"{chapter.file}.ipynb", as_version=4).cells[0].source
        asked = re.search(r"^Question\n: (.*?)\n\n", first, re.DOTALL | re.MULTILINE)
        assert asked and " ".join(asked[1].split()) in card


@pytest.mark.parametrize("path", sorted((ROOT / "pages" / "images").glob("*.svg")), ids=name)
def test_drawing_keeps_to_the_colours_that_a_dark_page_knows_and_to_letters_that_a_phone_shows(
    path: Path,
) -> None:
    svg = path.read_text(encoding="utf-8")
    if not is_drawing(svg):
        return
    known = set(
        re.findall(r"#[0-9a-fA-F]{6}", (ROOT / "_extra" / "drawings.css").read_text(encoding="utf-8"))
    )
    shades = {one for one in re.findall(r"#[0-9a-f]{6}", svg) if _is_shade(one)}
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) <= known | shades
    assert min(float(size) for size in re.findall(r'font-size="([\d.]+)"', svg)) >= 16


def test_drawings_that_stand_on_one_page_share_no_name() -> None:
    drawings = (path.read_text(encoding="utf-8") for path in (ROOT / "pages" / "images").glob("*.svg"))
    shown = [svg.partition("</title>")[2] for svg in drawings if is_drawing(svg)]
    names = [name for svg in shown for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert sorted(names) == sorted(set(names))


def _is_shade(colour: str) -> bool:
    """Whether it is a shade of a cell or of an activation: blue, or a grey close to it."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red <= green <= blue


def test_every_guard_is_shown_to_catch_something() -> None:
    assert {guard for guard, *_ in BREAKING} == set(prose.IN_PAPERS)


def test_numbers_are_counted_where_they_are_numbers() -> None:
    assert prose.numbers("ResNet-18 on CIFAR-10 keeps 95 % intervals") == 0
    assert prose.numbers("of 10,000 images {glue:text}`a:s` % and 3 chips") == 3
