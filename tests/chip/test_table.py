"""What must hold when the cells of a chip go out to a table and measured ones come in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from cimlib import Hardware, evaluate, fabricate, fresh, load, program
from cimlib.arrays import Array, BitSliced, DoubleArray, SignedArray, SingleArray
from cimlib.chip import conductances, crossbars, with_conductances
from cimlib.circuits import OpAmp, Wires
from cimlib.devices import Device, Gaussian, Lognormal, StuckAt
from cimlib.methods import mapped, on_device
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, PulseOptimizer, Pulses, fit

NOISY = Device(Gaussian(0.1), StuckAt(on=0.05, off=0.1))
ARRAYS: list[Array] = [
    DoubleArray(),
    DoubleArray(5.0, 50.0, mapping="two-sided"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    DoubleArray(zero_state=True),
    SingleArray(),
    SingleArray(reference="constant-term"),
    SingleArray(reference_device="cell"),
    BitSliced(),
]


def convnet() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 2, 3, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 10))
    return nn.Sequential(*layers)


def images() -> Tensor:
    return torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def chip_of(array: Array | None = None, number: int = 3, **options: Any) -> nn.Module:
    return fabricate(program(convnet(), Hardware(NOISY, array or DoubleArray()), **options), number)


# out


def test_every_cell_has_a_row_that_says_where_it_is_and_what_it_holds() -> None:
    chip = chip_of()
    table = conductances(chip)
    assert table.columns.tolist()[:6] == ["layer", "part", "slice", "side", "output", "input"]
    assert table.columns.tolist()[6:] == ["kernel_1", "kernel_2", "target_uS", "conductance_uS"]
    assert len(table) == 2 * (2 * 9 + 10 * 72)
    for layer in crossbars(chip):
        _, g, _ = layer.read()
        asked = layer.hardware.array.target(layer.weight)
        for row in table[table["layer"] == layer.name].sample(30, random_state=0).to_dict("records"):
            place = [row[axis] for axis in ("slice", "side", "output", "input", "kernel_1", "kernel_2")]
            place = tuple(place[: g.cells.dim()])
            assert row["conductance_uS"] == g.cells[place].item()
            assert row["target_uS"] == asked.cells[place].item()


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_cells_that_conduct_nothing_are_left_out_and_references_of_cells_are_there(array: Array) -> None:
    table = conductances(chip_of(array))
    weights = 2 * 9 + 10 * 72
    sides = 1 if getattr(array, "inactive", None) == "disconnected" else array.sides
    cells = table[table["part"] == "cells"]
    if getattr(array, "zero_state", False):
        assert 0 < len(cells) < weights and (cells["target_uS"] >= array.g_min).all()
    else:
        assert len(cells) == array.slices * sides * weights
    assert len(table) - len(cells) == (9 + 72 if array.reference_is_cells else 0)
    assert not table.duplicated(list(table.columns[:-2])).any()


def test_a_table_is_of_cells_and_not_of_what_wires_or_amplifiers_make_of_them() -> None:
    ideal, wired = (
        fabricate(program(mlp(4, 3, bias="row", seed=0), Hardware(NOISY, DoubleArray(), circuit)), 0)
        for circuit in (OpAmp(), Wires(r_row=50.0, r_col=50.0))
    )
    pd.testing.assert_frame_equal(conductances(ideal), conductances(wired))


def test_looking_at_a_chip_changes_nothing_of_it() -> None:
    chip = chip_of()
    before, hardware = chip(images()), [layer.hardware for layer in crossbars(chip)]
    conductances(chip)
    assert torch.equal(chip(images()), before)
    assert [layer.hardware for layer in crossbars(chip)] == hardware


def test_cells_under_a_placement_are_listed_by_weight() -> None:
    chip = fabricate(program(mlp(4, 6, 3, seed=0), Hardware(NOISY)), 0)
    moved = mapped(chip, rows=False)
    keys = ["layer", "side", "output", "input"]
    tables = [conductances(one).set_index(keys)["target_uS"].sort_index() for one in (chip, moved)]
    pd.testing.assert_series_equal(*tables)
    with pytest.raises(ValueError, match="placement"):
        with_conductances(moved, conductances(moved))


# in


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize("unit", ["S", "mS", "uS", "nS"])
def test_what_a_chip_holds_written_to_a_file_and_read_again_is_the_same_chip(
    array: Array, unit: str, tmp_path: Path
) -> None:
    chip = chip_of(array)
    table = conductances(chip)
    if unit != "uS":
        table[f"conductance_{unit}"] = table.pop("conductance_uS") * {"S": 1e-6, "mS": 1e-3, "nS": 1e3}[unit]
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "chip.csv", index=False)
    ideal = fabricate(program(convnet(), Hardware(array=array)), 3)
    measured = with_conductances(ideal, tmp_path / "chip.csv")
    x = images()
    if unit == "uS":
        assert torch.equal(measured(x), chip(x))
    else:
        torch.testing.assert_close(measured(x), chip(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ideal(x), measured(x), atol=1e-4)
    assert torch.equal(fabricate(measured, 3)(x), measured(x))


def test_evaluation_gives_the_accuracy_of_the_measured_array_on_its_chip_and_on_no_other() -> None:
    net = mlp(64, 16, 10, seed=0)
    fit(net, CrossEntropy(), load("digits", "train"), epochs=5, lr=0.01, seed=0)
    x, y = load("digits", "test")
    hardware = Hardware(Lognormal(0.5), DoubleArray())
    chip = fabricate(program(net, hardware), 7)
    right, perfect = (
        evaluate(chip, x, y, chips=[7]).mean,
        evaluate(program(net, Hardware()), x, y, chips=[7]).mean,
    )
    measured = with_conductances(
        fabricate(program(net, Hardware(array=DoubleArray())), 7), conductances(chip)
    )
    assert evaluate(measured, x, y, chips=[7]).mean == right < perfect - 0.5
    for other in ([0], [7, 8], range(200)):
        with pytest.raises(ValueError, match=r"chip.*chip 7.*chips=\[7\]"):
            evaluate(measured, x, y, chips=other)
    with pytest.raises(ValueError, match="chip 7"):
        fresh(measured)(x)
    assert evaluate(measured, x, y, chips=[7]).mean == right


def test_amplifiers_of_the_chip_stay_and_its_draws_too() -> None:
    hardware = Hardware(NOISY, DoubleArray(), OpAmp(gain=1000.0, offset=0.01))
    chip = fabricate(program(mlp(4, 8, 3, bias="row", seed=0), hardware), 5)
    measured = with_conductances(chip, conductances(chip))
    x = torch.rand(9, 4)
    assert torch.equal(measured(x), chip(x))


def test_weights_that_changed_after_the_measurement_are_refused() -> None:
    chip = chip_of()
    measured = with_conductances(chip, conductances(chip))
    data = images(), torch.arange(20) % 10
    with pytest.raises(ValueError, match="weights.*measure again"):
        fit(measured, CrossEntropy(), data, epochs=2, lr=0.1, seed=0)


def test_a_measured_chip_keeps_what_it_has_in_float64_and_updates_on_it_start_there() -> None:
    chip = chip_of(DoubleArray(w_max=1.0))
    measured = with_conductances(chip, conductances(chip))
    x = images()
    torch.testing.assert_close(measured.double()(x.double()), chip.double()(x.double()), rtol=1e-5, atol=1e-6)
    data, still = (x.double(), torch.arange(20) % 10), {"lr": 0.1, "seed": 0}
    updated = on_device(measured, data, Pulses(), iterations=0, **still)
    torch.testing.assert_close(updated.model(x.double()), measured(x.double()))
    assert on_device(measured, data, Pulses(), iterations=5, **still).pulses > 0


@pytest.mark.parametrize("reference", ["resistor", "cell"])
def test_in_an_array_that_is_trained_the_table_becomes_the_conductances_and_training_goes_on(
    reference: Any,
) -> None:
    array = SingleArray(w_max=1.0, reference_device=reference)
    chip = chip_of(array, train="conductance")
    table = conductances(chip)
    measured = with_conductances(chip, table)
    x, y = images(), torch.arange(20) % 10
    assert torch.equal(measured(x), chip(x))
    held = torch.cat([layer.conductance.flatten() for layer in crossbars(measured)]).detach().double()
    cells = table[table["part"] == "cells"]
    assert np.array_equal(held.numpy(), cells["conductance_uS"].to_numpy())
    assert not any(
        torch.equal(a, b)
        for a, b in zip(measured.parameters(), chip.parameters(), strict=True)
        if a.dim() > 1
    )
    group = [layer.conductance for layer in crossbars(measured)]
    descent = PulseOptimizer(group, Pulses(), g_min=array.g_min, g_max=array.g_max, lr=1e4)
    torch.autograd.backward(CrossEntropy()(measured, (x, y)))
    descent.step()
    assert descent.pulses() > 0 and not torch.equal(measured(x), chip(x))
    with pytest.raises(ValueError, match="chip 3"):
        evaluate(measured, x, y, chips=[4])


def test_plain_columns_are_enough_for_one_array_of_linear_layers() -> None:
    array = SingleArray()
    chip = fabricate(program(mlp(4, 3, seed=0), Hardware(NOISY, array)), 0)
    table = conductances(chip)[["layer", "output", "input", "conductance_uS"]]
    assert torch.equal(with_conductances(chip, table)(torch.eye(4)), chip(torch.eye(4)))


def test_columns_that_look_like_none_of_these_are_left_alone() -> None:
    chip = chip_of()
    table = conductances(chip).assign(wafer=3, date="today", note="", temperature_K=300.0, current_uA=1.0)
    assert torch.equal(with_conductances(chip, table)(images()), chip(images()))


# refused


def shifted(column: str, row: int, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda t: t.rename(columns={"conductance_uS": "conductance"}), "conductance_uS, conductance_nS"),
        (lambda t: t.assign(conductance_S=1.0), "one column"),
        (lambda t: t.assign(conductance_uS=t["conductance_uS"] * 1e-6), "looks like S, not uS"),
        (lambda t: t.assign(conductance_uS=t["conductance_uS"] * 1e3), "looks like nS, not uS"),
        (lambda t: t.rename(columns={"conductance_uS": "conductance_S"}), "looks like uS, not S"),
        (shifted("conductance_uS", 5, 200.0), r"layer '0' = '1 of 36 outside, such as 200 µS'.*slack = 0.2"),
        (shifted("conductance_uS", 5, -1.0), "conductance_uS, row 6"),
        (shifted("conductance_uS", 5, np.nan), "conductance_uS, row 6"),
        (lambda t: t.drop(index=7), "cells missing: 1.*every connected cell"),
        (lambda t: t[t["layer"] == "0"], "cells missing: 1440"),
        (shifted("input", 40, 99), "cells unknown: 1, .*'input': 99"),
        (shifted("layer", 40, "9"), r"cells unknown: 1, .*cells of \['0', '3'\]"),
        (lambda t: pd.concat([t, t.tail(2)]), "cells there twice: 2"),
        (lambda t: t.drop(columns="side"), "cells there twice"),
        (lambda t: t.assign(kernel_3=1), "cells unknown"),
        (lambda t: t.drop(columns="output"), "'output'"),
        (lambda t: t.drop(columns="layer"), "'layer'"),
        (shifted("output", 40, 0.5), "output, row 41"),
        (lambda t: t.assign(target_uS=t["target_uS"] + 1), "targets of layer '0'"),
        (lambda t: t.head(0), "without rows"),
        (lambda t: t.rename(columns={"target_uS": "Target_uS"}), "column = 'Target_uS'.*'target_uS'"),
        (lambda t: t.rename(columns={"target_uS": "targets_µS"}), "column = 'targets_µS'.*'target_uS'"),
        (lambda t: t.rename(columns={"slice": "Slice"}), "column = 'Slice'.*'slice'"),
        (lambda t: t.rename(columns={"kernel_1": "kernel1"}), "column = 'kernel1'.*'kernel_1'"),
    ],
)
def test_tables_that_are_not_of_this_chip_are_refused(change: Any, names: str) -> None:
    chip = chip_of()
    table = change(conductances(chip).astype({"output": object, "input": object}))
    with pytest.raises(ValueError, match=names):
        with_conductances(chip, table)


def test_siemens_are_noticed_even_where_an_array_may_hold_next_to_nothing() -> None:
    chip = chip_of(DoubleArray(g_min=0.0))
    table = conductances(chip)
    table["conductance_uS"] *= 1e-6
    with pytest.raises(ValueError, match=r"in all 1\..*e-06 of what was asked for.*looks like S, not uS"):
        with_conductances(chip, table, slack=1.0)


def test_a_cell_outside_the_range_is_taken_if_the_slack_says_so() -> None:
    chip = chip_of()
    table = shifted("conductance_uS", 5, 200.0)(conductances(chip).drop(columns="target_uS"))
    measured = with_conductances(chip, table, slack=1.2)
    assert conductances(measured)["conductance_uS"].max() == 200
    with pytest.raises(ValueError, match="slack"):
        with_conductances(chip, table, slack=-0.1)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: convnet(), "on hardware"),
        (lambda: program(convnet(), Hardware(NOISY)), "chip = .none, in layer '0'"),
        (lambda: fresh(program(convnet(), Hardware(NOISY))), "chip = .none"),
        (lambda: fabricate(program(convnet(), Hardware(array=SignedArray())), 0), "arrays of cells"),
    ],
)
def test_what_holds_no_cells_has_no_table(make: Callable[[], nn.Module], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        conductances(make())
    with pytest.raises(ValueError, match=names):
        with_conductances(make(), conductances(chip_of()))
