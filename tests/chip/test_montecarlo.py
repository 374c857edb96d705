"""What an evaluation over chips must tell."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cimlib import Hardware, evaluate, fabricate, fresh, program
from cimlib.chip import interval
from cimlib.devices import Gaussian
from cimlib.networks import mlp


@pytest.fixture
def case():
    torch.manual_seed(0)
    x = torch.randn(200, 6)
    model = program(mlp(6, 16, 4, seed=0), Hardware(Gaussian(0.1)))
    return model, x, torch.randint(4, (200,))


def test_accuracy_is_one_number_per_chip_and_is_that_of_the_chip(case):
    model, x, y = case
    result = evaluate(model, x, y, chips=[3, 9])
    by_hand = [100 * float((fabricate(model, c)(x).argmax(1) == y).float().mean()) for c in (3, 9)]
    assert result.accuracy == pytest.approx(by_hand)
    assert result.mean == pytest.approx(np.mean(by_hand))
    assert result.std == pytest.approx(np.std(by_hand, ddof=1))


@pytest.mark.parametrize("size", [1, 7, 20, 200, 1000])
def test_the_batch_size_does_not_change_any_chips_accuracy(case, size):
    model, x, y = case
    whole, parts = (
        evaluate(model, x, y, range(10)),
        evaluate(model, x, y, range(10), batch_size=size),
    )
    assert (whole.accuracy == parts.accuracy).all()
    np.testing.assert_allclose(whole.ekl, parts.ekl, rtol=1e-5)


def test_ekl_is_minus_log_p_over_correct_predictions(case):
    model, x, y = case
    logits = fabricate(model, 4)(x)
    correct = logits.argmax(1) == y
    by_hand = -logits.detach().log_softmax(1)[correct, y[correct]].mean()
    assert evaluate(model, x, y, [4]).ekl[0] == pytest.approx(float(by_hand), rel=1e-5)


def test_ekl_is_nan_where_nothing_is_correct(case):
    model, x, _ = case
    wrong = (fabricate(model, 4)(x).argmax(1) + 1) % 4
    assert np.isnan(evaluate(model, x, wrong, [4]).ekl[0])


def test_the_held_chip_the_generator_and_the_modes_are_restored(case):
    model, x, y = case
    model.train()
    before = fabricate(model, 5)(x)
    evaluate(model, x, y, range(3))
    assert torch.equal(model(x), before) and model.training
    fresh(model, 1)
    reference = model(x)
    fresh(model, 1)
    evaluate(model, x, y, range(3))
    assert torch.equal(model(x), reference)


def test_it_is_restored_even_if_evaluation_fails(case):
    model, x, y = case
    before = fabricate(model, 5)(x)
    with pytest.raises(RuntimeError):
        evaluate(model, x[:, :5], y, range(3))
    assert torch.equal(model(x), before)


def test_evaluation_does_not_use_dropout_or_batch_statistics():
    torch.manual_seed(0)
    model = program(
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)),
        Hardware(),
    )
    x, y = torch.randn(100, 6), torch.randint(4, (100,))
    statistics = model[1].running_mean.clone()
    assert np.ptp(evaluate(model.train(), x, y, range(3)).accuracy) == 0
    assert torch.equal(model[1].running_mean, statistics)


def test_a_paired_difference_is_chip_by_chip(case):
    model, x, y = case
    other = program(mlp(6, 16, 4, seed=1), Hardware(Gaussian(0.1)))
    a, b = evaluate(model, x, y, range(20)), evaluate(other, x, y, range(20))
    difference = a - b
    assert (difference.values == a.accuracy - b.accuracy).all()
    expected = stats.ttest_rel(a.accuracy, b.accuracy).confidence_interval(0.95)
    assert difference.ci95 == pytest.approx((expected.low, expected.high))
    assert difference.mean == pytest.approx(a.mean - b.mean)


def test_differences_over_other_chips_are_refused(case):
    model, x, y = case
    with pytest.raises(ValueError, match="same chips"):
        evaluate(model, x, y, range(3)) - evaluate(model, x, y, range(1, 4))


def test_the_interval_covers_the_mean_in_95_percent_of_samples():
    rng = np.random.default_rng(0)
    hits = [low < 3.0 < high for low, high in (interval(rng.normal(3.0, 2.0, 8)) for _ in range(4000))]
    assert abs(np.mean(hits) - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5


def test_one_chip_has_no_interval(case):
    model, x, y = case
    result = evaluate(model, x, y, [0])
    assert np.isnan(result.ci95).all() and np.isnan(result.std)


def test_an_evaluation_reads_as_one_line(case):
    model, x, y = case
    assert "n = 3 chips" in str(evaluate(model, x, y, range(3)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chips": []}, ["chips", "at least one"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"y": torch.zeros(3, dtype=torch.int64)}, ["len(x), len(y)", "200", "3"]),
        ({"model": mlp(6, 4)}, ["model", "program"]),
        ({"chips": [-1]}, ["chip", "-1"]),
    ],
)
def test_bad_arguments_are_refused(case, change, words):
    model, x, y = case
    with pytest.raises(ValueError, match=".*") as error:
        evaluate(**{"model": model, "x": x, "y": y, **change})
    assert all(word in str(error.value) for word in words)
