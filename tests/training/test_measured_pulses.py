"""What must hold when a cell is fitted to its measured update curve."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cimlib.training import MeasuredPulses, Pulses, fit_pulses

LOW, HIGH = 5.0, 85.0


def readings(
    cell: Pulses, cells: int, cycles: int, up: int, down: int, every: int
) -> Iterator[tuple[int, int, int, str, float]]:
    """A simulated measurement: cell, cycle, pulse, direction and conductance, µS."""
    source = torch.Generator().manual_seed(0)
    own = cell.steps(torch.randn(cells, generator=source, dtype=torch.float64))
    for cycle in range(cycles):
        for direction, most, start, sign in (("up", up, LOW, 1.0), ("down", down, HIGH, -1.0)):
            g = torch.full((cells,), start, dtype=torch.float64)
            for n in range(most + 1):
                if n:
                    g = cell.write(g, torch.full_like(g, sign), LOW, HIGH, source, step=own)
                if n % every == 0:
                    yield from ((i, cycle, n, direction, float(g[i])) for i in range(cells))


def frame(
    cell: Pulses, cells: int = 1, cycles: int = 1, up: int = 0, down: int = 0, every: int = 1
) -> pd.DataFrame:
    rows = readings(cell, cells, cycles, up or cell.levels, down or cell.down, every)
    return pd.DataFrame(rows, columns=["cell", "cycle", "pulse", "direction", "conductance_uS"])


def fitted(table: pd.DataFrame, tmp_path: Path, **options: Any) -> MeasuredPulses:
    path = tmp_path / "curve.csv"
    table.to_csv(path, index=False)
    found = Pulses.from_csv(path, **options)
    assert found == fit_pulses(path, **options)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curves")


@given(up=st.floats(-6, 6), down=st.floats(-6, 6), levels=st.integers(10, 200), fewer=st.integers(0, 5))
@settings(max_examples=10)
def test_a_curve_of_the_model_gives_its_own_parameters_back(
    up: float, down: float, levels: int, fewer: int, folder: Path
) -> None:
    cell = Pulses(levels, up, down, levels_down=levels - fewer if fewer else None)
    found = fitted(frame(cell), folder)
    assert (found.pulses.levels, found.pulses.levels_down) == (levels, cell.levels_down)
    assert (found.pulses.potentiation, found.pulses.depression) == pytest.approx((up, down), abs=2e-3)
    assert (found.g_min, found.g_max) == pytest.approx((LOW, HIGH), abs=2e-3)
    assert found.residual < 1e-5 and found.pulses.cycle_to_cycle < 1e-4
    assert found.pulses.device_to_device == 0 and found.cells == 1


@pytest.mark.parametrize(("up", "down"), [(80, 80), (50, 30)])
def test_sweeps_that_saturate_or_go_part_of_the_way_still_tell_the_number_of_levels(
    up: int, down: int, tmp_path: Path
) -> None:
    found = fitted(frame(Pulses(50, 2.0, -1.0, levels_down=60), up=up, down=down), tmp_path)
    assert (found.pulses.levels, found.pulses.levels_down) == (50, 60)
    assert (found.pulses.potentiation, found.pulses.depression) == pytest.approx((2, -1), abs=0.02)


def test_spreads_from_cycle_to_cycle_and_from_cell_to_cell_are_told_apart(tmp_path: Path) -> None:
    cell = Pulses(50, 2.0, -1.0, 0.01, levels_down=80, device_to_device=0.2)
    found = fitted(frame(cell, cells=40, cycles=3), tmp_path)
    assert found.pulses.device_to_device == pytest.approx(0.2, rel=4 / (2 * 40) ** 0.5)
    assert found.pulses.cycle_to_cycle == pytest.approx(0.01, rel=0.05)
    assert (found.pulses.potentiation, found.pulses.depression) == pytest.approx((2, -1), abs=0.3)
    assert (found.g_min, found.g_max) == pytest.approx((LOW, HIGH), abs=2)
    assert found.cells == 40 and found.residual < 0.01


def test_noise_is_not_taken_for_cells_that_differ_once_there_are_cycles(tmp_path: Path) -> None:
    found = fitted(frame(Pulses(50, cycle_to_cycle=0.02), cells=12, cycles=6), tmp_path)
    assert found.pulses.device_to_device < 0.06
    assert found.pulses.cycle_to_cycle == pytest.approx(0.02, rel=0.05)


def test_readings_after_several_pulses_each_give_the_same_cell(tmp_path: Path) -> None:
    cell = Pulses(60, 2.0, -1.0, 0.005)
    every, sparse = (fitted(frame(cell, cells=10, cycles=3, every=n), tmp_path).pulses for n in (1, 5))
    assert sparse.levels == every.levels == 60
    assert sparse.cycle_to_cycle == pytest.approx(0.005, rel=0.15)
    assert sparse.potentiation == pytest.approx(every.potentiation, abs=0.3)


def test_unit_order_and_numbering_of_the_file_do_not_matter(tmp_path: Path) -> None:
    table = frame(Pulses(40, 1.0, -2.0))
    other = table.assign(conductance_S=table.pop("conductance_uS") * 1e-6)
    other["pulse"] += (other["direction"] == "down") * 40  # counted on
    other["direction"] = other["direction"].str.upper()
    other = pd.concat([other[other["direction"] == "DOWN"], other[other["direction"] == "UP"]])
    found = fitted(other.drop(columns=["cell", "cycle"]), tmp_path)
    assert found.pulses.levels == 40 and found.pulses.levels_down is None
    assert (found.g_min, found.g_max) == pytest.approx((LOW, HIGH), rel=1e-4)


def test_a_fitted_cell_says_what_it_is_and_how_well_it_fits(tmp_path: Path) -> None:
    said = str(fitted(frame(Pulses(40, 1.0, -2.0)), tmp_path))
    assert said.startswith("5 … 85 µS in 40 pulses up, 40 down; labels 1.0 up, -2.0 down;")
    assert said.endswith("steps of 1 cell(s) by 0 %; residual 0.0 % of the range")


def test_a_curve_that_the_model_misses_is_refused_with_its_residual_unless_that_is_accepted(
    tmp_path: Path,
) -> None:
    table = frame(Pulses(60))
    up = table["direction"] == "up"
    table.loc[up, "conductance_uS"] = LOW + 40 * (table.loc[up, "pulse"] // 20).clip(upper=2)  # a stair
    with pytest.raises(ValueError, match=r"residual of the fit to .*curve.csv' = 0\.\d+ .*limit = 0.05"):
        fitted(table, tmp_path)
    assert 0.05 < fitted(table, tmp_path, limit=0.5).residual < 0.5


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda t: t.rename(columns={"conductance_uS": "conductance"}), "conductance_uS"),
        (lambda t: t.drop(columns="direction"), "direction"),
        (lambda t: t.drop(columns="pulse"), "pulse"),
        (lambda t: t.assign(direction="left"), "direction = .*left.*'up' or 'down'"),
        (lambda t: t[t["direction"] == "up"], "sweeps down"),
        (
            lambda t: t.assign(direction=t["direction"].map({"up": "down", "down": "up"})),
            "change along.*down",
        ),
        (lambda t: t.assign(pulse=0), "pulse in the sweep.*'cycle'"),
        (lambda t: pd.concat([t, t]), "pulse in the sweep.*'cycle'"),
        (lambda t: t[t["pulse"] < 2], "readings of the sweep.*at least three"),
        (lambda t: t.assign(conductance_uS=-1.0), "conductance_uS, row 1"),
        (lambda t: t.assign(pulse=t["pulse"] + 0.5), "pulse, row 1"),
        (lambda t: t[t["pulse"] >= 2], "lowest pulse = 2.0.*where sweeps start"),
        (lambda t: t.assign(conductance_uS=t["conductance_uS"] * 1e-6), "looks like S, not uS"),
    ],
)
def test_files_that_are_no_update_curve_are_refused(change: Any, names: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=names):
        fitted(change(frame(Pulses(20))), tmp_path)


@pytest.mark.parametrize("limit", [0.0, float("nan"), -1.0])
def test_an_impossible_limit_is_refused(limit: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit"):
        fitted(frame(Pulses(20)), tmp_path, limit=limit)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_sweeps_of_one_direction_must_start_at_one_pulse_and_one_conductance(
    direction: str, tmp_path: Path
) -> None:
    table = frame(Pulses(40, 2.0, -2.0), cells=2, cycles=2)
    some = (table["direction"] == direction) & (table["cycle"] == 1)
    with pytest.raises(ValueError, match=rf"first pulse of the sweeps {direction} = \[0.0, 3.0\].*leave out"):
        fitted(table[~(some & (table["pulse"] < 3))], tmp_path)
    late = table[~(some & (table["pulse"] < 8))].copy()  # as after an incomplete reset
    late.loc[some, "pulse"] -= 8
    with pytest.raises(
        ValueError, match=f"first readings of the sweeps {direction} = .*incomplete SET or RESET"
    ):
        fitted(late, tmp_path)


def test_starts_that_differ_by_less_than_a_tenth_of_the_range_are_taken(tmp_path: Path) -> None:
    table = frame(Pulses(40), cells=2)
    table.loc[table["cell"] == 1, "conductance_uS"] += 0.09 * (HIGH - LOW)
    assert fitted(table, tmp_path).residual < 0.05


@pytest.mark.parametrize(("unit", "factor"), [("nS", 1.0), ("S", 1e-9)])
def test_a_cell_of_nanosiemens_is_fitted_if_its_header_says_so_and_is_printed_with_its_digits(
    unit: str, factor: float, tmp_path: Path
) -> None:
    table = frame(Pulses(40, 1.0, -2.0))
    table[f"conductance_{unit}"] = (table.pop("conductance_uS") / 100) * factor  # 0.05 to 0.85 nS
    assert str(fitted(table, tmp_path)).startswith("5e-05 … 0.00085 µS in 40 pulses up")
