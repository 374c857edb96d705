"""What every experiment must do at every scale, and what it must refuse."""

import json

import pytest
import torch

from cimlib import experiments
from cimlib.experiments import deployed

TINY = {
    "chip_spread": {"epochs": 1, "n_train": 100, "images": 50, "chips": 2},
    "deployed": {"epochs": 2, "seeds": 3, "chips": 2},
    "in_array": {"epochs": 2, "seeds": 3},
}


def test_every_experiment_is_tried_here():
    assert experiments.names() == sorted(TINY)


@pytest.mark.parametrize("name", TINY)
def test_the_same_parameters_give_the_same_result_whatever_the_global_generator(name):
    torch.manual_seed(1)
    first = experiments.run(name, TINY[name])
    torch.manual_seed(2)
    assert experiments.run(name, TINY[name]) == first
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize("name", TINY)
def test_the_paper_scale_runs_one_small_round(name):
    experiments.run(name, {"scale": "paper", **TINY[name]})


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sigam": 3}, ["sigam", "allowed: scale"]),
        ({"epochs": "many"}, ["epochs", "'many'", "int"]),
        ({"epochs": 1.5}, ["epochs", "1.5", "int"]),
        ({"lr": True}, ["lr", "True", "float"]),
        ({"epochs": 0}, ["epochs", "0", "≥ 1"]),
        ({"scale": "large"}, ["scale", "'large'", "desk"]),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(name, given, words):
    with pytest.raises(ValueError, match=".*") as error:
        experiments.run(name, given)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("name", "given", "word"),
    [
        ("deployed", {"structure": "triple"}, "single, column"),
        ("deployed", {"gaussian": 0.1, "lognormal": 0.1}, "lognormal"),
        ("deployed", {"stuck_on": 1.2}, "on"),
        ("in_array", {"rule": "newton"}, "manhattan"),
        ("in_array", {"batch": 91}, "90"),
        ("in_array", {"lr": 0.0}, "lr"),
        ("in_array", {"potentiation": 10.0}, "potentiation"),
        ("chip_spread", {"dataset": "iris"}, "mnist"),
        ("chip_spread", {"array": "triple"}, "bit-sliced"),
        ("chip_spread", {"images": 5}, "images"),
        ("chip_spread", {"seed": -1}, "seed"),
        ("chip_spread", {"sigma": -0.1}, "sigma"),
    ],
)
def test_values_out_of_range_are_refused_with_the_allowed_ones(name, given, word):
    with pytest.raises(ValueError, match=word):
        experiments.resolve(name, given)


def test_a_near_miss_is_named():
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        experiments.resolve("deployed", {"gausian": 0.1})


def test_an_unknown_experiment_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="chip_spread, deployed, in_array"):
        experiments.resolve("nothing", {})


def test_integers_do_for_real_numbers():
    assert experiments.resolve("deployed", {"gaussian": 0}).gaussian == 0


def test_given_values_win_over_the_scale_and_the_scale_over_the_defaults():
    params = experiments.resolve("deployed", {"scale": "desk", "chips": 7})
    assert (params.seeds, params.chips) == (100, 7)


def test_without_errors_every_structure_classifies_like_software():
    for structure in deployed.STRUCTURES:
        result = experiments.run("deployed", {"structure": structure, **TINY["deployed"]})
        assert result["error"] == result["digital_error"]
        assert result["spread"] == [0.0] * 3


def test_the_two_single_structures_agree_on_every_chip():
    column, constant = (
        experiments.run("deployed", {"structure": name, "gaussian": 0.1, **TINY["deployed"]})["chip_error"]
        for name in ("single, column", "single, constant term")
    )
    assert column == constant


def test_power_of_a_two_sided_pair_and_a_single_array_is_as_derived():
    """2·M·ḡ against (M + 1)·ḡ per row, on average over weights of both signs."""
    options = {"epochs": 1, "seeds": 20, "chips": 1, "hidden": 200}
    single, double = (
        sum(experiments.run("deployed", {"structure": name, **options})["power"])
        for name in ("single, column", "double, two-sided")
    )
    assert single / double == pytest.approx(0.5, abs=0.08)


def test_a_fine_linear_cell_learns_iris_in_the_array():
    result = experiments.run("in_array", {"levels": 10_000, "lr": 0.3, "seeds": 20})
    assert sum(result["error"]) / 20 < 8
    assert len(result["curve"]) == 10 and len(result["curve"][0]) == 20


def test_writing_one_cell_of_the_pair_takes_as_many_pulses_for_the_same_change_of_weights():
    both, one = (
        experiments.run("in_array", {"epochs": 20, "levels": 10_000, "lr": 0.1, "pair": pair, "seeds": 10})
        for pair in ("both", "one")
    )
    assert sum(one["pulses"]) / sum(both["pulses"]) == pytest.approx(1.0, abs=0.05)


def test_no_spread_means_no_difference_between_chips_and_noise_aware_training_is_another():
    plain = experiments.run("chip_spread", {**TINY["chip_spread"], "sigma": 0.0})
    assert plain["accuracy"] == plain["redrawn"] and plain["weight_spread"] == [0.0, 0.0]
    aware = experiments.run("chip_spread", {**TINY["chip_spread"], "train_sigma": 0.2})
    assert aware["ekl"] != experiments.run("chip_spread", TINY["chip_spread"])["ekl"]
