"""The amplifiers in the page are those of the library, chip by chip."""

from math import inf

import numpy as np
import pytest
import torch
from moved import moved, slide, state
from playwright.sync_api import Browser, Locator

from cimlib import fabricate
from cimlib.circuits import OpAmp
from companion.experiments.offsets import AT_ZERO, RAILS, SPAN
from companion.moving import amplifier_chain

PAGE, NAME = "chapters/offsets_iris", "amplifier-chain"
GAINS = [*amplifier_chain.GAINS, inf]
SETTINGS = [  # rows, other weights, offset in mV, gain, signal in mV, rails
    (5, 0.1, 10, 1369, 0, True),
    (1, 0.1, 5, inf, -350, True),
    (65, 0.3, 20, 100, 150, True),
    (65, 0.3, 20, 100, 150, False),
    (785, 0.1, 10, 10, 350, True),
    (785, 0.02, 3, 1369, -200, False),
    (17, 0.5, 30, 10_000, 350, True),
]


def turn(
    place: Locator, rows: int, weight: float, offset: float, gain: float, signal: float, rails: bool
) -> None:
    slide(place, "rows", amplifier_chain.ROWS.index(rows))
    slide(place, "other weights", weight)
    slide(place, "offset σ", offset)
    slide(place, "gain", GAINS.index(gain))
    slide(place, "signal", signal)
    if state(place)["railed"] != rails:
        place.get_by_role("button", name="rails").click()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_chip_puts_out_what_that_chip_of_the_library_does(
    browser: Browser, setting: tuple[int, float, float, float, float, bool]
) -> None:
    rows, weight, offset, gain, signal, rails = setting
    circuit = OpAmp(
        gain=gain, offset=offset / 1000, at_zero=AT_ZERO, rails=RAILS if rails else None, span=SPAN
    )
    model = amplifier_chain.neuron(rows, weight, circuit)
    x = torch.zeros(1, rows)
    x[0, 0] = signal / (1000 * SPAN)
    with torch.no_grad():
        found = [1000 * SPAN * fabricate(model, chip)(x).item() for chip in range(amplifier_chain.CHIPS)]
    with moved(browser, PAGE, NAME) as place:
        turn(place, *setting)
        shown = state(place)
        # what is rounded in the page, times the largest noise gain there
        assert [out[2] for out in shown["outputs"]] == pytest.approx(found, abs=0.3, rel=1e-4)
        assert shown["spread"] == pytest.approx(np.std(np.array(found) - signal, ddof=1), abs=0.1)


def test_a_few_millivolts_become_a_large_share_of_the_span_as_rows_are_added(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        small = state(place)
        assert small["spread"] == pytest.approx(small["predicted"], rel=0.17)  # of 100 chips
        slide(place, "rows", amplifier_chain.ROWS.index(65))
        assert state(place)["spread"] > 2 * small["spread"] and state(place)["stuck"] == 0
        slide(place, "rows", amplifier_chain.ROWS.index(785))
        assert state(place)["spread"] > 1000 * SPAN / 2 and state(place)["stuck"] > 20
        assert "an amplifier is at a rail" in place.locator(".moving-words").inner_text()


def test_a_low_gain_makes_a_signal_smaller_and_the_rails_hold_it(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        turn(place, 65, 0.1, 0, 30, 350, True)
        assert state(place)["slope"] < 0.85
        assert np.std([out[2] for out in state(place)["outputs"]]) == pytest.approx(0, abs=1e-9)
        turn(place, 785, 0.5, 30, inf, 350, True)
        outputs = np.array(state(place)["outputs"])
        assert np.abs(outputs).max() == pytest.approx(450)


def test_a_low_gain_leaves_an_error_without_offsets_and_the_words_say_why(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        assert "0.4859" not in place.locator(".moving-words").inner_text()
        turn(place, 5, 0.1, 0, 10, 0, True)
        found = state(place)
        assert [out[2] for out in found["outputs"]] == pytest.approx([found["still"]] * len(found["outputs"]))
        said = place.locator(".moving-words").inner_text().replace("\u00a0", " ")
        assert f"puts out {AT_ZERO} V, not {amplifier_chain.V_0} V" in said
        assert f"moves the output by −{-found['still']:.0f} mV" in said


def test_without_rails_an_output_beyond_the_plot_is_an_arrow_with_its_value(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        chart = place.locator("svg").nth(1)
        turn(place, 785, 0.1, 30, 1369, 350, False)
        output = state(place)["outputs"][state(place)["chip"]][2]
        assert output < -600 and f"−{-output:,.0f}" in str(chart.text_content())


def test_another_chip_has_offsets_of_its_own(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        before = place.locator("svg").first.get_attribute("aria-label")
        place.get_by_role("button", name="another chip").click()
        after = place.locator("svg").first.get_attribute("aria-label")
        assert before != after and "Chip 8" in str(after)
