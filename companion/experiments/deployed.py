"""Trained in software, then programmed into crossbar arrays: Iris on many chips.

Used by *Training a ReRAM crossbar array* and *One array instead of two*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cimlib.arrays.base import Array
from cimlib.arrays.inventory import power
from cimlib.arrays.pairs import DoubleArray
from cimlib.arrays.single import SingleArray
from cimlib.chip.crossbar import crossbars
from cimlib.chip.fabrication import fabricate, using
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.datasets.loading import load
from cimlib.devices.effects import Device, Gaussian, Lognormal, StuckAt, require
from cimlib.networks.plain import mlp
from cimlib.training.fit import accuracy, fit
from cimlib.training.objectives import CrossEntropy
from cimlib.training.replicas import Replicas, resample

STRUCTURES: dict[str, Array] = {
    "double": DoubleArray(),
    "double, two-sided": DoubleArray(mapping="two-sided"),
    "single, column": SingleArray(reference="column"),
    "single, column of cells": SingleArray(reference="column", reference_device="cell"),
    "single, constant term": SingleArray(reference="constant-term"),
}


SIZES = (90, 30, 30)  # training, validation and test flowers


SPAN = 0.1  # V for an input of 1: the read voltage of Prezioso et al. (2015)


@dataclass(frozen=True)
class Params:
    """``gaussian``: std per cell, fraction of the range. ``lognormal``: std of ln g per cell.
    ``stuck_on``, ``stuck_off``: fractions of cells. Chips are ``seed · chips + c``."""

    scale: str = "quick"
    structure: str = "double"
    gaussian: float = 0.0
    lognormal: float = 0.0
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    hidden: int = 8
    epochs: int = 200
    lr: float = 0.05
    seeds: int = 20
    chips: int = 5

    def __post_init__(self) -> None:
        require(self.structure in STRUCTURES, "structure", self.structure, str(list(STRUCTURES)))
        require(
            self.gaussian == 0 or self.lognormal == 0,
            "lognormal",
            self.lognormal,
            "0 if gaussian > 0",
        )
        for name in ("hidden", "epochs", "seeds", "chips"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        self.device()

    def device(self) -> Device:
        """Programming error first, then stuck cells."""
        spread = Lognormal(self.lognormal) if self.lognormal else Gaussian(self.gaussian)
        return Device(spread, StuckAt(on=self.stuck_on, off=self.stuck_off))


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {"seeds": 100, "chips": 20},
    "paper": {"seeds": 1000, "chips": 20},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {"iris": SIZES[0]}


def run(params: Params) -> dict[str, Any]:
    """Errors of each trained network on its chips.

    Returns ``error`` (seeds,): test error, %, mean over chips; ``chip_error`` (seeds, chips), %;
    ``spread`` (seeds,): std of the error over chips, points; ``digital_error`` (seeds,), %;
    ``power`` (seeds,): of arrays and references on the test inputs as targeted, µW, and
    ``first_layer_power`` of the first layer alone; ``cells`` and
    ``amplifiers`` (seeds,): in all layers.
    """
    seeds = range(params.seeds)
    train, _, test = resample(*load("iris", "all"), seeds, SIZES)
    blank = [mlp(4, params.hidden, 3, bias="row", seed=seed) for seed in seeds]
    trained = Replicas(blank)
    fit(trained, CrossEntropy(), train, epochs=params.epochs, lr=params.lr, seed=0, batch_size=SIZES[0])
    hardware = Hardware(params.device(), STRUCTURES[params.structure])
    networks = [program(trained.member(s, blank[s]), hardware) for s in seeds]
    errors = []
    for chip in range(params.chips):
        held = [fabricate(network, seed * params.chips + chip) for seed, network in enumerate(networks)]
        errors.append(100 - accuracy(Replicas(held), *test))
    chip_error = torch.stack(errors, 1).double()
    spread = chip_error.std(1) if params.chips > 1 else torch.zeros(len(seeds))
    layers = [layer.weight.shape for layer in crossbars(networks[0])]
    powers = [_power(network, test[0][:, seed]) for seed, network in enumerate(networks)]
    parts = [hardware.array.inventory(inputs, outputs) for outputs, inputs in layers]
    return {
        "error": rounded(chip_error.mean(1)),
        "chip_error": [rounded(row) for row in chip_error],
        "spread": rounded(spread),
        "digital_error": rounded(100 - accuracy(trained, *test)),
        "cells": [sum(part.cells for part in parts)] * params.seeds,
        "amplifiers": [sum(part.amplifiers for part in parts)] * params.seeds,
        "power": [round(sum(layers), 4) for layers in powers],
        "first_layer_power": [layers[0] for layers in powers],
    }


def rounded(values: torch.Tensor) -> list[float]:
    """Values (n,) as a list with three decimals, for the record."""
    return [round(value, 3) for value in values.tolist()]


@torch.no_grad()
def _power(network: torch.nn.Module, x: torch.Tensor) -> list[float]:
    """Mean over ``x`` (n, in) of the power of each layer without device errors, µW."""
    used: list[float] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: used.append(
                float(power(layer.hardware.array.target(layer.weight), SPAN * inputs[0]).mean())
            )
        )
        for layer in crossbars(network)
    ]
    with using(network, Hardware(array=crossbars(network)[0].hardware.array)):
        network(x)
    for hook in hooks:
        hook.remove()
    return [round(value, 4) for value in used]
