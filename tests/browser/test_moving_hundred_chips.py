"""A hundred chips in the page are the hundred chips of the library."""

import numpy as np
import pytest
from moved import moved, slide, state
from playwright.sync_api import Browser

from cimlib import Hardware, evaluate, load, program
from cimlib.chip import interval
from cimlib.devices import Gaussian
from companion.moving import hundred_chips

FLOWER = 100 / 30


@pytest.mark.parametrize("array", hundred_chips.ARRAYS)
def test_every_chip_of_the_page_gets_right_what_that_chip_of_the_library_does(
    browser: Browser, array: str
) -> None:
    with moved(browser, "intro", "hundred-chips") as place:
        place.get_by_label("array", exact=True).select_option(array)
        for sigma in (0.0, 0.1, 0.3, 0.6):
            slide(place, "spread σ of a cell", sigma)
            network = program(hundred_chips.network(), Hardware(Gaussian(sigma), hundred_chips.ARRAYS[array]))
            found = evaluate(network, *load("iris", "test"), chips=range(hundred_chips.CHIPS))
            shown = state(place)
            apart = np.abs(np.array(shown["accuracies"]) - found.accuracy)
            # what is rounded in the page may turn a flower that lies on the line between two kinds
            assert (apart > 1e-9).sum() <= 1 and apart.max() <= FLOWER + 1e-9
            assert shown["mean"] == pytest.approx(found.mean, abs=0.05)
            assert [shown["low"], shown["high"]] == pytest.approx(interval(found.accuracy), abs=0.05)


def test_a_stuck_cell_changes_its_chip_and_no_other(browser: Browser) -> None:
    with moved(browser, "intro", "hundred-chips") as place:
        slide(place, "spread σ of a cell", 0.05)
        before = state(place)["accuracies"]
        cells = place.get_by_role("button")
        for at in range(0, 32, 3):
            cells.nth(at).click()
        after = state(place)["accuracies"]
        assert {chip for chip in range(100) if before[chip] != after[chip]} == {7}
        cells.nth(0).press("ArrowRight")
        assert cells.nth(1).evaluate("cell => cell === document.activeElement")
        place.page.keyboard.press("Enter")
        assert "stuck on" in str(cells.nth(1).get_attribute("aria-label"))
