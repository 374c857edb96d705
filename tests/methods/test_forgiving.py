"""What must hold of a placement that forgives a common factor: the cheapest of all orders, or nearly."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.chip import crossbars
from cimlib.devices import Device, Effect, Lognormal, StuckAt
from cimlib.methods import mapped, mapped_forgiving, mapped_jointly
from cimlib.methods.forgiving import best_gain

ARRAYS = [DoubleArray(w_max=0.4), SingleArray(w_max=0.4), SingleArray(reference_device="cell"), BitSliced()]
DEVICES = [Lognormal(1.0), StuckAt(0.1, 0.3), Device(Lognormal(0.7), StuckAt(0.1, 0.1))]


class Halved(Effect):
    """Every cell conducts half of what it is asked for."""

    def __call__(self, g, z, g_min, g_max):
        return g / 2


def tiny(device, array=ARRAYS[0], rows=5, columns=3, chip=0):
    torch.manual_seed(chip)
    return fabricate(program(nn.Linear(rows, columns, bias=False), Hardware(device, array)), chip)


def meant(layer):
    return layer.hardware.array.represent(layer.asked).detach()


def cost(layer, per):
    return away(meant(layer), layer.read()[0].detach(), per)


def away(asked, obtained, per):
    """J from its definition, with least squares for the factors."""
    total = 0.0
    for w, got in zip(asked, obtained, strict=True) if per == "column" else [(asked, obtained)]:
        (gain,), *_ = np.linalg.lstsq(got.reshape(-1, 1).double(), w.flatten().double(), rcond=None)
        total += float((max(gain, 0.0) * got - w).double().square().sum())
    return total


def cheapest(layer, per):
    """The least cost over all orders of the rows, from what each row makes of each row of weights."""
    layer, rows = mapped(layer, rows=False), range(layer.weight_shape[1])
    made = {}
    for shift in rows:
        order = tuple((row + shift) % len(rows) for row in rows)
        layer.place(replace(layer.placement, rows=(order,) * len(layer.placement.rows)))
        made |= {(row, order[row]): layer.read()[0].detach()[:, row] for row in rows}
    orders = itertools.permutations(rows)
    found = (torch.stack([made[row, at] for row, at in enumerate(order)], 1) for order in orders)
    return min(away(meant(layer), each, per) for each in found)


@pytest.mark.parametrize("per", ["column", "layer"])
@pytest.mark.parametrize("device", DEVICES, ids=repr)
def test_on_small_arrays_it_is_nearly_always_the_cheapest_of_all_orders(device, per):
    """Found by trying them all; a local optimum that is none of all is dearer by little."""
    found = []
    for chip in range(10):
        layer = tiny(device, chip=chip)
        best, ours = cheapest(layer, per), cost(mapped_forgiving(layer, per=per), per)
        assert ours >= best * (1 - 1e-5)
        found.append(ours <= best * (1 + 1e-4))
    assert sum(found) >= 6


@pytest.mark.parametrize("per", ["column", "layer"])
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize("device", DEVICES, ids=repr)
def test_it_never_costs_more_than_the_usual_mapping(device, array, per):
    for chip in range(3):
        layer = tiny(device, array, rows=30, columns=6, chip=chip)
        usual, forgiving = mapped(layer, power=2.0), mapped_forgiving(layer, per=per)
        assert cost(forgiving, per) <= cost(usual, per) * (1 + 1e-4)


def test_it_is_another_one_than_the_usual_mapping_and_behind_the_factors_a_better_one():
    layer = tiny(Lognormal(1.5), rows=40, columns=10)
    usual, forgiving = mapped(layer, power=2.0), mapped_forgiving(layer)
    assert forgiving.placement != usual.placement
    assert cost(forgiving, "column") < 0.95 * cost(usual, "column")


def test_where_all_cells_are_too_small_by_one_factor_nothing_is_moved_for_it():
    """The usual cost moves large weights nowhere better, and the factor is what is found."""
    layer = tiny(Halved(), DoubleArray(g_min=0.0, w_max=0.4))
    moved = mapped_forgiving(layer, per="layer")
    assert moved.placement == mapped(layer, rows=False).placement
    ones = torch.ones(3, 5)
    torch.testing.assert_close(best_gain(moved, ones, "layer"), torch.full((3, 1), 2.0))
    assert cost(moved, "layer") == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("per", ["column", "layer"])
def test_the_factors_are_those_of_least_squares(per):
    layer = tiny(Lognormal(0.5), rows=20, columns=4)
    alpha = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
    found = best_gain(layer, alpha, per)
    w, got, root = meant(layer), layer.read()[0].detach(), alpha.sqrt()
    for column in range(4):
        part = slice(column, column + 1) if per == "column" else slice(None)
        a, b = ((root * one)[part].reshape(-1, 1) for one in (got, w))
        assert found[column].item() == pytest.approx(torch.linalg.lstsq(a, b).solution.item(), rel=1e-4)


def test_a_perfect_chip_stays_as_it_is_bit_for_bit_and_the_network_given_is_not_changed():
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(1))
    layer = tiny(Device())
    assert torch.equal(mapped_forgiving(layer)(x), layer(x))
    broken = tiny(StuckAt(0.1, 0.3))
    before = copy.deepcopy(broken.state_dict())
    mapped_forgiving(broken)
    assert all(torch.equal(value, before[name]) for name, value in broken.state_dict().items())


def test_convolutions_spares_and_tiles_are_placed_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))
    chip = fabricate(program(model, Hardware(StuckAt(0.05, 0.15), DoubleArray(w_max=0.2))), 1)
    moved = mapped_forgiving(chip, spares=4, tile=(40, 8))
    for layer in crossbars(moved):
        assert layer.placement.spares == 4
        assert cost(layer, "column") < cost(dict(chip.named_modules())[layer.name], "column")


def test_what_cannot_be_done_is_refused_by_name():
    layer = tiny(StuckAt(0.1, 0.1))
    with pytest.raises(ValueError, match="per = 'row'"):
        mapped_forgiving(layer, per="row")
    torch.manual_seed(0)
    two = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    joint = mapped_jointly(fabricate(program(two, Hardware(StuckAt(0.1, 0.3), DoubleArray(w_max=0.4))), 0))
    with pytest.raises(ValueError, match="columns of layer '0'"):
        mapped_forgiving(joint)
