"""Every experiment at sizes at which it takes a moment, run once for all tests that look at the result."""

from dataclasses import asdict
from functools import cache

from companion import experiments

TINY = {
    "agreement": {"flowers": 1},
    "chip_spread": {"epochs": 1, "n_train": 100, "images": 50, "chips": 2},
    "counted": {"network": "resnet20", "classes": 10, "side": 16},
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


def run(name, given):
    """The result of an experiment with the parameters ``given``, which runs once in a process."""
    return _kept(name, experiments.resolve(name, given))


@cache
def _kept(name, params):
    return experiments.run(name, asdict(params))


def untimed(result):
    """All results but how long it took."""
    return {part: values for part, values in result.items() if not part.endswith("_seconds")}
