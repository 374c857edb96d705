"""One network, many chips: how far they spread, and what pairing and redrawing do to the answer.

Used by *A chip is a seed*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cimlib.arrays.base import Array
from cimlib.arrays.pairs import DoubleArray
from cimlib.arrays.single import SingleArray
from cimlib.arrays.sliced import BitSliced
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.fabrication import fabricate, fresh
from cimlib.chip.hardware import Hardware
from cimlib.chip.montecarlo import evaluate
from cimlib.chip.programming import program
from cimlib.datasets.loading import load
from cimlib.devices.effects import Gaussian, require
from cimlib.networks.plain import mlp
from cimlib.training.fit import accuracy, fit
from cimlib.training.objectives import CrossEntropy

ARRAYS: dict[str, Array] = {
    "double": DoubleArray(),
    "double, one draw": DoubleArray(g_min=0.0, inactive="disconnected"),
    "single": SingleArray(),
    "bit-sliced": BitSliced(quantise=False),
}


BATCHES = 10  # of one evaluation, where errors are redrawn at every batch


@dataclass(frozen=True)
class Params:
    """``sigma``: std per cell, fraction of the range, not clipped; ``train_sigma``: the same while
    training, 0 for plain training. ``first_chip`` … ``first_chip + chips - 1`` are evaluated."""

    scale: str = "quick"
    dataset: str = "digits"
    array: str = "double"
    sigma: float = 0.1
    train_sigma: float = 0.0
    hidden: int = 32
    epochs: int = 30
    lr: float = 0.005
    n_train: int = 1000
    images: int = 300
    chips: int = 30
    first_chip: int = 0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(self.dataset in ("digits", "mnist"), "dataset", self.dataset, "'digits', 'mnist'")
        require(self.array in ARRAYS, "array", self.array, str(list(ARRAYS)))
        for name in ("hidden", "epochs", "n_train", "chips"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        require(self.images >= BATCHES, "images", self.images, f"an integer ≥ {BATCHES}")
        require(self.device in ("cpu", "cuda"), "device", self.device, "'cpu', 'cuda'")
        for name in ("first_chip", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "an integer ≥ 0")
        self.hardware(self.sigma), self.hardware(self.train_sigma)

    def hardware(self, sigma: float) -> Hardware:
        """The array with cells of that spread."""
        return Hardware(Gaussian(sigma, clip=False), ARRAYS[self.array])


_MNIST = {"dataset": "mnist", "hidden": 256, "epochs": 10, "lr": 0.002, "n_train": 50_000}


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {**_MNIST, "images": 1000, "chips": 100},
    "paper": {**_MNIST, "epochs": 100, "images": 10_000, "chips": 1000},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {params.dataset: params.n_train}


def trained(params: Params) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The trained digital network and the test images and labels, (images, ...) and (images,)."""
    x, y = _load(params, "train", params.n_train)
    model = mlp(x[0].numel(), params.hidden, 10, seed=params.seed).to(params.device)
    noisy = fresh(program(model, params.hardware(params.train_sigma)), params.seed)
    learner = noisy if params.train_sigma else model
    fit(learner, CrossEntropy(), (x, y), epochs=params.epochs, lr=params.lr, seed=params.seed, cosine=True)
    model.load_state_dict(learner.state_dict())
    return model, *_load(params, "test", params.images)


def _load(params: Params, split: str, n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load(params.dataset, split, n)
    return x.to(params.device), y.to(params.device)


def run(params: Params) -> dict[str, Any]:
    """Evaluate one network on every chip.

    Returns ``accuracy`` and ``ekl`` (chips,): % and nats; ``redrawn`` (chips,): accuracy where the
    errors are redrawn at every tenth of the images, %; ``weight_spread`` (chips,): standard deviation
    of the first layer's weights in units of ``sigma`` times the largest; ``clean`` (1,): accuracy of
    the digital network on the whole test split, %.
    """
    model, x, y = trained(params)
    chips = range(params.first_chip, params.first_chip + params.chips)
    network = program(model, params.hardware(params.sigma))
    held = evaluate(network, x, y, chips)
    redrawn, spread = [], []
    for chip in chips:
        spread.append(_weight_spread(crossbars(fabricate(network, chip))[0]) / (params.sigma or 1.0))
        fresh(network.eval(), chip)
        with torch.no_grad():
            guesses = torch.cat([network(part).argmax(1) for part in torch.tensor_split(x, BATCHES)])
        redrawn.append(100 * float((guesses == y).float().mean()))
    return {
        "accuracy": np.round(held.accuracy, 3).tolist(),
        "ekl": np.round(held.ekl, 5).tolist(),
        "redrawn": np.round(redrawn, 3).tolist(),
        "weight_spread": np.round(spread, 5).tolist(),
        "clean": [round(float(accuracy(model, *_load(params, "test"))), 3)],
    }


@torch.no_grad()
def _weight_spread(layer: Crossbar) -> float:
    """Standard deviation of a chip's weight errors in units of the largest weight."""
    return float((layer.read()[0] - layer.weight).std() / layer.weight.abs().max())
