"""The crossbar in the page carries the currents of the library's crossbar."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from moved import moved, slide, state
from playwright.sync_api import Browser, Locator

from cimlib.circuits import OpAmp, Signal, crossbar_currents
from companion.moving import anatomy

DRAWING = Path(__file__).resolve().parents[2] / "pages" / "images" / "crossbar.svg"


def setting(place: Locator, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Set the volts and every cell at random; returns them, V and µS."""
    rng = np.random.default_rng(seed)
    volts, cells = rng.integers(0, 11, 3) / 20, rng.integers(2, 21, (3, 3)) * 5.0
    for row, volt in enumerate(volts):
        slide(place, f"volts on row {row + 1}", volt)
    for at, g in enumerate(cells.ravel()):
        place.get_by_role("button").nth(at).focus()
        slide(place, "chosen cell", g)
    return volts, cells


def currents(volts: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """What the columns deliver, µA, by the library."""
    found = crossbar_currents(torch.tensor(1e-6 * cells), torch.tensor(volts)[None], 0.0, 0.0)
    return 1e6 * found[0].numpy()


@pytest.mark.parametrize("page", ["intro", "chapters/double_cba"])
def test_it_begins_as_the_drawing_whose_place_it_takes(browser: Browser, page: str) -> None:
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", DRAWING.read_text(encoding="utf-8"))
    with moved(browser, page, "anatomy") as place:
        shown = place.locator("svg text").all_text_contents()
        kinds = r"−?\d\.\d+\sV", r"\d+", r"\d+\sµA", r"\d+\sµS"
        for kind in kinds:
            assert sorted(text.replace("\xa0", " ") for text in shown if re.fullmatch(kind, text)) == sorted(
                text for text in drawn if re.fullmatch(kind, text)
            )
        assert state(place)["ends"] == pytest.approx([22, 34, 30])


@pytest.mark.parametrize("seed", range(3))
def test_columns_and_amplifiers_give_what_those_of_the_library_do(browser: Browser, seed: int) -> None:
    with moved(browser, "intro", "anatomy") as place:
        volts, cells = setting(place, seed)
        shown = state(place)
        assert shown["ends"] == pytest.approx(currents(volts, cells))
        assert shown["out"] == pytest.approx(-currents(volts, cells) / anatomy.FEEDBACK)


@pytest.mark.parametrize("seed", range(3))
def test_a_resistor_is_an_amplifier_without_gain(browser: Browser, seed: int) -> None:
    gain, none = 1e-9, dict.fromkeys(("converter", "converter_gain"), torch.zeros(3, dtype=torch.float64))
    with moved(browser, "intro", "anatomy") as place:
        volts, cells = setting(place, seed)
        place.get_by_label("broken", exact=True).select_option("amplifiers")
        ideal = Signal(torch.tensor(-currents(volts, cells) / anatomy.FEEDBACK), -1)
        noise_gain = torch.tensor(1 + cells.sum(0) / anatomy.FEEDBACK)
        output = OpAmp(gain=gain).amplify(ideal, noise_gain, none, "converter").value
        column = -output.numpy() / gain  # an amplifier's output is its gain times what its input lacks
        assert state(place)["out"] == pytest.approx(column)
        across = volts[:, None] - column
        assert state(place)["currents"] == pytest.approx((cells * across).ravel())
        assert state(place)["ends"] == pytest.approx(anatomy.FEEDBACK * column)


def test_without_an_amplifier_current_runs_backwards_out_of_the_middle_column(browser: Browser) -> None:
    with moved(browser, "intro", "anatomy") as place:
        place.get_by_label("broken", exact=True).select_option("amplifiers")
        place.get_by_role("button").nth(7).hover()
        words = place.locator(".moving-words").inner_text()
        assert "0.45 + 17.18 − 2.18 ≈ 15.45\xa0µA" in words and "In 2 of 9 cells" in words


def test_a_stuck_cell_counts_with_the_voltage_of_its_row(browser: Browser) -> None:
    with moved(browser, "intro", "anatomy") as place:
        place.get_by_label("broken", exact=True).select_option("stuck")
        assert state(place)["ends"] == pytest.approx([22 + 0.2 * (100 - 30), 34, 30])
        place.get_by_role("button").nth(0).press("ArrowDown")
        assert state(place)["ends"] == pytest.approx([22 + 0.4 * (100 - 20), 34, 30])
        slide(place, "volts on row 2", 0)
        assert "Even its own column is right" in place.locator(".moving-words").inner_text()


def test_starting_again_gives_back_the_numbers_of_the_drawing(browser: Browser) -> None:
    with moved(browser, "intro", "anatomy") as place:
        before, shown = state(place), place.locator("svg").inner_html()
        setting(place, 0)
        place.get_by_label("broken", exact=True).select_option("amplifiers")
        place.get_by_role("button", name="start again").click()
        assert state(place) == before and place.locator("svg").inner_html() == shown
        assert place.get_by_label("broken", exact=True).input_value() == "nothing"
