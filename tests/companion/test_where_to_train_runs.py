"""What must come out of training in four places."""

import numpy as np
import pytest
from tiny import run

from companion import experiments
from companion.experiments import where_to_train

SMALL = {"chips": 3, "epochs": 4}
PASSES = 8  # that program a linear cell of a hundred levels: log₂ 100 and one


def trained(method, **given):
    result = run("where_to_train", {"method": method, **SMALL, **given})
    return {name: np.mean(values) for name, values in result.items()}


def test_offsets_cost_the_network_that_does_not_know_them_and_not_the_one_that_does():
    offline, conscious = trained("offline"), trained("hardware-conscious")
    assert offline["trained"] > 85 and conscious["trained"] > 85
    assert offline["accuracy"] < offline["trained"] - 10
    assert conscious["accuracy"] > conscious["trained"] - 2


def test_without_offsets_to_know_offline_training_is_hardware_conscious_training():
    options = {**SMALL, "offset": 0.0}
    one, other = (
        run("where_to_train", {"method": method, **options}) for method in ("offline", "hardware-conscious")
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


def test_offline_training_that_expects_offsets_needs_no_chip_and_loses_less():
    plain, expecting = (trained("offline", epochs=15, expected=expected) for expected in (0.0, 0.0159))
    assert expecting["accuracy"] > plain["accuracy"] + 3
    assert expecting["most_pulses"] <= 100  # programmed once


def test_an_emulator_that_knows_its_error_is_better_than_one_that_believes_its_readings():
    believing, knowing = (
        trained("hardware-conscious", epochs=15, mismeasured=0.0159, believes=believes)
        for believes in ("reading", "posterior")
    )
    assert knowing["accuracy"] > believing["accuracy"] + 3
    exact = [
        run("where_to_train", {"method": "hardware-conscious", **SMALL, "believes": believes})
        for believes in ("reading", "posterior")
    ]
    assert exact[0] == exact[1]


@pytest.mark.parametrize("finish", where_to_train.IN_ARRAY)
def test_a_few_updates_in_the_array_mend_a_start_that_knew_nothing(finish):
    short = trained("offline", epochs=8)
    done = trained("offline", epochs=8, finish=finish, finish_epochs=2, finish_lr=0.01)
    assert done["accuracy"] > short["accuracy"] + 3
    assert done["trained"] == done["accuracy"]  # it is trained where it is read
    updates = 2 * -(-where_to_train.TRAIN // 128)
    assert short["most_writes"] < done["most_writes"] <= short["most_writes"] + updates


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"method": "hardware-conscious", "expected": 0.01}, "expected = 0.01"),
        ({"method": "on-chip", "finish": "in-situ"}, "finish = 'in-situ'"),
        ({"finish_batch": 2000}, "finish_batch = 2000"),
        ({"believes": "nothing"}, "believes = 'nothing'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(given, word):
    with pytest.raises(ValueError, match=word):
        experiments.run("where_to_train", given)
