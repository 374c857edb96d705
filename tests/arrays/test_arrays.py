"""How weights must sit in conductances."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import (
    Array,
    BitSliced,
    Conductances,
    DoubleArray,
    Inventory,
    ParallelArray,
    SingleArray,
    power,
)
from cimlib.devices import Gaussian, Lognormal

ARRAYS = [
    DoubleArray(),
    DoubleArray(mapping="two-sided"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    SingleArray(reference="column"),
    SingleArray(reference="column", reference_device="cell"),
    SingleArray(reference="constant-term"),
    ParallelArray(),
    ParallelArray(parallel=3, reference="constant-term"),
    BitSliced(),
    BitSliced(weight_bits=6, cell_bits=3, inactive="programmed"),
    DoubleArray(w_max=0.5),
    SingleArray(w_max=0.5),
]


@pytest.fixture
def weight():
    return torch.randn(7, 5, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_targets_lie_in_the_range_and_decode_to_the_weights_they_represent(array, weight):
    g = array.target(weight)
    assert g.cells.shape == array.cell_shape(tuple(weight.shape))
    assert g.cells.min() >= array.g_min - 1e-9 and g.cells.max() <= array.g_max + 1e-9
    torch.testing.assert_close(array.decode(g), array.represent(weight), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_the_largest_weight_takes_the_full_range(array, weight):
    middle, half = array.g_mid, (array.g_max - array.g_min) / 2
    reach = (array.target(weight).cells - middle).abs().max()
    assert float(reach) == pytest.approx(half)


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_gradients_reach_a_weight_that_is_exactly_zero(array):
    weight = torch.zeros(2, 3, requires_grad=True)
    (array.represent(weight) + array.decode(array.target(weight) - array.target(weight))).sum().backward()
    assert torch.equal(weight.grad, torch.ones(2, 3))


@pytest.mark.parametrize("array", [DoubleArray(), DoubleArray(mapping="two-sided"), SingleArray()], ids=repr)
def test_the_target_of_a_zero_weight_has_the_slope_of_a_small_one(array):
    slopes = []
    for value in (0.0, 1e-6):
        weight = torch.tensor([[value, 1.0]], dtype=torch.float64, requires_grad=True)
        array.decode(array.target(weight)).sum().backward()
        slopes.append(float(weight.grad[0, 0]))
    assert slopes == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_an_array_of_zeros_has_no_singularity(array):
    weight = torch.zeros(4, 3)
    g = array.target(weight)
    assert torch.isfinite(g.cells).all() and torch.equal(array.decode(g), weight)


def test_one_sided_pairs_keep_the_other_cell_at_the_lower_end(weight):
    cells = DoubleArray().target(weight).cells[0]
    assert (cells.amin(0) == 10.0).all()


def test_two_sided_pairs_and_single_references_sit_in_the_middle(weight):
    pair = DoubleArray(mapping="two-sided").target(weight).cells[0]
    torch.testing.assert_close(pair.mean(0), torch.full_like(weight, 55.0))
    assert (SingleArray().target(weight).reference == 55.0).all()


def test_a_pair_has_twice_the_scale_of_a_single_array(weight):
    assert DoubleArray().target(weight).scale == 2 * SingleArray().target(weight).scale


def test_bit_slices_hold_the_digits_of_the_quantised_magnitude(weight):
    array = BitSliced(weight_bits=8, cell_bits=2)
    digits = 3 * (array.target(weight).cells.sum(1) - 2 * array.g_min) / (array.g_max - array.g_min)
    magnitude = sum(4**j * digits[j] for j in range(4))
    expected = (weight.abs() / weight.abs().max() * 255).round()
    torch.testing.assert_close(magnitude, expected)


def test_the_noise_factor_of_eight_bits_in_two_bit_cells_is_the_published_one():
    assert BitSliced(weight_bits=8, cell_bits=2).noise_factor == pytest.approx(0.77763, abs=5e-6)
    assert BitSliced(weight_bits=8, cell_bits=2).noise_factor == pytest.approx(4369**0.5 / 85)


def test_the_noise_factor_is_what_independent_cells_give():
    array, sigma, span = BitSliced(quantise=False), 0.1, 100.0
    weight = torch.full((500, 800), 1.0, dtype=torch.float64)
    weight[::2] = -0.3
    g = array.target(weight)
    z = torch.randn(
        array.draw_shape((500, 800)),
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
    )
    moved = Conductances(g.cells + sigma * span * z, None, g.scale, g.connected)
    error = array.decode(moved - g)
    expected = sigma * 0.77763
    assert abs(error.std() - expected) < 4 * expected / (2 * error.numel()) ** 0.5


@pytest.mark.parametrize(
    ("array", "factor"),
    [
        (DoubleArray(), 2**0.5),
        (DoubleArray(g_min=0.0, inactive="disconnected"), 1.0),
        (DoubleArray(mapping="two-sided"), 2**0.5),
        (SingleArray(), 2.0),
        (SingleArray(reference_device="cell"), 8**0.5),
    ],
    ids=repr,
)
def test_the_additive_spread_of_a_weight_is_the_derived_multiple_of_the_cells(array, factor):
    sigma, shape, span = 0.1, (400, 500), array.g_max - array.g_min
    generator = torch.Generator().manual_seed(2)
    weight = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    g = array.target(weight)
    z = torch.randn(array.draw_shape(shape), generator=generator, dtype=torch.float64)
    reference = g.reference
    if array.reference_is_cells:
        reference = reference + sigma * span * torch.randn(
            shape[1:], generator=generator, dtype=torch.float64
        )
    error = array.decode(Conductances(g.cells + sigma * span * z, reference, g.scale, g.connected) - g)
    expected = sigma * float(weight.abs().max()) * factor
    # 500 independent reference cells bound the precision of the last case
    assert float(error.std()) == pytest.approx(expected, rel=0.07 if array.reference_is_cells else 0.01)


def test_a_fixed_full_range_saturates_larger_weights_and_keeps_the_others():
    weight = torch.tensor([[0.2, 0.7, -0.7]])
    for array in (DoubleArray(w_max=0.5), SingleArray(w_max=0.5)):
        held = array.decode(array.target(weight))
        torch.testing.assert_close(held, torch.tensor([[0.2, 0.5, -0.5]]))


def test_power_is_that_of_every_resistor_between_its_row_and_the_virtual_ground():
    g = SingleArray().target(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))
    voltage = torch.tensor([[0.1, 0.2], [0.0, 0.0]])
    by_hand = 0.01 * (100 + 55 + 55) + 0.04 * (10 + 100 + 55)
    torch.testing.assert_close(power(g, voltage), torch.tensor([by_hand, 0.0]))


def test_a_disconnected_cell_dissipates_nothing():
    weight, voltage = torch.tensor([[1.0, -0.5]]), torch.ones(1, 2)
    off = DoubleArray(g_min=0.0, inactive="disconnected").target(weight)
    cells = torch.where(off.connected, off.cells, 0.0)
    torch.testing.assert_close(power(off, voltage), cells.sum().reshape(1))
    kept = Conductances(off.cells + 7.0, None, off.scale, off.connected)
    torch.testing.assert_close(power(kept, voltage) - power(off, voltage), torch.tensor([14.0]))


def test_parts_are_counted_as_in_the_circuit_diagrams():
    n, m = 5, 3
    assert DoubleArray().inventory(n, m) == Inventory(2 * n * m, 6 * m, 3 * m)
    assert SingleArray().inventory(n, m) == Inventory(n * m, n + m + 1 + 4 * m, 2 * m + 1)
    cells = SingleArray(reference_device="cell").inventory(n, m)
    assert cells == Inventory(n * (m + 1), m + 1 + 4 * m, 2 * m + 1)
    constant = SingleArray(reference="constant-term").inventory(n, m)
    assert constant == Inventory(n * m, n + m + m + 1, m + 1)
    assert BitSliced().inventory(n, m).cells == 8 * n * m


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DoubleArray(g_min=-1.0), ["g_min", "-1.0"]),
        (lambda: DoubleArray(g_min=100.0), ["g_min", "g_max", "100.0"]),
        (lambda: SingleArray(w_max=0.0), ["w_max", "0.0"]),
        (lambda: DoubleArray(mapping="one"), ["mapping", "'one'", "two-sided"]),
        (lambda: DoubleArray(inactive="off"), ["inactive", "'off'", "disconnected"]),
        (lambda: DoubleArray(mapping="two-sided", inactive="disconnected"), ["mapping"]),
        (lambda: DoubleArray(inactive="disconnected"), ["g_min", "10.0", "0 µS"]),
        (lambda: SingleArray(reference="row"), ["reference", "'row'", "constant-term"]),
        (
            lambda: SingleArray(reference="constant-term", reference_device="cell"),
            ["reference_device"],
        ),
        (lambda: BitSliced(weight_bits=8, cell_bits=3), ["weight_bits", "divides"]),
        (lambda: BitSliced(mapping="two-sided", inactive="programmed"), ["mapping"]),
        (
            lambda: DoubleArray(mapping="two-sided", zero_state=True),
            ["mapping", "'two-sided'", "'one-sided' with a zero state"],
        ),
        (
            lambda: DoubleArray(g_min=0.0, zero_state=True),
            ["g_min", "0.0", "g_min > 0", "zero state"],
        ),
        (
            lambda: DoubleArray(g_min=0.0, inactive="disconnected", zero_state=True),
            ["inactive", "'disconnected'", "'programmed' with a zero state"],
        ),
        (
            lambda: BitSliced(g_min=10.0, inactive="programmed", zero_state=True),
            ["zero_state", "True", "False"],
        ),
        (lambda: power(SingleArray().target(torch.ones(1, 1, 3, 3)), torch.ones(1, 1)), ["shape"]),
    ],
)
def test_bad_arguments_are_refused_with_name_value_and_range(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words)


def test_an_array_must_say_how_weights_map():
    abstract = Array()
    for call in (lambda: abstract.target(torch.ones(1, 1)), lambda: abstract.inventory(1, 1)):
        with pytest.raises(NotImplementedError):
            call()


# --- a zero state ---------------------------------------------------------------------------------

ZERO = DoubleArray(g_min=10.0, g_max=1000.0, w_max=1.0, zero_state=True)  # the range of JJAP 2024, µS


def open_or_in_range(array, cells):
    low, high = cells.new_tensor([array.g_min, array.g_max])
    return ((cells == 0) | ((cells >= low) & (cells <= high))).all()


def test_a_cell_asked_for_less_than_g_min_is_open_and_the_others_hold_k_w():
    weight = torch.tensor([[1.0, -0.5, 0.01, 0.0099, -0.0099, 0.0, -2.0]], dtype=torch.float64)
    g = ZERO.target(weight)
    plus = torch.tensor([[1000.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    minus = torch.tensor([[0.0, 500.0, 0.0, 0.0, 0.0, 0.0, 1000.0]], dtype=torch.float64)
    torch.testing.assert_close(g.cells, torch.stack((plus, minus))[None])
    assert torch.equal(g.connected, g.cells > 0)
    assert float(g.scale) == 1000.0
    held = torch.tensor([[1.0, -0.5, 0.01, 0.0, 0.0, 0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(ZERO.represent(weight), held)
    torch.testing.assert_close(ZERO.decode(g), held)


@given(
    low=st.floats(0.1, 50.0),
    ratio=st.floats(1.5, 1000.0),
    w_max=st.sampled_from([None, 0.5, 1.0, 3.0]),
    double=st.booleans(),
    seed=st.integers(0, 999),
)
def test_with_a_zero_state_cells_are_open_or_in_any_range_and_decode_to_what_is_represented(
    low, ratio, w_max, double, seed
):
    array = DoubleArray(g_min=low, g_max=low * ratio, w_max=w_max, zero_state=True)
    dtype = torch.float64 if double else torch.float32
    weight = torch.randn(24, 48, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    weight[0] = 0.0
    weight[1] = weight[1] * 10.0 ** -torch.arange(48)
    last_digits = torch.finfo(dtype).eps * (torch.arange(48, dtype=dtype) - 24)
    weight[2] = array.full_scale(weight) / ratio * (1 + last_digits)  # at g_min, give or take
    g, held = array.target(weight), array.represent(weight)
    assert open_or_in_range(array, g.cells)
    assert torch.equal(g.connected, g.cells > 0)
    assert ((g.cells[0, 0] == 0) | (g.cells[0, 1] == 0)).all()
    full = float(array.full_scale(weight))
    assert full == pytest.approx(float(weight.abs().max()) if w_max is None else w_max)
    assert float(g.scale) == pytest.approx(array.g_max / full, rel=1e-6)
    tolerance = 1e-12 if double else 2e-6
    torch.testing.assert_close(array.decode(g), held, rtol=tolerance, atol=0)
    torch.testing.assert_close(array.represent(held), held, rtol=tolerance, atol=0)
    opened = ~g.connected.any(1)[0]
    assert opened[0].all() and torch.equal(held == 0, opened)
    assert (weight[opened].abs() < full / ratio).all()
    assert torch.equal(held[~opened], weight[~opened].clamp(-full, full))
    assert (weight[~opened].abs() >= full / ratio * (1 - 1e-5)).all()


@pytest.mark.parametrize("device", [Gaussian(0.0), Gaussian(0.3), Lognormal(1.0)], ids=repr)
@given(low=st.floats(0.1, 50.0), ratio=st.floats(1.5, 1000.0), seed=st.integers(0, 999))
def test_errors_of_cells_leave_open_cells_open_and_the_others_in_the_range(device, low, ratio, seed):
    array = DoubleArray(g_min=low, g_max=low * ratio, zero_state=True)
    torch.manual_seed(seed)
    layer = nn.Linear(48, 24, bias=False)
    chip = fabricate(program(layer, Hardware(device, array)), seed)
    weight, g, _ = chip.read()
    target = array.target(layer.weight)
    assert torch.equal(g.cells == 0, target.cells == 0) and (target.cells == 0).any()
    assert open_or_in_range(array, g.cells)
    opened = ~target.connected.any(1)[0]
    assert not weight[opened].any()
    held = array.represent(layer.weight)
    if device.sigma:
        assert (g.cells != target.cells).any() and not torch.allclose(weight, held)
    else:
        assert torch.equal(weight, held)


def test_an_open_cell_has_no_error_even_where_errors_are_not_clipped():
    layer = nn.Linear(40, 40, bias=False)
    layer.weight.data *= 0.01
    layer.weight.data[0, 0] = 1.0
    chip = fabricate(program(layer, Hardware(Gaussian(0.5, clip=False), ZERO)), 0)
    assert int((chip.read()[1].cells != 0).sum()) == 1
    assert int((chip.read()[0] != 0).sum()) == 1


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.0099, -0.0099, 0.01, 0.5, -0.5])
def test_weights_at_open_cells_pass_gradients_as_the_others_do(value):
    weight = torch.tensor([[value, 1.0]], dtype=torch.float64, requires_grad=True)
    for held in (ZERO.represent(weight), ZERO.decode(replace(ZERO.target(weight), connected=None))):
        (gradient,) = torch.autograd.grad(held[0, 0], weight)
        assert gradient[0].tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("device", [Gaussian(0.0), Gaussian(0.1)], ids=repr)
@pytest.mark.parametrize("value", [0.0, 1e-9, 0.005, -0.005, 0.5])
def test_a_chip_passes_gradients_to_weights_at_open_cells(device, value):
    layer = nn.Linear(5, 3, bias=False)
    nn.init.constant_(layer.weight, value)
    chip = fabricate(program(layer, Hardware(device, ZERO)), 0)
    chip(torch.ones(2, 5)).sum().backward()
    torch.testing.assert_close(chip.weight.grad, torch.full((3, 5), 2.0))


def test_weights_leave_the_zero_state_by_training():
    layer = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(layer.weight)
    chip = program(layer, Hardware(array=ZERO))
    optimizer = torch.optim.SGD(chip.parameters(), lr=0.004)
    held = []
    for _ in range(4):
        y = chip(torch.ones(1, 4)).sum()
        held.append(float(y.detach()))
        optimizer.zero_grad()
        (-y).backward()
        optimizer.step()
    assert held == pytest.approx([0.0, 0.0, 0.0, 4 * 0.012])


def test_a_weight_beyond_w_max_saturates_with_a_zero_state_too():
    weight = torch.tensor([[0.2, 0.7, -0.7]])
    held = DoubleArray(w_max=0.5, g_min=1.0, zero_state=True)
    torch.testing.assert_close(held.decode(held.target(weight)), torch.tensor([[0.2, 0.5, -0.5]]))
    assert float(held.target(weight).cells.max()) == held.g_max


def test_without_weights_at_open_cells_a_zero_state_only_moves_the_other_cell():
    weight = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    zero, plain = ZERO.target(weight), replace(ZERO, zero_state=False).target(weight)
    assert float(plain.scale) == 990.0
    torch.testing.assert_close(ZERO.decode(zero), weight)
    assert (plain.cells[~zero.connected] == 10.0).all() and not zero.cells[~zero.connected].any()
