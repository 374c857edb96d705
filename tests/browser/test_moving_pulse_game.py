"""A cell that gets pulses in the page walks as the library's cell does, and so do fifty pairs."""

import numpy as np
import pytest
import torch
from moved import moved, slide, state
from playwright.sync_api import Browser, Locator

from companion.moving import pulse_game

PAGE, NAME = "chapters/double_cba", "pulse-game"
LOW, HIGH = pulse_game.RANGE
PAIRS = "fifty pairs up and down"
SENT = {"1 up": [1], "1 down": [-1], "10 up": [1] * 10, "10 down": [-1] * 10, PAIRS: [1, -1] * 50}
SEQUENCES = [
    (94, ["10 down", "10 down", "1 up", "10 down", "1 down", "10 up"]),
    (10, ["1 down", "10 up", PAIRS, "1 up", "1 down"]),
    (97, ["10 up", "1 down", PAIRS]),
]


def press(place: Locator, *buttons: str) -> None:
    """Press these buttons one after another."""
    for words in buttons:
        place.get_by_role("button", name=words, exact=True).click()


def walked(cell: str, start: float, pulses: list[int]) -> list[float]:
    """Conductances of the library's cell, one write a pulse, µS."""
    g = [torch.tensor(float(start), dtype=torch.float64)]
    for sign in pulses:
        g.append(pulse_game.CELLS[cell][1].write(g[-1], torch.tensor(sign), LOW, HIGH))
    return [float(each) for each in g]


@pytest.mark.parametrize("cell", pulse_game.CELLS)
def test_every_cell_walks_as_the_librarys_does(browser: Browser, cell: str) -> None:
    with moved(browser, PAGE, NAME) as place:
        place.get_by_label("cell", exact=True).select_option(cell)
        for start, buttons in SEQUENCES:
            slide(place, "start", start)
            press(place, *buttons)
            sent = [sign for words in buttons for sign in SENT[words]]
            shown = state(place)
            assert shown["walk"] == pytest.approx(walked(cell, start, sent), abs=1e-9)
            assert (shown["sent"], shown["ups"]) == (len(sent), sent.count(1))
            after = [walked(cell, shown["g"], [sign])[-1] for sign in (1, -1)]
            assert shown["g"] + shown["step"]["up"] == pytest.approx(after[0], abs=1e-9)
            assert shown["g"] - shown["step"]["down"] == pytest.approx(after[1], abs=1e-9)


def test_fifty_pairs_take_the_imperfect_cell_to_the_middle_and_leave_the_others_where_they_are(
    browser: Browser,
) -> None:
    with moved(browser, PAGE, NAME) as place:
        for start in (94, 16):
            for cell, stays in {"imperfect": False, "returning": True, "linear": True}.items():
                place.get_by_label("cell", exact=True).select_option(cell)
                slide(place, "start", start)
                press(place, PAIRS)
                found = state(place)
                assert found["g"] == pytest.approx(start if stays else found["balance"], abs=4.0)
                assert stays or abs(found["g"] - start) > 30
                said = place.locator(".moving-words").inner_text()
                assert (
                    f"Fifty pulses up and fifty down took the cell from {start:.1f} to {found['g']:.1f} µS"
                    in said
                )


def test_the_target_is_met_with_as_few_pulses_as_are_said_to_be_enough(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        place.get_by_label("cell", exact=True).select_option("linear")
        least = state(place)["enough"]
        assert least == pytest.approx((94 - state(place)["target"]) / 0.9, abs=1)
        press(place, *["10 down"] * (least // 10), *["1 down"] * (least % 10))
        assert state(place)["reached"] == least
        press(place, "another target")
        assert state(place)["reached"] is None and state(place)["sent"] == 0


def test_words_say_how_close_is_reached_and_count_one_pulse_as_one(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        assert "Within 0.5 µS counts as reached" in place.inner_text()
        press(place, "1 up")
        assert "1 pulse sent" in place.locator(".moving-words").inner_text()


def test_noise_of_a_pulse_is_that_share_of_the_range(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        place.get_by_label("cell", exact=True).select_option("linear")
        slide(place, "start", 55)
        slide(place, "noise of a pulse", 0.01)
        press(place, *[PAIRS] * 3)
        walk = np.array(state(place)["walk"])
        assert walk.min() > LOW and walk.max() < HIGH
        moves = np.diff(walk) - 0.9 * np.tile([1, -1], 150)
        assert moves.std() == pytest.approx(0.01 * (HIGH - LOW), rel=0.15)
        assert moves.mean() == pytest.approx(0, abs=0.15)
