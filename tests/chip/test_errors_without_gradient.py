"""Errors that have no gradient are computed without one: weights and gradients are the same, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from cimlib import Hardware, fabricate, fresh, program
from cimlib.arrays import Array, BitSliced, DoubleArray, LevelSpread, SignedArray, SingleArray
from cimlib.chip import Crossbar
from cimlib.circuits import OpAmp, Wires
from cimlib.devices import Device, Effect, Gaussian, Levels, Lognormal, StuckAt

ARRAYS = [
    DoubleArray(),
    DoubleArray(w_max=0.1),
    DoubleArray(mapping="two-sided", scale="column"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    DoubleArray(zero_state=True),
    SingleArray(),
    SingleArray(reference="constant-term", w_max=0.1),
    SingleArray(reference_device="cell"),
    BitSliced(),
    BitSliced(quantise=False, scale="column"),
    SignedArray(bits=4),
]
STRAIGHT: list[Device | Effect] = [
    Device(),
    Gaussian(0.3),
    Gaussian(0.3, clip=False),
    LevelSpread(0.2, 4.0),
]
OTHERS: list[Device | Effect] = [Lognormal(0.3), Device(Gaussian(0.2), StuckAt(0.1, 0.1))]


def layer(array: Array, device: Device | Effect, seed: int = 0) -> Crossbar:
    torch.manual_seed(seed)
    linear = nn.Linear(9, 7, bias=False)
    with torch.no_grad():
        linear.weight[0, :2] = 0.0
    chip = fabricate(program(linear, Hardware(device, array)), seed)
    assert isinstance(chip, Crossbar)
    return chip


def gradient(chip: Crossbar, weight: Tensor) -> Tensor:
    by = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((by * weight).sum(), chip.weight)[0]


@pytest.mark.parametrize("device", [*STRAIGHT, *OTHERS], ids=repr)
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@given(seed=st.integers(0, 999))
def test_weights_and_their_gradient_are_those_of_the_general_path(array, device, seed):
    chip = layer(array, device, seed)
    (weight, *_), (alone, g, _) = chip.read(), chip.read(cells=False)
    assert torch.equal(weight, alone) and torch.equal(gradient(chip, weight), gradient(chip, alone))
    assert not (g.cells.requires_grad and chip.hardware.cell.unit_gradient)
    with torch.no_grad():
        assert torch.equal(weight, chip.read(cells=False)[0])


@pytest.mark.parametrize("device", STRAIGHT[1:], ids=repr)
def test_effects_that_say_so_have_the_gradient_of_their_targets(device):
    g = torch.linspace(0, 100, 50).requires_grad_()
    z = {name: torch.randn(shape) for name, (_, shape) in device.draws((50,)).items()}
    (found,) = torch.autograd.grad(device(g, z, 0.0, 100.0).sum(), g)
    assert device.unit_gradient and torch.equal(found, torch.ones_like(g))


def test_levels_have_it_too():
    g = torch.linspace(0, 100, 50).requires_grad_()
    levels = Levels((0.0, 50.0, 100.0), (1.0, 2.0, 3.0))
    levels(g, {"programming": torch.randn(50)}, 0.0, 100.0).sum().backward()
    assert levels.unit_gradient and torch.equal(g.grad, torch.ones_like(g))


def test_a_device_has_it_if_all_its_effects_do():
    assert Device().unit_gradient and Device(Gaussian(0.1)).unit_gradient
    assert not Device(Gaussian(0.1), StuckAt(0.1)).unit_gradient and not Effect().unit_gradient


@pytest.mark.parametrize("circuit", [OpAmp(gain=100.0), Wires(1.0, 1.0)], ids=repr)
def test_circuits_that_see_cells_have_their_gradient(circuit):
    chip = layer(DoubleArray(), Gaussian(0.1))
    chip.hardware = Hardware(Gaussian(0.1), circuit=circuit)
    assert not chip.weights_suffice and chip.read()[1].cells.requires_grad


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_transforms_see_the_same_gradients(array):
    chip, x = layer(array, Gaussian(0.3)), torch.rand(5, 9)
    weight = chip.weight.detach()

    def loss(weight: Tensor) -> Tensor:
        return functional_call(chip, {"weight": weight}, (x,)).square().sum()

    (expected,) = torch.autograd.grad(chip(x).square().sum(), chip.weight)
    torch.testing.assert_close(grad(loss)(weight), expected)
    several = torch.stack((weight, weight.flip(0)))
    torch.testing.assert_close(vmap(loss)(several), torch.stack([loss(one) for one in several]))


def test_a_frozen_layer_passes_the_gradient_of_its_inputs():
    model = fresh(program(nn.Linear(9, 7), Hardware(Gaussian(0.3)))).requires_grad_(False)
    x = torch.rand(5, 9, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None and model.weight.grad is None
