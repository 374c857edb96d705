"""What chips have lost in common, in the page and in the library, weight by weight."""

from typing import Any

import numpy as np
import pytest
import torch
from moved import moved, slide, state
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator

from cimlib.chip import crossbars
from companion import experiments
from companion.experiments.drifted import Params, drifted, prepared
from companion.moving import common_or_own

PAGE = "chapters/vera_drift"
TIMES = ["1 s", "1 hour", "1 month", "10 years"]
DONE = {"none": "nothing done", "global": "one factor a layer", "mean": "the factor, then the mean repair"}
CHIPS, STEP = 20, common_or_own.STEP

Floats = NDArray[np.float64]


def params(cell: str, compensation: str) -> Params:
    given = {"scale": "quick", "cell": cell, "layers": 6, "remedy": "none", "compensation": compensation}
    found = experiments.resolve("drifted", given)
    assert isinstance(found, Params)
    return found


def layer(cell: str, compensation: str, time: str) -> tuple[Floats, Floats]:
    """The second layer's weights: what chips hold, (chips, weights), and what was asked for."""
    asked = params(cell, compensation)
    network = prepared(asked)
    held = []
    with torch.no_grad():
        for chip in range(CHIPS):
            one = crossbars(drifted(network, asked, chip, time))[1]
            read = one.read()[0]
            held.append((one.digital.merged(read) if one.digital else read).numpy().ravel())
    return np.array(held, dtype=float), one.weight.detach().numpy().ravel().astype(float)


def at(place: Locator, cell: str, time: str, done: str) -> dict[str, Any]:
    """What the figure shows of these cells at this time."""
    place.get_by_label("cells", exact=True).select_option(cell)
    slide(place, "time", TIMES.index(time))
    place.get_by_role("button", name=DONE[done]).click()
    return state(place)


@pytest.mark.parametrize("cell", ["pcm", "cmo, 2 %"])
@pytest.mark.parametrize("time", ["1 s", "10 years"])
def test_the_parts_and_every_weight_are_those_of_the_library(browser: Browser, cell: str, time: str) -> None:
    with moved(browser, PAGE, "common-or-own") as place:
        slide(place, "chip", 3)
        for done in ("none", "global"):
            shown = at(place, cell, time, done)
            held, asked = layer(cell, done, time)
            size = common_or_own.unit(asked)
            own = held.var(0, ddof=1).mean()
            common = max(np.square(held.mean(0) - asked).mean() - own / CHIPS, 0)
            assert shown["own"] == pytest.approx(100 * own**0.5 / size, abs=0.02)
            assert shown["common"] == pytest.approx(100 * common**0.5 / size, abs=0.02)
            chosen = common_or_own.chosen(asked)
            lost = (np.sign(asked) * (held - asked) / size)[:, chosen]
            assert shown["middle"] == pytest.approx(lost.mean(0), abs=3 * STEP)
            assert shown["mine"] == pytest.approx(lost[3], abs=3 * STEP)


def test_a_factor_takes_what_is_common_in_phase_change_and_not_in_reram(browser: Browser) -> None:
    with moved(browser, PAGE, "common-or-own") as place:
        left = {}
        for cell in ("pcm", "cmo, 2 %"):
            bare, behind = (at(place, cell, "10 years", done) for done in ("none", "global"))
            left[cell] = behind["common"] / bare["common"]
            assert behind["own"] > bare["own"]
        assert left["pcm"] < 0.2 and left["cmo, 2 %"] > 0.8


def test_the_mean_repair_leaves_each_chip_its_own(browser: Browser) -> None:
    with moved(browser, PAGE, "common-or-own") as place:
        behind, mended = (at(place, "cmo, 2 %", "10 years", done) for done in ("global", "mean"))
        assert mended["common"] == 0 and mended["own"] == behind["own"]
        assert mended["middle"] == pytest.approx([0] * len(mended["middle"]))
        apart = np.subtract(behind["mine"], behind["middle"])
        assert mended["mine"] == pytest.approx(apart)
        slide(place, "chip", 4)
        other = np.array(state(place)["mine"])
        assert abs(np.corrcoef(other, apart)[0, 1]) < 0.5
        assert "each chip's own is 11.0 %" in place.locator(".moving-words").inner_text()
