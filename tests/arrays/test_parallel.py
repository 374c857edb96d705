"""What several cells side by side must be: their mean, and with two a pair turned about the middle."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import Conductances, DoubleArray, ParallelArray, SingleArray
from cimlib.devices import Gaussian, Lognormal, StuckAt

WEIGHT = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def read(array, device, chip=0):
    layer = nn.Linear(5, 7, bias=False, dtype=torch.float64)
    layer.weight.data = WEIGHT.clone()
    return fabricate(program(layer, Hardware(device, array)), chip).read()[0].detach()


@pytest.mark.parametrize("clip", [True, False])
def test_two_cells_in_parallel_err_as_a_two_sided_pair_whose_second_cell_has_the_opposite_draw(clip):
    pair, parallel = DoubleArray(mapping="two-sided"), ParallelArray()
    z = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    device, weights = Gaussian(0.3, clip=clip), []
    for array, draws in ((parallel, z[:, None]), (pair, torch.stack((z[0], -z[1]))[None])):
        asked = array.target(WEIGHT)
        got = device(asked.cells.clone(), {"programming": draws}, array.g_min, array.g_max)
        weights.append(array.decode(Conductances(got, asked.reference, asked.scale)))
    torch.testing.assert_close(*weights)


def test_of_two_stuck_on_cells_the_pair_is_zero_and_the_parallel_weight_the_largest():
    found = {type(a): read(a, StuckAt(on=1.0)) for a in (DoubleArray(mapping="two-sided"), ParallelArray())}
    assert found[DoubleArray].abs().max() < 1e-9
    torch.testing.assert_close(found[ParallelArray], WEIGHT.abs().max().expand(7, 5))


def test_one_cell_is_a_single_array_bit_for_bit_in_every_reference():
    for options in ({}, {"reference": "constant-term"}, {"reference_device": "cell"}, {"scale": "column"}):
        for device in (Gaussian(0.2), Lognormal(0.5), StuckAt(0.1, 0.1)):
            one = ParallelArray(parallel=1, **options)
            assert torch.equal(read(one, device), read(SingleArray(**options), device))


def test_a_fault_of_one_of_m_cells_costs_an_mth():
    single, three = SingleArray(), ParallelArray(parallel=3)
    broken = StuckAt(on=1.0)
    whole = single.decode(_one_stuck(single, broken)) - WEIGHT
    third = three.decode(_one_stuck(three, broken)) - WEIGHT
    torch.testing.assert_close(third, whole / 3)


def _one_stuck(array, broken):
    asked = array.target(WEIGHT)
    cells = asked.cells.clone()
    u = {"stuck": torch.zeros_like(cells[0])}
    cells[0] = broken(cells[0], u, array.g_min, array.g_max)
    return Conductances(cells, asked.reference, asked.scale)


def test_two_cells_a_weight_are_as_many_as_a_pair_has_and_no_more_amplifiers_than_a_single_array():
    pair, single, parallel = (a.inventory(785, 10) for a in (DoubleArray(), SingleArray(), ParallelArray()))
    assert parallel.cells == pair.cells == 2 * single.cells
    assert parallel.amplifiers == single.amplifiers < pair.amplifiers


def test_a_number_of_cells_that_is_none_is_refused_by_name():
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="parallel"):
            ParallelArray(parallel=wrong)
