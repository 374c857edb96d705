"""What makes the gain of negative feedback: what the page reveals is what the records hold."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from moved import moved, slide, state
from playwright.sync_api import Browser

from cimlib.chip import interval
from companion import claims, experiments, records

SPREADS = [0.05, 0.1, 0.2, 0.25, 0.3, 0.4]
METHODS: dict[str, dict[str, Any]] = {"ovf": {"method": "ovf"}, "irs": {"method": "irs"}}
PARTS: dict[str, dict[str, Any]] = {
    "temperature": {"method": "temperature"},
    "start": {"method": "noise", "last_init": 0.25},
}
ALONE = "the division by four, a temperature"


def trained(sigma: float, given: dict[str, Any]) -> "pd.Series[float]":
    """By seed, the mean accuracy on chips of the trainings on record."""
    asked = vars(experiments.resolve("negative_feedback", {"scale": "desk", "sigma": sigma} | given))
    rows = records.read("negative_feedback").to_dict("records")
    found = [row for row in rows if all(row[name] == asked[name] for name in asked if name != "seed")]
    return pd.Series({row["seed"]: float(np.mean(row["accuracy"])) for row in found}, dtype=float)


def gains(sigma: float, given: dict[str, Any]) -> "pd.Series[float]":
    """Points over noise alone with the same seed."""
    return (trained(sigma, given) - trained(sigma, {"method": "noise"})).dropna().sort_index()


@pytest.mark.parametrize("method", METHODS)
def test_every_dot_and_every_interval_is_of_the_records(browser: Browser, method: str) -> None:
    silent = {"feedback": METHODS[method] | {"beta": 0.0}}
    passes = {"passes": {"method": "averaging", "temperature": 1.0}} if method == "ovf" else {}
    with moved(browser, "chapters/negative_feedback", "feedback-or-temperature") as place:
        place.get_by_label("method", exact=True).select_option(method)
        place.get_by_label(ALONE).check()
        place.get_by_role("button", name="Show what each part gains").click()
        for at, sigma in enumerate(SPREADS):
            slide(place, "spread σ of a cell", at)
            shown = state(place)
            assert shown["noise"] == pytest.approx(trained(sigma, {"method": "noise"}).mean(), abs=0.001)
            assert shown["gain"] == pytest.approx(gains(sigma, METHODS[method]).mean(), abs=0.001)
            for part, given in (PARTS | silent | passes).items():
                found, told = gains(sigma, given), shown["parts"][part]
                assert told["n"] == len(found)
                assert told["each"] == pytest.approx(found.tolist(), abs=0.01)
                if len(found) > 1:
                    assert [told["low"], told["high"]] == pytest.approx(interval(found.to_numpy()), abs=0.001)


def test_means_that_are_compared_are_of_the_same_trainings(browser: Browser) -> None:
    with moved(browser, "chapters/negative_feedback", "feedback-or-temperature") as place:
        place.get_by_label(ALONE).check()
        place.get_by_role("button", name="Show what each part gains").click()
        assert state(place)["shared"] is None  # at σ = 0.25 both have ten
        slide(place, "spread σ of a cell", SPREADS.index(0.3))
        alone, whole = gains(0.3, PARTS["temperature"]), gains(0.3, METHODS["ovf"])
        both = alone.index.intersection(whole.index)
        shared = state(place)["shared"]
        assert shared["own"] == pytest.approx(alone[both].mean(), abs=0.001)
        assert shared["whole"] == pytest.approx(whole[both].mean(), abs=0.001)
        said = place.locator(".moving-words").last.inner_text()
        assert "with the same seeds: n = 3" in said.replace("\u00a0", " ")
        assert "the ledger asks for five trainings in pairs, and has three" in said


def test_nothing_is_told_before_a_guess_and_what_is_told_is_what_the_ledger_decides(browser: Browser) -> None:
    (entry,) = [one for one in claims.load("controls") if one.id == "control-temperature-ovf"]
    decided = {piece.label: found.status for piece, found in zip(entry.evidence, entry.measured, strict=True)}
    with moved(browser, "chapters/negative_feedback", "feedback-or-temperature") as place:
        show = place.get_by_role("button", name="Show what each part gains")
        assert show.is_disabled() and "parts" not in state(place)
        place.get_by_label(ALONE).check()
        show.click()
        for at, sigma in enumerate(SPREADS):
            slide(place, "spread σ of a cell", at)
            said = place.locator(".moving-words").last.inner_text()
            held = decided.get(f"σ = {sigma}") == "holds"
            assert ("Enough by itself" in said) == held and ("Undecided" in said) == (not held)
        place.get_by_role("button", name="Guess again").click()
        assert state(place)["guess"] is None and "parts" not in state(place)
