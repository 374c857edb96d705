"""What must come out of negative feedback training, and how its networks are fed and trained."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, run, untimed
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cimlib.arrays import LevelSpread, SignedArray
from cimlib.chip import crossbars, fabricate, fresh, plain_state
from cimlib.methods import IRS, OVF, CorrectNet, NoiseAveraging, Temperature
from cimlib.networks import SNAPSHOTS, vgg8
from cimlib.remedies import budget
from cimlib.training import CrossEntropy, accuracy
from companion import experiments
from companion.experiments import negative_feedback
from companion.tasks import task as task_module

NARROW = TINY["negative_feedback"]


@pytest.fixture
def fits(monkeypatch):
    """The arguments of every training: (model, objective, options); each network is trained anew."""
    made = []

    def recording(model, objective, data, fit=budget.fit, **options):
        made.append((model, objective, options))
        return fit(model, objective, data, **options)

    negative_feedback.trained.cache_clear()
    monkeypatch.setattr(budget, "fit", recording)
    yield made
    negative_feedback.trained.cache_clear()


@pytest.fixture
def stepping():
    """The optimisers that make a step, in turn."""
    made = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: made.append(optimizer))
    yield made
    hook.remove()


def feedback(**given):
    return negative_feedback.Params(**given)


@pytest.mark.parametrize(
    ("network", "dataset", "ovf", "irs"),
    [
        ("vgg8", "digits", 1e-3, 1e-2),
        ("vgg8", "mnist", 1e-3, 1e-2),
        ("vgg8", "cifar10", 1e-3, 1e-1),
        ("resnet18", "mnist", 1e-4, 1e-1),
        ("resnet18", "cifar10", 1e-1, 1e-3),
        ("resnet18", "cifar100", 1e-1, 1e-3),
        ("resnet18", "tiny-imagenet", 1e-2, 1e-2),
    ],
)
def test_the_strength_of_the_feedback_is_the_papers_unless_another_is_given(network, dataset, ovf, irs):
    for method, beta in (("ovf", ovf), ("irs", irs)):
        where = {"network": network, "dataset": dataset, "method": method}
        assert feedback(**where).objective().beta == beta
        assert feedback(**where, beta=0.0).objective().beta == 0
        assert feedback(**where, beta=0.3).objective().beta == 0.3


def test_each_method_is_the_objective_of_that_name_with_the_papers_numbers():
    ovf = feedback(method="ovf").objective()
    assert type(ovf) is OVF and ovf.factors == (0.01, 0.1, 1.0) and ovf.sign == -1
    assert (ovf.step, ovf.layers, ovf.bn) == (0.05, None, "every")
    assert feedback(method="ovf", decay="reversed", feedbacks=2).objective().factors == (1.0, 0.1)
    for network, count in (("vgg8", 3), ("resnet18", 4)):
        irs = feedback(method="irs", network=network, dataset="mnist").objective()
        assert type(irs) is IRS and irs.sign == -1
        assert irs.factors == (1.0, 0.1, 0.01, 0.001)[:count]
        assert list(irs.heads) == list(SNAPSHOTS[network])
    assert type(feedback(method="correctnet").objective()) is CorrectNet
    assert {type(feedback(method=name).objective()) for name in ("plain", "noise")} == {CrossEntropy}


def test_fewer_snapshots_are_the_shallower_ones():
    irs = feedback(method="irs", feedbacks=2).objective()
    assert list(irs.heads) == ["relu1", "pool2"] and irs.factors == (1.0, 0.1)


def test_heads_are_on_even_cells_of_the_networks_spread_unless_they_are_clean():
    """The released code gives them the first of its cells whatever those of the network."""
    irs = feedback(method="irs", cell="fefet6", sigma=0.3).objective()
    assert irs.hardware == feedback(cell="rram1", sigma=0.3).hardware()
    assert feedback(method="irs", heads="clean").objective().hardware is None


def test_controls_have_the_temperature_that_feedback_would_bring_unless_another_is_given():
    for given, temperature in (({}, 4), ({"feedbacks": 1}, 2), ({"temperature": 1.5}, 1.5)):
        alone = feedback(method="temperature", **given).objective()
        averaging = feedback(method="averaging", **given).objective()
        assert type(alone) is Temperature and type(averaging) is NoiseAveraging
        assert alone.temperature == averaging.temperature == temperature
        assert len(averaging.factors) == given.get("feedbacks", 3)


@pytest.mark.parametrize("network", SNAPSHOTS)
def test_the_ends_are_the_first_and_the_last_layer_of_the_network(network):
    params = feedback(network=network, dataset="mnist", width=1 / 16, raised="ends")
    model = params.task.blank()
    layers = [name for name, m in model.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert params.objective().layers == {layers[0], layers[-1]}


def test_chips_have_one_draw_for_each_weight_of_the_cells_asked_for():
    hardware = feedback(cell="rram4", sigma=0.3, bits=8).hardware()
    assert hardware.cell.effects == (LevelSpread(0.3, 4.0, slices=4),)
    assert hardware.array == SignedArray(bits=8)


@pytest.mark.parametrize(("network", "lr"), [("vgg8", 1e-3), ("resnet18", 1e-2)])
def test_training_follows_the_papers_recipe_unless_told_otherwise(fits, stepping, network, lr):
    base = {**NARROW, "network": network, "dataset": "mnist", "n_train": 32}
    for given, rate in (({}, lr), ({"lr": 0.005}, 0.005)):
        experiments.run("negative_feedback", {**base, **given})
        *_, options = fits[-1]
        assert options.pop("optimizer") is options.pop("validation") is None
        adam = stepping[-1]
        assert type(adam) is torch.optim.Adam
        assert {group["initial_lr"] for group in adam.param_groups} == {rate}
        assert all(group["weight_decay"] == 0 for group in adam.param_groups)
        assert options == {"epochs": 1, "lr": rate, "seed": 0, "batch_size": 32, "cosine": True}
    paper = experiments.resolve("negative_feedback", {"scale": "paper"})
    assert (paper.epochs, paper.batch, paper.chips, paper.width) == (200, 128, 200, 1.0)


def test_one_plain_network_is_read_at_every_spread_and_the_others_are_trained_for_theirs(fits):
    for method, trainings in (("plain", 1), ("noise", 2), ("irs", 2)):
        fits.clear()
        read = [
            experiments.run("negative_feedback", {**NARROW, "method": method, "sigma": sigma})
            for sigma in (0.1, 0.3)
        ]
        assert len(fits) == trainings
        assert (read[0]["loss"] == read[1]["loss"]) == (method == "plain")
        assert read[0]["ekl"] != read[1]["ekl"]


def test_how_a_network_is_read_does_not_change_how_it_is_trained(fits):
    few = experiments.run("negative_feedback", NARROW)
    more = experiments.run("negative_feedback", {**NARROW, "chips": 3})
    experiments.run("negative_feedback", {**NARROW, "images": 20})
    assert len(fits) == 1
    assert more["accuracy"][:2] == few["accuracy"] and len(more["accuracy"]) == 3


def test_validation_is_read_on_the_first_twenty_chips_at_most():
    found = run("negative_feedback", {**NARROW, "images": 10, "chips": 21})
    assert len(found["accuracy"]) == len(found["ekl"]) == 21
    assert len(found["validation_error"]) == 20


def test_without_spread_noise_injection_is_plain_training():
    plain, noise = (
        run("negative_feedback", {**NARROW, "method": method, "sigma": 0.0, "chips": 3})
        for method in ("plain", "noise")
    )
    assert untimed(plain) == untimed(noise)
    assert len(set(plain["accuracy"])) == 1 and plain["accuracy"][:1] == plain["clean"]


@pytest.mark.parametrize("method", ["plain", "noise", "irs"])
def test_clean_is_the_accuracy_of_the_digital_network_with_the_weights_that_were_trained(method):
    params = experiments.resolve("negative_feedback", {**NARROW, "method": method, "images": 200})
    clean = negative_feedback.run(params)["clean"]
    unread = replace(params, images=1, chips=1, sigma=0.0 if method == "plain" else params.sigma)
    digital = params.task.blank()
    digital.load_state_dict(plain_state(negative_feedback.trained(unread)[0]))
    expected = accuracy(digital, *params.task.split("test", 200))
    assert clean == [pytest.approx(float(expected), abs=1e-3)]


@pytest.mark.parametrize("method", ["ovf", "plain"])
def test_steps_down_are_trained_and_read(method):
    found = run("negative_feedback", {**NARROW, "method": method, "sigma": 0.2, "step": -0.05})
    assert len(found["accuracy"]) == 2


def test_noise_injection_helps_where_there_is_noise_and_costs_a_plain_network_its_accuracy():
    options = {"n_train": 500, "epochs": 12, "images": 200, "chips": 6, "sigma": 0.1}
    plain, noise = (run("negative_feedback", {**options, "method": method}) for method in ("plain", "noise"))
    assert plain["clean"][0] > 85
    assert np.mean(plain["accuracy"]) < plain["clean"][0] - 10
    assert np.mean(noise["accuracy"]) > np.mean(plain["accuracy"]) + 5


def test_a_pretrained_start_trains_twice_as_long_first_without_errors(fits):
    experiments.run("negative_feedback", {**NARROW, "method": "ovf", "start": "pretrained"})
    (_, before, options), (_, after, again) = fits
    assert type(before) is CrossEntropy and type(after) is OVF
    assert options["epochs"] == again["epochs"] == 1


def test_every_parameter_is_trained_once_heads_included_and_the_last_layer_at_a_rate_of_its_own(fits):
    params = experiments.resolve("negative_feedback", {**NARROW, "method": "irs", "last_lr": 0.5})
    negative_feedback.trained(params)
    [(model, irs, options)] = fits
    irs.setup(model)
    asked = list(irs.parameters(model))
    others, last = options["optimizer"](asked).param_groups
    assert (others["lr"], last["lr"]) == (1e-3, 5e-4)
    assert [id(p) for p in last["params"]] == [id(p) for p in model.fc2.parameters()]
    assert sorted(map(id, others["params"] + last["params"])) == sorted(map(id, asked))
    irs.teardown(model)


def test_to_adam_a_temperature_is_a_last_layer_that_starts_smaller_and_learns_slower():
    options = {**NARROW, "epochs": 3, "images": 300}
    hot = run("negative_feedback", {**options, "method": "temperature", "temperature": 4.0})
    slow, small, both = (
        run("negative_feedback", {**options, "method": "noise", **given})
        for given in ({"last_lr": 0.25}, {"last_init": 0.25}, {"last_lr": 0.25, "last_init": 0.25})
    )
    assert both["loss"] == pytest.approx(hot["loss"], rel=1e-3)
    assert both["accuracy"] == pytest.approx(hot["accuracy"], abs=1)
    assert all(other["loss"] != pytest.approx(hot["loss"], rel=1e-3) for other in (slow, small))


@pytest.mark.parametrize("method", ["noise", "irs"])
def test_linear_layers_start_by_fan_in_where_asked_and_heads_of_snapshots_stay(fits, monkeypatch, method):
    starts = []
    monkeypatch.setattr(budget, "fit", lambda model, objective, *_, **__: starts.append((model, objective)))
    for linear_start in ("fan-out", "fan-in"):
        negative_feedback.trained(feedback(**NARROW, method=method, linear_start=linear_start))
    (out, by_out), (into, by_in) = starts
    for name in ("fc1", "fc2"):
        one, other = out.get_submodule(name), into.get_submodule(name)
        factor = (one.out_features / one.in_features) ** 0.5
        torch.testing.assert_close(other.weight, factor * one.weight)
    assert torch.equal(into.conv1.weight, out.conv1.weight)
    if method == "irs":
        for one, other in zip(by_out.heads.values(), by_in.heads.values(), strict=True):
            assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_in_half_precision_training_sees_every_parameter_as_it_is():
    """Autocast would keep copies of the first batch's, biases for one."""
    given = {**NARROW, "method": "noise", "sigma": 0.0, "epochs": 3, "lr": 0.003}
    single, half = (
        run("negative_feedback", {**given, "precision": name}) for name in ("float32", "bfloat16")
    )
    assert half["loss"] != single["loss"]
    assert half["loss"] == pytest.approx(single["loss"], rel=0.05)
    params = feedback(precision="bfloat16")
    model = vgg8(channels=1, side=8, width=1 / 16)
    x = torch.zeros(2, 1, 8, 8)
    with params.task.autocast():
        before = model.eval()(x)
        with torch.no_grad():
            model.fc2.bias += 1
        torch.testing.assert_close(model(x), before + 1)
    assert before.dtype == torch.bfloat16


def test_in_half_precision_weights_and_their_errors_stay_single():
    params = experiments.resolve("negative_feedback", {**NARROW, "precision": "bfloat16"})
    negative_feedback.run(params)
    model, _, _ = negative_feedback.trained(replace(params, images=1, chips=1))
    with params.task.autocast():
        for hold in (fresh, fabricate):
            layers = crossbars(hold(copy.deepcopy(model)))
            assert {layer.read()[0].dtype for layer in layers} == {torch.float32}


def test_mnist_is_fed_as_the_paper_feeds_it_and_digits_are_not_resized():
    for dataset, side in (("mnist", 32), ("digits", 8)):
        x, y = feedback(dataset=dataset).task.split("train", 20)
        assert x.shape == (20, 1, side, side) and len(y) == 20
        assert -1 <= x.min() < -0.95 and 0.8 < x.max() <= 1


@pytest.mark.parametrize("dataset", task_module.COLOUR)
def test_colours_are_measured_from_the_papers_mean_in_units_of_its_deviation(monkeypatch, dataset):
    params = feedback(network="resnet18", dataset=dataset)
    mean, std = (value[None] for value in params.task.normalisation())
    published = (mean.flatten().tolist(), std.flatten().tolist())
    assert published == tuple(map(pytest.approx, task_module.NORMALISATION[dataset]))

    def given(*name_split_n):
        return torch.cat((mean, mean + std)).expand(2, 3, 32, 32), torch.tensor([0, 1])

    monkeypatch.setattr(task_module, "load", given)
    monkeypatch.setattr(task_module, "load_tiny_imagenet", given)
    x, _ = params.task.split("train", 2)
    torch.testing.assert_close(x[0], torch.zeros(3, 32, 32))
    torch.testing.assert_close(x[1], torch.ones(3, 32, 32))
    assert params.task.blank().fc.out_features == {"cifar100": 100, "tiny-imagenet": 200}.get(dataset, 10)


class Seen(CrossEntropy):
    """Remembers its batches, and whether it was set up and torn down."""

    def __init__(self):
        super().__init__()
        self.batches, self.calls = [], []

    def setup(self, model):
        self.calls.append("setup")

    def __call__(self, model, batch):
        self.batches.append(batch[0])
        return super().__call__(model, batch)

    def teardown(self, model):
        self.calls.append("teardown")


@pytest.mark.parametrize(("dataset", "augmented"), [("digits", False), ("cifar10", True)])
def test_colour_images_alone_are_cropped_and_mirrored_and_beyond_the_edge_they_are_black(
    monkeypatch, dataset, augmented
):
    generator = torch.Generator().manual_seed(0)
    side, channels = (32, 3) if augmented else (8, 1)
    x, y = torch.rand(64, channels, side, side, generator=generator), torch.arange(64) % 10
    monkeypatch.setattr(task_module, "load", lambda *given: (x, y))
    task = feedback(dataset=dataset, width=1 / 16).task
    fed, _ = task.split("train")
    objective = Seen()
    task.train(task.blank(), objective, task.images(), epochs=1, lr=1e-3)
    assert objective.calls == ["setup", "teardown"]
    seen = torch.cat(objective.batches)
    themselves = sum(any(torch.equal(image, other) for other in fed) for image in seen)
    assert themselves == 64 if not augmented else themselves < 10
    mean, std = task.normalisation()
    black = torch.isclose(seen, -mean / std, atol=1e-5).all(1).flatten(1).sum(1)
    # a mean offset of 20/9 pixels in each direction
    assert black.float().mean() == pytest.approx(32 * 32 * (1 - (1 - 20 / 9 / 32) ** 2) * augmented, rel=0.2)


def test_augmentation_passes_on_what_a_method_trains():
    irs = feedback(method="irs").objective()
    augmented = task_module.Augmented(irs, torch.zeros(1, 1, 1), 0)
    model = feedback().task.blank()
    augmented.setup(model)
    assert len(list(augmented.parameters(model))) == len(list(model.parameters())) + 3 * 4
    augmented.teardown(model)


def test_the_data_of_a_record_are_named_with_how_many_were_trained_on():
    assert experiments.data("negative_feedback", feedback(n_train=100)) == {"digits": 100}
    assert experiments.data("negative_feedback", feedback(n_train=0)) == {"digits": 1077}
    tiny = feedback(network="resnet18", dataset="tiny-imagenet")
    assert experiments.data("negative_feedback", tiny) == {}  # nothing pins it


@pytest.mark.parametrize("given", [{"images": 361}, {"n_train": 1078}])
def test_more_images_than_there_are_are_refused_before_any_training(fits, given):
    with pytest.raises(ValueError, match="is not an integer in 1"):
        experiments.run("negative_feedback", {**NARROW, **given})
    assert fits == []
