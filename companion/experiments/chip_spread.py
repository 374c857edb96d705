"""One network, many chips: how far they spread, and what pairing and redrawing do to the answer.

Used by *A chip is a seed*.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from cimlib import Hardware, evaluate, fabricate, fit, fresh, load, program
from cimlib.arrays import Array, BitSliced, DoubleArray, SingleArray
from cimlib.chip import Crossbar, crossbars, plain_state
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import Batch, CrossEntropy, accuracy
from companion.fields import STRICT, Count, Natural, NonNegative, Positive, Scale, TorchDevice, one_of
from companion.tasks.results import RIGHT, stacked

ARRAYS: dict[str, Array] = {
    "double": DoubleArray(),
    "double, one draw": DoubleArray(g_min=0.0, inactive="disconnected"),
    "single": SingleArray(),
    "bit-sliced": BitSliced(quantise=False),
}
BATCHES = 10  # of one evaluation, where errors are redrawn at every batch


@dataclass(frozen=True, config=STRICT)
class Params:
    """``sigma``: std per cell, fraction of the range; ``clip`` keeps cells in it; ``train_sigma``: the same
    while training, 0 for plain training. ``first_chip`` … ``first_chip + chips - 1`` are evaluated."""

    scale: Scale = "quick"
    dataset: Literal["digits", "mnist"] = "digits"
    array: Annotated[str, one_of(ARRAYS)] = "double"
    sigma: NonNegative = 0.1
    train_sigma: NonNegative = 0.0
    hidden: Count = 32
    epochs: Count = 30
    lr: Positive = 0.005
    n_train: Count = 1000
    images: Annotated[int, Field(ge=BATCHES)] = 300
    chips: Count = 30
    first_chip: Natural = 0
    seed: Natural = 0
    device: TorchDevice = "cpu"
    clip: bool = False

    def split(self, split: str, n: int | None = None) -> Batch:
        """The first ``n`` images, default all, and their labels: (n, ...) and (n,)."""
        x, y = load(self.dataset, split, n)
        return x.to(self.device), y.to(self.device)

    def hardware(self, sigma: float) -> Hardware:
        """The array with cells of that spread."""
        return Hardware(Gaussian(sigma, clip=self.clip), ARRAYS[self.array])


_MNIST = {"dataset": "mnist", "hidden": 256, "epochs": 10, "lr": 0.002, "n_train": 50_000}
SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {**_MNIST, "images": 1000, "chips": 100},
    "paper": {**_MNIST, "epochs": 100, "images": 10_000, "chips": 1000},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {params.dataset: params.n_train}


def trained(params: Params) -> tuple[nn.Module, Tensor, Tensor]:
    """The trained digital network and the test images and labels, (images, ...) and (images,)."""
    x, y = params.split("train", params.n_train)
    model = mlp(x[0].numel(), params.hidden, 10, seed=params.seed).to(params.device)
    noisy = fresh(program(model, params.hardware(params.train_sigma)), params.seed)
    learner = noisy if params.train_sigma else model
    fit(learner, CrossEntropy(), (x, y), epochs=params.epochs, lr=params.lr, seed=params.seed, cosine=True)
    model.load_state_dict(plain_state(learner))
    return model, *params.split("test", params.images)


def run(params: Params) -> dict[str, Any]:
    """Evaluate one network on every chip.

    Returns ``accuracy`` and ``ekl`` (chips,): % and nats; ``redrawn`` (chips,): accuracy where the
    errors are redrawn at every tenth of the images, %; ``weight_spread`` (chips,): standard deviation
    of the first layer's weights in units of ``sigma`` times the largest; ``clean`` (1,): accuracy of
    the digital network on the whole test split, %. ``right``: which images the first and the third are right
    about, (chips, images).
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
        redrawn.append((guesses == y).cpu().numpy())
    return {
        "accuracy": np.round(held.accuracy, 3).tolist(),
        "ekl": np.round(held.ekl, 5).tolist(),
        "redrawn": np.round(100 * np.mean(redrawn, 1), 3).tolist(),
        "weight_spread": np.round(spread, 5).tolist(),
        "clean": [round(float(accuracy(model, *params.split("test"))), 3)],
        RIGHT: {"accuracy": stacked([held]), "redrawn": np.stack(redrawn)},
    }


@torch.no_grad()
def _weight_spread(layer: Crossbar) -> float:
    """Standard deviation of a chip's weight errors in units of the largest weight."""
    return float((layer.read()[0] - layer.weight).std() / layer.weight.abs().max())
