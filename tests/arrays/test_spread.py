"""How far weights must spread where cells are clipped: the closed form against draws, and its limits."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import DoubleArray, ParallelArray, SingleArray, clipped_moments, weight_spread
from cimlib.devices import Gaussian

WEIGHT = torch.tensor([[0.0, 0.02, -0.1, 0.5, -1.0, 1.0]], dtype=torch.float64)
ARRAYS = [
    DoubleArray(),
    DoubleArray(mapping="two-sided"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    SingleArray(),
    SingleArray(reference="constant-term"),
    SingleArray(reference_device="cell"),
    ParallelArray(),
    ParallelArray(parallel=3),
]


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_the_closed_form_is_what_draws_of_many_chips_give(array, clip):
    """4,000 copies of each weight in one layer, so that the scale is that of the largest."""
    copies, sigma = 4000, 0.2
    layer = nn.Linear(6, copies, bias=False, dtype=torch.float64)
    layer.weight.data = WEIGHT.expand(copies, 6).clone()
    held = fabricate(program(layer, Hardware(Gaussian(sigma, clip=clip), array)), 3)
    errors = (held.read()[0] - layer.weight).detach() / sigma
    found = weight_spread(array, WEIGHT, sigma, clip=clip)
    if array.reference_is_cells:  # one draw for all copies of a row: only what is left of each chip's own
        alone = weight_spread(SingleArray(), WEIGHT, sigma, clip=clip)
        torch.testing.assert_close(errors.std(0), alone.std[0], rtol=0.06, atol=0)
        assert (found.std > alone.std).all()
        return
    torch.testing.assert_close(errors.std(0), found.std[0], rtol=0.06, atol=0)
    torch.testing.assert_close(errors.mean(0), found.mean[0], rtol=0, atol=0.12)


@pytest.mark.parametrize("target", [10.0, 12.0, 40.0, 55.0, 99.0, 100.0])
@pytest.mark.parametrize("spread", [1.0, 20.0, 300.0])
def test_moments_of_a_clipped_cell_are_those_of_numerical_integration(target, spread):
    def moment(power):
        def inside(z):
            return (spread * z) ** power * stats.norm.pdf(z)

        a, b = (10 - target) / spread, (100 - target) / spread
        middle, _ = integrate.quad(inside, max(a, -12), min(b, 12), limit=200)
        ends = (10 - target) ** power * stats.norm.cdf(a) + (100 - target) ** power * stats.norm.sf(b)
        return middle + ends

    mean, variance = clipped_moments(torch.tensor([target]), spread, 10.0, 100.0)
    assert mean.item() == pytest.approx(moment(1), abs=1e-6 * spread)
    assert variance.item() == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-5)


def test_the_factors_of_the_chapter():
    """Small against the range, so that the other end does not count."""
    small, middle, large = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64).split(1, 1)
    pair = weight_spread(DoubleArray(w_max=1.0), torch.cat((small, middle, large), 1), 0.01)
    idle = 1 / 2 - 1 / (2 * math.pi)  # of σ², variance of a cell at the end of its range
    expected = [math.sqrt(2 * idle), math.sqrt(1 + idle), math.sqrt(2 * idle)]
    assert pair.std[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx([0.826, 1.158, 0.826], abs=5e-4)
    lost = -1 / math.sqrt(2 * math.pi)
    assert pair.mean[0].tolist() == pytest.approx([0, lost, 2 * lost], abs=1e-6)
    single = weight_spread(SingleArray(w_max=1.0), small, 0.01)
    twice = weight_spread(ParallelArray(w_max=1.0), small, 0.01)
    assert single.std.item() == pytest.approx(2) and twice.std.item() == pytest.approx(math.sqrt(2))


def test_what_is_not_allowed_is_refused_by_name():
    with pytest.raises(ValueError, match="sigma"):
        weight_spread(DoubleArray(), WEIGHT, 0.0)
    with pytest.raises(ValueError, match="spread"):
        clipped_moments(WEIGHT, -1.0, 10.0, 100.0)
