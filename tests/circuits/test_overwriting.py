"""Without gradients amplifiers compute in the memory of their temporaries, and touch nothing else."""

import pytest
import torch

from cimlib import Hardware, fabricate, program
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.circuits import OpAmp
from cimlib.devices import Gaussian
from cimlib.networks import mlp

ARRAYS = {
    "pair": DoubleArray(),
    "column": SingleArray(),
    "constant term": SingleArray(reference="constant-term"),
}


@pytest.mark.parametrize("rails", [None, (0.3, 0.7)])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_outputs_are_the_same_with_and_without_gradients_and_what_was_given_is_untouched(array, rails):
    circuit = OpAmp(gain=200.0, gain_spread=0.1, offset=5e-3, rails=rails)
    hardware = Hardware(Gaussian(0.1), array, circuit)
    chip = fabricate(program(mlp(8, 6, 3, bias="row", seed=0), hardware), 0)
    x = torch.rand(20, 8, generator=torch.Generator().manual_seed(0))
    given, weights = x.clone(), {name: value.clone() for name, value in chip.state_dict().items()}
    followed = chip(x)
    with torch.no_grad():
        assert torch.equal(chip(x), followed)
        assert torch.equal(chip(x), followed)
    assert torch.equal(x, given)
    for name, value in chip.state_dict().items():
        assert torch.equal(value, weights[name])
