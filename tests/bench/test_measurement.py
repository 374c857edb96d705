"""What a measurement of amplifiers must find, and how well."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fit, fresh, program
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.bench import measured, noise_gains, offsets
from cimlib.chip import crossbars, fabricated
from cimlib.circuits import Ideal, OpAmp, Wires
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

ARRAYS = [DoubleArray(), SingleArray(), SingleArray(reference="constant-term")]
REAL = OpAmp(gain=500.0, gain_spread=0.3, offset=5e-3, at_zero=0.48)
MANY = 4000  # amplifiers: a standard deviation is known to 1.1 %


def chip(circuit=REAL, array=ARRAYS[0], seed=3, width=8):
    model = mlp(4, width, 3, bias="row", seed=0).double()
    return fabricate(program(model, Hardware(array=array, circuit=circuit)), seed)


def draws(model):
    """All draws of a network by layer and slot."""
    return {
        f"{module.name}.{slot.removeprefix('circuit/')}": z
        for module in fabricated(model)
        for slot, z in module.draws().items()
    }


def wrong(model, *args, **kwargs):
    """Measured minus true draws."""
    true, estimated = draws(model), draws(measured(model, *args, **kwargs))
    assert list(true) == list(estimated)
    return {name: estimated[name] - true[name] for name in true}


# --- what is found --------------------------------------------------------------------------------


@pytest.mark.parametrize("noise_gain", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.structure)
def test_readings_without_error_recover_every_offset_and_gain(array, noise_gain):
    found = wrong(chip(array=array), 0.0, noise_gain=noise_gain)
    stages = {"pair": 2 + 1, "column": 3 + 1, "constant-term": 2 + 1}[array.structure]
    assert len(found) == 2 * 2 * (stages - 1) + 3  # two layers, and three draws of a ReLU
    for name, error in found.items():
        torch.testing.assert_close(error, torch.zeros_like(error), rtol=0, atol=1e-9, msg=name)


def test_an_emulator_without_error_gives_the_outputs_of_its_chip_also_in_single_precision():
    rails = replace(REAL, rails=(0.05, 0.95))
    for model, tolerance in ((chip(rails), 1e-9), (chip(rails).float(), 1e-5)):
        x = torch.rand(20, 4, dtype=model[2].weight.dtype)
        emulator = measured(model, 0.0)
        assert emulator(x).dtype == x.dtype
        torch.testing.assert_close(emulator(x), model(x), rtol=0, atol=tolerance)


@pytest.mark.parametrize("noise_gain", [1.0, 10.0, 40.0])
def test_an_offset_is_wrong_by_the_error_of_a_reading_over_the_noise_gain_where_the_gain_is_known(noise_gain):
    error, circuit = 1e-3, replace(REAL, gain_spread=0.0)
    found = wrong(chip(circuit, width=MANY), error, noise_gain=noise_gain)
    gains = {"converter": noise_gain, "subtractor": 2.0, "follower": 1.0}
    for name in ("2.converter", "2.subtractor", "3.follower"):
        n = gains[name.split(".")[1]]
        expected = (1 + n / circuit.gain) * error / n / circuit.offset
        assert float(found[name].std()) == pytest.approx(expected, rel=0.05), name
        assert abs(float(found[name].mean())) < 4 * expected / MANY**0.5
    assert float(found["3.comparator"].std()) == pytest.approx(error / circuit.offset, rel=0.05)
    assert not any(e.any() for name, e in found.items() if name.endswith("_gain"))


def test_with_unknown_gains_errors_propagate_as_derived():
    """Gains so low that both readings tell them apart, and a prior so wide that it never binds."""
    error, n, d = 1e-5, 10.0, 0.1
    circuit = OpAmp(gain=30.0, gain_spread=0.3, offset=5e-3)
    model = chip(circuit, width=MANY)
    found, true = wrong(model, error, noise_gain=n, drive=d), draws(model)
    o = circuit.offset * true["2.converter"]
    gain = circuit.gain * torch.exp(circuit.gain_spread * true["2.converter_gain"])
    c, rho = 1 + n / gain, -n * o.abs() / d
    of_offset = c * error / n * ((1 + rho) ** 2 + rho**2).sqrt()
    of_gain = 2**0.5 * c**2 * gain / n * error / d
    for slot, unit, expected in (
        ("converter", circuit.offset, of_offset),
        ("converter_gain", circuit.gain_spread, of_gain),
    ):
        standardised = found[f"2.{slot}"] * unit / expected
        assert float(standardised.std()) == pytest.approx(1.0, rel=0.05), slot
        assert abs(float(standardised.mean())) < 0.1


@pytest.mark.parametrize("error", [1e-5, 1e-4, 1e-3, 0.1])
def test_a_measured_gain_is_never_worse_than_the_nominal_one(error):
    """Weighed against the design's spread, whatever the error of a reading."""
    model = chip(width=MANY)
    estimated, true = (draws(one)["2.converter_gain"] for one in (measured(model, error), model))
    assert float((estimated - true).std()) <= 1.01 * float(true.std())
    assert float(estimated.abs().max()) <= 4.0


def test_a_gain_that_cannot_be_measured_is_the_nominal_one():
    assert float(draws(measured(chip(width=MANY), 0.1))["2.converter_gain"].abs().max()) < 1e-3


def test_twice_the_error_is_twice_as_wrong_in_the_same_amplifiers():
    model = chip(replace(REAL, gain_spread=0.0))
    once, twice = wrong(model, 1e-3), wrong(model, 2e-3)
    for name in once:
        torch.testing.assert_close(twice[name], 2 * once[name], rtol=0, atol=1e-9)


# --- rails ----------------------------------------------------------------------------------------


def test_at_a_rail_an_offset_is_what_the_rail_lets_through_and_the_gain_is_nominal():
    rails, n = (0.3, 0.95), 10.0
    circuit = replace(REAL, offset=30e-3, rails=rails, at_zero=None)
    model = chip(circuit, width=200)
    estimated, true = draws(measured(model, 0.0, noise_gain=n)), draws(model)
    c = 1 + n / circuit.gain
    highest, lowest = (c * (rail - circuit.v_0) / n / circuit.offset for rail in reversed(rails))
    o, found = true["2.converter"], estimated["2.converter"]
    c_true = 1 + n / circuit.gain * torch.exp(-circuit.gain_spread * true["2.converter_gain"])
    output = n * circuit.offset * o / c_true + circuit.v_0
    for railed, limit in ((output > rails[1], highest), (output < rails[0], lowest)):
        assert 3 < railed.sum() < 200
        torch.testing.assert_close(found[railed], torch.full_like(found[railed], limit), rtol=0, atol=1e-9)
        assert not estimated["2.converter_gain"][railed].any()
    between = (output < rails[1]) & (output > rails[0])
    torch.testing.assert_close(found[between], o[between], rtol=0, atol=1e-9)
    assert estimated["2.converter_gain"][between].all()


def test_a_higher_noise_gain_is_more_exact_until_the_rails_are_in_the_way():
    circuit = OpAmp(gain=1e5, offset=5e-3, rails=(0.05, 0.95))
    model = chip(circuit, width=MANY)
    low, high, too_high = (
        float(wrong(model, 1e-3, noise_gain=n)["2.converter"].std()) for n in (2.0, 20.0, 500.0)
    )
    assert high < low / 5 and too_high > 10 * high


# --- what the design fixes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("circuit", "known"),
    [
        (replace(REAL, offset=0.0), "offset"),
        (replace(REAL, gain_spread=0.0), "gain"),
        (replace(REAL, gain=float("inf")), "gain"),
        (OpAmp(), "both"),
    ],
    ids=["no offset", "no spread of gains", "infinite gain", "ideal"],
)
def test_what_the_design_fixes_is_not_measured(circuit, known):
    for name, error in wrong(chip(circuit), 1e-3).items():
        of_gain = name.endswith("_gain")
        fixed = known == "both" or of_gain == (known == "gain")
        assert error.any() != fixed, name


# --- chips, copies, seeds -------------------------------------------------------------------------


def test_the_chip_stays_as_it_is_and_the_emulator_holds_none():
    model = chip(replace(REAL, rails=(0.05, 0.95)))
    before, x = copy.deepcopy(draws(model)), torch.rand(5, 4, dtype=torch.float64)
    out = model(x)
    emulator = measured(model, 1e-3)
    assert not torch.allclose(emulator(x), out)
    assert torch.equal(model(x), out) and all(
        torch.equal(z, before[name]) for name, z in draws(model).items()
    )
    assert all(module.chip is None for module in fabricated(emulator))
    assert all(module.chip == 3 for module in fabricated(model))
    assert list(emulator.state_dict()) == list(model.state_dict())


def test_cells_are_those_of_the_chip():
    hardware = Hardware(Gaussian(0.1), circuit=REAL)
    model = fabricate(program(mlp(4, 8, 3, bias="row", seed=0), hardware), 3)
    found = wrong(model, 1e-3)
    assert not any(error.any() for name, error in found.items() if "cells" in name)
    assert found["2.converter"].all()


def test_a_measurement_is_a_seed_and_every_chip_and_layer_and_stage_has_its_own_errors():
    hardware = Hardware(circuit=replace(REAL, gain_spread=0.0))
    model, errors = program(mlp(4, 500, 500, 3, bias="row", seed=0), hardware), []
    for seed, number in ((0, 3), (0, 4), (1, 3)):
        fabricate(model, number)
        found, again = wrong(model, 1e-3, seed=seed), wrong(model, 1e-3, seed=seed)
        assert all(torch.equal(found[name], again[name]) for name in found)
        for name, error in found.items():
            if error.shape[-1] == 500 and not name.endswith("_gain"):
                errors += error.reshape(-1, 500)
    correlation = torch.corrcoef(torch.stack(errors))
    assert len(errors) == 3 * 2 * 5
    assert correlation.fill_diagonal_(0).abs().max() < 0.2


def test_errors_are_not_the_draws_of_any_chip():
    model = chip(replace(REAL, gain_spread=0.0), seed=0, width=500)
    found, true = wrong(model, 1e-3, seed=0), draws(model)
    for name in ("2.converter", "2.subtractor", "3.follower", "3.comparator"):
        assert torch.corrcoef(torch.stack((found[name].flatten(), true[name].flatten())))[0, 1].abs() < 0.2


def test_errors_do_not_depend_on_which_other_layers_are_on_hardware():
    model = mlp(4, 8, 3, bias="row", seed=0)
    whole, last = (
        draws(measured(fabricate(program(model, Hardware(circuit=REAL), layers=names), 3), 1e-3))
        for names in (None, ["5"])
    )
    assert set(last) < set(whole) and all(torch.equal(z, whole[name]) for name, z in last.items())


def test_no_global_generator_is_read_or_changed():
    model = chip()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = draws(measured(model, 1e-3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert all(torch.equal(z, first[name]) for name, z in draws(measured(model, 1e-3)).items())


def test_training_in_the_emulator_of_a_chip_mends_that_chip():
    """The whole of hardware-conscious training: measure, train in software, take the weights back."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(300, 4, generator=generator)
    y = (x[:, 0] > x[:, 1]).long() + (x[:, 2] > x[:, 3]).long()
    ideal, real = (Hardware(array=DoubleArray(), circuit=OpAmp(offset=o, g_load=100.0)) for o in (0.0, 0.03))
    offline = fabricate(program(mlp(4, 16, 3, bias="row", seed=0), ideal), 3)
    fit(offline, CrossEntropy(), (x, y), epochs=60, lr=0.02, seed=0, batch_size=50)
    deployed = program(mlp(4, 16, 3, bias="row"), real)
    deployed.load_state_dict(offline.state_dict())
    fabricate(deployed, 3)
    emulator = measured(deployed, 1e-3)
    fit(emulator, CrossEntropy(), (x, y), epochs=20, lr=0.02, seed=0, batch_size=50)
    accuracy = {"offline": evaluate(offline, x, y, chips=[3]).mean}
    accuracy["deployed"] = evaluate(deployed, x, y, chips=[3]).mean
    deployed.load_state_dict(emulator.state_dict())
    accuracy["updated"] = evaluate(deployed, x, y, chips=[3]).mean
    assert accuracy["deployed"] < accuracy["offline"] - 10
    assert accuracy["updated"] > accuracy["offline"] - 3


# --- offsets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.structure)
def test_the_offsets_of_a_chip_are_listed_in_volts_by_layer_and_stage(array):
    model = chip(array=array)
    found = offsets(model)
    shapes = REAL.amplifiers(array, 8)
    assert {name: tuple(o.shape) for name, o in found.items() if name.startswith("2.")} == {
        f"2.{stage}": shape for stage, shape in shapes.items()
    }
    assert {"3.comparator", "3.follower"} < set(found)
    for name, o in found.items():
        assert torch.equal(o, REAL.offset * draws(model)[name])


def test_offsets_of_an_emulator_are_the_measured_ones():
    model, error = chip(replace(REAL, gain_spread=0.0), width=MANY), 1e-3
    true, estimated = offsets(model), offsets(measured(model, error))
    assert float((estimated["3.comparator"] - true["3.comparator"]).std()) == pytest.approx(error, rel=0.05)


def test_a_single_layer_can_be_measured():
    model = fabricate(program(nn.Linear(4, 3, bias=False), Hardware(circuit=REAL)), 3)
    assert set(offsets(measured(model, 0.0))) == {"converter", "subtractor"}


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: measured(m, -1e-3), ["error", "-0.001", "0 ≤ error < ∞ (V)"]),
        (lambda m: measured(m, float("nan")), ["error", "nan"]),
        (lambda m: measured(m, float("inf")), ["error", "inf"]),
        (lambda m: measured(m, 1e-3, noise_gain=0.5), ["noise_gain", "0.5", "1 ≤"]),
        (lambda m: measured(m, 1e-3, noise_gain=float("inf")), ["noise_gain", "inf"]),
        (lambda m: measured(m, 1e-3, drive=0.0), ["drive", "0.0", "0 <"]),
        (lambda m: measured(m, 1e-3, drive=float("inf")), ["drive", "inf"]),
        (
            lambda m: measured(chip(replace(REAL, rails=(0.3, 0.95))), 1e-3, drive=0.2),
            ["drive", "0.2", "drive < 0.2 (V)"],
        ),
        (lambda m: measured(m, 1e-3, seed=-1), ["seed", "-1"]),
        (lambda m: measured(m, 1e-3, seed=True), ["seed", "True"]),
        (lambda m: measured(fabricate(m, None), 1e-3), ["model", "fabricate(model, chip)"]),
        (lambda m: measured(fresh(m), 1e-3), ["model", "fabricate(model, chip)"]),
        (lambda m: measured(measured(m, 1e-3), 1e-3), ["model", "fabricate(model, chip)"]),
        (lambda m: measured(mlp(4, 3), 1e-3), ["model", "program(model, hardware)"]),
        (lambda m: measured(chip(Ideal()), 1e-3), ["model", "Ideal()", "OpAmp"]),
        (lambda m: measured(chip(Wires(1.0, 1.0, REAL)), 1e-3), ["model", "Wires", "OpAmp"]),
        (lambda m: noise_gains(mlp(4, 3)), ["model", "program(model, hardware)"]),
        (lambda m: noise_gains(chip(Ideal())), ["model", "Ideal()", "OpAmp"]),
        (lambda m: offsets(mlp(4, 3)), ["model", "program(model, hardware)"]),
        (lambda m: offsets(chip(Wires(1.0, 1.0, REAL))), ["model", "Wires", "OpAmp"]),
        (lambda m: offsets(fresh(m)), ["model", "fabricate(model, chip)"]),
    ],
)
def test_bad_arguments_are_refused_with_name_value_and_range(call, words):
    with pytest.raises(ValueError, match=".*") as caught:
        call(chip())
    assert all(word in str(caught.value) for word in words)


def test_an_emulator_cannot_pass_for_a_chip():
    """Evaluating draws true amplifiers; afterwards the emulator has those that were measured again."""
    model = chip()
    emulator, x = measured(model, 1e-3), torch.rand(9, 4, dtype=torch.float64)
    before, held = emulator(x), offsets(emulator)
    evaluate(emulator, x, torch.zeros(9, dtype=torch.int64), chips=[3])
    assert torch.equal(emulator(x), before) and not torch.equal(model(x), before)
    assert all(torch.equal(value, held[name]) for name, value in offsets(emulator).items())
    with pytest.raises(RuntimeError, match="fabricate"):
        offsets(fabricate(model, None))


# --- noise gains ----------------------------------------------------------------------------------


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.structure)
@pytest.mark.parametrize("g_load", [None, 50.0])
def test_a_noise_gain_is_what_multiplies_the_offset_of_a_converter(array, g_load):
    """By finite differences of the layer's output in each converter's offset, off the rails, gain ∞."""
    model = chip(replace(REAL, gain=float("inf"), gain_spread=0.0, g_load=g_load), array)
    found = noise_gains(model)
    for layer in crossbars(model):
        x = torch.rand(1, layer.weight_shape[1], dtype=torch.float64)
        slot, sides = layer.get_buffer("circuit/converter"), found[layer.name]
        for side, sign in enumerate((-1, 1) if array.structure == "pair" else (1,)):
            mine = slot[side] if array.structure == "pair" else slot
            before = layer(x).detach()
            mine += 1e-3
            moved = (layer(x).detach() - before)[0] / (1e-3 * REAL.offset / REAL.span)
            mine -= 1e-3
            expected = sign * moved if array.structure != "column" else -moved
            torch.testing.assert_close(sides[side], expected, rtol=1e-6, atol=0)


def test_of_a_pair_with_open_cells_it_is_one_and_the_weights_of_its_side():
    array = DoubleArray(1.0, 1000.0, w_max=1.0, zero_state=True)
    model = chip(array=array)
    for layer in crossbars(model):
        weight = layer.weight.detach()
        weight = weight * (weight.abs() >= 1e-3)
        expected = torch.stack([1 + side.clamp(min=0).sum(1) for side in (weight, -weight)])
        torch.testing.assert_close(noise_gains(model)[layer.name], expected)
