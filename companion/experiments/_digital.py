"""The digital network that several experiments put on chips: trained for perfect cells, and kept on disk.

Whoever asks for a network that was trained before is given the same weights, in another process too. They are
kept under :data:`FOLDER` by all that decides their bits: the :class:`Network`, the code, the version of torch
and its number of threads. Two processes that want the same one at once both train it, and the files of both
are the same; a damaged file is trained anew, with a note in the log; where nothing can be written, nothing is
kept.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from joblib import Memory
from torch import Tensor, nn

from cimlib.chip.crossbar import crossbars
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.datasets.loading import load
from cimlib.networks.plain import mlp
from cimlib.training.fit import fit
from cimlib.training.objectives import Batch, CrossEntropy, Objective
from companion import definitions
from companion.experiments import negative_feedback

FOLDER = Path(__file__).resolve().parents[2] / "_build" / "networks"


CODE = definitions.digest(__name__, "_weights")  # at import: what will train, whatever becomes of its files


@dataclass(frozen=True)
class Network:
    """All that the weights of a digital network depend on, as in the ``Params`` of an experiment.

    ``network``: ``"mlp"``, or a convolutional one of :mod:`~companion.experiments.negative_feedback`.
    ``hidden``: units of each of ``layers`` hidden layers, the last of several half as many; of convolutional
    networks ``width`` counts. ``precision`` of their training.
    """

    network: str
    dataset: str
    layers: int
    hidden: int
    width: float
    epochs: int
    n_train: int
    lr: float
    batch: int
    seed: int
    precision: str
    device: str

    @classmethod
    def of(cls, params: Any) -> Self:
        """The network that an experiment with these ``params`` starts from."""
        return cls(**{field.name: getattr(params, field.name) for field in fields(cls)})

    def plain(self) -> negative_feedback.Params:
        """A convolutional network trained without errors, as the chapter on negative feedback trains it.

        Raises ``ValueError`` for another network, and for values that are not allowed there.
        """
        names = "network dataset width epochs n_train batch lr seed precision device"
        given = {name: getattr(self, name) for name in names.split()}
        return negative_feedback.Params(**given, method="plain", sigma=0.0, images=1, chips=1)

    def blank(self) -> nn.Module:
        """The network before training."""
        if self.network != "mlp":
            return self.plain().blank()
        widths = [self.hidden] * self.layers
        if self.layers > 1:
            widths[-1] = max(1, self.hidden // 2)
        x, _ = images(self, "train", 1)
        return mlp(x.numel(), *widths, 10, seed=self.seed)


def images(network: Network, split: str, n: int | None = None) -> Batch:
    """Images for the network: of a convolutional one as in *Negative feedback training*."""
    if network.network != "mlp":
        return negative_feedback.images(network.plain(), split, n)
    x, y = load(network.dataset, split, n)
    return x.to(network.device), y.to(network.device)


def precision(network: Network) -> torch.autocast:
    """Layers in bfloat16 if asked for; see :func:`companion.experiments.negative_feedback.precision`."""
    kind, wanted = torch.device(network.device).type, network.precision == "bfloat16"
    return torch.autocast(kind, torch.bfloat16, enabled=wanted, cache_enabled=False)


@lru_cache(maxsize=1)
def digital(network: Network) -> nn.Module:
    """The network, trained for perfect cells, in evaluation mode; one and the same object for all who ask."""
    model = network.blank().to(network.device).to(memory_format=torch.channels_last)
    weights = _memory().cache(_weights)(network, CODE, torch.__version__, torch.get_num_threads())
    model.load_state_dict(weights)
    return model.eval()


def _memory() -> Memory:
    """What was trained, compressed for the checksum that comes with it; none where nothing can be written."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        writable = os.access(FOLDER, os.W_OK)
    except OSError:
        writable = False
    return Memory(FOLDER if writable else None, compress=True, verbose=0)


def _weights(network: Network, code: str, version: str, threads: int) -> dict[str, Tensor]:
    """Train ``network``; the rest is what else decides the bits of its weights."""
    if network.network != "mlp":
        trained, *_ = negative_feedback.trained(network.plain())
        return trained.state_dict()
    model = network.blank().to(network.device)
    fit(
        model,
        CrossEntropy(),
        images(network, "train", network.n_train),
        epochs=network.epochs,
        lr=network.lr,
        seed=network.seed,
        batch_size=network.batch,
        cosine=True,
    )
    return model.state_dict()


def refit(
    model: nn.Module, objective: Objective, batch: Batch, network: Network, *, epochs: int, lr: float
) -> None:
    """Train ``model``, made from the network, on: in its batches and precision, colour images augmented.

    Args:
        batch: images as :func:`images` gives them, and their labels.
        epochs, lr: as in :func:`~.fit`; the rate falls along a half cosine.
    """
    if network.dataset == "cifar10":
        mean, std = negative_feedback.normalisation(network.plain())
        objective = negative_feedback.Augmented(objective, -mean / std, network.seed)
    with precision(network):
        fit(
            model,
            objective,
            batch,
            epochs=epochs,
            lr=lr,
            seed=network.seed,
            batch_size=network.batch,
            cosine=True,
        )


def on_arrays(model: nn.Module, hardware: Hardware, network: Network, w_range: float = 1.0) -> nn.Module:
    """``model`` on arrays of ``hardware``, the range of each layer fixed by the digital network.

    Args:
        model: the digital network, or what it has become in further training.
        w_range: weight of the full range over the largest one of that layer in the digital network.
    """
    trained, model = digital(network), program(model, hardware)
    for layer in crossbars(model):
        largest = float(trained.get_parameter(f"{layer.name}.weight").detach().abs().max())
        array = replace(layer.hardware.array, w_max=w_range * largest)
        layer.hardware = replace(layer.hardware, array=array)
    return model
