"""What one training loop must do for every method."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, fit, fresh, program
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, Objective, accuracy


@pytest.fixture
def data():
    torch.manual_seed(0)
    x = torch.randn(120, 4)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def trained(data, **options):
    model = mlp(4, 8, 3, seed=0)
    settings = {"epochs": 3, "lr": 0.01, "seed": 0, "batch_size": 32, **options}
    return model, fit(model, CrossEntropy(), data, **settings)


def test_fit_is_the_plain_torch_loop(data):
    x, y = data
    model, history = trained(data)
    twin = mlp(4, 8, 3, seed=0)
    adam, shuffle = torch.optim.Adam(twin.parameters(), 0.01), torch.Generator().manual_seed(0)
    for _ in range(3):
        for index in torch.randperm(120, generator=shuffle).split(32):
            adam.zero_grad()
            nn.functional.cross_entropy(twin(x[index]), y[index]).backward()
            adam.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert len(history.loss) == 3 and history.loss[-1] < history.loss[0]


def test_the_same_seed_gives_the_same_network_whatever_the_global_generator(data):
    torch.manual_seed(1)
    first, _ = trained(data)
    torch.manual_seed(2)
    second, _ = trained(data)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_noise_injection_is_the_same_loop_on_a_fresh_network(data):
    noisy = fresh(program(mlp(4, 8, 3, seed=0), Hardware(Gaussian(0.2))), 0)
    history = fit(noisy, CrossEntropy(), data, epochs=30, lr=0.01, seed=0)
    assert history.loss[-1] < history.loss[0]


def test_validation_is_scored_after_every_epoch(data):
    model, history = trained(data, validation=data)
    assert len(history.validation) == 3
    assert history.validation[-1] == [pytest.approx(float(accuracy(model, *data)))]


def test_a_cosine_schedule_ends_at_rest(data):
    seen = []

    def sgd(parameters):
        optimizer = torch.optim.SGD(parameters, 0.1)
        optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
        return optimizer

    trained(data, optimizer=sgd, cosine=True)
    assert seen[0] == 0.1 and seen[-1] < 0.005 and seen == sorted(seen, reverse=True)


def test_setup_and_teardown_embrace_training_even_if_it_fails(data):
    calls = []

    class Failing(Objective):
        def setup(self, model):
            calls.append("setup")

        def __call__(self, model, batch):
            return model(batch[0]).sum() * float("nan")

        def teardown(self, model):
            calls.append("teardown")

    with pytest.raises(FloatingPointError, match="epoch 0, batch 0"):
        fit(mlp(4, 3), Failing(), data, epochs=1, lr=0.1, seed=0)
    assert calls == ["setup", "teardown"]


def test_an_objective_must_say_its_loss(data):
    with pytest.raises(NotImplementedError):
        fit(mlp(4, 3), Objective(), data, epochs=1, lr=0.1, seed=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": -1}, ["epochs", "-1"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"lr": 0.0}, ["lr", "0.0"]),
    ],
)
def test_bad_schedules_are_refused(data, change, words):
    with pytest.raises(ValueError, match=".*") as error:
        trained(data, **change)
    assert all(word in str(error.value) for word in words)


def test_accuracy_leaves_the_mode_as_it_was(data):
    model = mlp(4, 3, seed=0).train()
    accuracy(model, *data)
    assert model.training


def test_labels_of_which_it_cannot_be_told_where_their_classes_are_are_refused():
    """Eight classes at 8 × 8 points, classes second: all sizes agree, and every number might be wrong."""
    points, labels = nn.Conv2d(1, 8, 1), torch.zeros(2, 8, 8, dtype=torch.int64)
    x = torch.rand(2, 1, 8, 8)
    CrossEntropy()(nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), (x, labels[:, 0, 0]))
    CrossEntropy()(points, (x[:, :, :4], labels[:, :4])), accuracy(points, x[:, :, :4], labels[:, :4])
    for y, words in ((labels, "which are which"), (labels[:, :1], r"shape of y = \(2, 1, 8\)")):
        for call in (lambda y=y: CrossEntropy()(points, (x, y)), lambda y=y: accuracy(points, x, y)):
            with pytest.raises(ValueError, match=words):
                call()


def test_accuracy_of_labels_in_a_column_is_refused_and_not_of_every_pair():
    with pytest.raises(ValueError, match=r"shape of y = \(5, 1\).*\(5,\).*y.squeeze\(1\)"):
        accuracy(mlp(4, 3, seed=0), torch.rand(5, 4), torch.zeros(5, 1, dtype=torch.int64))
