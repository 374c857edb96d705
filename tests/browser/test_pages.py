"""Every page as a browser shows it: on a desk and on a phone, light and dark, from disk."""

from pathlib import Path
from urllib.parse import quote_plus, unquote, urlsplit

import pytest
from playwright.sync_api import Browser, ViewportSize
from reader import BOOK, DESK, PHONE, barriers, laid_out, opened

LISTINGS = sorted(BOOK.glob("_modules/**/*.html"), key=lambda path: path.stat().st_size)[-3:]  # all alike
REDIRECT = BOOK / "index.html"
PAGES = sorted(set(BOOK.rglob("*.html")) - set(BOOK.glob("_*/**/*")) - {REDIRECT})
FIRST, LIBRARY = 1_200_000, 300_000  # bytes: all that the first page asks for; a page of the library
#: What a reader may type who looks for a chapter.
WORDS = {
    "a_chip_is_a_seed": "seed",
    "double_cba": "asymmetric pulses",
    "single_cba": "single array",
    "offsets_iris": "offsets Iris",
    "hardware_conscious": "hardware-conscious training",
    "where_to_train": "in situ",
    "negative_feedback": "negative feedback",
    "imperfection_tolerant": "broken cells",
    "dora_calibration": "DoRA",
    "vera_drift": "VeRA+",
    "scoreboard": "scoreboard",
    "what_changed": "changed verdicts",
    "notation": "notation",
}


def named(path: Path) -> str:
    return path.relative_to(BOOK).with_suffix("").as_posix()


def test_book_is_rendered_and_its_first_page_is_the_introduction(browser: Browser) -> None:
    assert REDIRECT.exists(), "render the book first: make html"
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(REDIRECT.as_uri())
        page.wait_for_url("**/intro.html*")


def test_first_page_is_light_and_so_is_every_page_of_the_library(browser: Browser) -> None:
    asked: set[str] = set()
    with browser.new_context() as context:
        page = context.new_page()
        page.on("request", lambda request: asked.add(request.url))
        page.goto((BOOK / "intro.html").as_uri())
        page.wait_for_load_state("networkidle")
    files = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
    assert sum(path.stat().st_size for path in files) <= FIRST
    heavy = {named(path): path.stat().st_size for path in BOOK.glob("pages/api/*.html")}
    assert {name: size for name, size in heavy.items() if size > LIBRARY} == {}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("path", PAGES, ids=named)
def test_page_is_whole_and_open_to_everyone(browser: Browser, path: Path, size: ViewportSize) -> None:
    with opened(browser, path, size) as (page, wrong):
        wrong += laid_out(page) + barriers(page, contrast=size is DESK)  # a phone has the same colours
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", LISTINGS, ids=named)
def test_listing_is_whole_on_a_phone(browser: Browser, path: Path) -> None:
    with opened(browser, path, PHONE) as (page, wrong):
        wrong += laid_out(page)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("chapter", "words"), WORDS.items(), ids=WORDS)
def test_search_has_the_chapter_on_top_with_an_excerpt(browser: Browser, chapter: str, words: str) -> None:
    with opened(browser, BOOK / "search.html", DESK, f"?q={quote_plus(words)}") as (page, wrong):
        first = page.locator("#search-results li").first
        first.locator("p.context").wait_for()
        assert chapter in str(first.locator("a").get_attribute("href"))
        shown = first.locator("p.context").inner_text().lower()
        assert any(word.lower() in shown for word in words.split())
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_is_seen(browser: Browser, tmp_path: Path) -> None:
    page_of_faults = tmp_path / "faults.html"
    page_of_faults.write_text(
        "<!doctype html><html lang=en><title>faults</title><main><h1>Faults</h1>"
        "<pre style='overflow-x: auto; width: 90px'>a line that is longer than ninety pixels</pre>"
        "<div style='width: 2000px'>wide</div><img src=gone.png alt=gone><span class=math>x</span>"
        "<button></button>"
        "<script>console.error('said'); fetch('https://example.org').catch(() => 0)</script>",
        encoding="utf-8",
    )
    with opened(browser, page_of_faults, PHONE) as (page, wrong):
        page.wait_for_load_state("networkidle")
        wrong += laid_out(page) + barriers(page)
    for fault in ("px wide", "cut at 90", "no image", "not typeset", "button-name", "said", "example.org"):
        assert any(fault in one for one in wrong), (fault, wrong)
