"""What must hold of amplifiers that are auto-zeroed; ngspice has its say in tests/bench/test_transient.py."""

from dataclasses import fields, replace
from itertools import pairwise
from math import inf, sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, evaluate, fabricate, fit, fresh, load, program, using
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.bench import layers, measured
from cimlib.chip import fabricated
from cimlib.circuits import AtRest, AutoZero, Ideal, OpAmp, Signal, Wires
from cimlib.methods import trim
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

V0, SPAN, FEMTO, ATTO, NOISE = 0.5, 0.35, 1e-15, 1e-18, 2.0351774e-3  # the last: √(kT/C) of 1 fF at 300 K, V
REAL = OpAmp(gain=1369, gain_spread=0.2, offset=15.9e-3, at_zero=0.4859)
BOUND = replace(REAL, rails=(0.05, 0.95))
WIDE = replace(REAL, rails=(-1e6, 1e6))
OFF = {"offset": 0.0, "at_zero": None}
ARRAYS = {
    "pair": DoubleArray(),
    "pair by column": DoubleArray(scale="column"),
    "column": SingleArray(),
    "constant-term": SingleArray(reference="constant-term"),
}
LAYERS = {
    "linear": (lambda: nn.Linear(12, 5, bias=False), (3, 12)),
    "linear on a sequence": (lambda: nn.Linear(12, 5, bias=False), (2, 4, 12)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False), (2, 3, 5, 6)),
    "transposed conv": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, bias=False), (2, 3, 4, 4)),
}
WHERE = ("input", "output")


def chip(layer, circuit, array=None, seed=3):
    return fabricate(program(layer, Hardware(array=array or DoubleArray(), circuit=circuit)), seed)


def made(kind, dtype=torch.float64):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    return make().to(dtype), torch.rand(shape, dtype=dtype)


def output(kind, circuit, array, dtype=torch.float64, seed=3):
    layer, x = made(kind, dtype)
    return chip(layer, circuit, array, seed)(x)


# --- ideal sampling -------------------------------------------------------------------------------


@pytest.mark.parametrize("rails", [None, (0.05, 0.95), (0.4, 0.55)], ids=str)
@pytest.mark.parametrize("gain", [1369.0, inf])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_without_an_offset_there_is_nothing_to_cancel_bit_for_bit(name, kind, where, gain, rails):
    inner = OpAmp(gain=gain, gain_spread=0.2, rails=rails)
    y = output(kind, inner, ARRAYS[name], torch.float32)
    assert torch.equal(output(kind, AutoZero(inner, where), ARRAYS[name], torch.float32), y)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_perfect_sampling_of_any_offset_is_none_bit_for_bit(name, kind):
    """At the input where the gain is infinite, at the output off the rails whatever the gain."""
    infinite = replace(REAL, gain=inf)
    for circuit in (AutoZero(infinite), AutoZero(infinite, "output"), AutoZero(REAL, "output")):
        y = output(kind, replace(circuit.inner, **OFF), ARRAYS[name], torch.float32)
        assert torch.equal(output(kind, circuit, ARRAYS[name], torch.float32), y)
    rails = replace(infinite, rails=(0.05, 0.95))
    y = output(kind, replace(rails, **OFF), ARRAYS[name], torch.float32)
    assert torch.equal(output(kind, AutoZero(rails), ARRAYS[name], torch.float32), y)


@pytest.mark.parametrize("where", WHERE)
def test_by_default_it_is_the_digital_layer_bit_for_bit(where):
    layer, x = made("conv", torch.float32)
    y = layer(x)
    assert AutoZero() == AutoZero(OpAmp(), "input") and torch.equal(chip(layer, AutoZero(where=where))(x), y)


# --- the equations, in volts ----------------------------------------------------------------------

FULL = AutoZero(REAL, "input", 4 * FEMTO, 6 * ATTO, 5 * ATTO, 2e-12, 600e-9, 300)


def left(circuit, z, stage, comparator=False):
    """What an amplifier has left: what it holds as its own follower, taken off what it sees."""
    inner = circuit.inner
    gain = torch.tensor(inner.gain, dtype=torch.float64)
    if not comparator:
        gain = gain * torch.exp(inner.gain_spread * z[f"{stage}_gain"])
    error = inner.offset * z[stage] + (0.0 if comparator else (inner.at_zero - V0) / gain)
    held = gain * error / (1 + gain)
    if inner.rails is not None:
        held = (V0 + held).clamp(*inner.rails) - V0
    charge = circuit.charge + circuit.charge_spread * z[f"{stage}_charge"] - circuit.leakage * circuit.hold
    held = held + charge / circuit.capacitor
    noise = NOISE * sqrt(circuit.temperature / 300 * FEMTO / circuit.capacitor)
    return error - (held + noise * z[f"{stage}_noise"])


@pytest.mark.parametrize("rails", [None, (0.05, 0.95), (0.49, 0.95)], ids=str)
def test_what_is_left_of_an_error_is_what_the_two_phases_leave(rails):
    circuit = replace(FULL, inner=replace(REAL, rails=rails))
    _, _, z = chip(made("linear")[0], circuit).read()
    for stage in ("converter", "subtractor"):
        torch.testing.assert_close(circuit.residue(z, stage), left(circuit, z, stage), rtol=1e-5, atol=1e-9)
    z = {slot: torch.randn(5).double() for slot in circuit.activation_draws(5)}
    for stage in ("comparator", "follower"):
        expected = left(circuit, z, stage, stage == "comparator")
        torch.testing.assert_close(circuit.residue(z, stage), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("rails", [None, (0.05, 0.95)], ids=["free", "rails"])
@pytest.mark.parametrize("name", ["pair", "column", "constant-term"])
def test_at_the_input_each_error_is_replaced_by_what_is_left_of_it(name, rails):
    """Amplifiers of an offset of 1 V, whose draws are what is left, give the same."""
    array, circuit = ARRAYS[name], replace(FULL, inner=replace(REAL, rails=rails))
    layer, x = made("linear")
    own = chip(layer, circuit, array)
    y, (_, _, z) = own(x), own.read()
    alone = chip(layer, replace(circuit.inner, offset=1.0, at_zero=None), array)
    for stage in circuit.inner.amplifiers(array, 5):
        alone.get_buffer(f"circuit/{stage}").copy_(left(circuit, z, stage))
    torch.testing.assert_close(alone(x), y, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ARRAYS)
def test_at_the_output_that_of_rows_at_rest_is_subtracted(name, kind):
    """By rows that are at rest, computed as any others; what the plate rises by is not multiplied."""
    layer, x = made(kind)
    circuit = replace(FULL, where="output")
    for inner in (REAL, WIDE, BOUND, replace(REAL, rails=(0.45, 0.55), offset=0.03)):
        own = chip(layer, replace(circuit, inner=inner), ARRAYS[name])
        _, _, z = own.read()
        charge = 6 * ATTO + 5 * ATTO * z["sampled_charge"] - 2e-12 * 600e-9
        rise = (charge / (4 * FEMTO) + NOISE / 2 * z["sampled_noise"]) / SPAN
        alone = chip(layer, inner, ARRAYS[name])
        expected = alone(x) - alone(torch.zeros_like(x)) + Signal(x, 1 - layer.weight.dim()).columns(rise)
        torch.testing.assert_close(own(x), expected, rtol=1e-5, atol=2e-6)


def test_rows_at_rest_give_zeros_for_each_column_and_a_bias_if_there_is_one():
    rest = AtRest(torch.ones(2, 3, 5, 5))
    assert torch.equal(rest(torch.ones(4, 3, 2, 2)), torch.zeros(4, 1, 1))
    assert torch.equal(rest(torch.ones(4, 3), torch.arange(4.0)), torch.arange(4.0))


def test_a_bias_row_rests_too():
    """Its cells are in every noise gain, and its signal in none of what was sampled."""
    model = mlp(4, 3, bias="row", seed=0).double()
    circuit = AutoZero(replace(BOUND, offset=5e-3), "output")
    own = fabricate(program(model, Hardware(array=DoubleArray(), circuit=circuit)), 1)
    x = torch.rand(2, 4).double()
    perfect = replace(circuit.inner, **OFF)
    with using(own, replace(fabricated(own)[0].hardware, circuit=perfect)):
        y = own(x)
    torch.testing.assert_close(own(x), y, rtol=1e-9, atol=1e-12)


# --- what is multiplied, and what a pair cancels ----------------------------------------------------


def moved(circuit, weights, rows=0.0, array=None):
    """V by which a layer of ``weights`` is moved by what comes to its plates."""
    layer = nn.Linear(weights.shape[1], len(weights), bias=False).double()
    layer.weight.data[:] = weights
    x = torch.full((1, weights.shape[1]), rows).double()
    own, still = (
        chip(layer, one, array or DoubleArray(w_max=1.0, zero_state=True, g_min=0.01))
        for one in (circuit, AutoZero(circuit.inner, circuit.where))
    )
    return SPAN * (own(x) - still(x))[0].detach()


def test_a_charge_that_all_amplifiers_share_leaves_a_pair_only_if_its_noise_gains_are_equal():
    """q/C = 1 mV. Equal sides leave the subtractor's alone, twice; otherwise the difference of the sides'
    noise gains, 1 + ‖w‖₁ of each, comes too."""
    circuit = AutoZero(OpAmp(), capacitor=10 * FEMTO, charge=10 * ATTO)
    equal, unequal = torch.tensor([[0.7, -0.7, 0.0], [0.9, 0.3, -0.2]]).double()
    found = moved(circuit, torch.stack((equal, unequal)))
    difference = 1.2 - 0.2
    expected = torch.tensor([-2e-3, -2e-3 + 1e-3 * difference]).double()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_a_mismatch_of_charges_stays_however_equal_the_noise_gains_are():
    """The root of the squared noise gains of all three amplifiers; 20,000 columns."""
    circuit = AutoZero(OpAmp(), capacitor=10 * FEMTO, charge_spread=10 * ATTO)
    found = moved(circuit, torch.tensor([[0.7, -0.7]]).double().repeat(20_000, 1))
    n = 1.7
    assert float(found.std()) == pytest.approx(1e-3 * sqrt(2 * n**2 + 4), rel=0.02)
    assert abs(float(found.mean())) < 0.03 * float(found.std())


@pytest.mark.parametrize(("where", "factor"), [("input", sqrt(2 * 1.7**2 + 4)), ("output", 1.0)])
def test_noise_of_sampling_is_multiplied_at_the_input_and_not_at_the_output(where, factor):
    circuit = AutoZero(OpAmp(), where, FEMTO, temperature=300)
    found = moved(circuit, torch.tensor([[0.7, -0.7]]).double().repeat(20_000, 1))
    assert float(found.std()) == pytest.approx(NOISE * factor, rel=0.02)


@pytest.mark.parametrize("where", WHERE)
def test_what_leaks_grows_with_the_time_it_is_held(where):
    """1 pA for 600 ns is 0.035 mV on 17 fF."""
    weights = torch.tensor([[0.5, 0.2, -0.1]]).double()
    circuit = AutoZero(OpAmp(), where, 17 * FEMTO, leakage=1e-12, hold=600e-9)
    once, twice = (moved(replace(circuit, hold=hold), weights) for hold in (600e-9, 1200e-9))
    torch.testing.assert_close(twice, 2 * once)
    times = -1.0 if where == "output" else 1.1 - 1.7 + 2
    assert float(once) == pytest.approx(times * 1e-12 * 600e-9 / (17 * FEMTO), rel=2e-2)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("knob", [{"charge": 6 * ATTO}, {"charge_spread": 6 * ATTO}, {"temperature": 300.0}])
def test_a_larger_capacitor_is_never_worse(where, knob):
    """On the same chip, where nothing but the capacitor differs, and down to what perfect sampling leaves."""
    circuit = AutoZero(REAL, where, **knob, capacitor=1.0)
    limit = output("linear", AutoZero(REAL, where), DoubleArray())
    errors = [
        (output("linear", replace(circuit, capacitor=c * FEMTO), DoubleArray()) - limit).abs()
        for c in (0.1, 1, 4, 17, 100, 1e6)
    ]
    for smaller, larger in pairwise(errors):
        assert (larger < smaller).all()
    assert errors[-1].max() < 1e-4 < errors[0].min()


# --- headroom -------------------------------------------------------------------------------------


def test_an_output_is_not_cancelled_where_a_converter_was_at_a_rail_when_it_was_sampled():
    """Offsets large enough: the converter of one side clips at rest already."""
    layer, x = made("linear")
    tight = replace(REAL, offset=0.05, rails=(0.45, 0.55))
    free, bound = (chip(layer, AutoZero(inner, "output")) for inner in (replace(tight, rails=None), tight))
    perfect = chip(layer, replace(tight, **OFF, rails=None))
    torch.testing.assert_close(free(x), perfect(x), rtol=1e-12, atol=1e-12)
    assert (bound(x) - perfect(x)).abs().mean() * SPAN > 0.02
    wide = chip(layer, AutoZero(replace(tight, rails=(-10.0, 10.0)), "output"))
    torch.testing.assert_close(wide(x), perfect(x), rtol=1e-9, atol=1e-9)


def test_the_input_capacitor_holds_no_more_than_the_rails_let_through():
    """An offset of 0.1 V over rails 0.05 V away leaves 0.05 V, and one of 0.04 V nothing."""
    circuit = AutoZero(OpAmp(offset=0.1, rails=(0.45, 0.55)))
    z = {"follower": torch.tensor([1.0, 0.4, -1.0]), "follower_gain": torch.zeros(3)}
    z |= {f"follower_{kind}": torch.zeros(3) for kind in ("charge", "noise")}
    torch.testing.assert_close(circuit.residue(z, "follower"), torch.tensor([0.05, 0.0, -0.05]))


@pytest.mark.parametrize("where", WHERE)
def test_rails_hold_every_amplifier_in_the_active_phase(where):
    layer, x = made("linear")
    circuit = AutoZero(replace(REAL, rails=(0.4, 0.55), offset=0.03), where, FEMTO, temperature=300)
    own = chip(layer, circuit)
    _, g, z = own.read()
    amplifiers, draws = circuit.equivalent(z)
    signals = amplifiers.stages(lambda w: F.linear(x, w), DoubleArray(), g, draws)
    low, high = ((rail - V0) / SPAN for rail in circuit.inner.rails)
    for signal in signals.values():
        assert ((signal.value >= low) & (signal.value <= high)).all()
    assert any(((signal.value == low) | (signal.value == high)).any() for signal in signals.values())


# --- ReLUs ----------------------------------------------------------------------------------------


def test_at_the_input_relus_are_auto_zeroed_and_at_the_output_they_are_not():
    torch.manual_seed(0)
    x = torch.linspace(-0.2, 0.2, 41)[:, None].repeat(1, 8)
    inner = OpAmp(offset=15.9e-3)
    z = {slot: torch.randn(8) for slot in AutoZero(inner).activation_draws(8)}
    assert torch.equal(AutoZero(inner).activation(x, z, -1), x.relu())
    alone = inner.activation(x, z, -1)
    assert torch.equal(AutoZero(inner, "output").activation(x, z, -1), alone)
    assert not torch.equal(alone, x.relu())
    charged = AutoZero(inner, capacitor=10 * FEMTO, charge=10 * ATTO).activation(x, z, -1)
    torch.testing.assert_close(charged, torch.where(x > 1e-3 / SPAN, x, 0.0) - 1e-3 / SPAN)


# --- chips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", ARRAYS)
def test_a_chip_has_the_amplifiers_that_it_has_without_capacitors(name, where):
    model = program(mlp(6, 5, 3, bias="row", seed=0), Hardware(array=ARRAYS[name], circuit=REAL))
    fabricate(model, 7)
    before = {module.name: dict(module.draws()) for module in fabricated(model)}
    with using(model, replace(fabricated(model)[0].hardware, circuit=AutoZero(REAL, where))):
        fabricate(model, 7)
        for module in fabricated(model):
            found = module.draws()
            new = found.keys() - before[module.name].keys()
            assert all(torch.equal(found[slot], z) for slot, z in before[module.name].items())
            assert all(slot.endswith(("_charge", "_noise")) for slot in new)
            assert bool(new) == (where == "input" or hasattr(module, "weight"))
            drawn = [found[slot] for slot in sorted(new)]
            assert not any(torch.equal(a, b) for a, b in pairwise(drawn))


def test_there_is_one_charge_and_one_noise_for_every_capacitor():
    for name, array in ARRAYS.items():
        for where in WHERE:
            drawn = AutoZero(REAL, where).draws(array, (5, 12))
            for kind in ("charge", "noise"):
                counted = sum(torch.Size(s).numel() for slot, (_, s) in drawn.items() if kind in slot)
                assert counted == (5 if where == "output" else array.inventory(12, 5).amplifiers), name
    assert set(AutoZero().activation_draws(5)) - set(OpAmp().activation_draws(5)) == {
        f"{stage}_{kind}" for stage in ("comparator", "follower") for kind in ("charge", "noise")
    }


@pytest.mark.parametrize("where", WHERE)
def test_chips_are_held_swapped_and_drawn_anew_as_others_are(where):
    torch.manual_seed(0)
    design = Hardware(array=DoubleArray(), circuit=AutoZero(BOUND, where, FEMTO, temperature=300))
    model, x = program(mlp(6, 5, 3, bias="row", seed=0), design), torch.rand(4, 6)
    one, again, other = (fabricate(model, number)(x) for number in (1, 1, 2))
    assert torch.equal(one, again) and not torch.allclose(one, other)
    fabricate(model, 1)
    with using(model, replace(design, circuit=BOUND)):
        assert not torch.allclose(model(x), one)
    assert torch.equal(model(x), one)
    fresh(model, 0)
    assert not torch.equal(model(x), model(x))


def test_it_stands_in_wires_and_passes_gradients_as_the_amplifiers_do():
    layer, x = made("linear")
    for where in WHERE:
        circuit = AutoZero(BOUND, where, FEMTO, temperature=300)
        assert torch.equal(chip(layer, Wires(0.0, 0.0, circuit))(x), chip(layer, circuit)(x))
        gradients = []
        for one in (replace(circuit, inner=replace(BOUND, backward="ideal")), Ideal()):
            own = chip(layer, one)
            gradients.append(torch.autograd.grad(own(x).square().sum() * 0 + own(x).sum(), own.weight)[0])
        torch.testing.assert_close(*gradients)
        array = DoubleArray(w_max=1.0)
        free = chip(layer, replace(circuit, inner=replace(REAL, rails=(-20.0, 20.0))), array)

        def by(weight, free=free):
            return torch.func.functional_call(free, {"weight": weight}, (x,))

        assert torch.autograd.gradcheck(by, layer.weight.detach().clone().requires_grad_())


def test_in_inference_it_gives_what_it_gives_in_training():
    for kind in LAYERS:
        for where in WHERE:
            layer, x = made(kind)
            own = chip(layer, AutoZero(BOUND, where, FEMTO, temperature=300))
            y = own(x)
            with torch.no_grad():
                torch.testing.assert_close(own(x), y, rtol=1e-12, atol=1e-12)


# --- a network ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def perceptron():
    """Trained on digits, digitally."""
    model, data = mlp(64, 32, 10, bias="row", seed=0), load("digits")
    fit(model, CrossEntropy(scale=20), data, epochs=30, lr=0.01, seed=0, batch_size=128)
    return model


def losses(model, circuit, chips=range(5)):
    """Points lost on each chip, of what amplifiers without offset have between the same rails."""
    data = load("digits", "test")
    array = DoubleArray(g_min=1, g_max=100, w_max=1.0, zero_state=True)
    inner = getattr(circuit, "inner", circuit)
    perfect, own = (
        evaluate(program(model, Hardware(array=array, circuit=one)), *data, chips=chips).accuracy
        for one in (replace(inner, **OFF), circuit)
    )
    return perfect - own


def test_a_perceptron_behind_amplifiers_that_are_off_loses_less_when_they_are_auto_zeroed(perceptron):
    """At the input all but nothing; at the output what the rails hide."""
    inner = OpAmp(gain=1369, offset=15.9e-3, at_zero=0.4859, rails=(0.05, 0.95))
    alone = losses(perceptron, inner)
    at_input, at_output = (
        losses(perceptron, AutoZero(inner, where, 17 * FEMTO, temperature=300)) for where in WHERE
    )
    assert alone.mean() > 20 and (at_input < alone).all() and (at_output < alone).all()
    assert abs(at_input).max() < 2 < at_output.max()


# --- knobs and refusals ---------------------------------------------------------------------------

KNOBS = {
    "inner": REAL,
    "where": "output",
    "capacitor": 17 * FEMTO,
    "charge": 20 * ATTO,
    "charge_spread": 20 * ATTO,
    "leakage": 100e-12,
    "hold": 100e-9,
    "temperature": 77.0,
}


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_moves_the_output(knob, where, kind):
    circuit = replace(FULL, inner=BOUND, leakage=20e-12, where=where)
    value = "input" if knob == "where" and where == "output" else KNOBS[knob]
    value = replace(BOUND, gain=100.0) if knob == "inner" else value
    a, b = (output(kind, one, DoubleArray()) for one in (circuit, replace(circuit, **{knob: value})))
    assert not torch.allclose(a, b, rtol=1e-4)


def test_every_field_has_a_knob_test():
    assert {field.name for field in fields(AutoZero)} == set(KNOBS)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: AutoZero(where="middle"), "where"),
        *((lambda v=v: AutoZero(capacitor=v), "capacitor") for v in (0.0, -1e-15, float("nan"))),
        *((lambda v=v: AutoZero(charge=v, capacitor=FEMTO), "charge") for v in (inf, float("nan"))),
        *((lambda v=v: AutoZero(leakage=v, capacitor=FEMTO), "leakage") for v in (inf, float("nan"))),
        *((lambda v=v: AutoZero(charge_spread=v), "charge_spread") for v in (-1e-18, inf, float("nan"))),
        *((lambda v=v: AutoZero(hold=v), "hold") for v in (-1e-9, inf, float("nan"))),
        *((lambda v=v: AutoZero(temperature=v), "temperature") for v in (-1.0, inf, float("nan"))),
        (lambda: AutoZero(charge=ATTO), "capacitor"),
        (lambda: AutoZero(charge_spread=ATTO), "capacitor"),
        (lambda: AutoZero(temperature=300), "capacitor"),
        (lambda: AutoZero(leakage=1e-12, hold=1e-9), "capacitor"),
        (lambda: AutoZero(leakage=1e-12, capacitor=FEMTO), "hold"),
        (lambda: Hardware(array=BitSliced(), circuit=AutoZero()), "array"),
        (lambda: chip(nn.Linear(3, 2), AutoZero()), "bias"),
        (lambda: chip(nn.Conv2d(4, 4, 3, groups=2, bias=False), AutoZero(BOUND), SingleArray()), "groups"),
    ],
)
def test_impossible_values_are_refused_with_name_value_and_range(make, argument):
    with pytest.raises(ValueError, match=rf"^{argument} = .* is not allowed; allowed: "):
        make()


def test_what_is_no_amplifier_is_refused():
    with pytest.raises(TypeError, match=r"^inner = .*allowed: a OpAmp"):
        AutoZero(Ideal())


def test_what_knows_amplifiers_alone_refuses_it_by_name():
    """A trim, a measurement and a netlist know nothing of capacitors, and would be wrong in silence."""
    hardware = Hardware(array=DoubleArray(w_max=1.0), circuit=AutoZero(REAL))
    model = fabricate(program(mlp(4, 3, bias="row", seed=0), hardware), 1)
    for call in (trim, layers, lambda model: measured(model, 1e-3)):
        with pytest.raises(ValueError, match=r"AutoZero\(.*not allowed"):
            call(model)
