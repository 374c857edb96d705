"""Converters: every level, half a step, saturation, gradients, tiles."""

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, evaluate, fabricate, program, using
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.circuits import Converters, quantise
from cimlib.devices import Gaussian

F64 = torch.float64
BITS = (2, 3, 4, 8)


def on_hardware(layer, circuit, array=None, device=None):
    return fabricate(program(layer, Hardware(device or Gaussian(), array or DoubleArray(), circuit)), 1)


def one_by_one(weight=1.0, dtype=F64):
    """A layer of one cell: what it gives is a converter's transfer curve."""
    layer = nn.Linear(1, 1, bias=False, dtype=dtype)
    layer.weight.data.fill_(weight)
    return layer


def linear(bias=True):
    torch.manual_seed(0)
    return nn.Linear(12, 5, bias=bias, dtype=F64), 2 * torch.rand(40, 12, dtype=F64) - 1


def conv(**arguments):
    torch.manual_seed(0)
    return nn.Conv2d(6, 4, 3, dtype=F64, **arguments), 2 * torch.rand(3, 6, 7, 7, dtype=F64) - 1


def nearest(value, codes, full):
    """Levels written out: −codes … codes, in units of full / codes; numpy."""
    return np.clip(np.rint(value.detach().numpy() * codes / full), -codes, codes) * full / codes


# --- the transfer curve -----------------------------------------------------------------------------


def transfer(converter, bits, x, x_max=1.0):
    """What a DAC, or an ADC behind one cell of weight 1, makes of ``x``."""
    circuit = Converters(x_max=x_max, **{f"{converter}_bits": bits})
    return on_hardware(one_by_one(dtype=x.dtype), circuit)(x[:, None])[:, 0].detach()


@pytest.mark.parametrize("x_max", [1.0, 0.3])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("converter", ["dac", "adc"])
def test_a_ramp_meets_every_level_in_order_and_no_other(converter, bits, x_max):
    codes = 2 ** (bits - 1) - 1
    ramp = torch.linspace(-1.5 * x_max, 1.5 * x_max, 20_001, dtype=F64)
    found = transfer(converter, bits, ramp, x_max).unique()
    assert len(found) == 2**bits - 1, "one code is not used"
    levels = torch.arange(-codes, codes + 1, dtype=F64) / codes * x_max
    torch.testing.assert_close(found, levels, rtol=1e-15, atol=0)
    assert 0.0 in found and torch.equal(found, -found.flip(0)), "mid-tread and symmetric"
    assert (found[0], found[-1]) == (-x_max, x_max)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("converter", ["dac", "adc"])
def test_thresholds_lie_half_way_between_levels(converter, bits):
    """No integral nonlinearity: the k-th threshold is at (k + ½) steps, for every k."""
    codes = 2 ** (bits - 1) - 1
    k = torch.arange(-codes, codes, dtype=F64)
    threshold = (k + 0.5) / codes
    below, above = (transfer(converter, bits, threshold + shift) for shift in (-1e-12, 1e-12))
    torch.testing.assert_close(below, k / codes, rtol=1e-15, atol=0)
    torch.testing.assert_close(above, (k + 1) / codes, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_half_way_the_even_level_is_taken_on_either_side(dtype):
    """Of 3 bits, where the steps are thirds: ½, 1½ and 2½ steps of a full scale of 3."""
    x = torch.tensor([0.5, 1.5, 2.5], dtype=dtype)
    expected = torch.tensor([0.0, 2.0, 2.0], dtype=dtype)
    for value, level in ((x, expected), (-x, -expected)):
        assert torch.equal(quantise(value, 3, torch.tensor(3.0, dtype=dtype)), level)


@pytest.mark.parametrize("converter", ["dac", "adc"])
@given(
    bits=st.integers(2, 16),
    x_max=st.floats(1e-3, 1e3),
    x=st.lists(st.floats(-3, 3), min_size=2, max_size=20),
)
def test_conversion_is_monotone_odd_bounded_and_off_by_half_a_step_at_most(converter, bits, x_max, x):
    x = torch.tensor(x, dtype=F64).sort().values * x_max
    y = transfer(converter, bits, x, x_max)
    assert (y.diff() >= 0).all() and y.abs().max() <= x_max
    assert torch.equal(transfer(converter, bits, -x, x_max), -y)
    step = x_max / (2 ** (bits - 1) - 1)
    inside = x.abs() <= x_max
    assert ((y - x)[inside].abs() <= step * (0.5 + 1e-9)).all()
    assert (y[~inside] == x_max * x[~inside].sign()).all()
    assert torch.equal(transfer(converter, bits, y, x_max), y), "a level is converted to itself"


@pytest.mark.parametrize("converter", ["dac", "adc"])
def test_the_gradient_is_one_up_to_full_scale_and_none_beyond(converter):
    x = torch.tensor([-1.2, -1.0, -0.3, 0.0, 0.2, 1.0, 1.2], dtype=F64, requires_grad=True)
    circuit = Converters(**{f"{converter}_bits": 3})
    on_hardware(one_by_one(), circuit)(x[:, None]).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


# --- a layer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 4, 5])
def test_perfect_converters_change_nothing_bit_for_bit(rows):
    for layer, x in (linear(), linear(bias=False), conv(padding=1, stride=2)):
        assert torch.equal(on_hardware(layer, Converters(rows=rows, x_max=0.1, full_scale=0.5))(x), layer(x))
    layer, x = conv(groups=2)
    assert torch.equal(on_hardware(layer, Converters())(x), layer(x))


@pytest.mark.parametrize("rows", [None, 5, 12, 100])
def test_a_linear_layer_is_the_sum_of_its_converted_tiles(rows):
    """12 inputs, in tiles of 5 + 5 + 2 or in one; full scale of each is 0.4 of its largest output."""
    layer, x = linear()
    circuit = Converters(4, 5, rows, full_scale=0.4, x_max=0.8)
    inputs, weight = nearest(x, 7, 0.8), layer.weight.detach().numpy()
    expected = layer.bias.detach().numpy()
    for start in range(0, 12, rows or 12):
        tile = slice(start, start + (rows or 12))
        full = 0.4 * 0.8 * np.abs(weight[:, tile]).sum(1).max()
        output = torch.tensor(inputs[:, tile] @ weight[:, tile].T)
        assert (output.abs() > full).any(), "some outputs saturate"
        expected = expected + nearest(output, 15, full)
    np.testing.assert_allclose(on_hardware(layer, circuit)(x).detach(), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("rows", [None, 4])
def test_a_convolution_is_the_sum_of_its_converted_tiles(rows):
    layer, x = conv(padding=1, stride=2)
    inputs, weight = torch.tensor(nearest(x, 7, 1.0)), layer.weight.detach()
    expected = layer.bias.detach()[:, None, None].numpy()
    for start in range(0, 6, rows or 6):
        tile = slice(start, start + (rows or 6))
        full = weight[:, tile].abs().sum((1, 2, 3)).max().item()
        output = nn.functional.conv2d(inputs[:, tile], weight[:, tile], padding=1, stride=2)
        expected = expected + nearest(output, 31, full)
    programmed = on_hardware(layer, Converters(4, 6, rows))
    np.testing.assert_allclose(programmed(x).detach(), expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(programmed(x[0]).detach(), expected[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "array", [DoubleArray(), SingleArray(), SingleArray(reference="constant-term"), BitSliced()], ids=repr
)
def test_what_a_chip_holds_is_converted_not_what_was_asked_for(array):
    layer, x = linear()
    noisy = on_hardware(layer, Converters(4, 5), array, Gaussian(0.3))
    held, _, _ = noisy.read()
    plain = nn.Linear(12, 5, dtype=F64)
    plain.weight.data, plain.bias.data = held.detach(), layer.bias.data
    torch.testing.assert_close(noisy(x), on_hardware(plain, Converters(4, 5))(x), rtol=1e-12, atol=1e-12)
    assert not torch.equal(held, layer.weight)


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("array", [DoubleArray(scale="column"), SingleArray(scale="column")], ids=repr)
def test_with_a_scale_for_each_column_equal_adcs_convert_their_currents(array, rows):
    """Currents by hand: k_j w_ji x_i into converters of one full scale, a digital factor 1/k_j behind."""
    for layer, x in (linear(), conv(padding=1)):
        size = torch.logspace(-2, 1, len(layer.weight), dtype=F64)
        layer.weight.data *= size.reshape(-1, *[1] * (layer.weight.dim() - 1))
        k = array.target(layer.weight).scale[0].detach().reshape(-1, *[1] * (layer.weight.dim() - 1))
        expected = 0
        parts = zip(x.split(rows or 99, 1), layer.weight.detach().split(rows or 99, 1), strict=True)
        for part, weight in parts:
            full = 0.4 * (k * weight).abs().flatten(1).sum(1).max().item()
            operation = nn.functional.linear if weight.dim() == 2 else nn.functional.conv2d
            padded = {} if weight.dim() == 2 else {"padding": 1}
            converted = torch.tensor(nearest(operation(part, k * weight, **padded), 15, full))
            expected = expected + converted / k.flatten(1)[:, 0].reshape(-1, *[1] * (weight.dim() - 2))
        expected = expected + layer.bias.detach().reshape(-1, *[1] * (layer.weight.dim() - 2))
        found = on_hardware(layer, Converters(None, 5, rows, full_scale=0.4), array)(x)
        torch.testing.assert_close(found.detach(), expected, rtol=1e-11, atol=1e-13)


def test_inputs_in_range_never_saturate_an_adc_of_full_scale_one():
    layer, _ = linear(bias=False)
    worst = layer.weight.detach().sign()  # the inputs that make an output largest
    y = on_hardware(layer, Converters(adc_bits=8))(worst).detach()
    exact = worst @ layer.weight.detach().T
    step = exact.abs().max() / 127
    assert ((y - exact).abs() <= step * (0.5 + 1e-9)).all()
    assert y.max() == exact.max(), "and the full scale is reached"


@pytest.mark.parametrize("case", [linear, conv], ids=["Linear", "Conv2d"])
def test_more_bits_come_closer_and_sixteen_are_close(case):
    layer, x = case()
    errors = [
        (on_hardware(layer, Converters(bits, bits, rows=4))(x) - layer(x)).abs().max().item()
        for bits in range(2, 17, 2)
    ]
    assert all(later < 0.5 * earlier for earlier, later in pairwise(errors)), errors
    assert errors[-1] < 1e-3


BASE = Converters(dac_bits=5, adc_bits=5, rows=4, full_scale=0.9, x_max=0.9)


@pytest.mark.parametrize(
    "changed",
    [
        {"dac_bits": 6},
        {"dac_bits": None},
        {"adc_bits": 6},
        {"adc_bits": None},
        {"rows": 3},
        {"rows": None},
        {"full_scale": 0.5},
        {"x_max": 0.8},
    ],
    ids=repr,
)
@pytest.mark.parametrize("case", [linear, conv], ids=["Linear", "Conv2d"])
def test_each_knob_moves_the_output(case, changed):
    layer, x = case()
    assert not torch.allclose(on_hardware(layer, replace(BASE, **changed))(x), on_hardware(layer, BASE)(x))


@pytest.mark.parametrize("case", [linear, conv], ids=["Linear", "Conv2d"])
def test_gradients_are_those_of_the_layer_with_converted_inputs(case):
    """Straight through the ADC to weights and bias; to the inputs that are not clipped."""
    layer, x = case()
    x = x.requires_grad_()
    programmed = on_hardware(layer, Converters(4, 5, rows=6, x_max=0.5))
    y = programmed(x)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    clipped = torch.tensor(nearest(x, 7, 0.5)).requires_grad_()
    (layer(clipped) * weights).sum().backward()
    torch.testing.assert_close(programmed.weight.grad, layer.weight.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(programmed.bias.grad, layer.bias.grad, rtol=1e-12, atol=1e-12)
    expected = torch.where(x.abs() <= 0.5, clipped.grad, 0.0)
    torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=1e-12)


def test_an_output_that_saturates_its_adc_teaches_nothing():
    layer = one_by_one()
    programmed = on_hardware(layer, Converters(adc_bits=4, full_scale=0.5))
    for x, slope in ((0.4, 0.4), (0.9, 0.0)):
        programmed.weight.grad = None
        programmed(torch.tensor([[x]], dtype=F64)).sum().backward()
        assert programmed.weight.grad.item() == slope


def test_weights_of_zero_give_zero_and_can_be_learnt():
    programmed = on_hardware(one_by_one(0.0), Converters(4, 4))
    y = programmed(torch.ones(1, 1, dtype=F64))
    y.sum().backward()
    assert y.item() == 0 and programmed.weight.grad.item() == 1


# --- the seam ---------------------------------------------------------------------------------------


def test_a_small_network_is_evaluated_chip_by_chip_whatever_the_batches():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)]
    model, x, y = nn.Sequential(*layers).eval(), torch.rand(40, 1, 8, 8), torch.randint(10, (40,))
    network = program(model, Hardware(Gaussian(0.2), circuit=Converters(4, 6, rows=32, x_max=4.0)))
    results = [evaluate(network, x, y, range(5), batch_size=size) for size in (None, 4)]
    assert np.array_equal(results[0].accuracy, results[1].accuracy)
    fabricate(network, 2)
    with using(network, Hardware(Gaussian(0.2))):
        perfect = network(x)
    assert not torch.allclose(network(x), perfect)
    assert torch.equal(pickle.loads(pickle.dumps(network))(x), network(x))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Converters(dac_bits=1), "dac_bits"),
        (lambda: Converters(dac_bits=17), "dac_bits"),
        (lambda: Converters(dac_bits=4.0), "dac_bits"),
        (lambda: Converters(adc_bits=0), "adc_bits"),
        (lambda: Converters(adc_bits=True), "adc_bits"),
        (lambda: Converters(rows=0), "rows"),
        (lambda: Converters(rows=2.5), "rows"),
        (lambda: Converters(full_scale=0.0), "full_scale"),
        (lambda: Converters(full_scale=1.5), "full_scale"),
        (lambda: Converters(x_max=0.0), "x_max"),
        (lambda: Converters(x_max=float("inf")), "x_max"),
        (lambda: Converters(x_max=float("nan")), "x_max"),
        (lambda: on_hardware(conv(groups=2)[0], Converters(adc_bits=4, rows=3)), "groups"),
    ],
)
def test_what_is_impossible_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*; allowed: "):
        call()
