"""What a remedy says that it knows and has cost is what it has looked at."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cimlib import Hardware
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars
from cimlib.datasets import load
from cimlib.devices import PCM, Device, Lognormal, StuckAt
from cimlib.networks import mlp
from cimlib.remedies import (
    Adjusted,
    BatchNormStatistics,
    CalibratedStages,
    Case,
    Chip,
    ColumnLeastSquares,
    CommonChange,
    Compensation,
    Composed,
    DeviceUpdates,
    FaultMapping,
    Freezing,
    Kind,
    NoiseTraining,
    Retrained,
    RetrainedForLater,
    Samples,
    Stages,
    StagesTrainedAhead,
)

X, Y = load("digits", "train", 120)
BROKEN = Chip(Kind(Hardware(Device(Lognormal(0.2), StuckAt(on=0.05)), DoubleArray(w_max=1.0))), 3)
DRIFTED = Chip(Kind(Hardware(PCM(), DoubleArray(0.0, 25.0))), 3, "1 year")


class Hidden(Samples):
    """Samples that note how many of them are asked for, and whose labels nobody may look at, perhaps."""

    def images(self, n=0):
        x, y = super().images(n)
        return x, torch.full_like(y, -1)


def network():
    return mlp(64, 12, 10, seed=0)


def counted(remedy, chip, batch=50):
    """Images that went through the first array while the remedy acted on the chip, and the case."""
    seen = [0]

    def count(layer, inputs, output):
        seen[0] += len(inputs[0])

    case = Case(network(), chip, Samples(X, Y, batch=batch))
    model = case.model()
    crossbars(model)[0].register_forward_hook(count)
    remedy.act(model, case)
    return seen[0], case.costs


@pytest.mark.parametrize("epochs", [1, 3])
def test_training_stages_end_to_end_reads_the_chip_once_for_each_image_of_each_epoch(epochs):
    remedy = CalibratedStages(Stages("lora"), 30, epochs, 0.1, "end to end")
    seen, costs = counted(remedy, DRIFTED)
    assert costs.readings == seen == costs.passes == 30 * epochs
    assert [len(history.loss) for history in costs.histories] == [epochs] and costs.images == 30


@pytest.mark.parametrize("inputs", ["student", "teacher"])
def test_distilling_stages_gives_each_array_each_image_once(inputs):
    _, costs = counted(CalibratedStages(Stages("lora"), 30, 4, 0.1, inputs=inputs), DRIFTED)
    assert costs.readings == 30 and costs.passes == 120
    assert [len(history.loss) for history in costs.histories] == [4, 4]  # of each layer


@pytest.mark.parametrize("inputs", ["student", "teacher"])
def test_least_squares_give_each_array_each_image_once_and_train_nothing(inputs):
    seen, costs = counted(ColumnLeastSquares(30, inputs), DRIFTED)
    assert costs.readings == seen == costs.images == 30
    assert costs.passes == 0 and costs.histories == [] and (costs.sets, costs.stored) == (1, 0)


@pytest.mark.parametrize(("iterations", "batch", "images"), [(5, 50, 220), (2, 500, 240), (0, 50, 0)])
def test_pulses_count_the_images_that_they_were_found_with(iterations, batch, images):
    seen, costs = counted(DeviceUpdates(iterations, batch_size=batch), BROKEN)
    assert costs.passes == costs.readings == seen == images
    losses = [loss for history in costs.histories for loss in history.loss]
    assert len(losses) == iterations and all(loss > 0 for loss in losses)
    assert costs.images == (120 if iterations else 0)


@pytest.mark.parametrize("batch", [50, 500])
def test_freezing_counts_a_gradient_and_an_update_for_every_image_of_a_step(batch):
    seen, costs = counted(Freezing(100), BROKEN, batch)
    steps = len(costs.histories[0].loss)
    assert steps > 1 and costs.passes == seen == 2 * steps * min(batch, 120)


@pytest.mark.parametrize("weighting", ["uniform", "magnitude", "gradient", "fisher"])
def test_weights_weighed_by_a_loss_cost_a_pass_and_have_to_know_labels(weighting):
    learnt = weighting in ("gradient", "fisher")
    mapping, adjusted = FaultMapping(weighting=weighting, images=70), Adjusted(4, weighting=weighting)
    assert ({"images", "labels"} <= mapping.knows) == learnt and "this chip" in mapping.knows
    _, costs = counted(mapping, BROKEN)
    assert costs.passes == 70 * learnt and costs.tests == 1
    _, costs = counted(adjusted, BROKEN)
    assert costs.passes == (2 * 2 + 2 * learnt) * 120  # two layers, half of the epochs each
    assert [len(history.loss) for history in costs.histories] == [2, 2]


def test_what_knows_no_labels_makes_the_same_of_others():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10)).eval()
    hidden, told = (kind(X.flatten(1), Y, batch=50) for kind in (Hidden, Samples))
    for remedy in (
        Compensation(images=20),
        BatchNormStatistics(40),
        BatchNormStatistics(40, 0.5),
        ColumnLeastSquares(20),
        CalibratedStages(Stages("dora"), 20, 2, 0.1),
        CalibratedStages(Stages("dora"), 20, 2, 0.1, "end to end"),
        StagesTrainedAhead(Stages("vera"), 40, 1, 0.1, 2),
        CommonChange(2),
    ):
        assert "labels" not in remedy.knows
        made = [remedy.apply(model, DRIFTED, budget).state_dict() for budget in (hidden, told)]
        assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
    for remedy in (
        Retrained(1),
        NoiseTraining(1),
        DeviceUpdates(1),
        FaultMapping(weighting="fisher", images=20),
    ):
        assert "labels" in remedy.knows
        with pytest.raises(ValueError, match=r"label = (\[-1\]|-1) is not allowed"):
            remedy.apply(model, BROKEN, hidden)


def test_a_schedule_is_judged_by_labels_and_a_read_out_by_images_knows_images():
    scheduled = StagesTrainedAhead(times=("1 hour",), threshold=0.9)
    assert "labels" in scheduled.knows and "labels" not in StagesTrainedAhead().knows
    assert "images" in Compensation(images=5).knows and "images" not in Compensation().knows
    assert Composed(FaultMapping(weighting="fisher"), Compensation(images=5)).knows == {
        *("this chip", "images", "labels")
    }


@pytest.mark.parametrize(
    "remedy", [FaultMapping(), Retrained(1), Adjusted(2), Freezing(100)], ids=lambda r: type(r).__name__
)
def test_what_programs_a_chip_knowing_how_it_will_have_drifted_warns_that_it_is_a_bound(remedy):
    hardware = Hardware(PCM(), DoubleArray(0.0, 25.0, w_max=1.0))
    aged, samples = Chip(Kind(hardware), 3, "1 year"), Samples(X, Y, batch=50)
    with pytest.warns(
        UserWarning, match=f"{type(remedy).__name__} on a chip at t = '1 year'.*a bound, no remedy"
    ):
        remedy.apply(network(), aged, samples)
    remedy.apply(network(), replace(aged, t=""), samples)  # a warning would be an error
    assert "the drift to come" not in remedy.knows


def test_the_bound_that_is_meant_says_so():
    assert RetrainedForLater(1).knows == {*Retrained.knows, "the drift to come"}
    RetrainedForLater(1).apply(network(), DRIFTED, Samples(X, Y, batch=50))
