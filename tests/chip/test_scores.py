"""Numbers that are none are refused, by name, before one is given; and what can be scored is scored right."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cimlib import Hardware, evaluate, fabricate, fit, program
from cimlib.arrays import DoubleArray
from cimlib.chip import PerChip, classes_last
from cimlib.chip.scores import require_finite
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

NOISY = Hardware(Gaussian(0.2))
X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (50,), generator=torch.Generator().manual_seed(1))


def chip():
    return program(mlp(4, 8, 3, seed=0), NOISY)


def ideal(layer):
    return program(layer, Hardware())


def accuracy(logits, y):
    """Of all that is classified, by hand."""
    right = sum(int(row.argmax() == label) for row, label in zip(logits, y, strict=True))
    return 100 * right / len(y)


# --- outputs and labels ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 5),
    classes=st.integers(2, 5),
    inner=st.lists(st.integers(1, 6), max_size=3),
    last=st.booleans(),
    kind=st.sampled_from([torch.int64, torch.int32, torch.uint8]),
)
def test_whatever_is_classified_the_accuracy_is_that_by_hand_or_is_refused(n, classes, inner, last, kind):
    torch.manual_seed(0)
    logits = torch.randn(n, *inner, classes)
    y = torch.randint(0, classes, (n, *inner)).to(kind)
    given = logits if last else logits.movedim(-1, 1)
    ambiguous = inner and (*given.shape[:-1],) == (given.shape[0], *given.shape[2:])
    if ambiguous:
        with pytest.raises(ValueError, match="output.*metric"):
            classes_last(given, y)
        return
    found, labels = classes_last(given, y)
    assert torch.equal(found, logits.reshape(-1, classes)) and torch.equal(labels, y.reshape(-1).long())


def test_a_network_for_sequences_and_one_for_images_are_scored_position_by_position():
    sequence = ideal(nn.Linear(4, 3))
    x, y = torch.randn(6, 5, 4), torch.randint(0, 3, (6, 5))
    found = evaluate(sequence, x, y, chips=[0], batch_size=4)
    expected = accuracy(fabricate(sequence, 0)(x).reshape(-1, 3), y.reshape(-1))
    assert found.mean == pytest.approx(expected) and 0 < expected < 100
    images = ideal(nn.Conv2d(2, 3, 1))
    x, y = torch.randn(4, 2, 5, 6), torch.randint(0, 3, (4, 5, 6))
    found = evaluate(images, x, y, chips=[0], batch_size=3)
    logits = fabricate(images, 0)(x).movedim(1, -1)
    assert found.mean == pytest.approx(accuracy(logits.reshape(-1, 3), y.reshape(-1)))


REFUSED = {
    "one logit": (nn.Linear(4, 1), X, Y.clamp(max=1), "classes = 1.*metric"),
    "labels (n, 1)": (nn.Linear(4, 3), X, Y[:, None], r"shape of y = \(50, 1\).*squeeze"),
    "one-hot labels": (nn.Linear(4, 3), X, nn.functional.one_hot(Y, 3), "shape of y"),
    "real labels": (nn.Linear(4, 3), X, Y.float(), "dtype of y = torch.float32"),
    "labels from one on": (nn.Linear(4, 3), X, Y + 1, r"labels = \[3\].*0 … 2"),
    "labels left out": (nn.Linear(4, 3), X, torch.where(Y == 0, -100, Y), r"labels = \[-100\].*metric"),
    "fewer labels": (nn.Linear(4, 3), X, Y[1:], "len"),
    "no images": (nn.Linear(4, 3), X[:0], Y[:0], "len"),
    "no labels": (nn.Linear(4, 3), X, None, "y = 'NoneType'"),
    "an image of 5 × 3": (
        nn.Linear(4, 3),
        torch.randn(2, 3, 4),
        torch.zeros(2, 3).long(),
        "output = .*metric",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_outputs_and_labels_that_are_no_classification_are_refused(what):
    layer, x, y, words = REFUSED[what]
    with pytest.raises(ValueError, match=words):
        evaluate(ideal(layer), x, y, chips=[0])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_wherever_it_is(number):
    model = chip()
    x = X.clone()
    x[7, 1] = number
    with pytest.raises(FloatingPointError, match="input of batch 0 is not finite, first in row 7"):
        evaluate(model, x, Y, chips=range(3))
    for key in ("weight", "bias"):
        broken = chip()
        with torch.no_grad():
            broken[1].get_parameter(key).flatten()[0] = number
        for call in (lambda m: evaluate(m, X, Y, chips=range(3)), train):
            with pytest.raises(ValueError, match=f"{key} of layer '1' = 'not finite'"):
                call(broken)

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x) / (x[:, :1] - X[9, 0])

    late = program(Late(), NOISY)
    with pytest.raises(FloatingPointError, match="output of chip 0 is not finite"):
        evaluate(late, X, Y, chips=range(3))


def train(model):
    return fit(fabricate(model, 0), CrossEntropy(), (X, Y), epochs=1, lr=0.1, seed=0)


def test_losses_and_inputs_that_are_not_finite_stop_training_with_epoch_and_batch():
    x = X.clone()
    x[3] = float("nan")
    with pytest.raises(FloatingPointError, match="epoch 0, batch 0"):
        fit(fabricate(chip(), 0), CrossEntropy(), (x, Y), epochs=1, lr=0.1, seed=0)


@pytest.mark.parametrize(("factor", "unit"), [(1e-6, "look like S"), (1e-3, "µS"), (1e3, "µS")])
def test_conductances_out_of_range_are_refused_when_they_are_loaded_and_when_they_are_used(factor, unit):
    model = program(mlp(4, 3, seed=0), Hardware(array=DoubleArray(w_max=1.0)), train="conductance")
    entries = {k: v * factor if k.endswith("conductance") else v for k, v in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=f"conductance of layer '1'.*10 … 100 µS.*{unit}|10 … 100 {unit}"):
        model.load_state_dict(entries)
    for call in (lambda m: evaluate(m, X, Y, chips=[0]), train):
        with pytest.raises(ValueError, match=r"conductance of layer '1'.*10 … 100 µS"):
            call(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_which_errors_vanish_is_refused_at_every_use(dtype):
    model = chip().to(dtype)
    for call in (lambda m: fabricate(m, 0)(X.to(dtype)), lambda m: evaluate(m, X.to(dtype), Y), train):
        with pytest.raises(ValueError, match=r"dtype of weight of layer '1'.*model\.float\(\)"):
            call(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(chip(), X, Y, chips=range(3)).mean > 0


# --- loaders, batches, metrics --------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 50, 64])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_gives_what_tensors_give_and_leaves_the_global_generator_alone(size, shuffle):
    state, model = torch.get_rng_state(), chip()
    loader = DataLoader(TensorDataset(X, Y), batch_size=size, shuffle=shuffle)
    found, expected = evaluate(model, loader, chips=range(4)), evaluate(model, X, Y, chips=range(4))
    assert (found.accuracy == expected.accuracy).all()
    assert found.ekl == pytest.approx(expected.ekl, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_size_batches_hold_a_bounded_number_of_inputs(monkeypatch):
    sizes, model = [], chip()
    monkeypatch.setattr("cimlib.chip.montecarlo.BATCH", 4 * 20)
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    evaluate(model, X, Y, chips=[0])
    assert sizes == [20, 20, 10]


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (DataLoader(TensorDataset(X, Y)), Y, {}, "y = 'given'"),
        (DataLoader(TensorDataset(X, Y)), None, {"batch_size": 5}, "batch_size"),
        (iter([(X, Y)]), None, {}, "gone through for every chip"),
        ([], None, {}, "empty loader"),
        (DataLoader(TensorDataset(X)), None, {}, "inputs and labels"),
        (7, None, {}, "tensors, or a DataLoader"),
        (X, Y, {"batch_size": 0}, "batch_size"),
        (X, Y, {"chips": [0, 0]}, "each chip once"),
        (X.numpy(), Y.numpy(), {}, "from_numpy"),
    ],
)
def test_what_is_no_data_is_refused(x, y, options, words):
    with pytest.raises(ValueError, match=words):
        evaluate(chip(), x, y, **{"chips": [0, 1], **options})


class Added:
    """A metric in the manner of torchmetrics."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.right = self.of = 0

    def update(self, preds, target):
        self.right += int((preds.argmax(-1) == target).sum())
        self.of += len(target)

    def compute(self):
        return torch.tensor(100 * self.right / self.of)

    def __call__(self, preds, target):
        raise AssertionError("update and compute are enough")


@pytest.mark.parametrize("metric", [Added(), lambda logits, y: 100 * (logits.argmax(1) == y).float().mean()])
@pytest.mark.parametrize("size", [None, 7])
def test_a_metric_is_computed_over_all_of_the_data_for_each_chip(metric, size):
    expected = evaluate(chip(), X, Y, chips=range(5))
    found = evaluate(chip(), X, Y, chips=range(5), batch_size=size, metric=metric)
    assert isinstance(found, PerChip) and found.values == pytest.approx(expected.accuracy, abs=1e-4)
    assert (found.mean, found.std) == pytest.approx((expected.mean, expected.std), abs=1e-4)
    assert found.ci95 == pytest.approx(expected.ci95, abs=1e-3)
    assert (found - found).values.tolist() == [0] * 5 and "n = 5 chips" in str(found)


def test_with_a_metric_one_logit_and_other_outputs_are_welcome():
    x, layer = torch.randn(30, 4), nn.Linear(4, 1)
    y = (layer(x)[:, 0] > 0).long()
    found = evaluate(
        ideal(layer), x, y, chips=[0], metric=lambda z, y: 100 * ((z[:, 0] > 0) == y).float().mean()
    )
    assert found.mean == 100
    error = evaluate(ideal(layer), x, layer(x).detach(), chips=[0], metric=nn.functional.mse_loss)
    assert error.mean == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, torch.ones(2), "text"])
def test_a_metric_that_gives_no_number_is_refused(value):
    with pytest.raises(ValueError, match="metric"):
        evaluate(chip(), X, Y, chips=[0], metric=lambda logits, y: value)


# --- training with a loader -----------------------------------------------------------------------


def test_training_with_a_loader_repeats_with_its_seed_and_leaves_the_global_generator_alone():
    def trained(seed, shuffle):
        model = fabricate(chip(), 0)
        loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=shuffle)
        history = fit(model, CrossEntropy(), loader, epochs=2, lr=0.05, seed=seed, cosine=True)
        assert len(history.loss) == 2
        return model[1].weight.detach()

    state = torch.get_rng_state()
    one = trained(0, True)
    torch.manual_seed(5), torch.set_rng_state(state)
    assert torch.equal(one, trained(0, True)) and not torch.equal(one, trained(1, True))
    assert torch.equal(trained(0, False), trained(1, False))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (iter([(X, Y)]), {}, "each epoch"),
        ([], {}, "empty loader"),
        (DataLoader(TensorDataset(X, Y)), {"batch_size": 4}, "a loader has its own"),
        ((X, Y), {"epochs": 1.5}, "epochs"),
        ((X, Y), {"batch_size": 2.5}, "batch_size"),
        ((X, Y[1:]), {}, "len"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(data, options, words):
    with pytest.raises(ValueError, match=words):
        fit(fabricate(chip(), 0), CrossEntropy(), data, **{"epochs": 1, "lr": 0.1, "seed": 0, **options})


def test_a_number_of_chips_is_no_seeds_and_nothing_to_train_is_said():
    with pytest.raises(TypeError, match=r"chips = 3.*range\(3\)"):
        evaluate(chip(), X, Y, chips=3)
    with pytest.raises(TypeError, match=r"objective = .*CrossEntropy\(\)"):
        fit(fabricate(chip(), 0), nn.CrossEntropyLoss(), (X, Y), epochs=1, lr=0.1, seed=0)
    with pytest.raises(ValueError, match="nothing that requires a gradient"):
        fit(fabricate(chip(), 0).requires_grad_(False), CrossEntropy(), (X, Y), epochs=1, lr=0.1, seed=0)
    fit(fabricate(chip(), 0), CrossEntropy(), [X, Y], epochs=1, lr=0.1, seed=0)


def test_what_is_not_finite_is_seen_in_a_dictionary_and_in_complex_numbers():
    for broken in ({"logits": [X / 0]}, torch.complex(X, X / 0)):
        with pytest.raises(FloatingPointError, match="the output is not finite"):
            require_finite(broken, "the output")


def test_a_loader_of_other_samples_for_every_chip_is_refused():
    class Fewer:
        asked = 50

        def __iter__(self):
            self.asked -= 5
            return iter([(X[: self.asked], Y[: self.asked])])

    with pytest.raises(ValueError, match=r"samples by chip.*the same for every chip"):
        evaluate(chip(), Fewer(), chips=range(3))


def test_hooks_that_change_a_layers_weights_at_every_call_are_followed():
    model = fabricate(chip(), 3)
    evaluated = evaluate(model, X, Y, chips=[3]).mean
    handle = model[1].register_forward_pre_hook(turn)
    with torch.no_grad():
        model(X)  # turns the signs, and evaluate turns them back
    assert evaluate(model, X, Y, chips=[3]).mean == evaluated
    handle.remove()


def turn(layer, inputs):
    layer.weight.data.mul_(-1)


def test_labels_that_torch_leaves_out_are_refused_in_training():
    with pytest.raises(ValueError, match=r"label = \[-100\]"):
        fit(chip_held(), CrossEntropy(), (X, torch.where(Y == 0, -100, Y)), epochs=1, lr=0.1, seed=0)


def chip_held():
    return fabricate(chip(), 0)
