"""Figures that move: by mouse and by keyboard; each weighs little, and without scripts it stays a figure."""

import pytest
from moved import moved, state
from playwright.sync_api import Browser
from reader import BOOK, PHONE

from companion.moving import DATA

HEAVIEST = 60_000  # bytes of script and data
SHARED = BOOK / "moving" / "moving.js"
#: Where each figure stands, and what moves it by the keyboard: a label, and a key.
PLACES = {
    "amplifier-chain": ("chapters/offsets_iris", "rows", "ArrowRight"),
    "anatomy": ("intro", "volts on row 1", "ArrowRight"),
    "hundred-chips": ("intro", "spread σ of a cell", "ArrowRight"),
    "ten-years": ("chapters/dora_calibration", "time", "ArrowLeft"),
    "common-or-own": ("chapters/vera_drift", "time", "ArrowLeft"),
    "pulse-game": ("chapters/double_cba", "start", "ArrowLeft"),
    "rows-that-move": (
        "chapters/imperfection_tolerant",
        "row 1, column 1: works; asked for 0.15, holds 0.15",
        "Enter",
    ),
    "feedback-or-temperature": ("chapters/negative_feedback", "spread σ of a cell", "ArrowRight"),
}


def test_every_figure_that_moves_is_tried_here() -> None:
    assert {path.stem for path in (BOOK / "moving").glob("*.js")} - {"moving"} == set(PLACES)
    assert set(DATA) <= set(PLACES)


@pytest.mark.parametrize("name", PLACES)
def test_a_figure_answers_to_the_keyboard_and_shows_words_and_no_more_weight_than_allowed(
    browser: Browser, name: str
) -> None:
    page, label, key = PLACES[name]
    with moved(browser, page, name, PHONE) as place:
        before, said = state(place), place.locator(".moving-words").first.inner_text()
        place.get_by_label(label, exact=True).first.press(key)
        assert state(place) != before and place.locator(".moving-words").first.inner_text() != said
        data = place.locator("script").first.text_content() or ""
    script = (BOOK / "moving" / f"{name}.js").stat().st_size
    assert len(data.encode()) + script <= HEAVIEST


@pytest.mark.parametrize("name", PLACES)
def test_without_scripts_and_on_paper_the_figure_stays(browser: Browser, name: str) -> None:
    page = PLACES[name][0]
    with browser.new_context(java_script_enabled=False) as context:
        shown = context.new_page()
        shown.goto((BOOK / f"{page}.html").as_uri())
        before = shown.locator(f".moving[data-moving='{name}']").locator("xpath=preceding-sibling::*[1]")
        assert before.is_visible() and not shown.locator(".moving").first.is_visible()
    with moved(browser, page, name) as place:
        before = place.locator("xpath=preceding-sibling::*[1]")
        assert place.is_visible() and not before.is_visible()
        place.page.emulate_media(media="print")
        assert before.is_visible() and not place.is_visible()
