"""What is on hardware, and a design or a time for each layer."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, fresh, program, summary, using
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.chip import LoRA, at, attach, conductances, crossbars, with_conductances
from cimlib.circuits import Converters, OpAmp, Wires
from cimlib.devices import PCM, Device, Gaussian, StuckAt
from cimlib.methods import mapped
from cimlib.networks import mlp

X = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("layer", "hardware", "arrays", "cells", "tiles"),
    [
        (nn.Linear(6, 4), Hardware(), 2, 48, 2),
        (nn.Linear(6, 4), Hardware(array=SingleArray()), 1, 24, 1),
        (nn.Linear(6, 4), Hardware(array=SingleArray(reference_device="cell")), 1, 30, 1),
        (nn.Linear(6, 4), Hardware(array=BitSliced()), 8, 192, 8),
        (nn.Linear(6, 4), Hardware(circuit=Wires(1.0, 1.0, tile=(4, 3))), 2, 48, 8),
        (nn.Linear(6, 4), Hardware(circuit=Converters(8, 8, rows=4)), 2, 48, 4),
        (nn.Conv2d(4, 6, 3, groups=2), Hardware(), 4, 216, 4),
        (nn.Conv2d(4, 6, 3), Hardware(circuit=Converters(8, 8, rows=1)), 2, 432, 8),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), Hardware(), 4, 72, 4),
    ],
)
def test_arrays_cells_and_tiles_are_those_counted_by_hand(layer, hardware, arrays, cells, tiles):
    (row,) = summary(program(nn.Sequential(layer), hardware)).rows
    assert (row.layer, row.kind, row.weights) == ("0", type(layer).__name__, layer.weight.numel())
    assert (row.arrays, row.cells, row.tiles) == (arrays, cells, tiles)
    assert row.shape[0] == 6 or row.shape == (4, 6)


def test_spare_rows_are_cells_too():
    chip = fabricate(program(nn.Linear(6, 4), Hardware(StuckAt(on=0.1))), 0)
    assert summary(chip).rows[0].cells == 48
    assert summary(mapped(chip, spares=2)).rows[0].cells == 2 * 4 * 8


def test_the_table_that_is_printed_says_it_all():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    chip = program(model, Hardware(PCM(t=1.0)), layers=["0"])
    said = str(summary(chip)).splitlines()
    assert said[0].split() == [
        "layer",
        "kind",
        "weights",
        "arrays",
        "cells",
        "tiles",
        "design",
        "effects",
        "circuit",
    ]
    assert said[1].split()[:6] == ["0", "Linear", "48", "2", "96", "2"]
    assert "DoubleArray" in said[1] and "PCM(t=1.0" in said[1] and said[1].endswith("Ideal()")
    assert said[2:] == [
        "on hardware: 48 weights, 66.7 % of those in matrices",
        "stays digital: 2 (Linear, 24 weights)",
    ]
    with pytest.raises(ValueError, match="program"):
        summary(model)


def test_a_row_says_what_is_not_at_its_default_and_no_more():
    circuit = Wires(1.0, 2.0, inner=Converters(adc_bits=6))
    hardware = Hardware(Device(Gaussian(0.1), StuckAt(on=0.02)), DoubleArray(w_max=2.0), circuit)
    row = summary(program(nn.Linear(4, 3), hardware)).rows[0]
    assert (row.design, row.effects) == ("DoubleArray(w_max=2.0)", "Gaussian(sigma=0.1), StuckAt(on=0.02)")
    assert row.circuit == "Wires(r_row=1.0, r_col=2.0, inner=Converters(adc_bits=6))"
    assert [summary(program(nn.Linear(4, 3), Hardware())).rows[0].effects] == ["none"]


def test_a_measured_chip_is_said_without_its_cells():
    chip = fabricate(program(nn.Linear(4, 3), Hardware(Gaussian(0.1))), 7)
    assert summary(with_conductances(chip, conductances(chip))).rows[0].effects == "Measured(chip=7)"


def test_stages_of_layers_are_no_part_of_the_network_that_stays_digital():
    chip = attach(program(mlp(6, 3, seed=0), Hardware()), lambda layer: LoRA(layer, 2))
    assert summary(chip).digital == {} and summary(chip).left == 0


# --- a design for each layer ----------------------------------------------------------------------

DESIGNS = {"1": Hardware(Gaussian(0.1)), "3": Hardware(PCM(t=10.0), DoubleArray(0.0, 25.0))}


def test_using_takes_a_design_for_some_layers_and_puts_all_back():
    model = mlp(6, 8, 3, seed=0)
    chip = fabricate(program(model, DESIGNS), 3)
    before, other = chip(X), {"3": Hardware(Gaussian(0.2))}
    with using(chip, other):
        expected = fabricate(program(model, {**DESIGNS, **other}), 3)
        assert torch.equal(chip(X), expected(X)) and not torch.equal(chip(X), before)
    assert torch.equal(chip(X), before) and [layer.hardware for layer in crossbars(chip)] == [
        *DESIGNS.values()
    ]
    with pytest.raises(ValueError, match=r"hardware = \['7'\].*'1', '3'"), using(chip, {"7": Hardware()}):
        pass


def test_amplified_relus_follow_their_layer():
    one, other = (Hardware(Gaussian(0.1), circuit=OpAmp(gain=1e3, offset=o)) for o in (0.01, 0.05))
    model = mlp(6, 8, 8, 3, bias="row", seed=0)
    chip = fabricate(program(model, one), 3)
    first = crossbars(chip)[0].name
    with using(chip, {first: other}):
        expected = fabricate(
            program(model, {layer.name: other if layer.name == first else one for layer in crossbars(chip)}),
            3,
        )
        assert torch.equal(chip(X), expected(X))
    digital = program(mlp(6, 8, 3, bias="row", seed=0), Hardware())
    with pytest.raises(ValueError, match="ReLUs are digital"), using(digital, {"2": other}):
        pass


def test_at_takes_every_layer_with_a_clock_to_a_time_on_its_own_design():
    model = mlp(6, 8, 3, seed=0)
    chip = fabricate(program(model, DESIGNS), 3)
    with at(chip, "1 year"):
        found = chip(X)
        assert [layer.hardware for layer in crossbars(chip)] == [DESIGNS["1"], DESIGNS["3"].at("1 year")]
    later = program(model, {**DESIGNS, "3": DESIGNS["3"].at("1 year")})
    assert torch.equal(found, fabricate(later, 3)(X)) and not torch.equal(found, chip(X))
    with pytest.raises(ValueError, match="clock"), at(program(model, Hardware()), 1.0):
        pass
    with pytest.raises(ValueError, match="t = 'soon'"), at(fresh(chip), "soon"):
        pass
