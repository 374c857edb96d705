"""Iris for many seeds side by side: each has a split, initial weights and a chip of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from cimlib import Hardware, fabricate, fit, load, program
from cimlib.networks import mlp
from cimlib.training import Batch, CrossEntropy, Replicas, resample

SIZES = (90, 30, 30)  # training, validation and test flowers


def data(params: object) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {"iris": SIZES[0]}


@dataclass(frozen=True)
class Iris:
    """Untrained networks ``blank`` (seeds,), and flowers, x (size, seeds, 4) and y (size, seeds)."""

    blank: list[nn.Module]
    train: Batch
    validation: Batch
    test: Batch

    @classmethod
    def of(cls, seeds: int, hidden: int) -> Iris:
        """Networks 4-``hidden``-3 and splits of the seeds 0 … ``seeds - 1``."""
        blank = [mlp(4, hidden, 3, bias="row", seed=seed) for seed in range(seeds)]
        return cls([*blank], *resample(*load("iris", "all"), range(seeds), SIZES))

    def software(self, epochs: int, lr: float) -> Replicas:
        """The networks trained without hardware, full batch."""
        model = Replicas(self.blank)
        fit(model, CrossEntropy(), self.train, epochs=epochs, lr=lr, seed=0, batch_size=SIZES[0])
        return model

    def chips(self, on: Hardware, train: Literal["weight", "conductance"] = "weight") -> list[nn.Module]:
        """Each untrained network on the chip of its seed."""
        return [fabricate(program(net, on, train=train), seed) for seed, net in enumerate(self.blank)]
