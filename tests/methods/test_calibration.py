"""What calibration must do: train stages alone, undo a drift that can be undone, and store what it counts."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from seam import convolutional, images
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, fabricate, fit, fresh, program
from cimlib.arrays import SingleArray
from cimlib.chip import Chain, Crossbar, DoRA, LoRA, Scale, VeRA, attach, crossbars, projections
from cimlib.chip import attachment as stages
from cimlib.circuits import Converters
from cimlib.devices import Device, Effect, Gaussian
from cimlib.methods import AdapterTraining, Schedule, compensate, distil, greedy, recalibrate_batchnorm
from cimlib.networks import evaluating, mlp
from cimlib.training import CrossEntropy, accuracy


@dataclass(frozen=True)
class Faded(Effect):
    """All conductances times one factor: a drift without spread."""

    factor: float

    def __call__(self, g, z, g_min, g_max):
        return self.factor * g


@pytest.fixture
def x():
    return images()


NOISY = Hardware(Gaussian(0.05))


def chip(model, device, number=0, **more):
    return fabricate(program(model, Hardware(device, **more)), number)


def frozen(model):
    """All that calibration must leave alone, by its name."""
    return {name: value.clone() for name, value in model.state_dict().items() if "digital." not in name}


def dora(rank=2):
    return lambda layer: DoRA(layer, rank)


# --- drift compensation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["layer", "column"])
@pytest.mark.parametrize("real", [True, False])
def test_compensation_undoes_a_drift_that_is_the_same_for_all_cells(x, per, real):
    model = convolutional()
    now, then = chip(model, Faded(0.7)), chip(model, Device())
    assert not torch.allclose(now(x), model(x), rtol=0.1)
    assert compensate(now, then, x if real else None, per=per) is now
    torch.testing.assert_close(now(x), model(x), rtol=1e-4, atol=1e-5)
    for stage in stages.adapters(now).values():
        columns = stage.layer.weight_shape[0] if per == "column" else 1
        torch.testing.assert_close(stage.factor, torch.full((columns,), 1 / 0.7))
        assert stage.stored == columns
    assert not stages.adapters(then)


@pytest.mark.parametrize("per", ["layer", "column"])
def test_read_row_by_row_it_is_the_ratio_of_mean_weights(per):
    """Also with groups, stride and biases, and for each column of it alone."""
    model = convolutional()
    now, then = chip(model, Gaussian(0.3)), chip(model, Gaussian(0.05))
    compensate(now, then, per=per)
    for layer, before in zip(crossbars(now), crossbars(then), strict=True):
        old, new = (one.read()[0].detach().abs().flatten(1) for one in (before, layer))
        if per == "layer":
            old, new = old.reshape(1, -1), new.reshape(1, -1)
        torch.testing.assert_close(layer.digital.factor, old.mean(1) / new.mean(1))


def test_with_real_inputs_it_is_the_ratio_of_mean_outputs_for_what_the_layer_received_then(x):
    model = mlp(12, 9, 4, seed=0)
    x = x[:, :1, :3, :4]
    now, then = chip(model, Gaussian(0.3)), chip(model, Gaussian(0.05))
    compensate(now, then, x, per="column")
    with torch.no_grad():
        hidden = then[:3](x)
        ratio = F.linear(hidden, then[3].read()[0]).abs().mean(0)
        ratio = ratio / F.linear(hidden, now[3].read()[0]).abs().mean(0)
    torch.testing.assert_close(now[3].digital.factor, ratio)


def test_a_column_without_current_is_not_amplified_without_end():
    layer = nn.Linear(5, 3, bias=False)
    with torch.no_grad():
        layer.weight[1] = 0
    now = compensate(chip(layer, Faded(0.5)), chip(layer, Device()), per="column")
    torch.testing.assert_close(now.digital.factor, torch.tensor([2.0, 1.0, 2.0]))


def test_converters_weaken_what_is_read_row_by_row():
    """One weight is a small part of what a column can give: few bits see nothing of it."""
    layer = nn.Linear(400, 5)
    circuit = Converters(adc_bits=6)
    now, then = (chip(layer, device, circuit=circuit) for device in (Faded(0.7), Device()))
    blind = compensate(now, then, per="column").digital.factor
    assert torch.equal(blind, torch.ones(5))
    seeing = compensate(stages.detach(now), then, torch.rand(50, 400)).digital.factor
    assert float(seeing) == pytest.approx(1 / 0.7, rel=0.05)


def test_an_array_with_a_reference_column_is_compensated_too(x):
    model = convolutional()
    array = SingleArray(reference_device="cell")
    now = compensate(chip(model, Faded(0.7), array=array), chip(model, Device(), array=array))
    torch.testing.assert_close(now(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_stage_may_be_trained_on_top_of_the_compensation(x):
    model = convolutional()
    now = compensate(chip(model, Device(Faded(0.7), Gaussian(0.02))), chip(model, Device()), x)
    factors = stages.state(now)
    history = distil(attach(now, dora()), model, x, epochs=20, lr=0.01, seed=0)
    assert all(type(stage) is Chain for stage in stages.adapters(now).values())
    assert all(one.loss[-1] < one.loss[0] for one in history.values())
    first = {name: value for name, value in stages.state(now).items() if name.endswith("0.factor")}
    assert [v.tolist() for v in first.values()] == [v.tolist() for v in factors.values()]


# --- BatchNorm -------------------------------------------------------------------------------------------


def test_statistics_found_anew_are_those_of_the_samples(x):
    model = program(convolutional(), Hardware(Faded(0.7)))
    first = model[0](x)
    assert recalibrate_batchnorm(model, x) == 2 * 8 + 2 * 6
    torch.testing.assert_close(model[1].running_mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(model[1].running_var, first.var((0, 2, 3)))
    second = model[:4](x)  # behind layers that are normalised by the new statistics
    torch.testing.assert_close(model[4].running_mean, second.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_over_several_passes_they_are_plain_means(x):
    model = convolutional()
    recalibrate_batchnorm(model, x, batch_size=10)
    batches = [model[0](batch) for batch in x.split(10)]
    expected = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(model[1].running_var, expected)


def test_nothing_but_statistics_changes(x):
    model = fabricate(program(convolutional(), NOISY), 0)
    model[4].eval(), model[0].train()
    before, modes = frozen(model), [module.training for module in model.modules()]
    recalibrate_batchnorm(model, x, batch_size=10)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{norm}.{kind}" for norm in "14" for kind in kinds}
    assert [module.training for module in model.modules()] == modes and model[1].momentum == 0.1


def test_it_undoes_a_uniform_fading_behind_a_layer_without_bias(x):
    """The first layer has a bias, which does not fade: here it is without."""
    model = convolutional()
    nn.init.zeros_(model[0].bias)
    recalibrate_batchnorm(model, x)
    faded = program(model, {name: Hardware(Faded(0.7)) for name in "03"})
    assert not torch.allclose(faded(x), model(x), rtol=0.1)
    recalibrate_batchnorm(faded, x)
    torch.testing.assert_close(faded(x), model(x), rtol=1e-3, atol=1e-3)


# --- distillation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", ["student", "teacher"])
def test_cells_norms_and_modes_are_what_they_were_and_no_gradient_is_left(x, inputs):
    model = convolutional()
    student = attach(chip(model, Gaussian(0.05)), dora())
    student.train()[1].eval(), student[3].digital.eval(), model.train()
    before, teacher = frozen(student), copy.deepcopy(model.state_dict())
    modes = [module.training for net in (student, model) for module in net.modules()]
    stored = stages.state(student)
    distil(student, model, x, epochs=2, lr=0.01, seed=0, inputs=inputs)
    assert all(torch.equal(value, before[name]) for name, value in frozen(student).items())
    assert all(torch.equal(value, teacher[name]) for name, value in model.state_dict().items())
    assert [module.training for net in (student, model) for module in net.modules()] == modes
    own = {id(parameter) for parameter in stages.parameters(student)}
    assert all(p.grad is None and p.requires_grad for p in student.parameters() if id(p) not in own)
    assert all(p.grad is None for p in model.parameters())
    trained = {k: v for k, v in stages.state(student).items() if not k.endswith("_extra_state")}
    assert all(not torch.equal(value, stored[name]) for name, value in trained.items())
    hooked = [m for net in (student, model) for m in net.modules() if m._forward_hooks]
    assert hooked == [student]  # a call of the network is one pass


def test_each_layer_comes_closer_to_its_teacher_and_so_does_the_output(x):
    model = convolutional()
    student = chip(model, Device(Faded(0.6), Gaussian(0.05)))
    far = F.mse_loss(student(x), model(x))
    histories = distil(attach(student, dora(3)), model, x, epochs=150, lr=0.01, seed=0)
    assert list(histories) == ["0", "3", "7"]
    for history in histories.values():
        assert len(history.loss) == 150 and history.loss[-1] < 0.5 * history.loss[0]
    assert F.mse_loss(student(x), model(x)) < 0.1 * far


def test_a_layer_reaches_the_least_squares_solution():
    """At full rank it is that of the normal equations, for a target that no linear layer gives."""
    torch.manual_seed(0)
    x = torch.randn(12, 4)
    teacher = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Tanh())
    student = attach(chip(teacher[0], Gaussian(0.1)), lambda layer: LoRA(layer, 4, alpha=8.0))
    history = distil(student, teacher, x, epochs=400, lr=0.02, seed=0)
    residual = np.linalg.lstsq(x.numpy(), teacher(x).detach().numpy(), rcond=None)[1]
    assert history[""].loss[-1] == pytest.approx(residual.sum() / 36, rel=1e-4)


def test_the_first_loss_is_the_mean_squared_error_of_what_is_compared(x):
    """In one batch it is that of the stages as they came, whose layers are those of the chip."""
    model = convolutional()
    losses = {}
    for inputs in ("student", "teacher"):
        student = attach(chip(model, Gaussian(0.05)), dora())
        losses[inputs] = distil(student, model, x, epochs=1, lr=1e-12, seed=0, inputs=inputs)
    student = chip(model, Gaussian(0.05))
    with torch.no_grad():
        apart = F.mse_loss(student[3](model[:3](x)), model[:4](x))
        behind = F.mse_loss(student[:4](x), model[:4](x))
    assert losses["teacher"]["3"].loss == [pytest.approx(float(apart), rel=1e-5)]
    assert losses["student"]["3"].loss == [pytest.approx(float(behind), rel=1e-5)]
    assert losses["student"]["0"].loss == losses["teacher"]["0"].loss  # both see the images
    assert losses["student"]["3"].loss != losses["teacher"]["3"].loss


def test_from_the_student_a_layer_repairs_what_those_before_it_left(x):
    """Only the second layer has a stage: it can do something about the first one's fading."""
    model = convolutional()
    errors = {}
    for inputs in ("student", "teacher"):
        student = chip(model, Device())
        student[0].hardware = Hardware(Faded(0.5))
        attach(student, lambda layer: DoRA(layer, 4) if layer.name == "3" else None)
        distil(student, model, x, epochs=100, lr=0.01, seed=0, inputs=inputs)
        with torch.no_grad():
            errors[inputs] = float(F.mse_loss(student[:4](x), model[:4](x)))
    assert errors["student"] < 0.8 * errors["teacher"]


def test_a_calibration_follows_from_its_seed(x):
    model = convolutional()

    def calibrated(seed):
        student = attach(chip(model, Gaussian(0.05)), dora())
        distil(student, model, x, epochs=2, lr=0.01, seed=seed, batch_size=8)
        return stages.state(student)

    rng = torch.get_rng_state()
    one, again, other = calibrated(0), calibrated(0), calibrated(1)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
    assert torch.equal(torch.get_rng_state(), rng)


def test_layers_without_a_stage_or_with_nothing_to_train_stay_as_they_are(x):
    model = convolutional()
    student = chip(model, Gaussian(0.05))
    makes = {"0": lambda layer: Scale(layer, torch.ones(1)), "3": lambda layer: None, "7": dora()}
    attach(student, lambda layer: makes[layer.name](layer))
    assert list(distil(student, model, x, epochs=1, lr=0.01, seed=0)) == ["7"]


# --- end to end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taught", [False, True])
def test_end_to_end_only_stages_are_trained(x, taught):
    model, y = convolutional(), torch.arange(30) % 3
    student = chip(model, Gaussian(0.05))
    shared = projections(student, 4)
    attach(student, lambda layer: VeRA(layer, shared))
    student[3].weight.requires_grad_(False)
    before, needed = frozen(student), [p.requires_grad for p in student.parameters()]
    stored = stages.state(student)
    objective = AdapterTraining(teacher=copy.deepcopy(model).train() if taught else None)
    history = fit(student, objective, (x, y), epochs=20, lr=0.02, seed=0)
    assert history.loss[-1] < history.loss[0]
    assert all(torch.equal(value, before[name]) for name, value in frozen(student).items())
    own = {id(parameter) for parameter in stages.parameters(student)}
    assert all(p.grad is None for p in student.parameters() if id(p) not in own)
    assert [p.requires_grad for p in student.parameters()] == needed
    assert all(layer.reading is None for layer in crossbars(student))
    assert any(not torch.equal(value, stored[name]) for name, value in stages.state(student).items())


def test_the_losses_are_cross_entropy_and_the_divergence_from_the_teacher(x):
    model, y = convolutional(), torch.arange(30) % 3
    student = attach(chip(model, Gaussian(0.1)).train(), dora())
    with evaluating(student):
        p, q = (torch.softmax(logits.double(), -1).detach().numpy() for logits in (model(x), student(x)))
    divergence, entropy = (p * np.log(p / q)).sum(1).mean(), -np.log(q[np.arange(30), y]).mean()
    teacher = copy.deepcopy(model).train()
    assert AdapterTraining(teacher)(student, (x, y)).item() == pytest.approx(divergence, rel=1e-4)
    assert torch.equal(teacher[1].running_mean, model[1].running_mean) and teacher.training
    assert AdapterTraining()(student, (x, y)).item() == pytest.approx(entropy, rel=1e-4)
    assert student.training  # and BatchNorm did not use the batch
    assert AdapterTraining(model)(program(model, Hardware()), (x, y)).item() == 0


def test_on_a_held_chip_training_goes_on_where_plain_cross_entropy_would(x):
    """Reading the arrays once and freezing the rest changes no number."""
    model, y = convolutional(), torch.arange(30) % 3
    student = attach(chip(model, Gaussian(0.05)), dora())
    twin = copy.deepcopy(student)
    fit(student, AdapterTraining(), (x, y), epochs=2, lr=0.01, seed=0)
    optimizer = torch.optim.Adam(stages.parameters(twin), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        CrossEntropy()(twin, (x, y)).backward()
        optimizer.step()
    for name, value in stages.state(twin).items():
        torch.testing.assert_close(stages.state(student)[name], value, rtol=1e-3, atol=1e-4)


def test_on_a_held_chip_each_array_is_read_once(x, monkeypatch):
    student, read = attach(chip(convolutional(), Gaussian(0.05)), dora()), []
    own = Crossbar.read
    monkeypatch.setattr(Crossbar, "read", lambda layer: read.append(layer.name) or own(layer))
    fit(student, AdapterTraining(), (x, torch.arange(30) % 3), epochs=3, lr=0.01, seed=0, batch_size=8)
    assert read == ["0", "3", "7"]
    distil(student, convolutional(), x, epochs=3, lr=0.01, seed=0, batch_size=8)
    assert read == ["0", "3", "7"] * 2


def test_a_fresh_network_trains_one_set_for_all_chips(x):
    """New errors at every batch: the same batch has another loss each time."""
    model, y = convolutional(), torch.arange(30) % 3
    student = attach(fresh(program(model, Hardware(Gaussian(0.05))), 0), dora())
    history = fit(student, AdapterTraining(), (x, y), epochs=3, lr=1e-12, seed=0)
    assert len(set(history.loss)) == 3
    held = fit(fabricate(student, 0), AdapterTraining(), (x, y), epochs=3, lr=1e-12, seed=0)
    assert held.loss == [pytest.approx(held.loss[0], rel=1e-5)] * 3


def test_after_an_error_nothing_stays_frozen(x):
    student = attach(chip(convolutional(), Gaussian(0.05)), dora())
    with pytest.raises(ValueError, match=r"label = \[9\].*0 … 2"):
        fit(student, AdapterTraining(), (x, torch.full((30,), 9)), epochs=1, lr=0.01, seed=0)
    assert all(p.requires_grad for p in student.parameters())
    assert all(layer.reading is None for layer in crossbars(student))


def test_training_a_stage_raises_the_accuracy_of_a_drifted_network():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(150) % 3
    data = torch.randn(150, 6, generator=generator) / 2 + 2 * torch.eye(6)[y], y
    model = mlp(6, 16, 3, seed=0)
    fit(model, CrossEntropy(), data, epochs=20, lr=0.01, seed=0)
    drifted = chip(model, Gaussian(0.4))
    before = accuracy(drifted, *data)
    fit(attach(drifted, dora(1)), AdapterTraining(), data, epochs=20, lr=0.01, seed=0)
    assert accuracy(drifted, *data) > before + 5


# --- schedules -------------------------------------------------------------------------------------------


def one(value):
    return {"digital.d": torch.tensor([float(value)])}


def test_the_set_in_use_is_the_last_one_whose_time_has_come():
    schedule = Schedule(((0.0, one(0)), (10.0, one(1)), (1e6, one(2))))
    used = [float(schedule.at(t)["digital.d"]) for t in (0, 9.99, 10, 999999, 1e6, 3e8)]
    assert used == [0, 0, 1, 1, 2, 2] and len(schedule) == 3


def test_a_set_selected_by_time_is_loaded_into_the_network(x):
    model = attach(chip(convolutional(), Gaussian(0.05)), dora())
    first = stages.state(model)
    with torch.no_grad():
        for parameter in stages.parameters(model):
            parameter.add_(0.1)
    later, schedule = model(x), Schedule(((0.0, first), (3600.0, stages.state(model))))
    assert not torch.equal(stages.load(model, schedule.at(1.0))(x), later)
    assert torch.equal(stages.load(model, schedule.at(7200.0))(x), later)


def test_a_set_is_trained_when_the_mean_accuracy_falls_below_the_threshold():
    """Accuracy falls by a point for each decade since the set in use was trained."""
    trained, asked = [], []

    def score(state, t):
        asked.append(t)
        age = np.log10(t) - float(state["digital.d"])
        return 90 - age + np.array([-1.0, 1.0])

    def train(t):
        trained.append(t)
        return one(np.log10(t))

    times = [10.0**n for n in range(1, 9)]
    schedule = greedy(times, score, train, initial=one(0), reference=90.0, threshold=1 - 2.5 / 90)
    assert trained == [1e3, 1e6] and asked == times
    assert [time for time, _ in schedule.sets] == [0.0, 1e3, 1e6]
    assert float(schedule.at(5e5)["digital.d"]) == pytest.approx(3)
    always = greedy(times, score, train, initial=one(0), reference=90.0, threshold=1.0)
    never = greedy(times, score, train, initial=one(0), reference=90.0, threshold=0.5)
    assert (len(always), len(never)) == (9, 1)
    just = greedy([1.0], lambda state, t: [80.0, 100.0], train, initial=one(0), reference=90.0, threshold=1.0)
    assert len(just) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m, c, x: compensate(c, c, x, per="tile"), ["per = 'tile'", "'layer', 'column'"]),
        (lambda m, c, x: compensate(c, c, x[:0]), ["len(x) = 0"]),
        (lambda m, c, x: compensate(attach(c, dora()), c, x), ["model", "detach(model)"]),
        (lambda m, c, x: compensate(c, attach(copy.deepcopy(c), dora())), ["reference", "detach"]),
        (lambda m, c, x: compensate(c, program(mlp(4, 3), NOISY)), ["reference", "['0', '3', '7']"]),
        (lambda m, c, x: compensate(m, c), ["model = 'Sequential'", "program"]),
        (lambda m, c, x: recalibrate_batchnorm(mlp(4, 3), x), ["model", "BatchNorm"]),
        (lambda m, c, x: recalibrate_batchnorm(m, x, batch_size=0), ["batch_size = 0"]),
        (lambda m, c, x: recalibrate_batchnorm(m, x[:0]), ["len(x) = 0"]),
        (lambda m, c, x: distil(c, m, x, epochs=1, lr=0.1, seed=0), ["model", "attach"]),
        (
            lambda m, c, x: distil(attach(fresh(c), dora()), m, x, epochs=1, lr=0.1, seed=0),
            ["model = 'a fresh network'", "fabricate(model, chip)"],
        ),
        (
            lambda m, c, x: distil(attach(c, dora()), m, x, epochs=1, lr=0.1, seed=0, inputs="both"),
            ["inputs = 'both'", "'student', 'teacher'"],
        ),
        (lambda m, c, x: distil(attach(c, dora()), m, x[:0], epochs=1, lr=0.1, seed=0), ["len(x) = 0"]),
        (
            lambda m, c, x: distil(attach(c, dora()), mlp(72, 3), x, epochs=1, lr=0.1, seed=0),
            ["teacher", "['0', '3', '7']"],
        ),
        (lambda m, c, x: AdapterTraining(scale=0.0), ["scale = 0.0"]),
        (lambda m, c, x: AdapterTraining(m, scale=2.0), ["scale = 2.0", "teacher"]),
        (lambda m, c, x: AdapterTraining().setup(c), ["model", "attach"]),
        (lambda m, c, x: Schedule(()), ["times = ()", "at least one"]),
        (lambda m, c, x: Schedule(((-1.0, {}),)), ["times = (-1.0,)"]),
        (lambda m, c, x: Schedule(((2.0, {}), (1.0, {}))), ["times = (2.0, 1.0)", "rising"]),
        (lambda m, c, x: Schedule(((1.0, {}),)).at(0.5), ["t = 0.5", "1 ≤ t"]),
        (lambda m, c, x: Schedule(((1.0, {}),)).at(float("nan")), ["t = nan"]),
        (lambda m, c, x: walk(times=[0.0, 1.0]), ["times = (0.0, 1.0)", "positive"]),
        (lambda m, c, x: walk(reference=0.0), ["reference = 0.0"]),
        (lambda m, c, x: walk(threshold=99.0), ["threshold = 99.0", "≤ 1"]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, words, x):
    model = convolutional()
    with pytest.raises(ValueError, match=".*") as error:
        make(model, chip(model, Gaussian(0.05)), x)
    assert all(word in str(error.value) for word in words)


def walk(times=(1.0,), reference=90.0, threshold=0.99):
    return greedy(times, None, None, initial={}, reference=reference, threshold=threshold)


def test_a_layer_that_runs_twice_is_refused(x):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = Twice()
    with pytest.raises(ValueError, match=r"'layer'.*run 2 times.*run once"):
        distil(attach(chip(model, Device()), dora()), model, x, epochs=1, lr=0.1, seed=0)
