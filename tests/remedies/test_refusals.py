"""What a remedy cannot do right is refused by name: when it is made, or before any work."""

import re

import pytest
import torch
from torch import nn

from cimlib import Hardware, evaluate
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars
from cimlib.circuits import OpAmp
from cimlib.datasets import load
from cimlib.devices import PCM, CMOReRAM, Device, Gaussian, Lognormal, RelativeDrift, StuckAt
from cimlib.methods import Retraining
from cimlib.networks import mlp
from cimlib.remedies import (
    Adjusted,
    BatchNormStatistics,
    CalibratedStages,
    Chip,
    ColumnLeastSquares,
    CommonChange,
    Compensation,
    Composed,
    DeviceUpdates,
    Emulated,
    FaultMapping,
    Freezing,
    Inspected,
    Kind,
    NoiseTraining,
    Remedy,
    Retrained,
    Samples,
    Stages,
    StagesTrainedAhead,
)
from cimlib.training import CrossEntropy

X, Y = load("digits", "train", 60)
BUDGET = Samples(X, Y, batch=30)
BROKEN = Hardware(Device(Lognormal(0.2), StuckAt(on=0.05)), DoubleArray(w_max=1.0))
AMPLIFIED = Hardware(Lognormal(0.1), DoubleArray(w_max=1.0), OpAmp(gain=1000.0, offset=0.01))


class Trained(CrossEntropy):
    """An objective that must not be reached."""

    def __call__(self, model, batch):
        raise AssertionError("training has begun")


AHEAD = NoiseTraining(1, objective=Trained())

OUT_OF_RANGE = [
    (lambda: NoiseTraining(epochs=2.0), "epochs = 2.0 is not allowed; allowed: an integer ≥ 0"),
    (lambda: NoiseTraining(epochs=-1), "epochs = -1"),
    (lambda: NoiseTraining(lr=0.0), "lr = 0.0"),
    (lambda: NoiseTraining(lr="fast"), "lr = 'fast'"),
    (lambda: NoiseTraining(images=-1), "images = -1"),
    (lambda: Retrained(epochs=1.5), "epochs = 1.5"),
    (lambda: Retrained(lr=float("nan")), "lr = nan"),
    (lambda: Retrained(images=0.5), "images = 0.5"),
    (lambda: Adjusted(epochs=0), "epochs = 0 is not allowed; allowed: an integer ≥ 1"),
    (lambda: Adjusted(weighting="hessian"), "weighting = 'hessian'"),
    (lambda: Adjusted(power=0), "power = 0"),
    (lambda: Adjusted(penalty=-1), "penalty = -1"),
    (lambda: FaultMapping(images=0), "images = 0"),
    (lambda: FaultMapping(images=10.0), "images = 10.0"),
    (lambda: Freezing(per_step=0), "per_step = 0"),
    (lambda: Freezing(lr=-1), "lr = -1"),
    (lambda: DeviceUpdates(iterations=1.0), "iterations = 1.0"),
    (lambda: DeviceUpdates(lr=0), "lr = 0"),
    (lambda: DeviceUpdates(batch_size=0), "batch_size = 0"),
    (lambda: Compensation(images=True), "images = True"),
    (lambda: BatchNormStatistics(-5), "images = -5"),
    (lambda: BatchNormStatistics(mix=0), "mix = 0 is not allowed; allowed: 0 < mix ≤ 1"),
    (lambda: ColumnLeastSquares(2.5), "images = 2.5"),
    (lambda: ColumnLeastSquares(inputs="both"), "inputs = 'both'.*'teacher'"),
    (lambda: Stages(rank=2.0), "rank = 2.0"),
    (lambda: Stages(seed=-1), "seed = -1"),
    (lambda: CalibratedStages(epochs=10.0), "epochs = 10.0"),
    (lambda: CalibratedStages(lr=0), "lr = 0"),
    (lambda: StagesTrainedAhead(epochs=0), "epochs = 0"),
    (lambda: StagesTrainedAhead(instances=1.0), "instances = 1.0"),
    (lambda: StagesTrainedAhead(check=-1), "check = -1"),
    (lambda: StagesTrainedAhead(times="1 hour", threshold=0.9), "times = '1 hour'.*a tuple"),
    (lambda: StagesTrainedAhead(times=("1 year", "1 hour"), threshold=0.9), "times = .*rising"),
    (lambda: StagesTrainedAhead(times=("soon",), threshold=0.9), "t = 'soon'"),
    (lambda: CommonChange(2.0), "instances = 2.0"),
    (lambda: Emulated(error=-1), "error = -1"),
    (lambda: Emulated(seed=0.5), "seed = 0.5"),
    (lambda: Inspected(missed=2), "missed = 2"),
    (lambda: Inspected(spares=-1), "spares = -1"),
    (lambda: Inspected(tile=(4, 0)), r"tile = \(4, 0\)"),
    (lambda: Kind(digital="fc"), "digital = 'fc'.*a tuple of names"),
    (lambda: Chip(number=-1), "number = -1"),
    (lambda: Chip(number=1.0), "number = 1.0"),
    (lambda: Chip(t="soon"), "t = 'soon'"),
    (lambda: Samples(X, Y[:-1]), r"len\(x\), len\(y\) = \(60, 59\)"),
    (lambda: Samples(X, Y, batch=2.5), "batch = 2.5"),
    (lambda: Samples(X, Y, seed=-1), "seed = -1"),
    (lambda: Samples(X / 0, Y), "x = 'not finite in .* of 60 samples'"),
    (lambda: Samples(X, Y, held_out=(X, Y[:3])), r"len\(x\), len\(y\) = \(60, 3\)"),
    (lambda: BUDGET.images(2.0), "n = 2.0"),
]


@pytest.mark.parametrize(("make", "words"), OUT_OF_RANGE, ids=[words for _, words in OUT_OF_RANGE])
def test_a_value_out_of_range_is_refused_when_the_object_is_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


OTHER_KINDS = [
    (
        lambda: Composed(Compensation),
        "remedies[0] = the class Compensation is not allowed; allowed: a Remedy",
    ),
    (lambda: Composed(Compensation(), 3), "remedies[1] = a int is not allowed"),
    (lambda: Composed([FaultMapping(), Retrained()]), "remedies[0] = a list"),
    (lambda: NoiseTraining(objective=CrossEntropy), "objective = the class CrossEntropy"),
    (lambda: NoiseTraining(kind=BROKEN), "kind = a Hardware is not allowed; allowed: a Kind"),
    (lambda: Retrained(objective="loss"), "objective = a str"),
    (lambda: DeviceUpdates(pulses=100), "pulses = a int"),
    (lambda: CalibratedStages("dora"), "stages = a str"),
    (lambda: StagesTrainedAhead(kind=BROKEN), "kind = a Hardware"),
    (lambda: CommonChange(kind=BROKEN), "kind = a Hardware"),
    (lambda: Kind(Lognormal(0.1)), "hardware = a Lognormal is not allowed; allowed: a Hardware"),
    (lambda: Kind({"1": Lognormal(0.1)}), "hardware['1'] = a Lognormal"),
    (lambda: Chip(BROKEN), "kind = a Hardware is not allowed; allowed: a Kind, such as Kind(hardware)"),
    (lambda: Samples(X.tolist(), Y), "data = a tuple is not allowed; allowed: a pair of tensors"),
    (lambda: Retrained().apply(mlp(64, 10), Kind(BROKEN), BUDGET), "chip = a Kind"),
    (lambda: Retrained().apply(mlp(64, 10), Chip(Kind(BROKEN)), (X, Y)), "budget = a tuple"),
    (lambda: Retrained().apply(Chip(Kind(BROKEN)), mlp(64, 10), BUDGET), "network = a Chip"),
]


@pytest.mark.parametrize(("make", "words"), OTHER_KINDS, ids=[words for _, words in OTHER_KINDS])
def test_something_of_another_kind_is_refused_and_named(make, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        make()


def test_composed_remedies_are_values_like_the_others():
    one, other = (Composed(FaultMapping(), Composed(Compensation("column"))) for _ in range(2))
    assert one == other and hash(one) == hash(other) and one != Composed(FaultMapping())
    assert repr(one) == f"Composed({FaultMapping()!r}, {Compensation('column')!r})"
    assert eval(repr(one)) == one and repr(Composed()) == "Composed()"
    with pytest.raises(AttributeError):
        one.remedies = ()


def test_a_remedy_that_does_nothing_is_none():
    class Idle(Remedy):
        pass

    for make in (lambda: Composed(Idle()), lambda: Idle().apply(mlp(64, 10), Chip(Kind(BROKEN)), BUDGET)):
        with pytest.raises(ValueError, match="Idle.*a step|steps of Idle"):
            make()


def tall():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def normalised():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    return model.eval()


def turned():
    return nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(162, 10))


PCM_ARRAY = Hardware(PCM(), DoubleArray(0.0, 25.0))
LATE = [
    (Compensation(), mlp(64, 10), Kind(BROKEN), "device = .*Lognormal.*cells that drift, such as PCM"),
    (Compensation(), turned(), Kind(PCM_ARRAY), "Compensation = .*ConvTranspose2d"),
    (FaultMapping("joint"), tall(), Kind(BROKEN), "routing = 'joint'.*one layer"),
    (FaultMapping(weighting="fisher", images=61), mlp(64, 10), Kind(BROKEN), "n = 61.*≤ 60"),
    (FaultMapping(), mlp(64, 10, bias="row"), Emulated(AMPLIFIED), "kind = 'Emulated'.*for FaultMapping"),
    (Adjusted(2), mlp(64, 10, bias="row"), Emulated(AMPLIFIED), "kind = 'Emulated'.*for Adjusted"),
    (Freezing(), mlp(64, 10, bias="row"), Emulated(AMPLIFIED), "kind = 'Emulated'.*for Freezing"),
    (Freezing(), mlp(64, 10), Kind(Hardware(StuckAt(0.1))), "w_max = None"),
    (Freezing(), turned(), Kind(BROKEN), "Freezing = .*ConvTranspose2d"),
    (Retrained(images=61), mlp(64, 10), Kind(BROKEN), "n = 61"),
    (DeviceUpdates(images=61), mlp(64, 10), Kind(BROKEN), "n = 61"),
    (BatchNormStatistics(), mlp(64, 10), Kind(BROKEN), "model = 'Sequential'.*BatchNorm"),
    (CalibratedStages(), turned(), Kind(PCM_ARRAY), "stage 'dora' = .*ConvTranspose2d"),
    (CalibratedStages(images=61), mlp(64, 10), Kind(PCM_ARRAY), "n = 61"),
    (StagesTrainedAhead(images=50), turned(), Kind(PCM_ARRAY), "stage 'dora' = .*ConvTranspose2d"),
    (StagesTrainedAhead(images=50, times=("1 s",), threshold=1.0), mlp(64, 10), Kind(PCM_ARRAY), "held_out"),
    (CommonChange(), turned(), Kind(PCM_ARRAY), "CommonChange = .*ConvTranspose2d"),
]


@pytest.mark.parametrize(
    ("remedy", "network", "kind", "words"), LATE, ids=[f"{n}-{words}" for n, (*_, words) in enumerate(LATE)]
)
def test_what_cannot_be_done_on_a_chip_is_refused_before_anything_is_trained(remedy, network, kind, words):
    with pytest.raises(ValueError, match=words):
        Composed(AHEAD, remedy).apply(network, Chip(kind), BUDGET)


@pytest.mark.parametrize(
    "device", [PCM(), CMOReRAM(), RelativeDrift(rho=0.1)], ids=lambda d: type(d).__name__
)
def test_a_compensation_right_after_programming_may_have_nothing_to_do(device):
    """The cells have a clock, which has not run yet: the same remedy is right at every time."""
    low, high = CMOReRAM.RANGE if isinstance(device, CMOReRAM) else (0.0, 25.0)
    chip = Chip(Kind(Hardware(device, DoubleArray(low, high))))
    made = Compensation().apply(mlp(64, 10), chip, BUDGET)
    assert all(float(layer.digital.factor) == 1 for layer in crossbars(made))


def test_amplifiers_that_are_emulated_go_with_retraining_on_whatever_the_emulator_knows():
    chip = Chip(Emulated(AMPLIFIED, error=0.001), 1)
    made = Retrained(1, 0.01, objective=CrossEntropy(10.0)).apply(mlp(64, 10, bias="row"), chip, BUDGET)
    assert 0 <= evaluate(made, X, Y, chips=[1]).accuracy[0] <= 100


@pytest.mark.parametrize("device", [PCM(), Device(StuckAt(0.1), CMOReRAM())], ids=repr)
def test_an_emulator_that_would_know_how_each_cell_was_programmed_is_refused(device):
    low, high = (0.0, 25.0) if isinstance(device, PCM) else CMOReRAM.RANGE
    hardware = Hardware(device, DoubleArray(low, high, w_max=1.0), OpAmp(gain=1000.0, offset=0.01))
    with pytest.raises(ValueError, match="device of layer '2' = .*a programming error with a sigma"):
        Retrained(1).apply(mlp(64, 10, bias="row"), Chip(Emulated(hardware)), BUDGET)


# --- layers that stay digital -----------------------------------------------------------------------


def test_designs_by_layer_warn_of_the_weights_that_they_leave_digital_unless_that_is_meant():
    network = mlp(64, 12, 10, seed=0)
    with pytest.warns(UserWarning, match=r"stay digital: 3 \(Linear, 120 weights\)"):
        half = Chip(Kind({"1": BROKEN})).holds(network)
    assert [layer.name for layer in crossbars(half)] == ["1"]
    for kind in (Kind({"1": BROKEN}, digital=("3",)), Kind(BROKEN, digital=("3",))):
        meant = Chip(kind).holds(network)  # a warning would be an error
        assert [layer.name for layer in crossbars(meant)] == ["1"]
        assert torch.equal(meant(X), half(X))


def test_everything_inside_a_module_that_is_to_stay_digital_does():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 10)))
    made = Kind(BROKEN, digital=("2",)).program(model)
    assert [layer.name for layer in crossbars(made)] == ["1"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind(BROKEN, digital=("4",)), r"digital = \('4',\)"),
        (Kind({"1": BROKEN, "3": BROKEN}, digital=("3",)), r"digital = \['3'\].*without hardware"),
        (Kind(BROKEN, digital=("1", "3")), r"layers = \[\]"),
    ],
)
def test_digital_layers_that_are_none_or_have_hardware_are_refused(kind, words):
    with pytest.raises(ValueError, match=words):
        kind.program(mlp(64, 12, 10))


def test_kinds_with_designs_by_layer_can_be_trained_for_ahead():
    """What is trained once for all chips is kept by what it depends on, the kind included."""
    design = Hardware(PCM(), DoubleArray(0.0, 25.0))
    kind = Kind({"1": design, "3": design})
    assert kind == Kind({"3": design, "1": design}) and hash(kind) == hash(Kind({"3": design, "1": design}))
    remedy = StagesTrainedAhead(Stages("vera"), 30, 1, 0.1, 2, kind=kind)
    made = [remedy.apply(mlp(64, 12, 10, seed=0), Chip(kind, n, "1 day"), BUDGET) for n in range(2)]
    first, second = (crossbars(model)[0].digital.b for model in made)
    assert torch.equal(first, second) and bool(first.any())


# --- labels and outputs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y[:, None], r"shape of y = \(.*1\).*squeeze"),
        (lambda y: y.float(), "dtype of y = torch.float32"),
        (lambda y: y - 20, r"label = (\[-\d+\]|-\d+)"),
        (lambda y: y + 20, r"label = (\[\d+\]|\d+)"),
    ],
    ids=["a column", "real", "negative", "too large"],
)
@pytest.mark.parametrize(
    "remedy",
    [
        NoiseTraining(1),
        Retrained(1, objective=Retraining()),
        FaultMapping(weighting="gradient", images=50),
        FaultMapping(weighting="fisher", images=50),
        Adjusted(2, weighting="fisher"),
        Freezing(100),
        DeviceUpdates(1),
    ],
    ids=lambda remedy: type(remedy).__name__,
)
def test_labels_that_are_no_classes_are_refused_by_name(remedy, change, words):
    with pytest.raises(ValueError, match=words):
        remedy.apply(mlp(64, 12, 10), Chip(Kind(BROKEN)), Samples(X, change(Y), batch=30))


def test_gaussian_spread_has_a_sigma_that_an_emulator_leaves_out():
    hardware = Hardware(Gaussian(0.1), DoubleArray(w_max=1.0), OpAmp(gain=1000.0))
    kind = Emulated(hardware)
    shown = kind.test(Chip(kind, 2).holds(mlp(64, 10, bias="row")), 2)
    assert {layer.hardware.cell for layer in crossbars(shown)} == {Device(Gaussian(0.0))}
