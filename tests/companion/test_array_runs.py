"""What must come out of networks deployed on chips, trained in their array, and read on many chips."""

import pytest
import torch
from tiny import TINY, run

from companion import experiments
from companion.experiments import deployed, in_array
from companion.tasks import iris


def test_without_errors_every_structure_classifies_like_software():
    for structure in deployed.PROGRAMMED:
        result = run("deployed", {"structure": structure, **TINY["deployed"]})
        assert result["error"] == result["digital_error"]
        assert result["spread"] == [0.0] * 3


def test_without_errors_the_two_single_structures_agree():
    column, constant = (
        run("deployed", {"structure": name, "epochs": 20, "seeds": 3, "chips": 2})
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
    for module in (deployed, iris):

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
    three = run("chip_spread", {**options, "chips": 3})
    last = run("chip_spread", {**options, "first_chip": 1, "chips": 2})
    for name in ("accuracy", "ekl", "redrawn", "weight_spread"):
        assert last[name] == three[name][1:] != three[name][:2]


@pytest.mark.parametrize("stuck", ["stuck_on", "stuck_off"])
def test_cells_stuck_in_training_cost_accuracy(stuck):
    options = {"lr": 0.3, "levels": 10_000, "seeds": 20}
    whole, broken = (
        sum(run("in_array", {**options, stuck: fraction})["error"]) / 20 for fraction in (0.0, 0.8)
    )
    assert broken > whole + 10


def test_power_of_a_two_sided_pair_and_a_single_array_is_as_derived():
    """2·M·ḡ against (M + 1)·ḡ per row, on average over weights of both signs."""
    options = {"epochs": 1, "seeds": 20, "chips": 1, "hidden": 200}
    single, double = (
        sum(run("deployed", {"structure": name, **options})["power"])
        for name in ("single, column", "double, two-sided")
    )
    assert single / double == pytest.approx(0.5, abs=0.08)


def test_a_fine_linear_cell_learns_iris_in_the_array():
    result = run("in_array", {"levels": 10_000, "lr": 0.3, "seeds": 20})
    assert sum(result["error"]) / 20 < 8
    assert len(result["curve"]) == 10 and len(result["curve"][0]) == 20


def test_writing_one_cell_of_the_pair_takes_as_many_pulses_for_the_same_change_of_weights():
    both, one = (
        run("in_array", {"epochs": 20, "levels": 10_000, "lr": 0.1, "pair": pair, "seeds": 10})
        for pair in ("both", "one")
    )
    assert sum(one["pulses"]) / sum(both["pulses"]) == pytest.approx(1.0, abs=0.05)


def test_no_spread_means_no_difference_between_chips_and_noise_aware_training_is_another():
    plain = run("chip_spread", {**TINY["chip_spread"], "sigma": 0.0})
    assert plain["accuracy"] == plain["redrawn"] and plain["weight_spread"] == [0.0, 0.0]
    aware = run("chip_spread", {**TINY["chip_spread"], "train_sigma": 0.2})
    assert aware["ekl"] != run("chip_spread", TINY["chip_spread"])["ekl"]


def test_gradients_that_wait_need_fewer_writes_for_less_error_in_an_asymmetric_cell():
    given = {"batch": 1, "epochs": 10, "lr": 0.03, "seeds": 10, "potentiation": 3.0, "depression": -3.0}
    plain, waiting = (run("in_array", {**given, "accumulator": how}) for how in ("none", "digital"))
    assert sum(waiting["writes"]) < 0.5 * sum(plain["writes"])
    assert sum(waiting["error"]) < sum(plain["error"])


def test_pulses_of_a_second_array_are_counted():
    given = {"epochs": 5, "seeds": 3, "lr": 3.0}
    hidden, written = (
        run("in_array", {**given, "accumulator": "array", "transfer": transfer}) for transfer in (1e-9, 1.0)
    )
    assert min(hidden["pulses"]) > 1
    assert sum(written["pulses"]) > sum(hidden["pulses"])


def test_cells_in_their_range_spread_a_weight_less_than_cells_that_leave_it():
    free, held = (run("chip_spread", {**TINY["chip_spread"], "clip": clip}) for clip in (False, True))
    assert min(free["weight_spread"]) > 1.35
    assert min(held["weight_spread"]) > 0.82 and max(held["weight_spread"]) < 1.5**0.5
