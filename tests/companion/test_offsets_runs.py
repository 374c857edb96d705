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
