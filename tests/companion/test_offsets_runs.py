"""What must come out of amplifiers that are off: deployed, updated, and set beside ngspice."""

import shutil

import numpy as np
import pytest
from tiny import TINY, run

from companion import experiments, records
from companion.experiments import offsets

pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.mark.parametrize("structure", offsets.STRUCTURES)
@pytest.mark.parametrize("name", ["offsets", "offsets_iris"])
def test_a_chip_without_offsets_is_the_hardware_that_it_was_trained_on(name, structure):
    found = run(name, {**TINY[name], "structure": structure, "offset": 0.0})
    chips = len(found["deployed"]) // len(found["offline"])
    assert found["deployed"] == found["offline"] * chips


# Trained for long enough to classify, and updated for long enough to recover.
TRAINED = {
    "offsets": {"epochs": 15, "update_epochs": 4},
    "offsets_iris": {"epochs": 100, "update_epochs": 30, "lr": 0.05, "seeds": 10},
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_network_on_a_chip_without_offsets_hardly_changes_by_its_update(name):
    found = run(name, {**TRAINED[name], "offset": 0.0})
    assert np.mean(found["offline"]) > 90
    assert abs(np.mean(found["lost"])) < 2


@pytest.mark.parametrize("name", TRAINED)
def test_offsets_cost_what_the_update_recovers_and_the_less_the_worse_they_are_measured(name):
    known, guessed = (run(name, {**TRAINED[name], "offset": 0.02, "error": error}) for error in (0.0, 0.05))
    mean = {part: np.mean(known[part]) for part in ("offline", "deployed", "updated")}
    assert mean["deployed"] < mean["offline"] - 10
    assert mean["updated"] > mean["deployed"] + 10
    assert np.mean(guessed["updated"]) < mean["updated"] - 5
    assert known["lost"] == pytest.approx(np.subtract(known["offline"], known["updated"]), abs=2e-3)


@pytest.mark.parametrize("name", TRAINED)
def test_a_trim_recovers_most_of_what_offsets_cost_and_only_writes_biases(name):
    found = run(name, {**TRAINED[name], "offset": 0.015, "update": "trim", "update_epochs": 2})
    mean = {part: np.mean(found[part]) for part in ("offline", "deployed", "updated")}
    assert mean["updated"] > mean["offline"] - 0.5 * (mean["offline"] - mean["deployed"])
    if name == "offsets":
        assert max(found["rewritten"]) < 100 / 33  # one row of 33, the fewest
        assert found["curve"] == [] and len(found["validation_error"]) == len(found["updated"])
    perfect = run(name, {**TRAINED[name], "offset": 0.0, "update": "trim"})
    assert perfect["updated"] == perfect["deployed"]


def test_a_network_that_expects_offsets_loses_less_on_chips_that_it_has_never_seen():
    longer = {**TRAINED["offsets"], "epochs": 45, "offset": 0.02}
    plain, expecting = (run("offsets", {**longer, "expected": expected}) for expected in (0.0, 0.02))
    assert np.mean(expecting["deployed"]) > np.mean(plain["deployed"]) + 5


def test_a_penalty_lowers_noise_gains_and_biases_alone_are_few_cells():
    given = {**TRAINED["offsets"], "offset": 0.015}
    plain, penalised = (run("offsets", {**given, "l1": l1}) for l1 in (0.0, 1e-3))
    before, after = (np.array(found["noise_gain"]) for found in (plain, penalised))
    assert before.shape == (2, 2) and (after > 1).all() and after.mean() < 0.9 * before.mean()
    assert (np.array(plain["most_noise_gain"]) > before).all()
    biases = run("offsets", {**given, "update": "biases", "update_lr": 0.02})
    assert biases["deployed"] == plain["deployed"]
    assert np.mean(biases["updated"]) > np.mean(biases["deployed"])
    assert max(biases["rewritten"]) < 100 / 33 < min(plain["rewritten"])


def test_biases_alone_are_no_network_from_scratch():
    with pytest.raises(ValueError, match="update = 'trim'.*'weights' from scratch"):
        experiments.run("offsets", {"update": "trim", "start": "scratch"})


def test_one_offline_network_is_deployed_on_every_chip_and_another_seed_is_another_network():
    few, more = (run("offsets", {**TINY["offsets"], "chips": chips}) for chips in (2, 3))
    assert more["deployed"][:2] == few["deployed"] and more["offline"] == few["offline"]
    scratch = run("offsets", {**TINY["offsets"], "start": "scratch"})
    assert scratch["deployed"] == few["deployed"] and scratch["updated"] != few["updated"]


def test_agreement_is_the_largest_relative_difference_of_a_flowers_outputs(stand_in):
    found = experiments.run("agreement", {"seeds": 2, "flowers": 3})
    ours = np.array(found["cimlib"]).reshape(6, 3)
    assert found["ngspice"] == [1.0] * 18
    assert found["ppm"] == pytest.approx(1e6 * np.abs(ours - 1).max(1))
    assert len(set(stand_in)) == len(stand_in) == 6


def test_every_network_agrees_with_ngspice_within_a_part_per_million(monkeypatch):
    """By ngspice itself where it is installed, else by the committed records of it."""
    monkeypatch.undo()
    if shutil.which("ngspice"):
        found = [experiments.run("agreement", {"flowers": 1})["ppm"]]
    else:
        found = records.read("agreement")["ppm"]
    assert max(map(max, found)) < 1
