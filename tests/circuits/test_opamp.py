"""What must hold of amplifiers behind an array; the circuit simulator has its say in test_spice.py."""

from dataclasses import fields, replace
from math import inf, sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, fabricate, fit, load, program
from cimlib.arrays import BitSliced, Conductances, DoubleArray, SingleArray
from cimlib.circuits import Ideal, OpAmp
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, accuracy

V0, SPAN = 0.5, 0.35
REAL = OpAmp(gain=1369, gain_spread=0.2, offset=15.9e-3, at_zero=0.4859)
WIDE = replace(REAL, rails=(-1e6, 1e6))
TIGHT = replace(REAL, rails=(0.4, 0.55))
ARRAYS = {
    "pair": DoubleArray(),
    "two-sided pair": DoubleArray(mapping="two-sided"),
    "column": SingleArray(),
    "constant-term": SingleArray(reference="constant-term"),
}
LAYERS = {
    "linear": (lambda: nn.Linear(12, 5, bias=False), (3, 12)),
    "linear on a sequence": (lambda: nn.Linear(12, 5, bias=False), (2, 4, 12)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False), (2, 3, 5, 6)),
    "strided conv": (lambda: nn.Conv2d(3, 4, 3, stride=2, dilation=2, bias=False), (2, 3, 9, 9)),
}


class Op:
    """A layer's own linear map."""

    def __init__(self, layer, x):
        self.layer, self.x = layer, x

    def __call__(self, weight, bias=None, x=None):
        x = self.x if x is None else x
        return F.linear(x, weight, bias) if weight.dim() == 2 else self.layer._conv_forward(x, weight, bias)


def chip(layer, circuit, array=None, seed=3):
    return fabricate(program(layer, Hardware(array=array or DoubleArray(), circuit=circuit)), seed)


def made(kind, dtype=torch.float64):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    layer, x = make().to(dtype), torch.rand(shape, dtype=dtype)
    return layer, x


def stages(kind, circuit, array):
    """Signals of all amplifiers, and the layer's output."""
    layer, x = made(kind)
    own = chip(layer, circuit, array)
    _, g, z = own.read()
    signals = circuit.stages(op := Op(layer, x), array, g, z)
    return {name: signal.settle(op).value for name, signal in signals.items()}, own(x)


# --- the equations, in volts ----------------------------------------------------------------------


def converter(x, g, g_load, gain, offset, zero):
    """IV converter of JJAP 2024: x (batch, in) V, g (out, in), the others one a converter."""
    s, q = g.sum(-1), x @ g.T
    return ((g_load + s) * zero + gain * ((V0 + offset) * (g_load + s) - q)) / ((gain + 1) * g_load + s)


def subtractor(plus, minus, gain, offset, zero):
    """Subtractor of JJAP 2024: four equal resistors."""
    return gain / (gain + 2) * (plus - minus + V0 + 2 * offset + 2 * zero / gain)


def follower(a, gain, offset, zero):
    """Voltage follower of JJAP 2024."""
    return (gain * (a + offset) + zero) / (gain + 1)


def volts(signal):
    return V0 + SPAN * signal


@pytest.mark.parametrize("loads", [(None, None), (1e-3, None), (250.0, None), (250.0, 600.0), (1e9, None)])
@pytest.mark.parametrize("name", ARRAYS)
def test_every_stage_obeys_the_equations_of_the_paper_at_any_load(name, loads):
    array, circuit = ARRAYS[name], replace(REAL, g_load=loads[0], g_constant=loads[1])
    layer, x = made("linear")
    _, g, z = chip(layer, circuit, array).read()
    v = volts(x)
    load = float(g.scale) if loads[0] is None else loads[0]
    constant = load if loads[1] is None else loads[1]

    def amplifier(stage, at=...):
        gain = circuit.gain * torch.exp(circuit.gain_spread * z[f"{stage}_gain"][at])
        return gain, circuit.offset * z[stage][at], circuit.at_zero

    if array.structure == "pair":
        positive, negative = (converter(v, g.cells[0, i], load, *amplifier("converter", i)) for i in (0, 1))
        u = subtractor(negative, positive, *amplifier("subtractor"))
        expected = {"positive": positive, "negative": negative, "output": u}
    elif array.structure == "column":
        common = converter(v, g.reference[None], load, *amplifier("reference"))
        own = converter(v, g.cells[0, 0], load, *amplifier("converter"))
        u = subtractor(common, own, *amplifier("subtractor"))
        expected = {"reference": common, "converter": own, "output": u}
    else:  # the constant term is one more row, of conductance ``constant``
        common = converter(v, g.reference[None], constant, *amplifier("reference"))
        cells = torch.cat((g.cells[0, 0], g.cells.new_full((5, 1), constant)), 1)
        u = converter(torch.cat((v, common), 1), cells, load, *amplifier("converter"))
        expected = {"reference": common, "output": u}
    signals, output = stages("linear", circuit, array)
    assert signals.keys() == expected.keys()
    for stage, value in expected.items():
        torch.testing.assert_close(volts(signals[stage]), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(volts(output), expected["output"], rtol=1e-12, atol=0)


def test_relu_and_follower_obey_the_equations_of_the_paper():
    u = torch.linspace(0.4, 0.7, 40, dtype=torch.float64)[:, None].repeat(1, 3)
    z = {
        name: torch.tensor(values, dtype=torch.float64)
        for name, values in (
            ("comparator", [0, 1, -1]),
            ("follower", [0.5, -2, 1]),
            ("follower_gain", [1, 0, -1]),
        )
    }
    y = REAL.activation((u - V0) / SPAN, z, -1)
    a = torch.where(u > V0 - REAL.offset * z["comparator"], u, V0)
    gain = REAL.gain * torch.exp(0.2 * z["follower_gain"])
    expected = follower(a, gain, REAL.offset * z["follower"], REAL.at_zero)
    torch.testing.assert_close(volts(y), expected, rtol=1e-12, atol=0)


def test_with_infinite_gain_a_pair_adds_its_offsets_amplified_by_their_noise_gains():
    layer, x = made("linear")
    own = chip(layer, OpAmp(offset=0.01, g_load=200.0))
    _, g, z = own.read()
    plus, minus = g.cells[0]
    o_plus, o_minus = 0.01 * z["converter"]
    weighted = (volts(x) - V0) @ (plus - minus).T / 200.0
    offsets = o_minus * (1 + minus.sum(1) / 200) - o_plus * (1 + plus.sum(1) / 200) + 0.02 * z["subtractor"]
    torch.testing.assert_close(volts(own(x)), V0 + weighted + offsets, rtol=1e-12, atol=0)


def test_offsets_spread_the_outputs_of_a_pair_by_the_root_of_the_squared_noise_gains():
    """20,000 equal columns: the standard error of their standard deviation is 0.5 %."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 20_000, bias=False)
    layer.weight.data[:] = torch.randn(6)
    own = chip(layer, OpAmp(offset=5e-3, g_load=100.0))
    plus, minus = (1 + own.read()[1].cells[0].sum(-1) / 100)[:, 0].tolist()
    error = SPAN * (own(torch.zeros(1, 6))[0]).detach()
    expected = 5e-3 * sqrt(plus**2 + minus**2 + 4)
    assert float(error.std()) == pytest.approx(expected, rel=0.02)
    assert abs(float(error.mean())) < 0.03 * expected


def test_a_converter_at_ground_obeys_the_equation_of_an_inverting_amplifier():
    """V_out = (−R_f ΣGV + (1 + R_f ΣG) V_os) / (1 + (1 + R_f ΣG)/A), with V0 = 0 and no output at zero."""
    circuit = OpAmp(gain=50, offset=0.01, v_0=0.0, span=0.2, g_load=40.0)
    layer, x = made("linear")
    own = chip(layer, circuit, SingleArray())
    _, g, z = own.read()
    found = 0.2 * circuit.stages(op := Op(layer, x), SingleArray(), g, z)["converter"].settle(op).value
    cells, noise_gain = g.cells[0, 0] / 40, 1 + g.cells[0, 0].sum(1) / 40
    expected = (-0.2 * x @ cells.T + noise_gain * 0.01 * z["converter"]) / (1 + noise_gain / 50)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gain", [1369.0, inf])
def test_without_any_conductance_only_the_amplifiers_own_errors_are_left(gain):
    """Noise gain 1 of every converter; 2 where the constant-term amplifier drives a load into it."""
    circuit = OpAmp(gain=gain, offset=0.01, at_zero=0.4859)
    cells, load = torch.zeros(1, 2, 4, 6, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    layer, x = nn.Linear(6, 4, bias=False), torch.rand(3, 6, dtype=torch.float64)

    def own(noise_gain, o):
        return noise_gain * (o + (0.4859 - V0) / gain) / (1 + noise_gain / gain)

    for array in (DoubleArray(), SingleArray(), SingleArray(reference="constant-term")):
        pair = array.structure == "pair"
        g = Conductances(cells[:, : array.sides], None if pair else cells[0, 0, 0], load)
        torch.manual_seed(0)
        z = {slot: torch.randn(shape).double() for slot, (_, shape) in circuit.draws(array, (4, 6)).items()}
        o = {slot: 0.01 * value for slot, value in z.items()}
        found = SPAN * circuit(Op(layer, x), array, g, array.decode(g), None, z)
        if array.structure == "constant-term":
            expected = own(2, o["converter"]) - own(1, o["reference"]) / (1 + 2 / gain)
        else:
            minus, plus = o["converter"] if pair else (o["converter"], o["reference"])
            expected = own(2, o["subtractor"]) + (own(1, plus) - own(1, minus)) / (1 + 2 / gain)
        torch.testing.assert_close(found, expected.expand(3, 4), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("g_load", [1e-3, 1e9])
@pytest.mark.parametrize("circuit", [REAL, replace(REAL, rails=(0.05, 0.95))], ids=["free", "rails"])
@pytest.mark.parametrize("name", ARRAYS)
def test_the_smallest_and_the_largest_load_give_finite_outputs_and_gradients(name, circuit, g_load):
    layer, x = made("linear", torch.float32)
    own = chip(layer, replace(circuit, g_load=g_load), ARRAYS[name])
    y = own(x)
    y.square().sum().backward()
    assert y.isfinite().all() and own.weight.grad.isfinite().all()


# --- limits: a perfect amplifier is none ----------------------------------------------------------

IDENTICAL = {
    "linear": (lambda: nn.Linear(784, 256, bias=False), (128, 784)),
    "conv": (lambda: nn.Conv2d(64, 128, 3, padding=1, bias=False), (4, 64, 14, 14)),
    "conv with groups": (lambda: nn.Conv2d(64, 128, 3, groups=4, bias=False), (4, 64, 14, 14)),
}


@pytest.mark.parametrize("kind", IDENTICAL)
@pytest.mark.parametrize("name", ARRAYS)
def test_amplifiers_of_infinite_gain_are_the_digital_layer_bit_for_bit(name, kind):
    torch.manual_seed(0)
    make, shape = IDENTICAL[kind]
    layer, x, array = make(), torch.rand(shape), ARRAYS[name]
    y = layer(x)
    for circuit in (OpAmp(), OpAmp(gain_spread=0.3, at_zero=0.4, backward="ideal")):
        for g_load in (None, float(array.target(layer.weight).scale)):
            assert torch.equal(chip(layer, replace(circuit, g_load=g_load), array)(x), y)


def test_offsets_behind_infinite_gain_leave_the_weights_as_they_are_to_the_last_bit():
    torch.manual_seed(0)
    layer, x = nn.Linear(784, 256, bias=False), torch.rand(128, 784)
    own = chip(layer, OpAmp(offset=0.01))
    constant = own.hardware.circuit.stages(Op(layer, x), DoubleArray(), *own.read()[1:])["output"].constant
    assert torch.equal(own(x), F.linear(x, layer.weight, constant))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_the_error_of_a_finite_gain_vanishes_as_its_inverse(name, kind):
    layer, x = made(kind)
    errors = [
        float((chip(layer, OpAmp(gain=gain, at_zero=0.45), ARRAYS[name])(x) - layer(x)).detach().abs().max())
        for gain in (1e5, 1e7, 1e9)
    ]
    assert errors[0] > 1e-6
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.01) == errors[1] / errors[2]


@pytest.mark.parametrize("gain", [1369.0, inf])
@pytest.mark.parametrize("name", ARRAYS)
def test_half_the_offset_moves_a_chip_half_as_far_and_none_not_at_all(name, gain):
    layer, x = made("conv")
    circuit = OpAmp(gain=gain, at_zero=0.45)
    none = chip(layer, circuit, ARRAYS[name])(x)
    assert torch.equal(none, chip(layer, circuit, ARRAYS[name], seed=4)(x))
    full, half = (chip(layer, replace(circuit, offset=o), ARRAYS[name])(x) - none for o in (0.02, 0.01))
    torch.testing.assert_close(full, 2 * half, rtol=1e-9, atol=1e-13)
    assert full.abs().max() > 0.01


# --- rails ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_the_fold_is_what_the_stages_give_one_by_one_between_rails_that_never_act(name, kind):
    folded, y = stages(kind, REAL, ARRAYS[name])
    single, z = stages(kind, WIDE, ARRAYS[name])
    for stage in folded:
        torch.testing.assert_close(folded[stage], single[stage], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12)


def test_the_fold_of_a_pair_is_that_of_its_stages_with_groups_too():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 8, 3, groups=2, bias=False).double(), torch.rand(2, 4, 6, 6).double()
    torch.testing.assert_close(chip(layer, REAL)(x), chip(layer, WIDE)(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_rails_hold_every_stage_and_a_clipped_one_is_exactly_there(name, kind):
    array, circuit = ARRAYS[name], replace(TIGHT, offset=0.03, g_load=60.0)
    low, high = ((rail - V0) / SPAN for rail in TIGHT.rails)
    limited, y = stages(kind, circuit, array)
    for stage, value in limited.items():
        assert ((value >= low) & (value <= high)).all()
        assert ((value == low) | (value == high)).any(), f"{stage} is nowhere at its rails"
    assert torch.equal(y, limited["output"])


def test_a_clipped_converter_changes_what_comes_behind_it():
    """Rails act on every stage, not on the output alone."""
    array, circuit = SingleArray(), replace(REAL, gain_spread=0.0, offset=0.0)
    free, y = stages("linear", circuit, array)
    limited, z = stages("linear", replace(circuit, rails=(0.3, 0.95)), array)
    low = (0.3 - V0) / SPAN
    assert (free["converter"] < low).any() and (y > low).all() and not torch.allclose(y, z)
    torch.testing.assert_close(limited["converter"], free["converter"].clamp(min=low), rtol=1e-12, atol=0)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("rails", [None, (-20.0, 20.0), (0.4, 0.55)], ids=str)
@pytest.mark.parametrize("name", ARRAYS)
def test_the_gradient_is_that_of_finite_differences_where_no_surrogate_acts(name, rails, kind):
    """Between the rails whatever the leak, and beyond them too if it is 0."""
    array = replace(ARRAYS[name], w_max=1.0)
    circuit = replace(REAL, rails=rails, leak=0.0 if rails == (0.4, 0.55) else 0.02)
    layer, x = made(kind)
    own = chip(layer, circuit, array)
    if rails == (-20.0, 20.0):
        signals, _ = stages(kind, circuit, array)
        assert all(volts(value.abs()).max() < 20 for value in signals.values())

    def output(weight, x):
        return torch.func.functional_call(own, {"weight": weight}, (x,))

    weight = layer.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(output, (weight, x.clone().requires_grad_()))


@pytest.mark.parametrize("leak", [0.0, 0.02, 1.0])
def test_beyond_the_rails_the_gradient_is_leak_times_that_between_them(leak):
    volt = torch.tensor([-5.0, -0.1, 0.0, 0.1, 5.0], dtype=torch.float64, requires_grad=True)
    circuit = OpAmp(rails=(0.4, 0.6), leak=leak, span=0.2)
    limited = circuit.limit(volt)
    limited.sum().backward()
    assert limited.tolist() == pytest.approx([-0.5, -0.1, 0.0, 0.1, 0.5], rel=1e-15)
    assert volt.grad.tolist() == [leak, 1, 1, 1, leak]


@pytest.mark.parametrize("leak", [0.0, 0.02])
def test_a_layer_whose_outputs_all_clip_passes_leak_times_the_gradient(leak):
    """Converters between the rails, subtractors all above them."""
    layer, x = made("linear")
    layer.weight.data.abs_().add_(0.1)
    gradients, weights = [], torch.randn_like(layer(x))
    for rails in (None, (-2.0, V0 + 0.05)):
        circuit, array = replace(REAL, rails=rails, leak=leak), DoubleArray(w_max=1.0)
        own, inputs = chip(layer, circuit, array), x.clone().requires_grad_()
        y = own(inputs)
        gradients.append(torch.autograd.grad(y, (inputs, own.weight), weights))
    torch.testing.assert_close(volts(y), torch.full_like(y, V0 + 0.05))
    for unlimited, clipped in zip(*gradients, strict=True):
        torch.testing.assert_close(clipped, leak * unlimited, rtol=1e-12, atol=0)


def test_a_relu_passes_what_its_comparator_takes_for_positive_and_only_there_a_gradient():
    circuit = OpAmp(offset=0.035)  # 0.1 of the span
    x = torch.tensor([[-0.2, -0.2, -0.2], [-0.05, -0.05, -0.05], [0.05, 0.05, 0.05], [0.2, 0.2, 0.2]])
    x.requires_grad_()
    z = {name: torch.zeros(3) for name in ("follower", "follower_gain")}
    y = circuit.activation(x, {"comparator": torch.tensor([1.0, 0.0, -1.0]), **z}, -1)
    y.sum().backward()
    passed = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.float32)
    assert torch.equal(y, x * passed) and torch.equal(x.grad, passed)


def test_the_follower_of_a_blocked_relu_still_has_its_offset_and_its_rails():
    z = {"comparator": torch.zeros(2), "follower": torch.tensor([1.0, 9.0]), "follower_gain": torch.zeros(2)}
    y = OpAmp(offset=0.035, rails=(0.4, 0.605)).activation(torch.full((1, 2), -1.0), z, -1)
    torch.testing.assert_close(y, torch.tensor([[0.1, 0.3]]))


def test_activations_lie_along_the_columns_of_a_convolution():
    circuit = OpAmp(offset=0.035)
    z = {
        "comparator": torch.zeros(3),
        "follower": torch.tensor([0.0, 1.0, 2.0]),
        "follower_gain": torch.zeros(3),
    }
    y = circuit.activation(torch.full((2, 3, 4, 4), -1.0), z, -3)
    torch.testing.assert_close(y, 0.1 * torch.arange(3.0)[:, None, None].expand(2, 3, 4, 4))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_backward_ideal_has_the_outputs_of_the_circuit_and_the_gradients_of_the_perfect_layer(name, kind):
    layer, x = made(kind)
    outputs, gradients = [], []
    circuit, weights = replace(TIGHT, leak=0.0), torch.randn_like(layer(x))
    for one in (circuit, replace(circuit, backward="ideal"), Ideal()):
        own, inputs = chip(layer, one, ARRAYS[name]), x.clone().requires_grad_()
        outputs.append(own(inputs))
        gradients.append(torch.autograd.grad(outputs[-1], (inputs, own.weight), weights))
    assert torch.equal(outputs[0], outputs[1]) and not torch.allclose(outputs[0], outputs[2])
    for exact, ideal, perfect in zip(*gradients, strict=True):
        torch.testing.assert_close(ideal, perfect, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(exact, perfect)


@pytest.mark.parametrize(("leak", "learns"), [(0.0, False), (0.02, True)])
def test_a_network_that_clips_everywhere_learns_through_the_surrogate_gradient_alone(leak, learns):
    """All weights near +2: every positive converter and every subtractor is at a rail for every flower."""
    model = mlp(4, 8, 3, bias="row", seed=0)
    for weight in model.parameters():
        weight.data += 2
    hardware = Hardware(
        array=DoubleArray(g_min=0.1, w_max=10.0, zero_state=True),
        circuit=OpAmp(gain=1369, rails=(0.05, 0.95), leak=leak),
    )
    model, (x, y) = fabricate(program(model, hardware)), load("iris")
    before = [weight.detach().clone() for weight in model.parameters()]
    fit(model, CrossEntropy(scale=10), (x, y), epochs=60, lr=0.1, seed=0, batch_size=32)
    still = all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert still != learns
    reached = float(accuracy(model, x, y))
    assert reached > 85 if learns else reached < 40


# --- draws and knobs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARRAYS)
def test_there_is_one_offset_and_one_gain_for_every_amplifier_of_the_circuit(name):
    drawn = REAL.draws(ARRAYS[name], (5, 12))
    counted = dict.fromkeys(("offset", "gain"), 0)
    for slot, (distribution, shape) in drawn.items():
        assert distribution == "normal"
        counted["gain" if slot.endswith("_gain") else "offset"] += torch.Size(shape).numel()
    assert counted == dict.fromkeys(counted, ARRAYS[name].inventory(12, 5).amplifiers)


def test_a_comparator_has_an_offset_and_no_gain():
    assert set(REAL.activation_draws(5)) == {"comparator", "follower", "follower_gain"}


KNOBS = {
    "gain": (REAL, 700.0),
    "gain_spread": (REAL, 0.4),
    "offset": (REAL, 8e-3),
    "at_zero": (REAL, 0.45),
    "rails": (replace(REAL, rails=(0.05, 0.95)), (0.45, 0.6)),
    "v_0": (TIGHT, 0.45),
    "span": (REAL, 0.2),
    "g_load": (REAL, 100.0),
    "g_constant": (REAL, 100.0),
}
MOVED = [(knob, name) for knob in KNOBS for name in ARRAYS if knob != "g_constant" or name == "constant-term"]


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize(("knob", "name"), MOVED)
def test_every_knob_moves_the_output(knob, name, kind):
    layer, x = made(kind, torch.float32)
    circuit, value = KNOBS[knob]
    a, b = (chip(layer, one, ARRAYS[name])(x) for one in (circuit, replace(circuit, **{knob: value})))
    assert not torch.allclose(a, b, rtol=1e-4)


def test_every_field_has_a_knob_test_or_acts_on_gradients_alone():
    assert {field.name for field in fields(OpAmp)} == {*KNOBS, "leak", "backward"}


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        *((lambda v=v: OpAmp(gain=v), "gain") for v in (0.0, -1.0, float("nan"))),
        *((lambda v=v: OpAmp(gain_spread=v), "gain_spread") for v in (-0.1, inf, float("nan"))),
        *((lambda v=v: OpAmp(offset=v), "offset") for v in (-0.1, inf, float("nan"))),
        *((lambda v=v: OpAmp(at_zero=v), "at_zero") for v in (inf, float("nan"))),
        *((lambda v=v: OpAmp(v_0=v), "v_0") for v in (-inf, float("nan"))),
        *((lambda v=v: OpAmp(rails=v), "rails") for v in ((0.5, 1.0), (0.0, 0.4), (0.9, 0.1), (-inf, 1.0))),
        *((lambda v=v: OpAmp(span=v), "span") for v in (0.0, -0.35, inf, float("nan"))),
        *((lambda v=v: OpAmp(g_load=v), "g_load") for v in (0.0, -1.0, inf, float("nan"))),
        *((lambda v=v: OpAmp(g_constant=v), "g_constant") for v in (0.0, -1.0, inf, float("nan"))),
        *((lambda v=v: OpAmp(leak=v), "leak") for v in (-0.1, 1.1, float("nan"))),
        (lambda: OpAmp(backward="perfect"), "backward"),
        (lambda: Hardware(array=BitSliced(), circuit=OpAmp()), "array"),
        (lambda: chip(nn.Linear(3, 2), OpAmp()), "bias"),
        (lambda: chip(nn.Conv2d(4, 4, 3, groups=2, bias=False), TIGHT, SingleArray()), "groups"),
    ],
)
def test_impossible_amplifiers_are_refused_with_name_value_and_range(make, argument):
    with pytest.raises(ValueError, match=rf"^{argument} = .* is not allowed; allowed: "):
        make()
