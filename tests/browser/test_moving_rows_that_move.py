"""Rows that are matched in the page lie as cheaply as those that the library places."""

import pytest
import torch
from moved import moved, state
from playwright.sync_api import Browser, Locator
from torch import Tensor, nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars
from cimlib.devices import FaultMap, StuckAt
from cimlib.methods import mapped, row_costs
from companion.moving.rows_that_move import COLUMNS, ROWS

PAGE, NAME = "chapters/imperfection_tolerant", "rows-that-move"
MATCH = "match the rows"


def press(place: Locator, button: str) -> None:
    """Press the button with these words."""
    place.get_by_role("button", name=button, exact=True).click()


def stick(place: Locator, row: int, column: int, to: int) -> None:
    """Break the working cell there: stuck on (1) or stuck off (-1)."""
    cell = place.locator("svg [role=button]").nth(row * COLUMNS + column)
    for _ in range(1 if to == 1 else 2):
        cell.click()


def library(shown: dict[str, list[float]]) -> tuple[nn.Module, dict[str, FaultMap]]:
    """The weights of the page on a chip, and its broken cells, of which each is the first of a pair."""
    layer = nn.Linear(ROWS, COLUMNS, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(shown["weights"]).reshape(ROWS, COLUMNS).T)
    model = fabricate(program(nn.Sequential(layer), Hardware(StuckAt(0.0, 0.0), DoubleArray(w_max=1.0))), 0)
    cells = torch.zeros(1, 2, COLUMNS, ROWS, dtype=torch.int8)
    cells[0, 0] = torch.tensor(shown["broken"]).reshape(ROWS, COLUMNS).T
    return model, {crossbars(model)[0].name: FaultMap(cells)}


def total(costs: Tensor, places: list[int]) -> float:
    """What it costs to lay each row of the weights there."""
    return float(sum(costs[row, place] for row, place in enumerate(places)))


def agrees(place: Locator) -> None:
    """Costs as the rows come, as they lie and as they lie best are the library's."""
    shown = state(place)
    model, known = library(shown)
    (layer,) = crossbars(model)
    costs = row_costs(layer, known[layer.name], power=2.0)[0]
    (better,) = crossbars(mapped(model, known, power=2.0))
    lies = [shown["order"].index(row) for row in range(ROWS)]
    assert shown["came"] == pytest.approx(total(costs, list(range(ROWS))), abs=1e-5)
    assert shown["cost"] == pytest.approx(total(costs, lies), abs=1e-5)
    assert shown["best"] == pytest.approx(total(costs, list(better.placement.rows[0])), abs=1e-5)
    assert shown["mean"] == pytest.approx(float(costs.mean()) * ROWS, abs=1e-5)


def test_costs_before_and_after_are_the_librarys_on_every_chip(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        for _ in range(6):
            agrees(place)
            press(place, MATCH)
            agrees(place)
            assert state(place)["cost"] == pytest.approx(state(place)["best"], abs=1e-9)
            press(place, "another chip")


def test_costs_are_the_librarys_for_cells_that_the_reader_breaks(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        press(place, "mend all cells")
        assert (
            state(place)["cost"] == 0 and "No cell is broken" in place.locator(".moving-words").inner_text()
        )
        for row, column, to in [(0, 2, -1), (3, 3, -1), (1, 0, 1), (1, 3, 1), (5, 1, 1)]:
            stick(place, row, column, to)
            agrees(place)
        press(place, MATCH)
        agrees(place)


def test_matching_makes_the_first_chip_cheaper_and_moves_rows_not_broken_cells(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        before = state(place)
        press(place, MATCH)
        after = state(place)
        assert after["cost"] < before["cost"] / 3 and after["wrong"] < before["wrong"]
        assert after["broken"] == before["broken"] and sorted(after["order"]) == list(range(ROWS))
        said = place.locator(".moving-words").inner_text()
        assert f"{before['cost']:.2f}" in said and f"{after['cost']:.2f}" in said
        press(place, "as they come")
        assert state(place) == before


def test_rows_move_at_once_for_a_reader_who_asks_for_less_motion(browser: Browser) -> None:
    with moved(browser, PAGE, NAME) as place:
        place.page.emulate_media(reduced_motion="reduce")
        place.page.reload()
        times = place.locator("svg g").evaluate_all(
            "all => all.map((g) => getComputedStyle(g).transitionDuration)"
        )
        assert set(times) == {"0s"}
