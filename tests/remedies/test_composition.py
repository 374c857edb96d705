"""Remedies compose in a declared order: every pair that makes sense works, and no other does."""

import copy
from itertools import pairwise, product

import pytest
import torch
from torch import nn

from cimlib import Hardware, evaluate, fit
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars
from cimlib.datasets import load
from cimlib.devices import PCM, Device, Lognormal, StuckAt
from cimlib.remedies import (
    STEPS,
    Adjusted,
    BatchNormStatistics,
    CalibratedStages,
    Chip,
    ColumnLeastSquares,
    CommonChange,
    Compensation,
    Composed,
    DeviceUpdates,
    FaultMapping,
    ForgivingMapping,
    Freezing,
    Inspected,
    Kind,
    NoiseTraining,
    Retrained,
    RetrainedForLater,
    Samples,
    Stages,
    StagesTrainedAhead,
)
from cimlib.training import CrossEntropy

pytestmark = pytest.mark.filterwarnings("ignore:.*a bound, no remedy")  # chips here have aged

X, Y = load("digits", "train", 120)
BUDGET = Samples(X, Y, batch=40, held_out=load("digits", "val", 60))
REMEDIES = [
    NoiseTraining(1, 0.01),
    FaultMapping(),
    FaultMapping(weighting="fisher", images=50),
    ForgivingMapping(),
    Adjusted(2, 0.01),
    Retrained(1, 0.01),
    Freezing(200, 0.01),
    DeviceUpdates(2, batch_size=20),
    Compensation(),
    Compensation("column", images=20),
    BatchNormStatistics(40),
    BatchNormStatistics(40, 0.5),
    ColumnLeastSquares(20),
    ColumnLeastSquares(20, "teacher"),
    CalibratedStages(Stages("lora"), 10, 3, 0.1),
    CalibratedStages(Stages("dora"), 10, 3, 0.1, "end to end"),
    CalibratedStages(Stages("vera", shared=False), 10, 3, 0.1),
    StagesTrainedAhead(Stages("vera", 4), 40, 1, 0.1, 2),
    StagesTrainedAhead(Stages("affine"), 40, 1, 0.1, 2),
    CommonChange(2),
    RetrainedForLater(1, 0.01),
]
NAMES = {id(remedy): f"{n}-{type(remedy).__name__}" for n, remedy in enumerate(REMEDIES)}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    fit(model, CrossEntropy(), (X, Y), epochs=2, lr=0.01, seed=0)
    return model.eval()


def chip(number=0):
    """A chip with broken cells that will have drifted for a year."""
    hardware = Hardware(Device(PCM(), StuckAt(on=0.02, off=0.05)), DoubleArray(0.0, 25.0, w_max=1.0))
    return Chip(Kind(hardware), number, "1 year")


def in_order(first, second):
    steps = (*first.steps, *second.steps)
    return all(STEPS.index(a) < STEPS.index(b) for a, b in pairwise(steps)) and ("pulse" not in first.steps)


@pytest.mark.parametrize(
    ("first", "second"), list(product(REMEDIES, repeat=2)), ids=lambda remedy: NAMES[id(remedy)]
)
def test_every_pair_in_order_leaves_a_network_on_the_chip_and_every_other_is_refused_by_name(
    network, first, second
):
    if not in_order(first, second):
        with pytest.raises(ValueError, match=type(second).__name__):
            Composed(first, second)
        return
    if "pulse" in second.steps:  # phase-change cells leave their range, which pulses do not know
        return
    made = Composed(first, second).apply(network, chip(3), BUDGET)
    assert {layer.chip for layer in crossbars(made)} == {3}
    assert 0 <= evaluate(made, X, Y, chips=[3]).accuracy[0] <= 100


def test_none_at_all_is_the_chip_as_it_is(network):
    done = Composed().treat(network, chip(1), BUDGET)
    assert torch.equal(done.model.eval()(X), chip(1).holds(network).eval()(X))
    assert done.network is network and done.costs.passes == done.costs.tests == 0


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: NAMES[id(remedy)])
def test_a_remedy_says_what_it_knows_and_leaves_the_network_alone(network, remedy):
    if "pulse" in remedy.steps:
        return
    before = {name: value.clone() for name, value in network.state_dict().items()}
    remedy.apply(network, chip(), BUDGET)
    assert remedy.knows and remedy.steps
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.training


@pytest.mark.parametrize(
    "remedy", [FaultMapping(), Retrained(1, 0.01), Adjusted(1, 0.01)], ids=lambda r: type(r).__name__
)
def test_updates_on_the_device_follow_what_was_done_off_the_chip(network, remedy):
    kind = Kind(Hardware(Device(Lognormal(0.2), StuckAt(on=0.02)), DoubleArray(w_max=1.0)))
    done = Composed(remedy, DeviceUpdates(2, batch_size=20)).treat(network, Chip(kind, 2), BUDGET)
    assert done.costs.pulses > 0 and done.costs.writes > 0
    assert all(layer.in_array for layer in crossbars(done.model))


def test_a_mapped_and_retrained_chip_is_compensated_for_its_drift(network):
    """Each part does its own: weights lie elsewhere, have changed, and what has faded is put right."""
    parts = FaultMapping(), Retrained(2, 0.01), Compensation()
    done = Composed(*parts).treat(network, chip(), BUDGET)
    assert done.costs.tests == 2 and done.costs.passes == 240 and done.costs.readings > 0
    accuracy = [
        evaluate(Composed(*parts[:n]).apply(network, chip(), BUDGET), X, Y, chips=[0]).accuracy[0]
        for n in range(4)
    ]
    assert len(set(accuracy)) == 4
    assert all(float(layer.digital.factor) > 1.2 for layer in crossbars(done.model))


def test_composed_remedies_know_what_their_parts_know():
    both = Composed(NoiseTraining(), Composed(FaultMapping(), Compensation()))
    assert both.steps == ("train", "map", "compensate")
    assert both.knows == {"the kind of chip", "images", "labels", "this chip"}


def test_what_is_trained_ahead_is_trained_once_also_for_designs_by_layer(network):
    """Layer by layer or one for all: the same chips, so the same set of stages."""
    one = chip().kind.hardware
    by_layer = Kind({layer.name: one for layer in crossbars(chip().holds(network))})
    for remedy in (StagesTrainedAhead(Stages("vera", 4), 40, 1, 0.1, 2), CommonChange(2)):
        made = [remedy.apply(network, Chip(kind, 0, "1 year"), BUDGET) for kind in (chip().kind, by_layer)]
        again = remedy.apply(network, Chip(by_layer, 1, "1 year"), BUDGET)
        stages = [
            {k: v for k, v in model.state_dict().items() if ".digital." in k} for model in (*made, again)
        ]
        assert stages[0] and all(torch.equal(v, other[k]) for other in stages for k, v in stages[0].items())


def test_a_network_trained_on_in_between_is_not_given_what_was_made_for_the_old_one(network):
    own = copy.deepcopy(network)
    for remedy in (StagesTrainedAhead(Stages("vera", 4), 40, 2, 0.1, 2), CommonChange(2)):
        remedy.apply(own, chip(), BUDGET)
        fit(own, CrossEntropy(), (X, Y), epochs=1, lr=0.01, seed=1)
        own.eval()
        kept, anew = (remedy.apply(model, chip(), BUDGET).state_dict() for model in (own, copy.deepcopy(own)))
        assert all(torch.equal(kept[name], value) for name, value in anew.items())


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: FaultMapping(routing="row"), "routing = 'row'.*'joint'"),
        (lambda: FaultMapping(weighting="hessian"), "weighting = 'hessian'.*'fisher'"),
        (lambda: FaultMapping(power=0), "power = 0"),
        (lambda: FaultMapping(images=-5), "images = -5"),
        (lambda: Compensation("row"), "per = 'row'.*'column'"),
        (lambda: CalibratedStages(training="end2end"), "training = 'end2end'.*'end to end'"),
        (lambda: CalibratedStages(inputs="both"), "inputs = 'both'.*'teacher'"),
        (lambda: Stages("dora", 0), "rank = 0"),
        (lambda: Stages("peft"), "kind = 'peft'.*'vera'"),
        (lambda: CommonChange(0), "instances = 0"),
        (lambda: StagesTrainedAhead(instances=0), "instances = 0"),
        (lambda: StagesTrainedAhead(times=("1 hour",)), "threshold = 0.0.*with times"),
        (lambda: Inspected(missed=1.5), r"missed = 1\.5"),
    ],
)
def test_arguments_out_of_range_are_refused_when_a_remedy_is_made(make, word):
    with pytest.raises(ValueError, match=word):
        make()


def test_a_test_cannot_err_about_what_the_cells_do_not_have(network):
    for kind, word in (
        (Inspected(Hardware(PCM(), DoubleArray(0.0, 25.0)), mismeasured=0.5), "mismeasured"),
        (Inspected(Hardware(Lognormal(0.1)), missed=0.5), r"\(0, 0\) without StuckAt"),
    ):
        with pytest.raises(ValueError, match=word):
            FaultMapping().apply(network, Chip(kind), BUDGET)
