"""What every experiment must do: each parameter counts, each scale runs, and no run depends on another."""

import json
from dataclasses import asdict, fields
from itertools import combinations
from typing import get_args

import pytest
import torch
from tiny import TINY, run, untimed

from cimlib.arrays import RATIOS
from cimlib.networks import SNAPSHOTS
from cimlib.remedies import before_drift
from cimlib.training import Pair, Rounding, Rule
from companion import experiments
from companion.experiments import (
    chip_spread,
    counted,
    deployed,
    drifted,
    imperfections,
    negative_feedback,
    offsets,
    where_to_train,
)
from companion.tasks import kept

pytestmark = pytest.mark.usefixtures("stand_in")

OUTCOME = {
    "agreement": ["cimlib"],
    "chip_spread": ["ekl"],
    "counted": ["stored", "parameters", "operations"],
    "deployed": ["chip_error"],
    "drifted": ["accuracy", "validation_error", "stored"],
    "imperfections": ["accuracy", "validation_error", "pulses"],
    "in_array": ["pulses"],
    "negative_feedback": ["ekl", "loss"],
    "offsets": ["deployed", "updated", "curve"],
    "offsets_iris": ["deployed", "updated"],
    "where_to_train": ["pulses"],
}
TRAINED_ONCE = (
    kept.digital,
    before_drift._trained,
    before_drift._lacking,
    imperfections._prepared,
    imperfections.repaired,
    negative_feedback.trained,
    offsets._offline,
    where_to_train.software,
)
VALUES = {
    "agreement": {
        "structure": list(offsets.STRUCTURES),
        "offset": [0.0, 0.01],
        "gain": [100.0, 1369.0],
        "g_load": [500.0, 1000.0],
        "g_constant": [0.0, 2000.0],
        "rails": [False, True],
        "seeds": [1, 2],
        "flowers": [1, 2],
    },
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
        "clip": [False, True],
    },
    "counted": {
        "network": list(counted.NETWORKS),
        "stage": list(counted.STAGES),
        "rank": [1, 2],
        "classes": [10, 11],
        "side": [16, 32],
    },
    "deployed": {
        "structure": list(deployed.PROGRAMMED),
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
    "drifted": {
        "network": ["mlp", "resnet18", "resnet20"],
        "dataset": ["digits", "mnist"],
        "cell": list(drifted.CELLS),
        "t": ["1 s", "1 hour", "10 years"],
        "rho": [0.1, 0.5],
        "adc_bits": [0, 4, 6],
        "noise_epochs": [0, 2],
        "noise_lr": [0.01, 0.02],
        "compensation": ["none", "global", "column"],
        "readout": ["images", "rows"],
        "remedy": [remedy for remedy in drifted.REMEDIES if remedy != "batchnorm"],
        "training": ["distilled", "end to end", "offline"],
        "rank": [1, 2],
        "samples": [10, 20],
        "own_images": [False, True],
        "calibration_epochs": [4, 5],
        "calibration_lr": [0.05, 0.1],
        "inputs": ["student", "teacher"],
        "shared": [False, True],
        "instances": [1, 2],
        "threshold": [0.0, 0.5, 1.0],
        "calibrated_at": ["", "1 hour"],
        "trained_on": ["", "cmo"],
        "other_chip": [0, 1],
        "mix": [0.5, 1.0],
        "layers": [0, 1, 2],
        "hidden": [16, 32],
        "width": [1 / 16, 1 / 8],
        "epochs": [4, 5],
        "n_train": [400, 500],
        "lr": [0.01, 0.02],
        "batch": [32, 50],
        "images": [200, 300],
        "chips": [2, 3],
        "first_chip": [0, 1],
        "seed": [0, 1],
        "precision": ["float32", "bfloat16"],
    },
    "imperfections": {
        "network": ["mlp", "vgg8"],
        "dataset": ["digits", "mnist"],
        "remedy": list(imperfections.REMEDIES),
        "array": ["double", "single"],
        "sigma": [0.0, 0.5, 1.0],
        "clip": [False, True],
        "stuck": [0.0, 0.1, 0.2],
        "reading": ["mostly off", "mostly on"],
        "cluster": [1, 2, 3],
        "dead": [0.0, 0.1, 0.2],
        "g_min": [0.0, 10.0],
        "w_range": [0.3, 1.0],
        "missed": [0.0, 0.5, 1.0],
        "false_alarms": [0.0, 0.2],
        "mismeasured": [0.0, 0.5],
        "routing": ["rows", "joint"],
        "weighting": ["uniform", "magnitude", "gradient", "fisher"],
        "power": [1.0, 2.0],
        "spares": [0, 8, 16],
        "tile": [0, 8, 32],
        "penalty": [0.0, 0.001],
        "per_step": [20, 100],
        "iterations": [0, 1, 5],
        "pulse_batch": [64, 128],
        "pulse_lr": [0.05, 0.1],
        "levels": [100, 1000],
        "cycle_to_cycle": [0.0, 0.01],
        "layers": [0, 1, 2],
        "hidden": [16, 32],
        "width": [1 / 16, 1 / 8],
        "epochs": [4, 5],
        "n_train": [400, 500],
        "lr": [0.01, 0.02],
        "retrain_epochs": [1, 2],
        "n_retrain": [100, 200],
        "retrain_lr": [0.01, 0.02],
        "batchnorm_images": [0, 20, 40],
        "forgive": ["nothing", "column", "layer"],
        "batch": [32, 50],
        "images": [150, 200],
        "chips": [2, 3],
        "first_chip": [0, 1],
        "seed": [0, 1],
        "precision": ["float32", "bfloat16"],
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
        "accumulator": ["none", "digital", "array"],
        "momentum": [0.0, 0.5, 0.9],
        "transfer": [0.1, 0.2],
    },
    "negative_feedback": {
        "network": list(SNAPSHOTS),
        "dataset": ["digits", "mnist"],
        "width": [1 / 16, 1 / 8],
        "method": list(negative_feedback.METHODS),
        "sigma": [0.0, 0.1, 0.2],
        "cell": list(RATIOS),
        "bits": [0, 4, 8],
        "beta": [-1.0, 0.0, 0.1],
        "feedbacks": [0, 1, 2],
        "step": [-0.03, 0.0, 0.05],
        "decay": ["paper", "reversed"],
        "sign": [-1, 1],
        "heads": ["noisy", "clean"],
        "bn": ["every", "first"],
        "raised": ["all", "ends"],
        "temperature": [0.0, 1.0, 2.0],
        "linear_start": ["fan-out", "fan-in"],
        "last_init": [0.25, 1.0],
        "last_lr": [0.25, 1.0],
        "start": ["scratch", "pretrained"],
        "epochs": [1, 2],
        "n_train": [0, 100, 110],
        "batch": [32, 50],
        "lr": [0.0, 0.01],
        "images": [20, 30],
        "chips": [2, 3],
        "seed": [0, 1],
        "precision": ["float32", "bfloat16"],
    },
    "offsets": {
        "dataset": ["digits", "mnist"],
        "structure": list(offsets.STRUCTURES),
        "offset": [0.0, 0.01, 0.02],
        "gain": [100.0, 1369.0],
        "g_load": [500.0, 1000.0],
        "loads": ["equal", "rows"],
        "g_constant": [0.0, 2000.0],
        "expected": [0.0, 0.01, 0.02],
        "l1": [0.0, 0.001],
        "fluctuation": [0.0, 0.1],
        "error": [0.0, 0.01],
        "update": ["weights", "biases", "trim"],
        "start": ["offline", "scratch"],
        "epochs": [1, 2],
        "update_epochs": [1, 2],
        "n_train": [200, 300],
        "n_update": [100, 200],
        "images": [50, 300],
        "lr": [0.005, 0.01],
        "update_lr": [0.0, 0.02],
        "batch": [64, 100],
        "sharpness": [5.0, 10.0],
        "leak": [0.0, 0.02],
        "chips": [2, 3],
        "seed": [0, 1],
    },
    "offsets_iris": {
        "structure": list(offsets.STRUCTURES),
        "offset": [0.0, 0.01, 0.02],
        "gain": [100.0, 1369.0],
        "g_load": [500.0, 1000.0],
        "g_constant": [0.0, 2000.0],
        "rails": [False, True],
        "expected": [0.0, 0.01, 0.02],
        "error": [0.0, 0.01],
        "update": ["weights", "trim"],
        "epochs": [10, 20],
        "update_epochs": [5, 10],
        "lr": [0.02, 0.05],
        "sharpness": [5.0, 10.0],
        "hidden": [8, 9],
        "seeds": [4, 5],
    },
    "where_to_train": {
        "method": list(where_to_train.METHODS),
        "offset": [0.0, 0.005, 0.0159],
        "mismeasured": [0.0, 0.002],
        "believes": ["reading", "posterior"],
        "expected": [0.0, 0.01, 0.0159],
        "finish": ["none", "in-situ", "on-chip"],
        "finish_epochs": [1, 2],
        "finish_lr": [0.003, 0.1],
        "finish_batch": [100, 200],
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
# Structures differ by what their errors do to them, depression and passes by what there is to mend, rails
# and what leaks there by outputs that reach them; a constant term is there in one structure only. What a
# feedback is made of shows if it counts; heads belong to one method and the temperature to another. A clip
# and a wrong measurement need cells that scatter, a placement shows best if nothing is retrained, a
# convolution has a width and needs MNIST, and pulses need updates on the device. A read-out belongs to
# compensation, shared projections to VeRA, rho to one cell, and to training offline the instances of drift, a
# schedule and another cell; a residual network has statistics to mix; all cells but that of rho are known at
# one day, and distilling is in single precision.
CONSTANT = {"structure": "single, constant term"}
CONVOLUTION = {
    "network": "vgg8",
    "dataset": "mnist",
    "width": 1 / 16,
    "epochs": 2,
    "n_train": 400,
    "retrain_epochs": 1,
    "n_retrain": 400,
    "images": 200,
    "stuck": 0.02,
    "chips": 1,
}
RESIDUAL = {
    "network": "resnet18",
    "dataset": "mnist",
    "width": 1 / 16,
    "epochs": 1,
    "n_train": 100,
    "images": 50,
    "chips": 1,
    "cell": "cmo",
    "samples": 4,
}
OFFLINE = {"remedy": "lora", "training": "offline"}
WITH = {
    ("agreement", "g_constant"): CONSTANT,
    ("offsets", "g_constant"): {**CONSTANT, "offset": 0.05},
    ("offsets", "leak"): {"g_load": 300.0},
    ("offsets_iris", "g_constant"): CONSTANT,
    ("offsets_iris", "rails"): {"g_load": 300.0, "epochs": 60},
    ("deployed", "structure"): {"gaussian": 0.1},
    **{("drifted", name): RESIDUAL for name in ("network", "width")},
    **{("drifted", name): OFFLINE for name in ("instances", "threshold", "trained_on")},
    ("drifted", "cell"): {"t": "1 day"},
    ("drifted", "mix"): {**RESIDUAL, "remedy": "batchnorm"},
    ("drifted", "noise_lr"): {"noise_epochs": 1},
    ("drifted", "rho"): {"cell": "relative"},
    ("drifted", "adc_bits"): {"remedy": "none"},
    ("drifted", "readout"): {"remedy": "none", "compensation": "column"},
    ("drifted", "shared"): {"remedy": "vera", "rank": 4},
    ("drifted", "precision"): {"remedy": "lora", "training": "end to end"},
    **{("imperfections", name): CONVOLUTION for name in ("network", "width", "batchnorm_images")},
    **{("imperfections", name): {"sigma": 1.0} for name in ("clip", "g_min", "precision")},
    ("imperfections", "mismeasured"): {"sigma": 1.0, "stuck": 0.0},
    ("imperfections", "per_step"): {"remedy": "freezing"},
    **{
        ("imperfections", n): {"remedy": "mapping"}
        for n in ("routing", "weighting", "power", "forgive", "spares", "tile")
    },
    **{
        ("imperfections", name): {"iterations": 3}
        for name in ("pulse_batch", "pulse_lr", "levels", "cycle_to_cycle")
    },
    ("in_array", "structure"): {"stuck_on": 0.1},
    **{("in_array", n): {"rounding": "stochastic"} for n in ("accumulator", "momentum")},
    ("in_array", "transfer"): {"rounding": "stochastic", "accumulator": "array"},
    ("negative_feedback", "network"): {"dataset": "mnist"},
    **{("negative_feedback", name): {"beta": 0.5} for name in ("step", "decay", "sign", "raised")},
    ("negative_feedback", "heads"): {"method": "irs", "beta": 0.5},
    ("negative_feedback", "temperature"): {"method": "temperature"},
    ("where_to_train", "depression"): {"potentiation": 3.0},
    ("where_to_train", "passes"): {"potentiation": 3.0},
    ("where_to_train", "believes"): {"mismeasured": 0.01},
    ("where_to_train", "expected"): {"method": "offline"},
    ("where_to_train", "finish_epochs"): {"finish": "on-chip"},
    ("where_to_train", "finish_batch"): {"finish": "on-chip"},
    ("where_to_train", "finish_lr"): {"finish": "in-situ"},
}


def test_every_experiment_is_tried_here():
    assert experiments.names() == sorted(TINY)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_is_tried_here(name):
    parameters = {field.name for field in fields(experiments.resolve(name, {}))}
    assert set(VALUES[name]) == parameters - {"scale", "device"}


@pytest.mark.filterwarnings("ignore:converters clip")  # in drifted with ADCs: x_max is 1 in all layers
@pytest.mark.parametrize(
    ("name", "parameter"), [(name, parameter) for name in VALUES for parameter in VALUES[name]]
)
def test_every_value_of_every_parameter_has_an_outcome_of_its_own(name, parameter):
    base = {**TINY[name], **WITH.get((name, parameter), {})}
    outcome = {
        value: json.dumps([result[part] for part in OUTCOME[name]])
        for value in VALUES[name][parameter]
        for result in [run(name, {**base, parameter: value})]
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
    first = run(name, TINY[name])
    torch.manual_seed(2)
    for trained_once in TRAINED_ONCE:
        trained_once.cache_clear()
    assert untimed(experiments.run(name, TINY[name])) == untimed(first)
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize("name", TINY)
def test_the_paper_scale_runs_one_small_round(name):
    run(name, {"scale": "paper", **TINY[name]})
