"""A trim has the face of the other remedies: what it knows, what it costs, with what it goes together."""

import copy
from dataclasses import replace

import pytest
import torch

from cimlib import Hardware, evaluate
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars
from cimlib.circuits import OpAmp
from cimlib.datasets import load
from cimlib.methods import BiasRows, trim
from cimlib.networks import mlp
from cimlib.remedies import (
    BiasTrim,
    Chip,
    Composed,
    DeviceUpdates,
    Emulated,
    FaultMapping,
    Kind,
    NoiseTraining,
    Retrained,
    Samples,
)
from cimlib.training import CrossEntropy, Penalised

X, Y = load("digits", "train", 300)
BUDGET = Samples(X, Y, batch=50)
ARRAY = DoubleArray(10.0, 1000.0, w_max=1.0, zero_state=True)
OBJECTIVE = CrossEntropy(10.0)


def hardware(offset):
    circuit = OpAmp(gain=1369.0, offset=offset, at_zero=0.4859, rails=(0.05, 0.95))
    return Hardware(array=ARRAY, circuit=circuit)


CHIP = Chip(Emulated(hardware(0.015)), 3)


@pytest.fixture(scope="module")
def network():
    """Trained for amplifiers without offsets."""
    started = mlp(64, 16, 10, bias="row", seed=0)
    offline = NoiseTraining(15, 0.01, objective=OBJECTIVE, kind=Kind(hardware(0.0)))
    return Composed(offline).treat(started, CHIP, BUDGET).network


def accuracy(model, chips=(3,)):
    return float(evaluate(model, X, Y, chips=chips).accuracy[0])


def test_a_trim_gives_back_most_of_what_offsets_take_without_an_image(network):
    software = accuracy(Chip(Kind(hardware(0.0))).holds(network), (0,))
    deployed, trimmed = (
        sum(accuracy(remedy.apply(network, Chip(CHIP.kind, n), BUDGET), (n,)) for n in range(4)) / 4
        for remedy in (Composed(), BiasTrim(readings=2))
    )
    assert deployed < software - 10
    assert trimmed > software - 4
    assert BiasTrim.knows == {"this chip"}


def test_it_is_the_function_on_the_chip_and_says_what_that_took(network):
    done = BiasTrim(0.002, readings=2, seed=4).treat(network, CHIP, BUDGET)
    by_hand = CHIP.holds(network)
    took = trim(by_hand, 0.002, readings=2, seed=4)
    for one, other in zip(crossbars(done.model), crossbars(by_hand), strict=True):
        assert torch.equal(one.weight, other.weight)
    cells = sum(ARRAY.target(layer.weight).cells.numel() for layer in crossbars(by_hand))
    assert took.readings == 2 * (16 + 10) and done.costs.readings == 2
    assert done.costs.writes == took.writes / cells
    assert done.costs.tests == done.costs.passes == done.costs.images == 0
    assert done.network is network


@pytest.mark.parametrize("before", [NoiseTraining(1, 0.01, 100), FaultMapping()])
def test_it_follows_training_ahead_and_a_mapping(network, before):
    chip = Chip(Kind(hardware(0.015)), 3)
    made = Composed(before, BiasTrim()).apply(network, chip, BUDGET)
    untrimmed = before.apply(network, chip, BUDGET)
    assert {layer.chip for layer in crossbars(made)} == {3}
    assert accuracy(made) > accuracy(untrimmed)


def test_it_goes_before_pulses_on_the_device(network):
    pairs = replace(hardware(0.015), array=replace(ARRAY, zero_state=False))
    remedy = Composed(BiasTrim(), DeviceUpdates(2, batch_size=20))
    done = remedy.treat(network, Chip(Kind(pairs), 3), BUDGET)
    assert done.costs.pulses > 0 and done.costs.readings == 1 + 40


def test_it_takes_the_place_of_a_training_for_the_chip():
    with pytest.raises(ValueError, match="each step once"):
        Composed(Retrained(1), BiasTrim())


def test_biases_alone_are_trained_in_the_emulator_and_programmed(network):
    before = copy.deepcopy(network.state_dict())
    remedy = Retrained(5, 0.05, objective=BiasRows(Penalised(OBJECTIVE, 1e-5)))
    done = remedy.treat(network, CHIP, BUDGET)
    assert done.costs.tests == 1 and done.costs.passes == 5 * len(X)
    for layer in crossbars(done.model):
        assert torch.equal(layer.weight[:, :-1], before[f"{layer.name}.weight"][:, :-1])
    assert accuracy(done.model) > accuracy(CHIP.holds(network)) + 5


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: BiasTrim(error=-0.1), r"error = -0\.1"),
        (lambda: BiasTrim(readings=0), "readings = 0"),
        (lambda: BiasTrim(seed=True), "seed = True"),
    ],
)
def test_arguments_out_of_range_are_refused_when_it_is_made(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_a_network_without_biases_in_its_arrays_is_refused_before_any_work():
    with pytest.raises(ValueError, match="no bias row in layers"):
        BiasTrim().apply(mlp(64, 10, bias=False), CHIP, BUDGET)
    with pytest.raises(ValueError, match="circuit of layer"):
        BiasTrim().apply(mlp(64, 10, bias="row"), Chip(Kind(Hardware())), BUDGET)
