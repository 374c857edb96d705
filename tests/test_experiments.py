"""What every experiment must do at every scale, and what it must refuse."""

import json
from dataclasses import asdict, fields
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch

from cimlib import experiments
from cimlib.experiments import chip_spread, deployed, in_array, where_to_train
from cimlib.updates import Pair, Rounding, Rule

TINY = {
    "chip_spread": {"epochs": 1, "n_train": 100, "images": 50, "chips": 2},
    "deployed": {"epochs": 2, "seeds": 3, "chips": 2},
    "in_array": {"epochs": 2, "seeds": 3},
    "where_to_train": {"epochs": 1, "chips": 2, "batch": 200},
}
OUTCOME = {"chip_spread": "ekl", "deployed": "chip_error", "in_array": "pulses", "where_to_train": "pulses"}
VALUES = {
    "chip_spread": {
        "dataset": ["digits", "mnist"],
        "array": list(chip_spread.ARRAYS),
        "sigma": [0.0, 0.1, 0.2],
        "train_sigma": [0.0, 0.1, 0.2],
        "hidden": [16, 32],
        "epochs": [1, 2],
        "lr": [0.005, 0.01],
        "n_train": [100, 110],
        "images": [50, 100],
        "chips": [2, 3],
        "first_chip": [0, 1],
        "seed": [0, 1],
    },
    "deployed": {
        "structure": list(deployed.STRUCTURES),
        "gaussian": [0.0, 0.1, 0.3],
        "lognormal": [0.0, 0.3, 1.0],
        "stuck_on": [0.0, 0.1, 0.3],
        "stuck_off": [0.0, 0.1, 0.3],
        "hidden": [8, 9],
        "epochs": [2, 20],
        "lr": [0.05, 0.5],
        "seeds": [2, 3],
        "chips": [2, 3],
    },
    "in_array": {
        "structure": list(deployed.STRUCTURES),
        "rule": get_args(Rule),
        "rounding": get_args(Rounding),
        "pair": get_args(Pair),
        "batch": [45, 90],
        "epochs": [2, 3],
        "lr": [1.0, 2.0],
        "levels": [100, 200],
        "potentiation": [0.0, 3.0],
        "depression": [0.0, -3.0],
        "cycle_to_cycle": [0.0, 0.1],
        "stuck_on": [0.0, 0.1],
        "stuck_off": [0.0, 0.1],
        "w_max": [2.0, 4.0],
        "hidden": [8, 9],
        "seeds": [2, 3],
    },
    "where_to_train": {
        "method": list(where_to_train.METHODS),
        "offset": [0.0, 0.005, 0.0159],
        "mismeasured": [0.0, 0.002],
        "gain": [100.0, 1369.0],
        "levels": [50, 100],
        "potentiation": [0.0, 3.0],
        "depression": [0.0, -3.0],
        "cycle_to_cycle": [0.0, 0.01],
        "endurance": [5.0, 30.0, 1e11],
        "passes": [1, 50],
        "lr": [0.01, 0.02],
        "epochs": [1, 2],
        "batch": [150, 200],
        "hidden": [8, 32],
        "w_max": [0.25, 0.5],
        "chips": [2, 3],
    },
}
# Structures differ by what their errors do to them, depression and passes by what there is to mend.
WITH = {
    ("deployed", "structure"): {"gaussian": 0.1},
    ("in_array", "structure"): {"stuck_on": 0.1},
    ("where_to_train", "depression"): {"potentiation": 3.0},
    ("where_to_train", "passes"): {"potentiation": 3.0},
}


def test_every_experiment_is_tried_here():
    assert experiments.names() == sorted(TINY)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_is_tried_here(name):
    parameters = {field.name for field in fields(experiments.resolve(name, {}))}
    assert set(VALUES[name]) == parameters - {"scale", "device"}


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, parameter) for name in VALUES for parameter in VALUES[name]]
)
def test_every_value_of_every_parameter_has_an_outcome_of_its_own(name, parameter):
    base = {**TINY[name], **WITH.get((name, parameter), {})}
    outcome = {
        value: json.dumps(experiments.run(name, {**base, parameter: value})[OUTCOME[name]])
        for value in VALUES[name][parameter]
    }
    alike = [(one, other) for one, other in combinations(outcome, 2) if outcome[one] == outcome[other]]
    assert alike == []


@pytest.mark.parametrize("name", TINY)
def test_every_scale_is_more_than_a_label(name):
    scales = [asdict(experiments.resolve(name, {"scale": scale})) for scale in ("quick", "desk", "paper")]
    assert [params.pop("scale") for params in scales] == ["quick", "desk", "paper"]
    assert all(one != other for one, other in combinations(scales, 2))


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
        ("where_to_train", {"method": "on paper"}, "hardware-conscious"),
        ("where_to_train", {"endurance": 0.5}, "endurance"),
        ("where_to_train", {"gain": 0.5}, "gain"),
        ("where_to_train", {"mismeasured": 0.001, "offset": 0.0}, "mismeasured"),
        ("where_to_train", {"batch": 1078}, "1077"),
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


def test_without_errors_the_two_single_structures_agree():
    column, constant = (
        experiments.run("deployed", {"structure": name, "epochs": 20, "seeds": 3, "chips": 2})
        for name in ("single, column", "single, constant term")
    )
    assert column["chip_error"] == constant["chip_error"]
    assert len(set(column["error"])) > 1


def cell(device, z=0.0, u=0.5):
    """A cell of 10 … 100 µS asked for 40 µS."""
    draws = {"programming": torch.tensor(z), "stuck": torch.tensor(u)}
    return float(device(torch.tensor(40.0), draws, 10.0, 100.0))


def test_a_deployed_cell_spreads_as_asked():
    assert cell(deployed.Params().device(), z=1.0) == 40.0
    assert cell(deployed.Params(gaussian=0.1).device(), z=1.0) == pytest.approx(40 + 0.1 * 90)
    assert cell(deployed.Params(lognormal=0.1).device(), z=1.0) == pytest.approx(40 * 1.1051709)


@pytest.mark.parametrize("spread", [{}, {"gaussian": 0.3}, {"lognormal": 0.3}], ids=str)
@pytest.mark.parametrize("z", [-1.0, 1.0])
def test_a_stuck_cell_is_at_the_end_of_its_range_whatever_its_spread(spread, z):
    assert cell(deployed.Params(stuck_on=1.0, **spread).device(), z) == 100.0
    assert cell(deployed.Params(stuck_off=1.0, **spread).device(), z) == 10.0


def test_stuck_on_and_stuck_off_are_not_exchanged_in_the_array():
    on, off = (in_array.Params(**{name: 1.0}).hardware().cell for name in ("stuck_on", "stuck_off"))
    assert (cell(on), cell(off)) == (100.0, 10.0)


@pytest.fixture
def fabricated(monkeypatch):
    """The chips that an experiment fabricates, in order."""
    chips = []
    for module in (deployed, in_array):

        def recording(network, chip, fabricate=module.fabricate):
            chips.append(chip)
            return fabricate(network, chip)

        monkeypatch.setattr(module, "fabricate", recording)
    return chips


def test_no_two_seeds_share_a_chip(fabricated):
    experiments.run("deployed", {"gaussian": 0.1, "epochs": 1, "seeds": 3, "chips": 4})
    assert fabricated == [seed * 4 + chip for chip in range(4) for seed in range(3)]


def test_a_seed_trained_in_the_array_has_the_chip_of_its_number(fabricated):
    experiments.run("in_array", TINY["in_array"])
    assert fabricated == [0, 1, 2]


def test_the_first_chip_says_which_chips_are_evaluated():
    options = {**TINY["chip_spread"], "images": 100}
    three = experiments.run("chip_spread", {**options, "chips": 3})
    last = experiments.run("chip_spread", {**options, "first_chip": 1, "chips": 2})
    for name in ("accuracy", "ekl", "redrawn", "weight_spread"):
        assert last[name] == three[name][1:] != three[name][:2]


@pytest.mark.parametrize("stuck", ["stuck_on", "stuck_off"])
def test_cells_stuck_in_training_cost_accuracy(stuck):
    options = {"lr": 0.3, "levels": 10_000, "seeds": 20}
    whole, broken = (
        sum(experiments.run("in_array", {**options, stuck: fraction})["error"]) / 20
        for fraction in (0.0, 0.8)
    )
    assert broken > whole + 10


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


SMALL = {"chips": 3, "epochs": 4}
PASSES = 8  # that program a linear cell of a hundred levels: log₂ 100 and one


def trained(method, **given):
    result = experiments.run("where_to_train", {"method": method, **SMALL, **given})
    return {name: np.mean(values) for name, values in result.items()}


def test_offsets_cost_the_network_that_does_not_know_them_and_not_the_one_that_does():
    offline, conscious = trained("offline"), trained("hardware-conscious")
    assert offline["trained"] > 85 and conscious["trained"] > 85
    assert offline["accuracy"] < offline["trained"] - 10
    assert conscious["accuracy"] > conscious["trained"] - 2


def test_without_offsets_to_know_offline_training_is_hardware_conscious_training():
    options = {**SMALL, "offset": 0.0}
    one, other = (
        experiments.run("where_to_train", {"method": method, **options})
        for method in ("offline", "hardware-conscious")
    )
    assert one == other


def test_offsets_measured_badly_are_as_bad_as_offsets_unknown():
    wrong, unknown = trained("hardware-conscious", mismeasured=0.0159), trained("offline")
    assert wrong["trained"] > 85
    assert wrong["accuracy"] < unknown["accuracy"] + 5


@pytest.mark.parametrize("method", where_to_train.METHODS)
def test_a_programmed_cell_gets_no_more_pulses_than_levels_and_a_trained_one_gets_more(method):
    found = trained(method)
    in_array = method in where_to_train.IN_ARRAY
    assert (found["most_pulses"] > 100) == in_array
    assert (found["most_writes"] > PASSES) == in_array
    assert found["worn"] == 0


def test_on_the_chip_every_update_sends_every_cell_at_most_one_pulse():
    short, long = (trained("on-chip", epochs=epochs) for epochs in (2, 4))
    updates = 2 * -(-where_to_train.TRAIN // 32)
    assert 0.5 * updates < long["writes"] - short["writes"] <= updates
    assert short["most_writes"] <= updates + PASSES


def test_a_life_that_training_in_the_array_uses_up_is_long_enough_to_be_programmed():
    on_chip = trained("on-chip", epochs=8, endurance=100.0)
    assert on_chip["worn"] > 70
    fresh, worn = (trained("hardware-conscious", endurance=life) for life in (1e11, 100.0))
    assert worn["worn"] < 10
    assert worn["accuracy"] == fresh["accuracy"]
