"""A hundred chips of one network: the network of the first page, and the draws of its chips."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from cimlib import Hardware, fabricate, fit, load, program
from cimlib.arrays import Array, DoubleArray, SingleArray
from cimlib.chip import crossbars
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy
from companion.moving.carried import packed

CHIPS = 100
#: The arrays to choose from: the draws of a chip are one for each cell.
ARRAYS: dict[str, Array] = {"pair": DoubleArray(), "single": SingleArray()}
STEP = 1 / 6000  # of a standard draw, of a weight: finer than any answer depends on


@cache
def network() -> nn.Module:
    """The network of the first page's example, trained on iris."""
    model = mlp(4, 8, 3, seed=0)
    fit(model, CrossEntropy(), load("iris"), epochs=200, lr=0.05, seed=0)
    return model.eval()


def draws(array: str, chip: int) -> list[np.ndarray]:
    """Standard draws of a chip, layer by layer, each (sides, out, in)."""
    model = fabricate(program(network(), Hardware(Gaussian(0.1), ARRAYS[array])), chip)
    found = [layer.draws()["cells/programming"] for layer in crossbars(model)]
    return [z[0].numpy() for z in found]


def data() -> dict[str, Any]:
    """Weights (out, in) and biases of both layers, flowers of the test set and their kinds, and draws of
    :data:`CHIPS` chips in each array, chip by chip and layer by layer."""
    x, y = load("iris", "test")
    layers = [layer for layer in network().modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        held = [
            {"shape": list(layer.weight.shape), "weights": _list(layer.weight), "biases": _list(layer.bias)}
            for layer in layers
        ]
    chips = {
        array: packed([z.ravel() for chip in range(CHIPS) for z in [_flat(draws(array, chip))]], STEP)
        for array in ARRAYS
    }
    return {
        "layers": held,
        "flowers": _list(x),
        "kinds": y.tolist(),
        "chips": CHIPS,
        "step": STEP,
        "draws": chips,
        "range": [ARRAYS["pair"].g_min, ARRAYS["pair"].g_max],
    }


def _flat(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])


def _list(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in values.flatten().tolist()]
