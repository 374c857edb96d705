"""Linear layers and convolutions of every kind on hardware."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fresh, program
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.chip import DoRA, LoRA, Scale, VeRA, as_stored, attach, by_column, crossbars, projections
from cimlib.chip.layers import CONVOLUTIONS, LAYERS, TRANSPOSED
from cimlib.circuits import Converters, OpAmp, Wires
from cimlib.devices import Gaussian, StuckAt
from cimlib.methods import Retraining, mapped

SIZES = {"1d": (9,), "2d": (7, 6), "3d": (5, 4, 6)}
KINDS = {kind.__name__: kind for kind in (*CONVOLUTIONS, *TRANSPOSED)}


@st.composite
def convolutions(draw, kinds=tuple(KINDS)):
    """A convolution of any kind with any options, and inputs for it."""
    kind = KINDS[draw(st.sampled_from(kinds))]
    dims = int(kind.__name__[-2])
    groups = draw(st.sampled_from([1, 2, 3]))
    options = {
        "stride": draw(st.integers(1, 2)),
        "padding": draw(st.integers(0, 1)),
        "dilation": draw(st.integers(1, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if kind in TRANSPOSED:
        options["output_padding"] = draw(st.integers(0, max(options["stride"], options["dilation"]) - 1))
    elif draw(st.booleans()):
        options["padding_mode"] = draw(st.sampled_from(["reflect", "replicate", "circular"]))
        options |= {"padding_mode": "circular"} if dims == 3 else {}
    torch.manual_seed(draw(st.integers(0, 99)))
    layer = kind(groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), 3, **options)
    return layer, torch.randn(2, layer.in_channels, *(6,) * dims)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_on_ideal_hardware_every_convolution_is_the_digital_one_bit_for_bit(case):
    layer, x = case
    chip = fabricate(program(layer, Hardware()), 0)
    assert torch.equal(chip(x), layer(x))
    assert torch.equal(as_stored(layer, by_column(layer, layer.weight)), layer.weight)
    assert chip.weight_shape[0] == layer.out_channels
    assert chip.weight_shape[1] == layer.in_channels // layer.groups
    for name in layer.__constants__:
        assert getattr(chip, name) == getattr(layer, name)


@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_with_errors_a_convolution_is_the_digital_one_with_the_weights_that_the_array_amounts_to(case):
    layer, x = case
    chip = fabricate(program(layer, Hardware(Gaussian(0.1), DoubleArray(scale="column"))), 3)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.copy_(as_stored(layer, chip.read()[0]))
    assert not torch.equal(other.weight, layer.weight)
    torch.testing.assert_close(chip(x), other(x))


@settings(max_examples=30, deadline=None)
@given(convolutions(tuple(k.__name__ for k in TRANSPOSED)))
def test_columns_of_a_transposed_convolution_are_its_outputs(case):
    """What is done to one column of the array is seen in one output channel."""
    layer, x = case
    chip = program(layer, Hardware())
    weight, g, z = chip.read()
    with torch.no_grad():
        changed = weight.clone()
        changed[0] += 1
        chip.reading = (changed, g, z)
        off = (chip(x) - layer(x)).abs().flatten(2).amax((0, 2))
    assert off[0] > 0 and (off[1:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "hardware",
    [
        Hardware(Gaussian(0.1)),
        Hardware(StuckAt(on=0.1), SingleArray(reference_device="cell")),
        Hardware(circuit=Wires(2.0, 1.0, tile=(8, 2))),
        Hardware(circuit=Converters(8, 8, rows=1)),
        Hardware(circuit=OpAmp(gain=1e4, offset=1e-3)),
        Hardware(circuit=OpAmp(gain=1e4, offset=1e-3, rails=(0.0, 1.0))),
    ],
    ids=["cells", "single", "wires", "converters", "amplifiers", "rails"],
)
def test_every_part_of_the_hardware_takes_every_convolution(kind, hardware):
    torch.manual_seed(0)
    layer = KINDS[kind](2, 3, 3, bias=False)
    x = torch.rand(4, 2, *(6,) * int(kind[-2])) / 4
    chip, ideal = fabricate(program(layer, hardware), 3), layer(x)
    assert chip(x).shape == ideal.shape
    assert not torch.equal(chip(x), ideal) and (chip(x) - ideal).abs().max() < 2
    chip(x).sum().backward()
    assert chip.weight.grad.abs().sum() > 0


def unrolled(layer, size):
    """The matrix of ``layer`` for inputs of ``size``."""
    n = torch.zeros(1, layer.in_channels, *size).numel()
    basis = torch.eye(n).reshape(n, layer.in_channels, *size)
    bare = copy.deepcopy(layer)
    bare.bias = None
    return bare(basis).flatten(1).T


@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_is_the_matrix_it_unrolls_to(kind):
    torch.manual_seed(0)
    layer = KINDS[kind](2, 3, 3)
    size = (5,) * int(kind[-2])
    x = torch.randn(2, 2, *size)
    y = fabricate(program(layer, Hardware()), 0)(x)
    expected = (x.flatten(1) @ unrolled(layer, size).T).reshape(y.shape)
    torch.testing.assert_close(y - layer.bias.reshape(-1, *[1] * len(size)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [kind.__name__ for kind in TRANSPOSED])
def test_an_output_size_is_passed_on(kind):
    layer = KINDS[kind](2, 3, 3, stride=2)
    x = torch.randn(2, 2, *(4,) * int(kind[-2]))
    size = [10] * int(kind[-2])
    chip = fabricate(program(layer, Hardware()), 0)
    assert torch.equal(chip(x, output_size=size), layer(x, output_size=size))


@pytest.mark.parametrize("kind", KINDS)
def test_mapping_and_retraining_work_on_every_kind(kind):
    torch.manual_seed(0)
    dims = int(kind[-2])
    digital = nn.Sequential(KINDS[kind](2, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    x, y = torch.randn(12, 2, *(4,) * dims), torch.arange(12) % 3
    digital(x)
    chip = fabricate(program(digital, Hardware(StuckAt(on=0.05, off=0.05), DoubleArray(w_max=1.0))), 3)
    better = mapped(chip)
    for layer, moved in zip(crossbars(chip), crossbars(better), strict=True):
        off, less = ((one.read()[0] - layer.asked).abs().sum() for one in (layer, moved))
        assert less < off
    loss = Retraining(penalty=0.01)(better, (x, y))
    loss.backward()
    assert better[0].weight.grad.shape == digital[0].weight.shape
    assert 0 <= evaluate(better, x, y, chips=[3]).mean <= 100


@pytest.mark.parametrize("stage", [LoRA, DoRA, VeRA, Scale])
@pytest.mark.parametrize("kind", KINDS)
def test_digital_stages_fit_behind_convolutions_of_every_dimension_and_refuse_transposed_ones(kind, stage):
    torch.manual_seed(0)
    layer = KINDS[kind](4, 6, 3, stride=2, padding=1, groups=2)
    x = torch.randn(3, 4, *(6,) * int(kind[-2]))
    chip = fabricate(program(layer, Hardware()), 0)
    make = {
        VeRA: lambda one: VeRA(one, projections(chip, 3)),
        Scale: lambda one: Scale(one, torch.rand(6)),
    }.get(stage, lambda one: stage(one, 2))
    if KINDS[kind] in TRANSPOSED:
        with pytest.raises(ValueError, match=f"{stage.__name__}.*{kind}"):
            attach(chip, make)
        return
    attach(chip, make)
    with torch.no_grad():
        for p in chip.digital.parameters():
            p.add_(torch.randn_like(p))
        merged = copy.deepcopy(layer)
        merged.weight.copy_(chip.digital.merged(layer.weight))
    torch.testing.assert_close(chip(x), merged(x), rtol=1e-4, atol=1e-4)


def test_every_layer_that_can_go_on_hardware_is_tried_here():
    assert set(LAYERS) == {nn.Linear, *KINDS.values()}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(1, 5), min_size=0, max_size=3), turned=st.booleans())
def test_a_linear_layer_of_inputs_of_any_shape_and_order_is_the_digital_one_bit_for_bit(mode, shape, turned):
    torch.manual_seed(0)
    layer = nn.Linear(33, 17)
    chip = fabricate(program(layer, Hardware()), 0)
    x = torch.randn(33, *shape).movedim(0, -1) if turned else torch.randn(*shape, 33)
    with mode():
        assert torch.equal(chip(x), layer(x))
        assert fresh(program(layer, Hardware(Gaussian(0.1))), 0)(x).shape == layer(x).shape


def test_what_was_on_a_layer_is_on_its_array_too():
    layer, seen = nn.Linear(4, 3), []
    layer.register_buffer("mask", torch.ones(3))
    layer.register_buffer("passing", torch.ones(2), persistent=False)
    layer.gain = nn.Parameter(torch.ones(1))
    layer.probe = nn.Identity()
    layer.tag = "mine"
    layer.register_forward_pre_hook(lambda module, inputs: seen.append("before"))
    layer.register_forward_hook(lambda module, inputs, output: seen.append(module.tag))
    layer.register_full_backward_hook(lambda module, into, out: seen.append("backward"))
    chip = fabricate(program(nn.Sequential(layer), Hardware()), 0)
    chip(torch.ones(1, 4, requires_grad=True)).sum().backward()
    assert seen == ["before", "mine", "backward"]
    assert {"0.mask", "0.gain", "0.weight", "0.bias"} < set(chip.state_dict())
    assert "0.passing" not in chip.state_dict() and chip[0].passing.sum() == 2
    assert (chip[0].in_features, chip[0].out_features) == (4, 3)
    assert isinstance(chip[0].probe, nn.Identity) and len(crossbars(chip)) == 1
    assert "in_features=4, out_features=3, bias=True" in repr(chip)
    assert "bias=False" in repr(program(nn.Linear(4, 3, bias=False), Hardware()))
