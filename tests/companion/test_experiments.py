"""What every experiment must do at every scale, and what it must refuse."""

import json
import shutil
from collections import defaultdict
from dataclasses import asdict, fields, replace
from functools import cache
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch

from cimlib.arrays import RATIOS, LevelSpread, SignedArray
from cimlib.bench import spice
from cimlib.chip import crossbars
from cimlib.methods import IRS, OVF, CorrectNet, NoiseAveraging, Temperature
from cimlib.networks import SNAPSHOTS, vgg8
from cimlib.training import CrossEntropy, Pair, Rounding, Rule, accuracy
from companion import experiments, records
from companion.experiments import (
    _digital,
    agreement,
    chip_spread,
    deployed,
    drifted,
    imperfections,
    in_array,
    negative_feedback,
    offsets,
    offsets_iris,
    where_to_train,
)

TINY = {
    "agreement": {"flowers": 1},
    "chip_spread": {"epochs": 1, "n_train": 100, "images": 50, "chips": 2},
    "deployed": {"epochs": 2, "seeds": 3, "chips": 2},
    "drifted": {
        "network": "mlp",
        "dataset": "digits",
        "hidden": 16,
        "epochs": 5,
        "n_train": 500,
        "lr": 0.02,
        "batch": 32,
        "samples": 20,
        "calibration_epochs": 5,
        "calibration_lr": 0.1,
        "instances": 2,
        "images": 300,
        "chips": 2,
        "precision": "float32",
    },
    "imperfections": {
        "hidden": 16,
        "epochs": 5,
        "n_train": 500,
        "lr": 0.02,
        "retrain_epochs": 2,
        "n_retrain": 200,
        "retrain_lr": 0.02,
        "images": 200,
        "chips": 2,
    },
    "in_array": {"epochs": 2, "seeds": 3},
    "negative_feedback": {"width": 1 / 16, "epochs": 1, "n_train": 100, "images": 30, "chips": 2},
    "offsets": {"epochs": 1, "update_epochs": 1, "n_train": 200, "n_update": 200, "images": 50, "chips": 2},
    "offsets_iris": {"epochs": 20, "update_epochs": 5, "seeds": 4},
    "where_to_train": {"epochs": 1, "chips": 2, "batch": 200},
}
OUTCOME = {
    "agreement": ["cimlib"],
    "chip_spread": ["ekl"],
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
    _digital.digital,
    drifted._noise,
    drifted._offline,
    imperfections._noise,
    imperfections.repaired,
    negative_feedback.trained,
    offsets._offline,
    where_to_train.software,
)
# A parameter that counts and one that is real, which every experiment has: epochs and lr, or these.
COUNT, REAL = {"agreement": "seeds"}, {"agreement": "gain"}
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
    "drifted": {
        "network": ["mlp", "resnet18"],
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
        "calibration_epochs": [4, 5],
        "calibration_lr": [0.05, 0.1],
        "inputs": ["student", "teacher"],
        "shared": [False, True],
        "instances": [1, 2],
        "threshold": [0.0, 0.5, 1.0],
        "calibrated_at": ["", "1 hour"],
        "trained_on": ["", "cmo"],
        "other_chip": [0, 1],
        "layers": [0, 1, 2],
        "hidden": [16, 32],
        "width": [1 / 16, 1 / 8],
        "epochs": [4, 5],
        "n_train": [400, 500],
        "lr": [0.01, 0.02],
        "batch": [32, 50],
        "images": [200, 300],
        "chips": [2, 3],
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
        "batch": [32, 50],
        "images": [150, 200],
        "chips": [2, 3],
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
        "fluctuation": [0.0, 0.1],
        "error": [0.0, 0.01],
        "start": ["offline", "scratch"],
        "epochs": [1, 2],
        "update_epochs": [1, 2],
        "n_train": [200, 300],
        "n_update": [100, 200],
        "images": [50, 300],
        "lr": [0.005, 0.01],
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
        "error": [0.0, 0.01],
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
# schedule and another cell; all cells but that of rho are known at one day, and distilling is in single
# precision.
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
    ("drifted", "noise_lr"): {"noise_epochs": 1},
    ("drifted", "rho"): {"cell": "relative"},
    ("drifted", "adc_bits"): {"remedy": "none"},
    ("drifted", "readout"): {"remedy": "none", "compensation": "column"},
    ("drifted", "shared"): {"remedy": "vera", "rank": 4},
    ("drifted", "precision"): {"remedy": "lora", "training": "end to end"},
    **{("imperfections", name): CONVOLUTION for name in ("network", "width")},
    **{("imperfections", name): {"sigma": 1.0} for name in ("clip", "g_min", "precision")},
    ("imperfections", "mismeasured"): {"sigma": 1.0, "stuck": 0.0},
    ("imperfections", "per_step"): {"remedy": "freezing"},
    **{
        ("imperfections", n): {"remedy": "mapping"}
        for n in ("routing", "weighting", "power", "spares", "tile")
    },
    **{
        ("imperfections", name): {"iterations": 3}
        for name in ("pulse_batch", "pulse_lr", "levels", "cycle_to_cycle")
    },
    ("in_array", "structure"): {"stuck_on": 0.1},
    ("negative_feedback", "network"): {"dataset": "mnist"},
    **{("negative_feedback", name): {"beta": 0.5} for name in ("step", "decay", "sign", "raised")},
    ("negative_feedback", "heads"): {"method": "irs", "beta": 0.5},
    ("negative_feedback", "temperature"): {"method": "temperature"},
    ("where_to_train", "depression"): {"potentiation": 3.0},
    ("where_to_train", "passes"): {"potentiation": 3.0},
}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """In place of ngspice, so that all this holds without it: every node of every circuit is at 1 V.

    Gives the circuits that it was asked to solve. The networks in them are trained for a moment only, and so
    are those without hardware beside them, at which no test here looks.
    """
    asked = []

    def simulate(circuit):
        asked.append(str(circuit))
        return defaultdict(lambda: 1.0)

    def networks(params, full=agreement.Params.networks):
        return replace(full(params), epochs=5, update_epochs=2)

    def fit(model, *arguments, epochs, full=offsets_iris.fit, **options):
        on_chips = bool(list(model.buffers()))
        return full(model, *arguments, epochs=epochs if on_chips else 1, **options)

    monkeypatch.setattr(spice, "simulate", simulate)
    monkeypatch.setattr(offsets_iris, "fit", fit)
    monkeypatch.setattr(agreement.Params, "networks", networks)
    return asked


def run(name, given):
    """The result of an experiment, which runs once for all tests that look at it."""
    return kept(name, experiments.resolve(name, given))


@cache
def kept(name, params):
    return experiments.run(name, asdict(params))


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


def untimed(result):
    """All results but how long it took."""
    return {part: values for part, values in result.items() if not part.endswith("_seconds")}


@pytest.mark.parametrize("name", TINY)
def test_the_paper_scale_runs_one_small_round(name):
    run(name, {"scale": "paper", **TINY[name]})


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sigam": 3}, ["sigam", "allowed: scale"]),
        ({"count": "many"}, ["count", "'many'", "int"]),
        ({"count": 1.5}, ["count", "1.5", "int"]),
        ({"real": True}, ["real", "True", "float"]),
        ({"count": 0}, ["count", "0", "≥ 1"]),
        ({"scale": "large"}, ["scale", "'large'", "desk"]),
    ],
)
def test_wrong_parameters_are_refused_before_any_work(name, given, words):
    called = {"count": COUNT.get(name, "epochs"), "real": REAL.get(name, "lr")}
    with pytest.raises(ValueError, match=".*") as error:
        experiments.run(name, {called.get(parameter, parameter): value for parameter, value in given.items()})
    assert all(called.get(word, word) in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("name", "given", "word"),
    [
        ("deployed", {"structure": "triple"}, "single, column"),
        ("deployed", {"gaussian": 0.1, "lognormal": 0.1}, "lognormal"),
        ("deployed", {"stuck_on": 1.2}, "on"),
        ("drifted", {"network": "vgg8"}, "network = 'vgg8'.*'resnet18'"),
        ("drifted", {"network": "resnet18"}, "dataset = 'digits'.*'cifar10'"),
        ("drifted", {"cell": "flash"}, "cell = 'flash'.*'cmo, 2 %'"),
        ("drifted", {"compensation": "row"}, "compensation = 'row'.*'column'"),
        ("drifted", {"readout": "columns"}, "readout = 'columns'.*'rows'"),
        ("drifted", {"remedy": "hope"}, "remedy = 'hope'.*'retraining'"),
        ("drifted", {"remedy": "batchnorm"}, "remedy = 'batchnorm'.*'resnet18'"),
        ("drifted", {"training": "online"}, "training = 'online'.*'offline'"),
        ("drifted", {"inputs": "both"}, "inputs = 'both'.*'teacher'"),
        ("drifted", {"precision": "float16"}, "precision = 'float16'.*'bfloat16'"),
        ("drifted", {"device": "tpu"}, "device = 'tpu'.*'cuda'"),
        ("drifted", {"trained_on": "flash"}, "trained_on = 'flash'.*'relative'"),
        ("drifted", {"trained_on": "cmo"}, "trained_on = 'cmo'.*offline"),
        ("drifted", {"trained_on": "cmo", "noise_epochs": 1, **OFFLINE}, "trained_on = 'cmo'.*without noise"),
        ("drifted", {"trained_on": "wan", **OFFLINE}, "t = 315576000.*86400"),
        ("drifted", {"threshold": 1.5, **OFFLINE}, "threshold = 1.5.*≤ 1"),
        ("drifted", {"threshold": 0.5}, "threshold = 0.5.*0 unless trained offline"),
        ("drifted", {"threshold": 0.5, "trained_on": "relative", **OFFLINE}, "threshold = 0.5.*clock"),
        ("drifted", {"other_chip": 100_000}, "other_chip = 100000.*≤ 99995"),
        *(
            ("drifted", {"other_chip": 1, **given}, "other_chip = 1 .*0")
            for given in ({"remedy": "none"}, OFFLINE)
        ),
        ("drifted", {"t": "soon"}, "t = 'soon'.*'10 years'"),
        ("drifted", {"t": "1 hour", "cell": "wan"}, "t = 3600.*86400"),
        ("drifted", {"rho": -0.1}, "rho = -0.1"),
        ("drifted", {"adc_bits": 17}, "adc_bits = 17.*16"),
        ("drifted", {"width": 5.0}, "width = 5.0.*≤ 4"),
        *(("drifted", {name: -1}, f"{name} = -1.*≥ 0") for name in ("other_chip", "layers", "seed")),
        *(
            ("drifted", {name: 0}, f"{name} = 0.*≥ 1")
            for name in (
                "rank",
                "samples",
                "calibration_epochs",
                "instances",
                "batch",
                "images",
                "chips",
                "hidden",
                "n_train",
            )
        ),
        *(("drifted", {name: 0.0}, f"{name} = 0.0.*0 < {name}") for name in ("lr", "calibration_lr")),
        ("imperfections", {"network": "vgg16"}, "network = 'vgg16'.*'resnet18'"),
        ("imperfections", {"dataset": "mnist", "network": "resnet18"}, "dataset = 'mnist'.*'cifar10'"),
        ("imperfections", {"remedy": "hope"}, "remedy = 'hope'.*'freezing'"),
        ("imperfections", {"array": "triple"}, "array = 'triple'.*'single'"),
        ("imperfections", {"routing": "columns"}, "routing = 'columns'.*'joint'"),
        ("imperfections", {"routing": "joint", "spares": 4}, "routing = 'joint'.*spares"),
        (
            "imperfections",
            {"routing": "joint", "network": "resnet18", "dataset": "cifar10"},
            "routing = 'joint'.*'rows'",
        ),
        ("imperfections", {"weighting": "hessian"}, "weighting = 'hessian'.*'fisher'"),
        ("imperfections", {"reading": "SA0"}, "reading = 'SA0'.*'mostly on'"),
        ("imperfections", {"precision": "float16"}, "precision = 'float16'.*'bfloat16'"),
        ("imperfections", {"device": "tpu"}, "device = 'tpu'.*'cuda'"),
        ("imperfections", {"stuck": 1.2}, "stuck = 1.2"),
        ("imperfections", {"sigma": -0.1}, "sigma = -0.1"),
        ("imperfections", {"cluster": 0}, "= 0 .*≥ 1"),
        ("imperfections", {"g_min": 100.0}, "g_min"),
        *(
            ("imperfections", {name: 1.5}, f"{name} = 1.5.*≤ 1")
            for name in ("dead", "w_range", "missed", "false_alarms")
        ),
        ("imperfections", {"mismeasured": 0.1}, "mismeasured = 0.1.*sigma"),
        ("imperfections", {"mismeasured": -0.1, "sigma": 1.0}, "mismeasured = -0.1"),
        ("imperfections", {"iterations": 1, "sigma": 1.0}, "clip = False"),
        ("imperfections", {"penalty": -1.0}, "penalty"),
        ("imperfections", {"cycle_to_cycle": -1.0}, "cycle_to_cycle"),
        *(
            ("imperfections", {name: -1}, f"{name} = -1")
            for name in ("tile", "spares", "iterations", "layers", "seed")
        ),
        *(("imperfections", {name: 0}, f"{name} = 0") for name in ("levels", "per_step", "pulse_batch")),
        *(("imperfections", {name: 0.0}, f"{name} = 0.0") for name in ("retrain_lr", "pulse_lr", "power")),
        ("in_array", {"rule": "newton"}, "manhattan"),
        ("in_array", {"batch": 91}, "90"),
        ("in_array", {"lr": 0.0}, "lr"),
        ("in_array", {"potentiation": 10.0}, "potentiation"),
        ("where_to_train", {"method": "on paper"}, "hardware-conscious"),
        ("where_to_train", {"endurance": 0.5}, "endurance"),
        ("where_to_train", {"gain": 0.5}, "gain"),
        ("where_to_train", {"mismeasured": 0.001, "offset": 0.0}, "mismeasured"),
        ("where_to_train", {"batch": 1078}, "1077"),
        ("agreement", {"flowers": 31}, "1 … 30"),
        ("agreement", {"structure": "triple"}, "structure = 'triple'.*double"),
        ("agreement", {"g_load": 0.0}, "g_load"),
        ("offsets", {"dataset": "iris"}, "mnist"),
        ("offsets", {"structure": "triple"}, "structure = 'triple'.*double"),
        ("offsets", {"loads": "half"}, "loads = 'half'.*'rows'"),
        ("offsets", {"start": "updated"}, "start = 'updated'.*'scratch'"),
        ("offsets", {"n_update": 1001}, "n_update = 1001.*n_train = 1000"),
        ("offsets", {"error": -0.1}, "error"),
        ("offsets", {"leak": 2.0}, "leak"),
        ("offsets_iris", {"structure": "triple"}, "structure = 'triple'.*double"),
        ("offsets_iris", {"update_epochs": 0}, "update_epochs"),
        ("offsets_iris", {"g_constant": -1.0}, "g_constant"),
        ("offsets_iris", {"sharpness": 0.0}, "scale"),
        ("chip_spread", {"dataset": "iris"}, "mnist"),
        ("chip_spread", {"array": "triple"}, "bit-sliced"),
        ("chip_spread", {"images": 5}, "images"),
        ("chip_spread", {"seed": -1}, "seed"),
        ("chip_spread", {"sigma": -0.1}, "sigma"),
        ("negative_feedback", {"network": "vgg16"}, "network = 'vgg16'.*'resnet18'"),
        ("negative_feedback", {"network": "resnet18"}, "network = 'resnet18'.*'digits'"),
        ("negative_feedback", {"dataset": "iris"}, "dataset = 'iris'.*'tiny-imagenet'"),
        ("negative_feedback", {"method": "nft"}, "method = 'nft'.*'averaging'"),
        ("negative_feedback", {"cell": "rram2"}, "cell = 'rram2'.*'fefet6'"),
        ("negative_feedback", {"decay": "rising"}, "decay = 'rising'.*'reversed'"),
        ("negative_feedback", {"heads": "none"}, "heads = 'none'.*'clean'"),
        ("negative_feedback", {"raised": "first"}, "raised = 'first'.*'ends'"),
        ("negative_feedback", {"start": "software"}, "start = 'software'.*'pretrained'"),
        ("negative_feedback", {"precision": "float16"}, "precision = 'float16'.*'bfloat16'"),
        ("negative_feedback", {"bn": "last"}, "bn = 'last'.*'first'"),
        ("negative_feedback", {"device": "tpu"}, "device = 'tpu'.*'cuda'"),
        ("negative_feedback", {"sign": 0}, "sign = 0.*-1, 1"),
        ("negative_feedback", {"seed": -1}, "seed = -1"),
        ("negative_feedback", {"images": 0}, "images = 0"),
        ("negative_feedback", {"n_train": -1}, "n_train = -1"),
        ("negative_feedback", {"width": 0.0}, "width = 0.0"),
        ("negative_feedback", {"sigma": -0.1}, "sigma = -0.1"),
        ("negative_feedback", {"bits": 17}, "bits = 17"),
        ("negative_feedback", {"beta": -0.5}, "beta = -0.5.*paper's"),
        ("negative_feedback", {"method": "irs", "feedbacks": 4}, "feedbacks = 4.*vgg8 ≤ 3"),
        ("negative_feedback", {"step": -0.1}, "step = -0.1.*sigma = 0.1"),
        ("negative_feedback", {"step": float("inf")}, "step = inf"),
        ("negative_feedback", {"temperature": -1.0}, "temperature = -1.0"),
        ("negative_feedback", {"lr": -1.0}, "lr = -1.0"),
        ("negative_feedback", {"last_init": 0.0}, "last_init = 0.0"),
        ("negative_feedback", {"last_lr": float("inf")}, "last_lr = inf"),
    ],
)
def test_values_out_of_range_are_refused_with_the_allowed_ones(name, given, word):
    with pytest.raises(ValueError, match=word):
        experiments.resolve(name, given)


def test_a_near_miss_is_named():
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        experiments.resolve("deployed", {"gausian": 0.1})


def test_an_unknown_experiment_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="agreement, chip_spread, deployed, drifted, imperfections"):
        experiments.resolve("nothing", {})


def test_integers_do_for_real_numbers():
    assert experiments.resolve("deployed", {"gaussian": 0}).gaussian == 0


def test_given_values_win_over_the_scale_and_the_scale_over_the_defaults():
    params = experiments.resolve("deployed", {"scale": "desk", "chips": 7})
    assert (params.seeds, params.chips) == (100, 7)


def test_without_errors_every_structure_classifies_like_software():
    for structure in deployed.STRUCTURES:
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


# --- negative feedback training -------------------------------------------------------------------------

NARROW = TINY["negative_feedback"]


@pytest.fixture
def fits(monkeypatch):
    """The arguments of every training: (objective, options); each network is trained anew."""
    made = []

    def recording(model, objective, data, fit=negative_feedback.fit, **options):
        made.append((objective, options))
        return fit(model, objective, data, **options)

    negative_feedback.trained.cache_clear()
    monkeypatch.setattr(negative_feedback, "fit", recording)
    yield made
    negative_feedback.trained.cache_clear()


def feedback(**given):
    return negative_feedback.Params(**given)


@pytest.mark.parametrize(
    ("network", "dataset", "ovf", "irs"),
    [
        ("vgg8", "digits", 1e-3, 1e-2),
        ("vgg8", "mnist", 1e-3, 1e-2),
        ("vgg8", "cifar10", 1e-3, 1e-1),
        ("resnet18", "mnist", 1e-4, 1e-1),
        ("resnet18", "cifar10", 1e-1, 1e-3),
        ("resnet18", "cifar100", 1e-1, 1e-3),
        ("resnet18", "tiny-imagenet", 1e-2, 1e-2),
    ],
)
def test_the_strength_of_the_feedback_is_the_papers_unless_another_is_given(network, dataset, ovf, irs):
    for method, beta in (("ovf", ovf), ("irs", irs)):
        where = {"network": network, "dataset": dataset, "method": method}
        assert feedback(**where).objective().beta == beta
        assert feedback(**where, beta=0.0).objective().beta == 0
        assert feedback(**where, beta=0.3).objective().beta == 0.3


def test_each_method_is_the_objective_of_that_name_with_the_papers_numbers():
    ovf = feedback(method="ovf").objective()
    assert type(ovf) is OVF and ovf.factors == (0.01, 0.1, 1.0) and ovf.sign == -1
    assert (ovf.step, ovf.layers, ovf.bn) == (0.05, None, "every")
    assert feedback(method="ovf", decay="reversed", feedbacks=2).objective().factors == (1.0, 0.1)
    for network, count in (("vgg8", 3), ("resnet18", 4)):
        irs = feedback(method="irs", network=network, dataset="mnist").objective()
        assert type(irs) is IRS and irs.sign == -1
        assert irs.factors == (1.0, 0.1, 0.01, 0.001)[:count]
        assert list(irs.heads) == list(SNAPSHOTS[network])
    assert type(feedback(method="correctnet").objective()) is CorrectNet
    assert {type(feedback(method=name).objective()) for name in ("plain", "noise")} == {CrossEntropy}


def test_fewer_snapshots_are_the_shallower_ones():
    irs = feedback(method="irs", feedbacks=2).objective()
    assert list(irs.heads) == ["relu1", "pool2"] and irs.factors == (1.0, 0.1)


def test_heads_are_on_even_cells_of_the_networks_spread_unless_they_are_clean():
    """The released code gives them the first of its cells whatever those of the network."""
    irs = feedback(method="irs", cell="fefet6", sigma=0.3).objective()
    assert irs.hardware == feedback(cell="rram1", sigma=0.3).hardware()
    assert feedback(method="irs", heads="clean").objective().hardware is None


def test_controls_have_the_temperature_that_feedback_would_bring_unless_another_is_given():
    for given, temperature in (({}, 4), ({"feedbacks": 1}, 2), ({"temperature": 1.5}, 1.5)):
        alone = feedback(method="temperature", **given).objective()
        averaging = feedback(method="averaging", **given).objective()
        assert type(alone) is Temperature and type(averaging) is NoiseAveraging
        assert alone.temperature == averaging.temperature == temperature
        assert len(averaging.factors) == given.get("feedbacks", 3)


@pytest.mark.parametrize("network", SNAPSHOTS)
def test_the_ends_are_the_first_and_the_last_layer_of_the_network(network):
    params = feedback(network=network, dataset="mnist", width=1 / 16, raised="ends")
    model = params.blank()
    layers = [name for name, m in model.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert params.objective().layers == {layers[0], layers[-1]}


def test_chips_have_one_draw_for_each_weight_of_the_cells_asked_for():
    hardware = feedback(cell="rram4", sigma=0.3, bits=8).hardware()
    assert hardware.cell.effects == (LevelSpread(0.3, 4.0, slices=4),)
    assert hardware.array == SignedArray(bits=8)


@pytest.mark.parametrize(("network", "lr"), [("vgg8", 1e-3), ("resnet18", 1e-2)])
def test_training_follows_the_papers_recipe_unless_told_otherwise(fits, network, lr):
    base = {**NARROW, "network": network, "dataset": "mnist", "n_train": 32}
    for given, rate in (({}, lr), ({"lr": 0.005}, 0.005)):
        experiments.run("negative_feedback", {**base, **given})
        _, options = fits[-1]
        weight, head = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
        adam = options.pop("optimizer")([weight, head])
        assert type(adam) is torch.optim.Adam
        assert {group["lr"] for group in adam.param_groups} == {rate}
        assert all(group["weight_decay"] == 0 for group in adam.param_groups)
        assert options == {"epochs": 1, "lr": rate, "seed": 0, "batch_size": 32, "cosine": True}
    paper = experiments.resolve("negative_feedback", {"scale": "paper"})
    assert (paper.epochs, paper.batch, paper.chips, paper.width) == (200, 128, 200, 1.0)


def test_one_plain_network_is_read_at_every_spread_and_the_others_are_trained_for_theirs(fits):
    for method, trainings in (("plain", 1), ("noise", 2), ("irs", 2)):
        fits.clear()
        read = [
            experiments.run("negative_feedback", {**NARROW, "method": method, "sigma": sigma})
            for sigma in (0.1, 0.3)
        ]
        assert len(fits) == trainings
        assert (read[0]["loss"] == read[1]["loss"]) == (method == "plain")
        assert read[0]["ekl"] != read[1]["ekl"]


def test_how_a_network_is_read_does_not_change_how_it_is_trained(fits):
    few = experiments.run("negative_feedback", NARROW)
    more = experiments.run("negative_feedback", {**NARROW, "chips": 3})
    experiments.run("negative_feedback", {**NARROW, "images": 20})
    assert len(fits) == 1
    assert more["accuracy"][:2] == few["accuracy"] and len(more["accuracy"]) == 3


def test_validation_is_read_on_the_first_twenty_chips_at_most():
    found = run("negative_feedback", {**NARROW, "images": 10, "chips": 21})
    assert len(found["accuracy"]) == len(found["ekl"]) == 21
    assert len(found["validation_error"]) == 20


def test_without_spread_noise_injection_is_plain_training():
    plain, noise = (
        run("negative_feedback", {**NARROW, "method": method, "sigma": 0.0, "chips": 3})
        for method in ("plain", "noise")
    )
    assert untimed(plain) == untimed(noise)
    assert len(set(plain["accuracy"])) == 1 and plain["accuracy"][:1] == plain["clean"]


@pytest.mark.parametrize("method", ["plain", "noise", "irs"])
def test_clean_is_the_accuracy_of_the_digital_network_with_the_weights_that_were_trained(method):
    params = experiments.resolve("negative_feedback", {**NARROW, "method": method, "images": 200})
    clean = negative_feedback.run(params)["clean"]
    unread = replace(params, images=1, chips=1, sigma=0.0 if method == "plain" else params.sigma)
    digital = params.blank()
    digital.load_state_dict(negative_feedback.trained(unread)[0].state_dict())
    expected = accuracy(digital, *negative_feedback.images(params, "test", 200))
    assert clean == [pytest.approx(float(expected), abs=1e-3)]


@pytest.mark.parametrize("method", ["ovf", "plain"])
def test_steps_down_are_trained_and_read(method):
    found = run("negative_feedback", {**NARROW, "method": method, "sigma": 0.2, "step": -0.05})
    assert len(found["accuracy"]) == 2


def test_noise_injection_helps_where_there_is_noise_and_costs_a_plain_network_its_accuracy():
    options = {"n_train": 500, "epochs": 12, "images": 200, "chips": 6, "sigma": 0.1}
    plain, noise = (run("negative_feedback", {**options, "method": method}) for method in ("plain", "noise"))
    assert plain["clean"][0] > 85
    assert np.mean(plain["accuracy"]) < plain["clean"][0] - 10
    assert np.mean(noise["accuracy"]) > np.mean(plain["accuracy"]) + 5


def test_a_pretrained_start_trains_twice_as_long_first_without_errors(fits):
    experiments.run("negative_feedback", {**NARROW, "method": "ovf", "start": "pretrained"})
    (before, options), (after, again) = fits
    assert type(before) is CrossEntropy and type(after) is OVF
    assert options["epochs"] == again["epochs"] == 1


def test_every_parameter_is_trained_once_heads_included_and_the_last_layer_at_a_rate_of_its_own(fits):
    params = experiments.resolve("negative_feedback", {**NARROW, "method": "irs", "last_lr": 0.5})
    model, _, _ = negative_feedback.trained(params)
    [(irs, options)] = fits
    irs.setup(model)
    asked = list(irs.parameters(model))
    others, last = options["optimizer"](asked).param_groups
    assert (others["lr"], last["lr"]) == (1e-3, 5e-4)
    assert [id(p) for p in last["params"]] == [id(p) for p in model.fc2.parameters()]
    assert sorted(map(id, others["params"] + last["params"])) == sorted(map(id, asked))
    irs.teardown(model)


def test_to_adam_a_temperature_is_a_last_layer_that_starts_smaller_and_learns_slower():
    options = {**NARROW, "epochs": 3, "images": 300}
    hot = run("negative_feedback", {**options, "method": "temperature", "temperature": 4.0})
    slow, small, both = (
        run("negative_feedback", {**options, "method": "noise", **given})
        for given in ({"last_lr": 0.25}, {"last_init": 0.25}, {"last_lr": 0.25, "last_init": 0.25})
    )
    assert both["loss"] == pytest.approx(hot["loss"], rel=1e-3)
    assert both["accuracy"] == pytest.approx(hot["accuracy"], abs=1)
    assert all(other["loss"] != pytest.approx(hot["loss"], rel=1e-3) for other in (slow, small))


def test_in_half_precision_training_sees_every_parameter_as_it_is():
    """Autocast would keep copies of the first batch's, biases for one."""
    given = {**NARROW, "method": "noise", "sigma": 0.0, "epochs": 3, "lr": 0.003}
    single, half = (
        run("negative_feedback", {**given, "precision": name}) for name in ("float32", "bfloat16")
    )
    assert half["loss"] != single["loss"]
    assert half["loss"] == pytest.approx(single["loss"], rel=0.05)
    params = feedback(precision="bfloat16")
    model = vgg8(channels=1, side=8, width=1 / 16)
    x = torch.zeros(2, 1, 8, 8)
    with negative_feedback.precision(params):
        before = model.eval()(x)
        with torch.no_grad():
            model.fc2.bias += 1
        torch.testing.assert_close(model(x), before + 1)
    assert before.dtype == torch.bfloat16


def test_in_half_precision_weights_and_their_errors_stay_single():
    params = experiments.resolve("negative_feedback", {**NARROW, "precision": "bfloat16"})
    negative_feedback.run(params)
    model, _, _ = negative_feedback.trained(replace(params, images=1, chips=1))
    with negative_feedback.precision(params):
        assert {layer.read()[0].dtype for layer in crossbars(model)} == {torch.float32}


def test_mnist_is_fed_as_the_paper_feeds_it_and_digits_are_not_resized():
    for dataset, side in (("mnist", 32), ("digits", 8)):
        x, y = negative_feedback.images(feedback(dataset=dataset), "train", 20)
        assert x.shape == (20, 1, side, side) and len(y) == 20
        assert -1 <= x.min() < -0.95 and 0.8 < x.max() <= 1


@pytest.mark.parametrize("dataset", negative_feedback.COLOUR)
def test_colours_are_measured_from_the_papers_mean_in_units_of_its_deviation(monkeypatch, dataset):
    params = feedback(network="resnet18", dataset=dataset)
    mean, std = (value[None] for value in negative_feedback.normalisation(params))
    published = (mean.flatten().tolist(), std.flatten().tolist())
    assert published == tuple(map(pytest.approx, negative_feedback.NORMALISATION[dataset]))

    def given(*name_split_n):
        return torch.cat((mean, mean + std)).expand(2, 3, 32, 32), torch.tensor([0, 1])

    monkeypatch.setattr(negative_feedback, "load", given)
    monkeypatch.setattr(negative_feedback, "load_tiny_imagenet", given)
    x, _ = negative_feedback.images(params, "train", 2)
    torch.testing.assert_close(x[0], torch.zeros(3, 32, 32))
    torch.testing.assert_close(x[1], torch.ones(3, 32, 32))
    assert params.blank().fc.out_features == {"cifar100": 100, "tiny-imagenet": 200}.get(dataset, 10)


class Seen(CrossEntropy):
    """Remembers its batches, and whether it was set up and torn down."""

    def __init__(self):
        super().__init__()
        self.batches, self.calls = [], []

    def setup(self, model):
        self.calls.append("setup")

    def __call__(self, model, batch):
        self.batches.append(batch[0])
        return super().__call__(model, batch)

    def teardown(self, model):
        self.calls.append("teardown")


@pytest.mark.parametrize(("dataset", "augmented"), [("digits", False), ("cifar10", True)])
def test_colour_images_alone_are_cropped_and_mirrored_and_beyond_the_edge_they_are_black(
    monkeypatch, dataset, augmented
):
    generator = torch.Generator().manual_seed(0)
    side, channels = (32, 3) if augmented else (8, 1)
    x, y = torch.rand(64, channels, side, side, generator=generator), torch.arange(64) % 10
    monkeypatch.setattr(negative_feedback, "load", lambda *given: (x, y))
    params = feedback(dataset=dataset, width=1 / 16, epochs=1)
    fed, _ = negative_feedback.images(params, "train")
    objective = Seen()
    negative_feedback._fit(params.blank(), objective, params)
    assert objective.calls == ["setup", "teardown"]
    seen = torch.cat(objective.batches)
    themselves = sum(any(torch.equal(image, other) for other in fed) for image in seen)
    assert themselves == 64 if not augmented else themselves < 10
    mean, std = negative_feedback.normalisation(params)
    black = torch.isclose(seen, -mean / std, atol=1e-5).all(1).flatten(1).sum(1)
    # a mean offset of 20/9 pixels in each direction
    assert black.float().mean() == pytest.approx(32 * 32 * (1 - (1 - 20 / 9 / 32) ** 2) * augmented, rel=0.2)


def test_augmentation_passes_on_what_a_method_trains():
    irs = feedback(method="irs").objective()
    augmented = negative_feedback.Augmented(irs, torch.zeros(1, 1, 1), 0)
    model = feedback().blank()
    augmented.setup(model)
    assert len(list(augmented.parameters(model))) == len(list(model.parameters())) + 3 * 4
    augmented.teardown(model)


def test_the_data_of_a_record_are_named_with_how_many_were_trained_on():
    assert experiments.data("negative_feedback", feedback(n_train=100)) == {"digits": 100}
    assert experiments.data("negative_feedback", feedback(n_train=0)) == {"digits": 1077}
    tiny = feedback(network="resnet18", dataset="tiny-imagenet")
    assert experiments.data("negative_feedback", tiny) == {}  # nothing pins it


@pytest.mark.parametrize("given", [{"images": 361}, {"n_train": 1078}])
def test_more_images_than_there_are_are_refused_before_any_training(fits, given):
    with pytest.raises(ValueError, match="is not an integer in 1"):
        experiments.run("negative_feedback", {**NARROW, **given})
    assert fits == []
