"""What a trim must mend, leave and count, and what training of the same cells must leave alone."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from cimlib import Hardware, fabricate, fit, fresh, program
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.bench import offsets
from cimlib.chip import crossbars
from cimlib.circuits import OpAmp
from cimlib.devices import Lognormal
from cimlib.methods import BiasRows, Trim, at_rest, bias_rows, trim
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

REAL = OpAmp(gain=1369.0, gain_spread=0.2, offset=0.0159, at_zero=0.4859)
ARRAYS = {
    "pair": DoubleArray(10.0, 1000.0, w_max=4.0),
    "column": SingleArray(10.0, 1000.0, w_max=4.0),
    "constant-term": SingleArray(10.0, 1000.0, w_max=4.0, reference="constant-term"),
}
NEURONS = 8 + 3
X = torch.rand(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(60) % 3


def chip(circuit=REAL, array=ARRAYS["pair"], number=3, **options):
    network = mlp(4, 8, 3, bias="row", seed=0).double()
    return fabricate(program(network, Hardware(array=array, circuit=circuit, **options)), number)


def weights(model):
    return torch.cat([layer.weight.detach().flatten() for layer in crossbars(model)])


def shown(model):
    return torch.cat([*at_rest(model).values()])


def designed(circuit=REAL, array=ARRAYS["pair"]):
    return shown(chip(replace(circuit, offset=0.0, gain_spread=0.0), array))


# --- what is mended -------------------------------------------------------------------------------


@pytest.mark.parametrize("g_load", [None, 200.0])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_off_the_rails_a_neuron_ends_where_it_was_designed_to_be(array, g_load):
    circuit = replace(REAL, g_load=g_load)
    wanted, wrong = designed(circuit, array), []
    for readings in (0, 1, 2, 3, 20):
        model = chip(circuit, array)
        if readings:
            trim(model, readings=readings)
        wrong.append(float((shown(model) - wanted).abs().max()))
    assert wrong[0] > 0.03 and wrong[-1] < 1e-6
    assert all(after < 0.2 * before for before, after in pairwise(wrong))


def test_the_bias_is_the_root_of_the_equation_of_the_amplifiers():
    """v = (v_ideal + n e)/(1 + n/A) of two converters and a subtractor, solved for the bias by scipy."""
    circuit = replace(REAL, gain_spread=0.0)
    model, wanted = chip(circuit), designed(circuit)
    layer, o = crossbars(model)[0], offsets(model)
    others, biases = layer.weight.detach()[:, :-1].clone(), layer.weight.detach()[:, -1].clone()
    k = (1000.0 - 10.0) / 4.0  # µS for a weight of 1

    def amplified(ideal, n, o):
        return (ideal + n * (o + (circuit.at_zero - circuit.v_0) / circuit.gain)) / (1 + n / circuit.gain)

    def neuron(j, b):
        v = []
        for side, sign in enumerate((1, -1)):
            g = [10.0 + k * max(sign * float(w), 0.0) for w in [*others[j], b]]
            offset = float(o[f"{layer.name}.converter"][side, j])
            v.append(amplified(-g[-1] / k * circuit.span, 1 + sum(g) / k, offset))
        return amplified(v[1] - v[0], 2.0, float(o[f"{layer.name}.subtractor"][j]))

    for j, u in enumerate(at_rest(model)[layer.name]):
        assert neuron(j, float(biases[j])) == pytest.approx(float(u), abs=1e-12)
    trim(model, readings=20)
    for j, found in enumerate(layer.weight.detach()[:, -1]):
        root = brentq(lambda b, j=j: neuron(j, b) - float(wanted[j]), -2, 2, xtol=1e-14)
        assert float(found) == pytest.approx(root, abs=1e-8)


def test_neurons_that_are_as_designed_keep_their_weights_bit_for_bit():
    alone = replace(REAL, offset=0.0, gain_spread=0.0)
    for circuit in (OpAmp(), alone, replace(alone, rails=(0.05, 0.95))):
        for array in (*ARRAYS.values(), DoubleArray(10.0, 1000.0, w_max=1.0, zero_state=True)):
            model = chip(circuit, array)
            before = weights(model)
            assert trim(model, readings=2) == Trim(2 * NEURONS, 0)
            assert torch.equal(weights(model), before)


def test_only_biases_are_written_and_each_cell_that_is_counts():
    model = chip()
    before = [layer.hardware.array.target(layer.weight.detach()).cells for layer in crossbars(model)]
    done = trim(model)
    after = [layer.hardware.array.target(layer.weight.detach()).cells for layer in crossbars(model)]
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert not any(cells[..., :-1].any() for cells in changed)
    assert done == Trim(NEURONS, sum(int(cells.sum()) for cells in changed))
    assert NEURONS <= done.writes <= 2 * NEURONS  # both cells of a pair where the sign turns


def test_a_bias_ends_where_its_range_does():
    model = chip(replace(REAL, offset=0.5), DoubleArray(10.0, 1000.0, w_max=1.0))
    trim(model, readings=5)
    biases = torch.cat([layer.weight.detach()[:, -1] for layer in crossbars(model)])
    assert float(biases.abs().max()) == 1.0


def test_an_open_cell_that_is_asked_for_less_than_its_range_stays_open():
    array = DoubleArray(10.0, 1000.0, w_max=1.0, zero_state=True)
    model, wanted = chip(array=array), designed(array=array)
    trim(model, readings=10)
    smallest = 0.01 * REAL.span  # what the smallest closed cell adds
    assert float((shown(model) - wanted).abs().max()) < 1.1 * smallest


def test_cells_that_scatter_are_mended_with_the_amplifiers():
    model, wanted = chip(device=Lognormal(0.2)), designed()
    trim(model, readings=20)
    torch.testing.assert_close(shown(model), wanted, rtol=0, atol=1e-6)


def test_what_a_reading_errs_by_is_what_is_left():
    """Of a thousand neurons the spread that is left is that of the last reading, to a tenth."""
    hardware = Hardware(array=ARRAYS["pair"], circuit=REAL)
    exact, model, again = (
        fabricate(program(mlp(4, 1000, bias="row", seed=0).double(), hardware), 1) for _ in range(3)
    )
    trim(exact, readings=20)
    trim(model, 0.01, readings=4, seed=5)
    left = shown(model) - shown(exact)
    assert float(left.std()) == pytest.approx(0.01, rel=0.1)
    assert abs(float(left.mean())) < 4 * 0.01 / 1000**0.5
    trim(again, 0.01, readings=4, seed=5)
    assert torch.equal(weights(again), weights(model))


# --- training them --------------------------------------------------------------------------------


def test_training_the_bias_rows_moves_biases_and_nothing_else():
    model = chip()
    before = [layer.weight.detach().clone() for layer in crossbars(model)]
    history = fit(model, BiasRows(CrossEntropy()), (X, Y), epochs=20, lr=0.02, seed=0)
    for old, layer in zip(before, crossbars(model), strict=True):
        assert torch.equal(layer.weight[:, :-1], old[:, :-1])
        assert int((layer.weight[:, -1] != old[:, -1]).sum()) > 1  # a ReLU that never opens learns nothing
    assert history.loss[-1] < history.loss[0]
    model(X).sum().backward()
    assert all(bool(layer.weight.grad[:, :-1].any()) for layer in crossbars(model))  # undone afterwards


def test_the_gradient_of_a_bias_is_that_of_the_whole_network():
    whole, alone = chip(), chip()
    objective = BiasRows(CrossEntropy())
    objective.setup(alone)
    for model, own in ((whole, CrossEntropy()), (alone, objective)):
        own(model, (X, Y)).backward()
    for one, other in zip(crossbars(whole), crossbars(alone), strict=True):
        assert torch.equal(one.weight.grad[:, -1], other.weight.grad[:, -1])
        assert not other.weight.grad[:, :-1].any()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"error": -1.0}, r"error = -1\.0"),
        ({"readings": 0}, "readings = 0"),
        ({"readings": 1.0}, r"readings = 1\.0"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_arguments_out_of_range_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        trim(chip(), **change)


def test_what_cannot_be_trimmed_is_refused_by_name():
    free, fixed = (Hardware(array=array, circuit=REAL) for array in (DoubleArray(), ARRAYS["pair"]))
    without = fabricate(program(mlp(4, 3, bias=False), fixed), 0)
    network = mlp(4, 8, 3, bias="row", seed=0)
    for model, word in (
        (without, "no bias row in layers"),
        (nn.Sequential(nn.Linear(4, 3)), "on hardware"),
        (fabricate(program(network, free), 0), "w_max of layer"),
        (fabricate(program(network, Hardware(array=ARRAYS["pair"])), 0), "circuit of layer"),
        (fabricate(program(network, fixed, train="conductance"), 0), "conductances in layers"),
        (fresh(chip()), "fresh errors"),
    ):
        with pytest.raises(ValueError, match=word):
            trim(model)
    with pytest.raises(RuntimeError, match="has no chip"):
        trim(fabricate(chip(), None))
    assert [layer.name for layer in bias_rows(chip())] == [layer.name for layer in crossbars(chip())]
