"""What tests of figures that move share: the figure on its page, as a reader moves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, ViewportSize
from reader import BOOK, DESK, opened


@contextmanager
def moved(browser: Browser, page: str, name: str, size: ViewportSize = DESK) -> Iterator[Locator]:
    """The figure ``name`` on a ``page`` such as ``"chapters/single_cba"``; nothing may go wrong meanwhile."""
    with opened(browser, BOOK / f"{page}.html", size) as (shown, wrong):
        place = shown.locator(f".moving[data-moving='{name}']")
        place.scroll_into_view_if_needed()
        yield place
    assert not wrong, "\n".join(wrong)


def state(place: Locator) -> dict[str, Any]:
    """What the figure shows, in numbers."""
    return dict(place.evaluate("place => place.state()"))


def slide(place: Locator, label: str, value: float) -> None:
    """Drag the slider of this label to a value."""
    place.get_by_label(label, exact=True).fill(str(value))
