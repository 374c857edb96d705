"""What readers do with a page: filter claims, enlarge a figure, read on a phone or in the dark, print."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Browser
from reader import BOOK, DESK, PHONE, opened

SCOREBOARD = BOOK / "chapters" / "scoreboard.html"
CHAPTER = BOOK / "chapters" / "double_cba.html"
DRAWN = BOOK / "chapters" / "negative_feedback.html"
MOVED = BOOK / "chapters" / "imperfection_tolerant.html"


def test_what_became_of_a_number_stands_on_one_line_of_the_first_screen(browser: Browser) -> None:
    with opened(browser, SCOREBOARD, DESK, "?text=46.71") as (page, wrong):
        rows = page.locator(".board-list tbody tr:visible")
        assert rows.count() == 1
        assert "OVF" in rows.inner_text()
        assert "undecided" in rows.inner_text()
        box = rows.bounding_box()
        assert box
        assert box["y"] + box["height"] < DESK["height"]
    assert not wrong, "\n".join(wrong)


def test_a_number_is_found_where_it_stands_and_among_the_claims(browser: Browser) -> None:
    with opened(browser, BOOK / "search.html", DESK, "?q=46.71") as (page, wrong):
        first = page.locator("#search-numbers li").first
        first.wait_for()
        assert "46.71" in first.locator("p").inner_text()
        pages = page.locator("#search-numbers li a").evaluate_all("all => all.map((one) => one.href)")
        assert any("negative_feedback" in one for one in pages)
        page.locator("#search-numbers > p a").click()
        page.locator("#scoreboard-filters output", has_text="1 of").wait_for()
        assert page.locator(".board-list tbody tr:visible").count() == 1
    assert not wrong, "\n".join(wrong)


def test_filters_stand_in_the_address(browser: Browser) -> None:
    with opened(browser, SCOREBOARD, DESK) as (page, _):
        all_rows = page.locator(".board-list tbody tr").count()
        page.locator("select[name=verdict]").select_option("reproduced")
        rows = page.locator(".board-list tbody tr:visible")
        assert 0 < rows.count() < all_rows
        assert "verdict=reproduced" in page.url


def test_scoreboard_reads_without_scripts(browser: Browser) -> None:
    with opened(browser, SCOREBOARD, DESK) as (page, _):
        rows = page.locator(".board-list tbody tr").count()
    with browser.new_context(viewport=DESK, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(SCOREBOARD.as_uri())
        assert page.locator(".board-list tbody tr:visible").count() == rows
        assert not page.locator("#scoreboard-filters").is_visible()


def test_scoreboard_shows_its_first_claims_and_all_at_a_press(browser: Browser) -> None:
    with opened(browser, SCOREBOARD, DESK) as (page, wrong):
        rows, shown = page.locator(".board-list tbody tr"), page.locator(".board-list tbody tr:visible")
        first = shown.count()
        assert 0 < first < rows.count()
        page.get_by_role("button", name="Show all").press("Enter")
        assert shown.count() == rows.count()
        assert rows.nth(first).locator("a").first.evaluate("one => one === document.activeElement")
    assert not wrong, "\n".join(wrong)


def test_scoreboard_is_few_screens_long(browser: Browser) -> None:
    for size, most in ((DESK, 7), (PHONE, 12)):
        with opened(browser, SCOREBOARD, size) as (page, _):
            assert page.evaluate("document.documentElement.scrollHeight") <= most * size["height"]


def test_figure_is_enlarged_by_keyboard_and_gives_the_focus_back(browser: Browser) -> None:
    with opened(browser, CHAPTER, DESK) as (page, wrong):
        figure = page.locator("a.figure-whole").first
        figure.focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        assert not page.locator("dialog[open]").count()
        assert figure.evaluate("one => one === document.activeElement")
    assert not wrong, "\n".join(wrong)


def test_drawing_is_enlarged_and_scrolls_by_keyboard_and_one_that_moves_is_not(browser: Browser) -> None:
    with opened(browser, DRAWN, PHONE) as (page, wrong):
        page.locator(".drawing-whole").first.focus()
        page.keyboard.press("Enter")
        sheet = page.get_by_role("dialog").locator(".figure-sheet")
        assert sheet.locator("svg.drawing").bounding_box()["width"] > PHONE["width"]
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.figure-sheet').scrollLeft > 0")
        page.keyboard.press("Escape")
        assert page.locator(".drawing-whole").first.evaluate("one => one === document.activeElement")
        assert page.url == DRAWN.as_uri()
    with opened(browser, MOVED, PHONE) as (page, _):
        assert page.locator(".moving-replaced svg.drawing").count() == 1
        assert not page.locator(".moving-replaced .drawing-whole").count()
    assert not wrong, "\n".join(wrong)


def test_figure_has_a_version_for_every_reader(browser: Browser) -> None:
    shown = (
        "[...document.querySelectorAll('figure img')].find((one) => one.getClientRects().length).currentSrc"
    )
    seen = set()
    for size in (DESK, PHONE):
        with opened(browser, CHAPTER, size) as (page, _):
            for theme in ("light", "dark"):
                page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
                page.locator("figure:has(img)").first.scroll_into_view_if_needed()
                page.wait_for_function(f"{shown} !== ''")
                seen.add(page.evaluate(shown))
    assert len(seen) == 4


def test_equations_are_no_stops_of_the_tab_key(browser: Browser) -> None:
    with opened(browser, CHAPTER, DESK) as (page, _):
        stops = page.locator("mjx-container").evaluate_all("all => all.map((one) => one.tabIndex)")
        assert stops and max(stops) < 0


def test_answers_are_open_on_paper_and_nothing_is_left_to_press(browser: Browser) -> None:
    with opened(browser, CHAPTER, DESK) as (page, _):
        page.emulate_media(media="print")
        assert page.locator(".admonition.dropdown").count()
        for answer in page.locator(".admonition.dropdown > p:last-child").all():
            assert answer.is_visible()
        assert not page.locator("button:visible, details.hide > summary:visible, .bd-sidebar:visible").count()


def test_first_page_loads_a_megabyte_and_a_half_at_most(browser: Browser) -> None:
    with browser.new_context(viewport=DESK) as context:
        page, files = context.new_page(), set[Path]()
        page.on("request", lambda request: files.add(Path(unquote(urlsplit(request.url).path))))
        page.goto((BOOK / "index.html").as_uri())
        page.wait_for_url("**/intro.html*")
        page.wait_for_load_state("networkidle")
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 1_500_000
