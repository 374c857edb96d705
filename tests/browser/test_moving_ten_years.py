"""The slider over ten years shows the chips of the records, and what they teach."""

from typing import Any

import numpy as np
import pytest
from moved import moved, slide, state
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator

from cimlib.chip import interval
from companion import experiments, records

PAGE = "chapters/dora_calibration"
AGES = ["1 s", "1 hour", "1 day", "1 month", "1 year", "10 years"]
CELLS = ["pcm", "cmo, 2 %"]
WAYS: dict[str, dict[str, Any]] = {
    "none": {"remedy": "none"},
    "global": {"remedy": "none", "compensation": "global"},
    "batchnorm": {"remedy": "batchnorm"},
    "dora": {"remedy": "dora", "compensation": "global"},
}


def recorded(cell: str, age: str, way: str, column: str = "accuracy") -> NDArray[np.float64]:
    """Accuracy of each chip in the record, or what else it holds in this column."""
    params = experiments.resolve("drifted", {"scale": "desk", "cell": cell, "t": age, **WAYS[way]})
    (found,) = records.select(records.read("drifted"), **vars(params))[column]
    return np.array(found)


def at(place: Locator, cell: str, age: str) -> dict[str, Any]:
    """What the figure shows of these cells at this age."""
    place.get_by_label("cells", exact=True).select_option(cell)
    slide(place, "time", AGES.index(age))
    return state(place)


@pytest.mark.parametrize("cell", CELLS)
def test_every_chip_is_that_of_the_record(browser: Browser, cell: str) -> None:
    with moved(browser, PAGE, "ten-years") as place:
        for age in AGES:
            shown = at(place, cell, age)
            assert (shown["cell"], shown["time"]) == (cell, age)
            for way in WAYS:
                found = recorded(cell, age, way)
                assert shown["accuracies"][way] == pytest.approx(found, abs=1e-9)
                told = shown["now"][way]
                assert told["mean"] == pytest.approx(found.mean(), abs=1e-6)
                assert [told["low"], told["high"]] == pytest.approx(interval(found), abs=1e-5)


def test_the_lead_is_paired_and_the_words_tell_it(browser: Browser) -> None:
    with moved(browser, PAGE, "ten-years") as place:
        lead = at(place, "pcm", "10 years")["lead"]
        apart = recorded("pcm", "10 years", "dora") - recorded("pcm", "10 years", "batchnorm")
        assert [lead["low"], lead["high"]] == pytest.approx(interval(apart), abs=1e-5)
        words = place.locator(".moving-words").inner_text()
        assert f"{apart.mean():.1f} points more" in words and "10 chips" in words


@pytest.mark.parametrize("cell", CELLS)
def test_more_and_less_are_said_only_where_ten_chips_tell(browser: Browser, cell: str) -> None:
    fresh = recorded(cell, "10 years", "none", "undrifted")
    with moved(browser, PAGE, "ten-years") as place:
        for age in AGES:
            kept = at(place, cell, age)["kept"]
            low, high = interval(recorded(cell, age, "dora") - fresh)
            assert [kept["low"], kept["high"]] == pytest.approx([low, high], abs=1e-5)
            told = place.locator(".moving-words").inner_text().split(", and ")[1]
            stands = "points more" if low > 0 else "points less" if high < 0 else "no different"
            assert stands in told and "-" not in told and "−0.0 " not in told


def test_the_simpler_remedy_that_leads_changes_with_time_and_chips_drift_apart_behind_a_factor(
    browser: Browser,
) -> None:
    with moved(browser, PAGE, "ten-years") as place:
        assert [at(place, "pcm", age)["simple"] for age in AGES] == ["global"] * 3 + ["batchnorm"] * 3
        early, late = (at(place, "pcm", age)["accuracies"] for age in ("1 s", "10 years"))
        assert np.std(late["global"]) > 5 * np.std(early["global"])
        assert np.std(late["dora"]) < 2 * np.std(early["dora"])


def test_a_closer_look_moves_the_picture_and_no_number(browser: Browser) -> None:
    with moved(browser, PAGE, "ten-years") as place:
        before, strip = state(place), place.locator("svg[role=img]").nth(1)
        drawn = strip.inner_html()
        place.get_by_role("button", name="look closer").press("Enter")
        assert state(place) == before and strip.inner_html() != drawn
        slide(place, "chip", 6)
        assert state(place)["picked"] == 6 and "chip 6 with a ring" in str(strip.get_attribute("aria-label"))
