"""Ranges of converters: those of the signals that were shown, and a word where signals are clipped."""

import copy
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fit, fresh, load, program
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.chip import (
    Clipped,
    Mapped,
    Placement,
    calibrated,
    clipped_shares,
    reading_once,
    warn_if_clipped,
    watching_converters,
)
from cimlib.circuits import Converters, Ideal, OpAmp, Wires
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

FEW = Converters(dac_bits=6, adc_bits=7)
NOTHING = Clipped(0.0, 0.0)
TILED = Converters(dac_bits=6, adc_bits=7, rows=3)


def network(kind="mlp"):
    """A network whose hidden signals go far beyond 1, and inputs in [−1, 1]."""
    torch.manual_seed(0)
    if kind == "mlp":
        model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), 2 * torch.rand(40, 6) - 1
    elif kind == "tokens":
        model, x = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)), 2 * torch.rand(5, 7, 6) - 1
    else:
        convolutions = nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 3, stride=2)
        model, x = nn.Sequential(*convolutions), 2 * torch.rand(5, 4, 7, 7) - 1
    with torch.no_grad():
        model[0].weight.mul_(10)
    return model, x


def programmed(kind="mlp", circuit=FEW, device=None, array=None):
    model, x = network(kind)
    return program(model, Hardware(device or Gaussian(0.1), array or DoubleArray(), circuit)), x


def ranges(model):
    """(x_max, full_scale) of the layers."""
    circuits = [layer.hardware.circuit for layer in (model[0], model[2])]
    inner = [one.inner if isinstance(one, Wires) else one for one in circuits]
    return [(one.x_max, one.full_scale) for one in inner]


def inputs_of(model, x):
    """What each layer is given in a forward pass."""
    seen = []
    layers = [model[0], model[2]]
    hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in layers]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


# --- the ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize("circuit", [FEW, TILED, replace(FEW, dac_bits=None)], ids=repr)
@pytest.mark.parametrize("kind", ["mlp", "tokens", "conv"])
def test_each_layer_has_the_range_of_what_it_is_given_behind_layers_that_have_theirs(kind, circuit):
    model, x = programmed(kind, circuit)
    found = calibrated(model, x)
    ideal = fabricate(program(network(kind)[0], Hardware()))
    for layer, own in zip((ideal[0], ideal[2]), (found[0], found[2]), strict=True):
        layer.hardware = replace(own.hardware, device=ideal[0].hardware.device)
    for signal, (x_max, _) in zip(inputs_of(ideal, x), ranges(found), strict=True):
        assert x_max == float(signal.abs().max())
    assert ranges(found)[0][0] <= 1 < 5 < ranges(found)[1][0]
    assert all(shares == NOTHING for shares in clipped_shares(ideal, x).values())


@pytest.mark.parametrize(
    "array", [DoubleArray(), DoubleArray(scale="column"), SingleArray(scale="column"), BitSliced()], ids=repr
)
@pytest.mark.parametrize("circuit", [FEW, TILED], ids=repr)
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_full_scale_is_what_the_largest_output_of_a_tile_needs_and_not_less(kind, circuit, array):
    model, x = programmed(kind, circuit, Gaussian(0.0), array)
    found = calibrated(model, x)
    for number, layer in ((0, found[0]), (2, found[2])):
        circuit, seen = layer.hardware.circuit, []
        assert 0 < circuit.full_scale < 1
        smaller = copy.deepcopy(found)
        smaller[number].hardware = replace(
            layer.hardware, circuit=replace(circuit, full_scale=0.999 * circuit.full_scale)
        )
        fabricate(found), fabricate(smaller)
        seen = [clipped_shares(one, x)[str(number)].outputs for one in (found, smaller)]
        assert seen[0] == 0 < seen[1] < 0.02, "the largest one alone reaches it"


@given(percentile=st.floats(0.5, 100.0), seed=st.integers(0, 99))
def test_a_percentile_is_the_smallest_range_that_holds_as_much_of_the_inputs(percentile, seed):
    torch.manual_seed(seed)
    x = torch.randn(30, 4, dtype=torch.float64)
    layer = nn.Linear(4, 3, dtype=torch.float64)
    found = calibrated(program(layer, Hardware(circuit=FEW)), x, percentile=percentile)
    expected = np.quantile(np.abs(x.numpy()), percentile / 100, method="inverted_cdf")
    assert found.hardware.circuit.x_max == expected
    clipped = clipped_shares(fabricate(found), x)[""]
    assert max(clipped.inputs, clipped.outputs) <= 1 - percentile / 100 + 1e-9
    if percentile == 100:
        assert clipped == NOTHING


def test_a_layer_called_twice_has_one_range_for_both_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(3 * self.layer(x)) + self.layer(0 * x)

    torch.manual_seed(0)
    x = torch.rand(9, 4)
    model = program(Twice(), Hardware(circuit=Converters(dac_bits=8, adc_bits=8)))
    found = calibrated(model, x)
    perfect = program(Twice(), Hardware())
    perfect.load_state_dict(model.state_dict())
    largest = max(float(x.max()), float((3 * perfect.layer(x)).detach().abs().max()))
    assert found.layer.hardware.circuit.x_max == pytest.approx(largest, rel=0.02)
    layer = found.layer.hardware.circuit
    roomier = replace(layer, x_max=layer.x_max * (1 + 2 / 127))
    found.layer.hardware = Hardware(circuit=roomier)
    assert clipped_shares(found, x)["layer"] == NOTHING, "within two steps"


def test_what_sees_nothing_but_zeros_or_is_not_reached_keeps_its_ranges():
    class Spare(nn.Sequential):
        def forward(self, x):  # a choice by value hides from program what is called
            return self[2](0 * self[0](x)) if bool(x.isfinite().all()) else self[1](x)

    own = replace(FEW, x_max=0.7, full_scale=0.6)
    model = program(Spare(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)), Hardware(circuit=own))
    found = calibrated(model, torch.rand(5, 3))
    kept = [layer.hardware.circuit for layer in found]
    assert kept[0].x_max < 1 and kept[0] != own and kept[1] == own
    assert kept[2] == replace(own, full_scale=1.0)
    assert clipped_shares(found, torch.rand(5, 3)).keys() == {"0", "2"}


def test_layers_on_other_hardware_and_wires_around_converters_stay_what_they_are():
    model, x = network()
    wired = Hardware(Gaussian(0.1), circuit=Wires(2.0, 1.0, FEW))
    found = calibrated(program(model, {"0": wired, "2": Hardware()}), x)
    assert found[2].hardware == Hardware()
    assert found[0].hardware.device == wired.device
    outer = found[0].hardware.circuit
    assert isinstance(outer, Wires) and (outer.r_row, outer.r_col) == (2.0, 1.0)
    assert outer.inner.x_max == float(x.abs().max()) and 0 < outer.inner.full_scale < 1


def test_weights_that_lie_elsewhere_stay_where_they_are():
    model, x = programmed(circuit=TILED, device=Gaussian(0.0))
    place = Placement(
        (tuple(reversed(range(3))) + tuple(reversed(range(3, 6))),), tuple(range(8)), tile=(3, 8)
    )
    moved = copy.deepcopy(model)
    moved[0] = Mapped(moved[0], place)
    found = calibrated(moved, x)
    assert found[0].placement == place and ranges(found) == ranges(calibrated(model, x))


# --- whose signals ----------------------------------------------------------------------------------


def test_ideal_cells_give_every_chip_the_same_ranges_and_a_held_chip_has_its_own():
    model, x = programmed()
    design = ranges(calibrated(model, x))
    own = []
    for chip in (0, 1):
        fabricate(model, chip)
        assert ranges(calibrated(model, x)) == design
        found = calibrated(model, x, cells="held")
        own.append(ranges(found))
        assert [layer.chip for layer in (found[0], found[2])] == [chip, chip]
        assert all(shares == NOTHING for shares in clipped_shares(found, x).values())
    assert own[0] != own[1] and design not in own


def test_nothing_of_the_network_changes_but_its_ranges_and_only_in_the_copy():
    model, x = programmed()
    model.train()
    fresh(model, 3)
    before = [layer.hardware for layer in (model[0], model[2])]
    torch.manual_seed(0)
    wanted = fresh(copy.deepcopy(model), 3)(x)
    fresh(model, 3)
    found = calibrated(model, x)
    clipped_shares(model, x)
    assert [layer.hardware for layer in (model[0], model[2])] == before and model.training and found.training
    assert torch.equal(model(x), wanted), "nor what it draws next"
    assert found.state_dict().keys() == model.state_dict().keys()
    for layer, own in zip((found[0], found[2]), before, strict=True):
        assert layer.hardware.device == own.device and layer.hardware.array == own.array
        circuit = layer.hardware.circuit
        assert replace(circuit, x_max=1.0, full_scale=1.0) == FEW
        assert torch.equal(layer.weight, model.get_submodule(layer.name).weight)


def test_amplifiers_of_other_layers_are_those_of_the_held_chip():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
    design = {"0": Hardware(circuit=OpAmp(offset=0.01)), "2": Hardware(circuit=FEW)}
    chip, x = program(model, design), torch.rand(20, 6)
    with pytest.raises(RuntimeError, match="no chip"):
        calibrated(chip, x)
    ranges = [calibrated(fabricate(chip, k), x)[2].hardware.circuit for k in (0, 1)]
    assert ranges[0].x_max != ranges[1].x_max


# --- clipping is said -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "tokens", "conv"])
def test_shares_are_counted_at_every_converter(kind):
    circuit = replace(FEW, x_max=0.8, full_scale=0.3)
    model, x = programmed(kind, circuit)
    fabricate(model, 2)
    signals = inputs_of(model, x)
    found = clipped_shares(model, x)
    assert list(found) == ["0", "2"]
    for layer, signal, shares in zip((model[0], model[2]), signals, found.values(), strict=True):
        weight = layer.read()[0].detach()
        assert shares.inputs == pytest.approx(float((signal[signal != 0].abs() > 0.8).double().mean()))
        plain = copy.copy(layer.plain)
        plain._parameters = {"weight": nn.Parameter(weight), "bias": None}
        y = plain((signal.clamp(-0.8, 0.8) / 0.8 * 31).round() * 0.8 / 31)
        full = 0.3 * 0.8 * weight.abs().flatten(1).sum(1).max()
        assert shares.outputs == pytest.approx(float((y.abs() > full).double().mean()))
        most = y.abs().amax(-3 if kind == "conv" else -1)
        assert shares.largest == pytest.approx(float((most > full).double().mean()))
    assert 0 < found["0"].outputs < 1 and 0 < found["2"].inputs < 1


def test_a_perfect_converter_clips_nothing():
    for circuit, zero in ((replace(FEW, dac_bits=None, x_max=0.1), 0), (replace(FEW, adc_bits=None), 1)):
        model, x = programmed(circuit=circuit)
        shares = clipped_shares(fabricate(model), x)
        assert all(own[zero] == 0 for own in shares.values()) and max(map(max, shares.values())) > 0


def test_without_converters_of_few_bits_there_is_no_pass_at_all():
    class Refuses(nn.Sequential):
        def forward(self, x):
            raise AssertionError("a pass")

    for circuit in (Ideal(), Converters(), Wires(1.0, 1.0), Wires(1.0, 1.0, Converters(rows=2))):
        model = program(Refuses(nn.Linear(2, 2)), Hardware(circuit=circuit))
        assert clipped_shares(model, torch.ones(1, 2)) == {}
        warn_if_clipped(model, torch.ones(1, 2))


def test_arrays_that_have_been_read_are_not_read_again():
    model, x = programmed(circuit=Wires(1.0, 1.0, FEW))
    with reading_once(fabricate(model)):
        held = [layer.reading for layer in (model[0], model[2])]
        for layer in (model[0], model[2]):
            layer.read = None
        assert clipped_shares(model, x)["2"].inputs > 0
        assert all(layer.reading is one for layer, one in zip((model[0], model[2]), held, strict=True)), (
            "and are still read"
        )


def test_a_network_with_hidden_signals_beyond_one_says_so_and_is_as_good_as_ever_when_calibrated():
    net = mlp(64, 32, 10, seed=0)
    fit(net, CrossEntropy(), load("digits", "train"), epochs=30, lr=0.005, seed=0)
    x, y = load("digits", "test")
    ideal = evaluate(program(net, Hardware()), x, y, chips=[0]).mean
    few = program(net, Hardware(circuit=Converters(dac_bits=8)))
    found = calibrated(few, load("digits", "train")[0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_if_clipped(few, x)
        warn_if_clipped(found, x)
        warn_if_clipped(few, x, share=0.8)
        lost = [ideal - evaluate(one, x, y, chips=[0]).mean for one in (few, found)]
    ours = [str(one.message) for one in said if "converters clip" in str(one.message)]
    assert len(ours) >= 1 and re.search(r"7\d\.\d % of the inputs of layer '3'", ours[0])
    assert "layer '1'" not in ours[0] and "calibrated(model, x)" in ours[0]
    assert len(set(ours)) == 1, "one text, and none of the calibrated network"
    assert lost[0] > 20 and abs(lost[1]) < 0.5


def test_outputs_beyond_an_adc_are_named_too():
    model, x = programmed(circuit=Converters(adc_bits=8, full_scale=0.1))
    with pytest.warns(UserWarning, match=r"converters clip .*% of the outputs of layer '0'"):
        warn_if_clipped(fabricate(model), x)


def words_of(call):
    """What ``call`` says of clipping, and the files it says it of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value = call()
    return value, [(str(one.message), one.filename) for one in said if "clip" in str(one.message)]


def test_sparse_inputs_are_counted_without_their_zeros():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (200,), generator=generator)
    x = torch.zeros(200, 1000)
    x[:, 0] = 1 + 4.0 * y
    x.scatter_(1, torch.randint(2, 1000, (200, 3), generator=generator), 2.0)
    layer = nn.Linear(1000, 2)
    with torch.no_grad():
        layer.weight.zero_()[1, 0] = 1
        layer.bias.copy_(torch.tensor([3.0, 0.0]))
    model = program(layer, Hardware(circuit=Converters(dac_bits=8)))
    found, said = words_of(lambda: evaluate(model, x, y, chips=[0]).mean)
    assert found < 60 and len(said) == 1 and "of the inputs" in said[0][0]
    assert clipped_shares(fabricate(model), x)[""].inputs == int((x > 1).sum()) / int((x != 0).sum()) > 0.8
    found, said = words_of(lambda: evaluate(calibrated(model, x), x, y, chips=[0]).mean)
    assert found == 100 and not said


def test_of_many_outputs_the_largest_are_counted_by_themselves():
    torch.manual_seed(0)
    layer, y = nn.Linear(64, 300, bias=False), torch.randint(0, 300, (300,))
    with torch.no_grad():
        layer.weight.copy_(nn.functional.normalize(torch.randn(300, 64)))
    x = 3 * layer.weight.detach()[y] + 0.3 * torch.randn(300, 64)
    x = x / x.abs().max()
    results = {}
    for full_scale in (0.1, 0.3):
        model = program(
            layer, Hardware(array=DoubleArray(), circuit=Converters(8, 10, full_scale=full_scale))
        )
        results[full_scale] = words_of(lambda model=model: evaluate(model, x, y, chips=[0]).mean)
        shares = clipped_shares(fabricate(model), x)[""]
        assert shares.outputs < 0.01 and shares.largest == (1 if full_scale == 0.1 else 0)
    lost, said = results[0.1]
    assert lost < 90 and len(said) == 1 and "100.0 % of the largest outputs of layer ''" in said[0][0]
    assert results[0.3] == (100, []), "nothing is lost, and nothing said"


@pytest.mark.parametrize("size", [None, 16])
def test_evaluate_sees_every_batch_of_the_first_chip_and_says_it_once_of_the_line_that_called(size):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    x = torch.cat((0.9 * torch.rand(32, 4), 20 * torch.rand(400, 4)))
    y = layer(x).argmax(1)
    model = program(layer, Hardware(circuit=Converters(8, 8)))
    _, said = words_of(lambda: evaluate(model, x, y, chips=[3, 4], batch_size=size))
    assert len(said) == 1 and said[0][1] == __file__
    _, said = words_of(lambda: evaluate(model, x[:32], y[:32], chips=[3], batch_size=size))
    assert not said


@pytest.mark.parametrize("kind", ["mlp", "tokens", "conv"])
def test_watching_changes_no_output_computes_nothing_twice_and_is_silent_after_an_exception(kind):
    model, x = programmed(kind, replace(TILED, full_scale=0.3))
    fabricate(model, 1)
    with torch.no_grad():
        wanted = model(x)
    calls, before = [], [one.hardware for one in (model[0], model[2])]
    model[0].register_forward_hook(lambda *_: calls.append(1))
    with pytest.warns(UserWarning, match="largest outputs") as said, watching_converters(model):
        found = model(x)
    assert torch.equal(found, wanted) and len(calls) == 1 and said[0].filename == __file__
    assert [one.hardware for one in (model[0], model[2])] == before

    def interrupted():
        with watching_converters(model):
            model(x)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    with watching_converters(model, share=1.0):
        model(x)


def test_converters_of_a_class_of_their_own_are_watched_at_their_own_work():
    class Doubled(Converters):
        def __call__(self, *arguments):
            return 2 * super().__call__(*arguments)

    model, x = programmed(circuit=Doubled(6, 7, full_scale=0.3))
    wanted = fabricate(model)(x)
    with pytest.warns(UserWarning, match="clip"), watching_converters(model):
        assert torch.equal(model(x), wanted)


# --- what cannot be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: calibrated(m, x, percentile=0.0), "percentile = 0.0"),
        (lambda m, x: calibrated(m, x, percentile=101.0), "percentile = 101.0"),
        (lambda m, x: calibrated(m, x, cells="mine"), "cells = 'mine'"),
        (lambda m, x: calibrated(m, x, cells="held"), r"cells = 'held'.*fabricate\(model, chip\)"),
        (lambda m, x: calibrated(fresh(m), x, cells="held"), "cells = 'held'"),
        (lambda m, x: calibrated(m, x[:0]), r"len\(x\) = 0"),
        (lambda m, x: calibrated(m, x * float("nan")), "inputs of layer '0' = nan .*finite"),
        (lambda m, x: calibrated(m, 0 * x + torch.eye(6)[:1], percentile=50.0), "percentile = 50.0.*are 0"),
        (lambda m, x: calibrated(program(network()[0], Hardware()), x), "model = 'Sequential'.*Converters"),
        (lambda m, x: calibrated(network()[0], x), "model = 'Sequential'.*on hardware"),
        (lambda m, x: clipped_shares(network()[0], x), "model = 'Sequential'.*on hardware"),
        (lambda m, x: warn_if_clipped(m, x, share=1.5), "share = 1.5"),
        (lambda m, x: warn_if_clipped(m, x, share=float("nan")), "share = nan"),
        (lambda m, x: watching_converters(m, share=-0.1).__enter__(), "share = -0.1"),
    ],
)
def test_arguments_that_cannot_be_are_refused_by_name(call, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        call(*programmed())


def test_shares_need_a_chip_as_any_forward_pass_does():
    model, x = programmed()
    with pytest.raises(RuntimeError, match="no chip"):
        clipped_shares(model, x)
    assert isinstance(model[0].hardware.circuit, Converters) and isinstance(Clipped(0.0, 1.0), tuple)
