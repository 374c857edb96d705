"""A scale for each column: what one column's weights do to another's, which is nothing."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import BitSliced, DoubleArray, LevelSpread, SignedArray, SingleArray
from cimlib.devices import Device, Gaussian, StuckAt

PLAIN = [
    DoubleArray(),
    DoubleArray(mapping="two-sided"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    DoubleArray(g_min=30.0, zero_state=True),
    SingleArray(),
    SingleArray(reference_device="cell"),
    SingleArray(reference="constant-term"),
    BitSliced(),
    BitSliced(weight_bits=6, cell_bits=3, inactive="programmed"),
    SignedArray(),
    SignedArray(bits=5),
]
ARRAYS = [replace(array, scale="column") for array in PLAIN]
SHAPES = [(4, 7), (4, 3, 2, 2), (4, 2, 3)]


def weights(seed, shape, sizes=(1.0, 1e-3, 50.0, 0.0)):
    """Normal numbers whose columns differ in size."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn * torch.tensor(sizes, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cells_of_every_column_decode_to_its_weights_and_its_largest_takes_the_full_range(array, shape):
    weight = weights(0, shape)
    g = array.target(weight)
    assert g.scale.shape == (array.slices, 4) and g.cells.shape == array.cell_shape(shape)
    torch.testing.assert_close(array.decode(g), array.represent(weight), rtol=1e-12, atol=1e-12)
    low = -array.g_max if isinstance(array, SignedArray) else 0.0 if array.g_min == 30.0 else array.g_min
    assert g.cells.min() >= low and g.cells.max() <= array.g_max
    for column in range(3):
        reach = g.cells[:, :, column].abs()
        assert float(reach.max()) == pytest.approx(array.g_max) or float(reach.min()) == array.g_min


@pytest.mark.parametrize("array", PLAIN, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_column_with_its_own_scale_is_a_layer_of_one_column(array, shape):
    """Bit for bit, a column of zeros included."""
    weight, own = weights(1, shape), replace(array, scale="column")
    together = own.target(weight)
    for column in range(4):
        alone = array.target(weight[column : column + 1])
        assert torch.equal(together.cells[:, :, column], alone.cells[:, :, 0])
        assert torch.equal(together.scale[:, column], alone.scale)
        assert torch.equal(own.represent(weight)[column], array.represent(weight[column : column + 1])[0])
    assert torch.equal(own.decode(together)[3], torch.zeros(shape[1:], dtype=torch.float64))


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(4, 4, 3, groups=2)])
def test_ideal_hardware_gives_what_the_digital_layer_gives_bit_for_bit(array, make):
    torch.manual_seed(0)
    layer = make()
    layer.weight.data[0] *= 100
    x = torch.rand(5, 6) if isinstance(layer, nn.Linear) else torch.rand(5, 4, 6, 6)
    wanted = make()
    wanted.load_state_dict(layer.state_dict())
    wanted.weight.data = array.represent(layer.weight.data)  # arrays with digits round
    assert torch.equal(program(layer, Hardware(array=array))(x), wanted(x))


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@given(seed=st.integers(0, 2**16), column=st.integers(0, 3), size=st.floats(1e-3, 1e3))
def test_a_columns_error_does_not_depend_on_the_weights_of_other_columns(array, seed, column, size):
    signed = isinstance(array, SignedArray)
    hardware = Hardware(LevelSpread(0.1) if signed else Device(Gaussian(0.1), StuckAt(on=0.05)), array)
    weight = weights(seed, (4, 6))
    others = size * weights(seed + 1, (4, 6))
    others[column] = weight[column]
    held = []
    for values in (weight, others):
        layer = nn.Linear(6, 4, bias=False, dtype=torch.float64)
        layer.weight.data = values
        held.append(fabricate(program(layer, hardware), 3).read()[0][column])
    assert torch.equal(*held)
    if weight[column].any():
        assert not torch.equal(held[0], weight[column])


@torch.no_grad()
@pytest.mark.parametrize("array", PLAIN, ids=repr)
def test_with_one_scale_an_outlier_costs_every_column_and_with_columns_only_its_own(array):
    torch.manual_seed(0)
    weight = 0.01 * torch.randn(10, 300, dtype=torch.float64)
    spread = LevelSpread(0.02) if isinstance(array, SignedArray) else Gaussian(0.02, clip=False)
    errors = {}
    for scale in ("layer", "column"):
        for outlier in (0.03, 10.0):
            layer = nn.Linear(300, 10, bias=False, dtype=torch.float64)
            layer.weight.data = weight.clone()
            layer.weight.data[0, 0] = outlier
            chip = fabricate(program(layer, Hardware(spread, replace(array, scale=scale))), 0)
            errors[scale, outlier] = float((chip.read()[0] - chip.weight)[1:].std() / weight.std())
    assert errors["column", 10.0] == errors["column", 0.03] < 0.5
    assert errors["layer", 10.0] > 2 * errors["column", 10.0], "of a zero state: all open"


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_gradients_reach_every_weight_as_if_there_were_no_cells(array):
    weight = weights(2, (4, 5)).requires_grad_()
    g = array.target(weight)
    (array.represent(weight) + array.decode(g - g)).sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones_like(weight), rtol=1e-12, atol=0)


def test_an_array_has_one_scale_by_default_and_hardware_without_an_array_one_for_each_column():
    assert Hardware().array == DoubleArray(scale="column")
    for array in PLAIN:
        assert array.scale == "layer" and array.target(torch.ones(3, 2)).scale.shape == (array.slices,)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: DoubleArray(scale="row"), "scale"),
        (lambda: DoubleArray(scale="column", w_max=1.0), "w_max"),
        (lambda: SingleArray(scale="column", w_max=1.0), "w_max"),
        (
            lambda: program(
                nn.Linear(2, 2), Hardware(array=DoubleArray(scale="column")), train="conductance"
            ),
            "hardware.array",
        ),
    ],
)
def test_scales_that_cannot_be_are_refused_by_name(call, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*; allowed: "):
        call()


def test_the_scale_is_named_and_never_given_by_position():
    with pytest.raises(TypeError):
        DoubleArray(10.0, 100.0, None, "one-sided", "programmed", False, "column")
