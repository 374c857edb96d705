"""What errors of whole weights must be: those of their cells together, at the published spreads."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from cimlib import Hardware, fabricate, fresh, presets, program
from cimlib.arrays import RATIOS, BitSliced, DoubleArray, LevelSpread, SignedArray
from cimlib.circuits import Converters, OpAmp, Wires
from cimlib.devices import Device, Gaussian, StuckAt

SIGMA = 0.1
WHOLE = Hardware(LevelSpread(SIGMA, slices=4), SignedArray())
BITS = [0, 1, 4, 8, 16]


def layer(weight):
    linear = nn.Linear(*reversed(weight.shape), bias=False, dtype=weight.dtype)
    linear.weight.data = weight.clone()
    return linear


def uniform(*shape, seed=0):
    """Weights of both signs at every level, the largest 0.8."""
    weight = 1.6 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.8
    weight[0, 0] = -0.8
    return weight


@torch.no_grad()
def errors(hardware, weight, chip=0):
    """What a chip adds to the weights it was asked for, in units of the largest."""
    linear = fabricate(program(layer(weight), hardware), chip)
    return (linear.read()[0] - hardware.array.represent(weight)) / weight.abs().max()


def held(hardware, weight):
    with torch.no_grad():
        return fabricate(program(layer(weight), hardware), 0).read()[0]


# --- the spread -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 8])
def test_a_weight_spreads_by_0_77763_of_sigma_times_the_largest(bits):
    hardware = replace(WHOLE, array=SignedArray(bits=bits))
    error = errors(hardware, uniform(400, 500))
    expected = 4369**0.5 / 85 * SIGMA
    assert expected == pytest.approx(0.77763 * SIGMA, rel=1e-5)
    assert abs(error.mean()) < 4 * expected / error.numel() ** 0.5
    assert abs(error.std() - expected) < 4 * expected / (2 * error.numel()) ** 0.5


@pytest.mark.parametrize(("slices", "cell_bits"), [(1, 2), (4, 2), (2, 4), (8, 1)])
def test_one_draw_a_weight_has_the_factor_of_as_many_cells(slices, cell_bits):
    cells = BitSliced(weight_bits=slices * cell_bits, cell_bits=cell_bits)
    assert LevelSpread(slices=slices, cell_bits=cell_bits).factor == pytest.approx(cells.noise_factor)


SAME = {
    "cell by cell": presets("nft-rram").with_sigma(SIGMA),
    "cell by cell, bits": Hardware(Gaussian(SIGMA, clip=False), BitSliced()),
    "pair": Hardware(LevelSpread(SIGMA, slices=4), DoubleArray(g_min=0.0, inactive="disconnected")),
}


@pytest.mark.parametrize("hardware", SAME.values(), ids=SAME)
def test_errors_of_whole_weights_are_distributed_as_those_of_their_cells(hardware):
    """Kolmogorov-Smirnov, at levels that have all digits; it tells a spread that is 5 % larger."""
    bits = 8 if getattr(hardware.array, "quantise", False) else 0
    weight = uniform(300, 300)
    sample = errors(hardware, weight).flatten()
    ours = errors(replace(WHOLE, array=SignedArray(bits=bits)), weight, chip=1).flatten()
    assert stats.ks_2samp(sample, ours).pvalue > 0.01
    assert stats.ks_2samp(sample, 1.05 * ours).pvalue < 1e-4


def test_errors_of_weights_are_independent_of_each_other_and_of_the_weights():
    weight = uniform(300, 300)
    error = errors(WHOLE, weight)
    pairs = [(error[:, 1:], error[:, :-1]), (error[1:], error[:-1]), (error, weight)]
    for one, other in pairs:
        correlation = torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1]
        assert abs(correlation) < 4 / one.numel() ** 0.5


def test_an_even_spread_in_one_cell_is_the_unclipped_gaussian():
    g, z = torch.linspace(0, 100, 11), {"programming": torch.linspace(-3, 3, 11)}
    assert torch.equal(LevelSpread(SIGMA)(g, z, 0.0, 100.0), Gaussian(SIGMA, clip=False)(g, z, 0.0, 100.0))


# --- levels -----------------------------------------------------------------------------------------

PUBLISHED = {  # at sigma 0.01: outside, in the middle
    "rram1": (0.01, 0.01),
    "fefet2": (0.00674, 0.01348),
    "rram4": (0.00378, 0.01512),
    "fefet6": (0.00258, 0.01549),
}


def moved(effect, levels, g_min=0.0):
    """By how much cells at ``levels`` of their range move for a draw of 1, fraction of the range."""
    g_max = 100.0
    level = torch.tensor(levels, dtype=torch.float64)
    g = (g_min + (g_max - g_min) * level.abs()) * level.sign()
    z = {"programming": torch.ones_like(g)}
    return ((effect(g, z, g_min, g_max) - g) / (g_max - g_min)).tolist()


@pytest.mark.parametrize("cell", RATIOS)
def test_middle_and_outer_levels_spread_as_published(cell):
    outside, middle = PUBLISHED[cell]
    found = moved(
        LevelSpread(0.01, RATIOS[cell]), [-1.0, -0.76, -0.5, -0.26, -0.1, 0.1, 0.26, 0.5, 0.76, 1.0]
    )
    expected = [outside, outside, middle, middle, outside, outside, middle, middle, outside, outside]
    assert found == pytest.approx(expected, abs=5.1e-6)


def test_the_ends_of_the_middle_are_outside():
    outside, middle = PUBLISHED["fefet2"]
    found = moved(LevelSpread(0.01, 2.0), [0.25, 0.2501, 0.7499, 0.75])
    assert found == pytest.approx([outside, middle, middle, outside], abs=5.1e-6)


@pytest.mark.parametrize("cell", RATIOS)
def test_sigma_is_the_root_mean_square_if_two_fifths_are_in_the_middle(cell):
    spreads = moved(LevelSpread(SIGMA, RATIOS[cell]), [0.0, 0.1, 0.4, 0.6, 1.0])
    assert sum(spread**2 for spread in spreads) / 5 == pytest.approx(SIGMA**2)


def test_levels_are_counted_from_the_lower_end_of_the_range():
    effect = LevelSpread(0.01, 2.0)
    assert moved(effect, [0.1, 0.3, 0.9], g_min=40.0) == pytest.approx(moved(effect, [0.1, 0.3, 0.9]))


def test_the_level_of_a_whole_weight_decides_its_spread():
    weight = torch.cat([torch.full((1, 90_000), value) for value in (-0.1, 0.5, 1.0)]).double()
    hardware = Hardware(LevelSpread(0.01, 6.0, slices=4), SignedArray())
    outside, middle = PUBLISHED["fefet6"]
    expected = [0.77763 * spread for spread in (outside, middle, outside)]
    assert errors(hardware, weight).std(1).tolist() == pytest.approx(expected, rel=0.01)


def test_in_cells_of_their_own_each_digit_has_its_own_spread():
    """Level 39 = 0·64 + 2·16 + 1·4 + 3 of 255: digits 3, 1, 2, 0, of which the two inside spread more."""
    effect = LevelSpread(0.01, 2.0)
    array = BitSliced()
    target = array.target(torch.tensor([[39.0, 255.0]], dtype=torch.float64)).cells[:, 0, 0, 0]
    assert (target * 3 / 100).tolist() == pytest.approx([3, 1, 2, 0])
    spreads = ((effect(target, {"programming": torch.ones(4)}, 0.0, 100.0) - target) / 100).tolist()
    outside, middle = PUBLISHED["fefet2"]
    assert spreads == pytest.approx([outside, middle, middle, outside], abs=5.1e-6)


# --- the weights ------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 3.7, 1e20]),
    ratio=st.sampled_from(list(RATIOS.values())),
)
def test_without_spread_weights_stay_as_they_are_bit_for_bit(seed, scale, ratio):
    weight = scale * torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
    weight[0, 0] = 0.0
    assert torch.equal(held(Hardware(LevelSpread(0.0, ratio, slices=4), SignedArray()), weight), weight)


def test_weights_that_are_all_zero_have_no_singularity():
    weight = torch.zeros(3, 4)
    assert torch.equal(held(Hardware(LevelSpread(0.0), SignedArray()), weight), weight)
    assert torch.isfinite(held(WHOLE, weight)).all()


def test_conductances_carry_the_sign_and_the_largest_takes_the_full_range():
    g = SignedArray().target(torch.tensor([[0.5, -2.0], [0.0, 1.0]]))
    assert g.cells.tolist() == [[[[25.0, -100.0], [0.0, 50.0]]]]
    assert g.reference is None and g.connected is None and float(g.scale) == 50.0


def test_weights_beyond_a_fixed_full_scale_saturate():
    weight = torch.tensor([[0.2, 0.7, -0.7]])
    array = SignedArray(w_max=0.5)
    torch.testing.assert_close(array.decode(array.target(weight)), torch.tensor([[0.2, 0.5, -0.5]]))


def test_eight_bits_are_those_of_the_cells_that_hold_them():
    weight = uniform(200, 300).float()
    expected = held(Hardware(array=BitSliced()), weight)
    found = held(Hardware(array=SignedArray(bits=8)), weight)
    assert torch.equal(found, expected) and not torch.equal(found, weight)


@pytest.mark.parametrize("bits", BITS[1:])
def test_magnitudes_are_rounded_to_the_nearest_level(bits):
    weight, steps = uniform(40, 50), 2**bits - 1
    rounded = SignedArray(bits=bits).represent(weight)
    level = rounded / 0.8 * steps
    torch.testing.assert_close(level, level.round(), rtol=0, atol=1e-6)
    assert (rounded - weight).abs().max() <= 0.8 / steps / 2 * (1 + 1e-6)
    assert float(rounded.abs().max()) == pytest.approx(0.8)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("ratio", [1.0, 6.0])
def test_gradients_pass_at_zero_through_rounding_and_across_levels(bits, ratio):
    weight = uniform(20, 30)
    weight[1, 1] = 0.0
    hardware = Hardware(LevelSpread(SIGMA, ratio, slices=4), SignedArray(bits=bits))
    model = fresh(program(layer(weight), hardware), 0)
    model.read()[0].sum().backward()
    torch.testing.assert_close(model.weight.grad, torch.ones_like(weight))


# --- circuits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "circuit", [OpAmp(), OpAmp(rails=(0.05, 0.95)), Wires(1.0, 1.0), Wires(0.0, 0.0)], ids=repr
)
def test_amplifiers_and_wires_refuse_conductances_that_are_no_circuit(circuit):
    with pytest.raises(ValueError, match=r"array = SignedArray\(.*allowed: .*arrays? "):
        fabricate(program(layer(uniform(3, 4)), Hardware(array=SignedArray(), circuit=circuit)), 0)


# --- by name ----------------------------------------------------------------------------------------


def test_with_sigma_changes_the_spread_and_nothing_else():
    device = Device(LevelSpread(0.1, 4.0, slices=4), StuckAt(on=0.1))
    assert device.with_sigma(0.3) == Device(LevelSpread(0.3, 4.0, slices=4), StuckAt(on=0.1))
    assert presets("nft-fefet6").with_sigma(0.2).array == presets("nft-fefet6").array


def test_the_same_chip_at_twice_the_spread_is_off_by_twice_as_much():
    weight = uniform(20, 30)
    once, twice = (errors(WHOLE.with_sigma(sigma), weight) for sigma in (0.1, 0.2))
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize(("name", "ratio"), [("rram1", 1), ("fefet2", 2), ("rram4", 4), ("fefet6", 6)])
def test_every_published_cell_has_a_preset(name, ratio):
    hardware = presets(f"nft-{name}")
    assert hardware == Hardware(LevelSpread(0.1, ratio, slices=4, cell_bits=2), SignedArray(bits=0))
    assert f"nft-{name}" in presets()


def test_the_other_presets_are_still_there_and_an_unknown_one_is_refused_with_all_names():
    assert {"ideal", "iris-double", "jjap2024", "nft-rram"} < set(presets())
    assert isinstance(presets("nft-rram").array, BitSliced)
    with pytest.raises(ValueError, match="name = 'nft-rram2' is not a preset") as error:
        presets("nft-rram2")
    assert all(name in str(error.value) for name in presets())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SignedArray(bits=-1), ["bits = -1", "0 ≤ bits ≤ 16"]),
        (lambda: SignedArray(bits=17), ["bits = 17", "0 ≤ bits ≤ 16"]),
        (lambda: SignedArray(bits=2.0), ["bits = 2.0", "integer"]),
        (lambda: SignedArray(bits=True), ["bits = True", "integer"]),
        (lambda: SignedArray(g_min=10.0), ["g_min = 10.0", "0 for signed"]),
        (lambda: SignedArray(g_max=0.0), ["(g_min, g_max) = (0.0, 0.0)"]),
        (lambda: SignedArray(w_max=0.0), ["w_max = 0.0", "0 < w_max"]),
        (lambda: LevelSpread(-0.1), ["sigma = -0.1", "0 ≤ sigma"]),
        (lambda: LevelSpread(float("nan")), ["sigma = nan"]),
        (lambda: LevelSpread(0.1, 0.0), ["ratio = 0.0", "0 < ratio"]),
        (lambda: LevelSpread(0.1, float("inf")), ["ratio = inf", "0 < ratio"]),
        (lambda: LevelSpread(0.1, slices=0), ["slices = 0", "1 ≤ slices"]),
        (lambda: LevelSpread(0.1, slices=1.5), ["slices = 1.5", "integer"]),
        (lambda: LevelSpread(0.1, cell_bits=0), ["cell_bits = 0", "1 ≤ cell_bits"]),
        (lambda: Device(LevelSpread(0.1), Gaussian(0.1)), ["effects", "at most once"]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words)


def test_converters_read_weights_whatever_holds_them():
    """They know no cells: signed conductances give them what a pair of cells does."""
    weight, x = uniform(3, 4).float(), torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    circuit = Converters(dac_bits=3, adc_bits=6, rows=2)
    signed, pair = (
        fabricate(program(layer(weight), Hardware(array=array, circuit=circuit)), 0)(x)
        for array in (SignedArray(), DoubleArray())
    )
    assert torch.equal(signed, pair)
