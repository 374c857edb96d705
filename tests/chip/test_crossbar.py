"""What must always hold at the seam, for Linear and Conv2d."""

import copy
import pickle
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seam import ARRAYS, LAYERS, made, perceptron
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fresh, presets, program, using
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.chip import Crossbar, crossbars, plain_state, reading_once
from cimlib.circuits import Circuit
from cimlib.devices import Device, Gaussian, Lognormal, StuckAt
from cimlib.networks import mlp

IN_ARRAY_OFF = Hardware(array=DoubleArray(g_min=0.0, w_max=1.0, inactive="disconnected"))
NOISY = Hardware(Device(Gaussian(0.1), StuckAt(on=0.02, off=0.05)))


def network():
    torch.manual_seed(0)
    conv = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    )
    return conv.eval(), torch.rand(32, 1, 8, 8), torch.randint(10, (32,))


# --- 1. every effect off: the digital network, bit for bit ---------------------------------------


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize("name", LAYERS)
def test_hardware_without_effects_is_the_digital_layer_bit_for_bit(name, array):
    layer, x = made(name)
    for device in (Device(), Device(Gaussian(0.0), StuckAt())):
        assert torch.equal(fabricate(program(layer, Hardware(device, array)), 1)(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_bit_slicing_without_effects_is_the_quantised_layer_bit_for_bit(name):
    layer, x = made(name)
    quantised = copy.deepcopy(layer)
    step = layer.weight.detach().abs().max() / 255
    level = (layer.weight.detach().abs() / layer.weight.detach().abs().max() * 255).round()
    quantised.weight.data = level * step * layer.weight.detach().sign()
    assert torch.equal(program(layer, Hardware(array=BitSliced()))(x), quantised(x))
    assert not torch.equal(quantised(x), layer(x))


@settings(max_examples=150, deadline=None)
@given(
    array=st.sampled_from(ARRAYS),
    low=st.floats(0.0, 50.0),
    width=st.floats(0.1, 500.0),
    seed=st.integers(0, 999),
)
def test_targets_stay_in_any_range_and_no_spread_changes_nothing(array, low, width, seed):
    low = 0.0 if getattr(array, "inactive", "") == "disconnected" else low
    array = replace(array, g_min=low, g_max=low + width)
    torch.manual_seed(seed)
    layer, x = nn.Linear(48, 24), torch.randn(4, 48)
    cells = array.target(layer.weight).cells
    assert cells.min() >= torch.tensor(low) and cells.max() <= torch.tensor(low + width)
    for device in (Gaussian(0.0), Lognormal(0.0)):
        assert torch.equal(fabricate(program(layer, Hardware(device, array)), 0)(x), layer(x))


def test_a_whole_network_without_effects_is_unchanged():
    model, x, _ = network()
    assert torch.equal(program(model, Hardware())(x), model(x))


# --- 2. keys, copies, pickles, dtypes -------------------------------------------------------------


def test_programming_leaves_the_model_alone_and_the_keys_the_same():
    model, x, _ = network()
    before, out = copy.deepcopy(model.state_dict()), model(x)
    chip = fabricate(program(model, NOISY), 3)
    chip(x)
    assert list(plain_state(chip)) == list(before)
    assert set(chip.state_dict()) - set(before) == {"0._extra_state", "4._extra_state"}
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert torch.equal(model(x), out)


def test_the_weights_of_a_chip_load_into_the_digital_model_and_back():
    model, x, _ = network()
    chip = fabricate(program(model, NOISY), 3)
    other, _, _ = network()
    for p in other.parameters():
        p.data.add_(1.0)
    with pytest.raises(RuntimeError, match=r"0\._extra_state.*4\._extra_state"):
        other.load_state_dict(chip.state_dict())
    other.load_state_dict(plain_state(chip))
    assert torch.equal(other(x), model(x))
    again = fabricate(program(other, NOISY), 3)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), chip(x))


@pytest.mark.parametrize("prepare", [lambda m: fabricate(m, 3), lambda m: fresh(m, 3)])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_carry_their_chip_and_their_generator(prepare, copied):
    model, x, _ = network()
    chip = prepare(program(model, NOISY))
    twin = copied(chip)
    assert torch.equal(twin(x), chip(x))
    assert torch.equal(twin(x), chip(x))


@pytest.mark.parametrize("array", [*ARRAYS, BitSliced()], ids=repr)
def test_double_precision_runs_and_is_the_same_chip(array):
    model, x, _ = network()
    chip = fabricate(program(model, Hardware(Gaussian(0.1), array)), 3)
    wide = copy.deepcopy(chip).to(torch.float64)
    fabricated_wide = fabricate(program(copy.deepcopy(model).double(), Hardware(Gaussian(0.1), array)), 3)
    assert wide(x.double()).dtype == torch.float64
    torch.testing.assert_close(wide(x.double()).float(), chip(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(fabricated_wide(x.double()), wide(x.double()))


def test_training_mode_of_the_model_is_kept():
    model = mlp(4, 8, 3, seed=0).eval()
    assert not any(module.training for module in program(model, NOISY).modules())


# --- 3. a chip is a seed --------------------------------------------------------------------------


def test_chip_seven_is_chip_seven_and_not_chip_eight():
    model, x, _ = network()
    a, b = program(model, NOISY), program(model, NOISY)
    assert torch.equal(fabricate(a, 7)(x), fabricate(b, 7)(x))
    seven = fabricate(a, 7)(x)
    assert not torch.equal(fabricate(a, 8)(x), seven)
    assert torch.equal(fabricate(a, 7)(x), seven)


def test_a_chip_does_not_depend_on_which_other_layers_are_on_hardware():
    model, _, _ = network()
    whole = fabricate(program(model, NOISY), 7)
    last = fabricate(program(model, NOISY, layers=["4"]), 7)
    assert isinstance(last[0], nn.Conv2d)
    assert torch.equal(whole[4].read()[0], last[4].read()[0])


def test_layers_and_slots_of_one_chip_are_independent():
    layers = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50))
    layers[1].load_state_dict(layers[0].state_dict())
    chip = fabricate(program(layers, NOISY), 0)
    draws = [z.flatten() for layer in chip for z in layer.draws().values()]
    correlation = torch.corrcoef(torch.stack(draws))
    assert correlation.fill_diagonal_(0).abs().max() < 0.1


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_twice_the_sigma_displaces_the_same_chip_twice_as_far(name):
    layer, _ = made(name)
    chip = fabricate(program(layer, Hardware(Gaussian(0.1, clip=False))), 3)
    once = chip.read()[0] - chip.weight
    with using(chip, chip.hardware.with_sigma(0.2)):
        twice = chip.read()[0] - chip.weight
    torch.testing.assert_close(twice, 2 * once, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_a_chip_does_not_depend_on_method_or_weights(name):
    layer, _ = made(name)
    other = copy.deepcopy(layer)
    other.weight.data.mul_(-0.3)
    chips = [fabricate(program(model, NOISY), 5) for model in (layer, other)]
    assert all(torch.equal(a, b) for a, b in zip(*(c.draws().values() for c in chips), strict=True))


def test_the_draws_of_a_chip_are_the_published_ones_on_every_machine():
    """Golden values: they may change with torch's generator, never silently."""
    layer = fabricate(program(mlp(4, 8, 3, seed=0), Hardware(Gaussian(0.1))), 17)[1]
    drawn = layer.draws()["cells/programming"].flatten()[:4]
    torch.testing.assert_close(
        drawn, torch.tensor([-0.150960, -0.970120, 0.300169, -1.064351]), rtol=0, atol=1e-6
    )


def test_no_global_generator_is_read_or_changed():
    model, x, y = network()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    chip = fabricate(program(model, NOISY), 3)
    first = evaluate(chip, x, y, chips=range(3)).accuracy
    fresh(chip, 1)(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert (evaluate(chip, x, y, chips=range(3)).accuracy == first).all()


def test_fresh_draws_anew_at_every_forward_pass_and_repeats_with_its_seed():
    model, x, _ = network()
    a, b = fresh(program(model, NOISY), 1), fresh(program(model, NOISY), 1)
    first, second = a(x), a(x)
    assert not torch.equal(first, second)
    assert torch.equal(b(x), first) and torch.equal(b(x), second)
    assert not torch.equal(fresh(a, 2)(x), first)


def test_using_swaps_the_hardware_on_the_same_chip_and_puts_it_back():
    model, x, _ = network()
    chip = fabricate(program(model, NOISY), 3)
    before, other = chip(x), NOISY.with_sigma(0.3)
    with using(chip, other):
        assert torch.equal(chip(x), fabricate(program(model, other), 3)(x))
    assert torch.equal(chip(x), before)
    with pytest.raises(KeyError), using(chip, other):
        raise KeyError
    assert torch.equal(chip(x), before)


def test_using_hardware_with_new_draws_holds_the_same_chip():
    model, x, _ = network()
    chip = fabricate(program(model, Hardware(Gaussian(0.1))), 3)
    single = Hardware(Device(Gaussian(0.1), StuckAt(on=0.1)), SingleArray())
    with using(chip, single):
        assert torch.equal(chip(x), fabricate(program(model, single), 3)(x))


# --- 4. every knob moves the output, and its default is ideal -------------------------------------

KNOBS = {
    "Gaussian.sigma": (Hardware(Gaussian(0.1)), Hardware(Gaussian(0.2))),
    "Gaussian.clip": (Hardware(Gaussian(0.1)), Hardware(Gaussian(0.1, clip=False))),
    "Lognormal.sigma": (Hardware(Lognormal(0.1)), Hardware(Lognormal(0.2))),
    "Lognormal.clip": (Hardware(Lognormal(0.5)), Hardware(Lognormal(0.5, clip=False))),
    "StuckAt.on": (Hardware(StuckAt(on=0.1)), Hardware(StuckAt(on=0.2))),
    "StuckAt.off": (Hardware(StuckAt(off=0.1)), Hardware(StuckAt(off=0.2))),
    **{
        f"{type(array).__name__}.{name}": (
            Hardware(Lognormal(0.1), array),
            Hardware(Lognormal(0.1), replace(array, **{name: value})),
        )
        for array in (DoubleArray(), SingleArray(), BitSliced(g_min=10.0, inactive="programmed"))
        for name, value in (("g_min", 1.0), ("g_max", 50.0), ("w_max", 1.0), ("scale", "column"))
    },
    "DoubleArray.mapping": (
        Hardware(Gaussian(0.1)),
        Hardware(Gaussian(0.1), DoubleArray(mapping="two-sided")),
    ),
    "DoubleArray.inactive": (
        Hardware(Gaussian(0.1), DoubleArray(g_min=0.0)),
        Hardware(Gaussian(0.1), DoubleArray(g_min=0.0, inactive="disconnected")),
    ),
    "DoubleArray.zero_state": (
        Hardware(Gaussian(0.1), DoubleArray(g_min=30.0)),
        Hardware(Gaussian(0.1), DoubleArray(g_min=30.0, zero_state=True)),
    ),
    "SingleArray.reference": (
        Hardware(Gaussian(0.1), SingleArray()),
        Hardware(Gaussian(0.1), SingleArray(reference="constant-term")),
    ),
    "SingleArray.reference_device": (
        Hardware(Gaussian(0.1), SingleArray()),
        Hardware(Gaussian(0.1), SingleArray(reference_device="cell")),
    ),
    "BitSliced.inactive": (
        Hardware(Gaussian(0.1), BitSliced()),
        Hardware(Gaussian(0.1), BitSliced(inactive="programmed")),
    ),
    "BitSliced.weight_bits": (Hardware(array=BitSliced()), Hardware(array=BitSliced(weight_bits=4))),
    "BitSliced.cell_bits": (
        Hardware(Gaussian(0.1), BitSliced()),
        Hardware(Gaussian(0.1), BitSliced(cell_bits=4)),
    ),
    "BitSliced.quantise": (Hardware(array=BitSliced()), Hardware(array=BitSliced(quantise=False))),
}


@pytest.mark.parametrize("name", ["linear", "conv"])
@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_moves_the_output(name, knob):
    layer, x = made(name)
    outputs = [fabricate(program(layer, hardware), 3)(x) for hardware in KNOBS[knob]]
    assert not torch.allclose(*outputs)


def test_every_numeric_field_of_devices_and_arrays_has_a_knob_test():
    """Inherited fields count for every class; bit slicing allows one mapping and no zero state."""
    kinds = (Gaussian, Lognormal, StuckAt, DoubleArray, SingleArray, BitSliced)
    named = {f"{kind.__name__}.{field.name}" for kind in kinds for field in fields(kind)}
    assert set(KNOBS) == named - {"BitSliced.mapping", "BitSliced.zero_state"}


def test_the_same_cell_error_has_the_other_sign_behind_a_constant_term():
    layer, _ = made("linear")
    hardware = [
        Hardware(Gaussian(0.1, clip=False), SingleArray(reference=r)) for r in ("column", "constant-term")
    ]
    chips = [fabricate(program(layer, h), 3) for h in hardware]
    column, constant = (chip.read()[0] - chip.weight for chip in chips)
    torch.testing.assert_close(constant, -column, rtol=1e-3, atol=1e-6)


# --- 6. gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [*ARRAYS, BitSliced()], ids=repr)
@pytest.mark.parametrize("device", [Device(), Gaussian(0.1), Lognormal(0.1, clip=False)], ids=repr)
def test_gradients_flow_at_weights_that_are_exactly_zero(device, array):
    layer = nn.Linear(5, 3)
    nn.init.zeros_(layer.weight)
    chip = fabricate(program(layer, Hardware(device, array)), 0)
    chip(torch.ones(2, 5)).sum().backward()
    assert (chip.weight.grad != 0).all()


def test_the_gradient_through_a_chip_is_that_of_finite_differences():
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    hardware = Hardware(Lognormal(0.3, clip=False), DoubleArray(w_max=1.0))
    chip = fabricate(program(layer, hardware), 0)
    x = torch.randn(6, 4, dtype=torch.float64)

    def output(weight):
        return torch.func.functional_call(chip, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(output, layer.weight.detach().clone().requires_grad_())


def test_a_weight_whose_only_connected_cell_is_stuck_gets_no_gradient():
    layer = nn.Linear(20, 20)
    chip = fabricate(
        program(
            layer,
            Hardware(StuckAt(on=0.5), DoubleArray(g_min=0.0, w_max=1.0, inactive="disconnected")),
        ),
        0,
    )
    chip(torch.ones(1, 20)).sum().backward()
    stuck = chip.draws()["cells/stuck"][0, 0] < 0.5
    assert torch.allclose(chip.weight.grad[stuck], torch.zeros(int(stuck.sum())))
    assert (chip.weight.grad[~stuck] == 1).all()


# --- 7. bad input ---------------------------------------------------------------------------------


def test_a_network_without_a_chip_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"layer '0'.*fabricate\(model, chip\) or fresh\(model\)"):
        program(nn.Sequential(nn.Linear(2, 2)), NOISY)(torch.ones(1, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: program(m, NOISY, layers=["7"]), ValueError, ["layers", "'7'", "'0'"]),
        (lambda m: program(m, NOISY, layers=[]), ValueError, ["layers"]),
        (lambda m: program(m, NOISY, train="both"), ValueError, ["train", "'both'", "conductance"]),
        (lambda m: program(m, NOISY, train="conductance"), ValueError, ["w_max"]),
        (lambda m: program(m, IN_ARRAY_OFF, train="conductance"), ValueError, ["inactive", "'programmed'"]),
        (lambda m: program(m, NOISY, layers="0"), ValueError, ["layers", "'0'", "not one string"]),
        (lambda m: program(program(m, NOISY), NOISY), ValueError, ["already on hardware"]),
        (lambda m: program(nn.ReLU(), NOISY), ValueError, ["layers"]),
        (lambda m: program(nn.MultiheadAttention(4, 1), NOISY), TypeError, ["out_proj"]),
        (lambda m: fabricate(program(m, NOISY), -1), ValueError, ["chip", "-1", "≥ 0"]),
        (lambda m: fabricate(program(m, NOISY), 1.5), ValueError, ["chip", "1.5"]),
        (lambda m: fabricate(m, 1), ValueError, ["model", "program"]),
        (lambda m: fresh(program(m, NOISY), -1), ValueError, ["seed", "-1"]),
        (lambda m: using(m, NOISY).__enter__(), ValueError, ["model", "program"]),
        (lambda m: Hardware(device=0.1), TypeError, ["device", "0.1"]),
        (lambda m: Hardware(array=Gaussian(0.1)), TypeError, ["array", "Gaussian"]),
        (lambda m: presets("nft"), ValueError, ["nft", "nft-rram"]),
    ],
)
def test_bad_arguments_are_refused_before_any_work(call, error, words):
    with pytest.raises(error) as caught:
        call(nn.Sequential(nn.Linear(4, 3)))
    assert all(word in str(caught.value) for word in words)


# --- presets, shared layers, in-array training ----------------------------------------------------


@pytest.mark.parametrize("name", presets())
def test_every_preset_runs(name):
    model, x, _ = perceptron()
    assert fabricate(program(model, presets(name)), 0)(x).shape == (40, 3)


def test_the_nft_preset_spreads_a_weight_by_0_77763_of_sigma_times_the_largest():
    layer = nn.Linear(600, 600)
    chip = fabricate(program(layer, presets("nft-rram").with_sigma(0.2)), 0)
    error = chip.read()[0] - chip.weight
    expected = 0.77763 * 0.2 * float(layer.weight.detach().abs().max())
    assert float(error.detach().std()) == pytest.approx(expected, rel=0.005)


def test_a_layer_used_twice_is_one_array():
    shared = nn.Linear(4, 4)
    chip = fabricate(program(nn.Sequential(shared, nn.ReLU(), shared), NOISY), 0)
    assert chip[0] is chip[2] and len(crossbars(chip)) == 1


def test_a_single_layer_can_be_the_whole_model():
    assert isinstance(program(nn.Linear(2, 2), Hardware()), Crossbar)


@pytest.mark.parametrize("array", [DoubleArray(w_max=4.0), SingleArray(w_max=4.0)], ids=repr)
def test_in_array_training_exposes_conductances_in_place_of_weights(array):
    model, x, _ = network()
    chip = program(model, Hardware(array=array), train="conductance")
    assert set(plain_state(chip)) ^ set(model.state_dict()) == {
        *("0.weight", "4.weight"),
        *("0.conductance", "4.conductance"),
    }
    torch.testing.assert_close(chip(x), model(x), rtol=1e-4, atol=1e-4)
    chip(x).sum().backward()
    assert chip[0].conductance.grad.shape == array.cell_shape((4, 1, 3, 3))


def test_stuck_cells_are_stuck_in_in_array_training_too():
    hardware = Hardware(StuckAt(on=0.5), SingleArray(w_max=1.0))
    chip = fabricate(program(nn.Linear(20, 20), hardware, train="conductance"), 0)
    stuck = chip.draws()["cells/stuck"][0, 0] < 0.5
    assert (chip.read()[0][stuck] == 1.0).all() and not (chip.read()[0][~stuck] == 1.0).any()


@pytest.mark.parametrize("other", [SingleArray(w_max=4.0), DoubleArray(), DoubleArray(w_max=2.0)], ids=repr)
def test_a_network_trained_in_its_array_cannot_be_read_in_another(other):
    chip = program(nn.Linear(3, 3), Hardware(array=DoubleArray(w_max=4.0)), train="conductance")
    with pytest.raises(ValueError, match="trained"), using(chip, Hardware(array=other)):
        pass
    with using(chip, Hardware(StuckAt(on=0.1), DoubleArray(w_max=4.0))):
        fabricate(chip, 0)(torch.ones(1, 3))


def test_reading_once_gives_the_same_output_and_is_undone():
    model, x, _ = network()
    chip = fabricate(program(model, NOISY), 0)
    with reading_once(chip):
        held = chip(x)
    assert torch.equal(held, chip(x)) and all(layer.reading is None for layer in crossbars(chip))


def test_a_digital_stage_sees_input_and_output_of_its_layer():
    chip = program(nn.Linear(3, 3, bias=False), Hardware())
    chip.digital = lambda x, y: y - x
    x = torch.randn(2, 3)
    assert torch.equal(chip(x), x @ chip.weight.T - x)


def test_a_circuit_must_say_what_it_does():
    with pytest.raises(NotImplementedError):
        program(nn.Linear(2, 2), replace(Hardware(), circuit=Circuit()))(torch.ones(1, 2))


def test_a_chip_describes_itself():
    chip = program(nn.Linear(2, 2), Hardware())
    assert (
        "in_features=2" in repr(chip)
        and "chip=5" in repr(fabricate(chip, 5))
        and "fresh" in repr(fresh(chip))
    )
