"""Trained in software, then programmed into crossbar arrays: Iris on many chips.

Used by *Training a ReRAM crossbar array* and *One array instead of two*.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from cimlib import Hardware, fabricate, program, using
from cimlib.arrays import Array, DoubleArray, ParallelArray, SingleArray, power
from cimlib.chip import Crossbar, crossbars
from cimlib.devices import Device, Gaussian, Lognormal, StuckAt, require
from cimlib.training import Replicas, accuracy
from companion.fields import STRICT, Count, Fraction, NonNegative, Positive, Scale, one_of
from companion.tasks.iris import Iris
from companion.tasks.iris import data as data
from companion.tasks.results import rounded

STRUCTURES: dict[str, Array] = {
    "double": DoubleArray(),
    "double, two-sided": DoubleArray(mapping="two-sided"),
    "single, column": SingleArray(reference="column"),
    "single, column of cells": SingleArray(reference="column", reference_device="cell"),
    "single, constant term": SingleArray(reference="constant-term"),
}
#: Those, and a single array with as many cells as a pair has.
PROGRAMMED: dict[str, Array] = {**STRUCTURES, "single, two cells a weight": ParallelArray()}
SPAN = 0.1  # V for an input of 1: the read voltage of Prezioso et al. (2015)


@dataclass(frozen=True, config=STRICT)
class Params:
    """``gaussian``: std per cell, fraction of the range. ``lognormal``: std of ln g per cell.
    ``stuck_on``, ``stuck_off``: fractions of cells. Chips are ``seed · chips + c``."""

    scale: Scale = "quick"
    structure: Annotated[str, one_of(PROGRAMMED)] = "double"
    gaussian: NonNegative = 0.0
    lognormal: NonNegative = 0.0
    stuck_on: Fraction = 0.0
    stuck_off: Fraction = 0.0
    hidden: Count = 8
    epochs: Count = 200
    lr: Positive = 0.05
    seeds: Count = 20
    chips: Count = 5

    def __post_init__(self) -> None:
        one = self.gaussian == 0 or self.lognormal == 0
        require(one, "lognormal", self.lognormal, "0 if gaussian > 0")
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


def run(params: Params) -> dict[str, Any]:
    """Errors of each trained network on its chips.

    Returns ``error`` (seeds,): test error, %, mean over chips; ``chip_error`` (seeds, chips), %;
    ``spread`` (seeds,): std of the error over chips, points; ``digital_error`` (seeds,), %;
    ``power`` (seeds,): of arrays and references on the test inputs as targeted, µW, and
    ``first_layer_power`` of the first layer alone; ``cells`` and
    ``amplifiers`` (seeds,): in all layers.
    """
    iris = Iris.of(params.seeds, params.hidden)
    trained = iris.software(params.epochs, params.lr)
    array = PROGRAMMED[params.structure]
    hardware = Hardware(params.device(), array)
    networks = [program(trained.member(s, blank), hardware) for s, blank in enumerate(iris.blank)]
    errors = []
    for chip in range(params.chips):
        held = [fabricate(network, seed * params.chips + chip) for seed, network in enumerate(networks)]
        errors.append(100 - accuracy(Replicas(held), *iris.test))
    chip_error = torch.stack(errors, 1).double()
    spread = chip_error.std(1) if params.chips > 1 else torch.zeros(params.seeds)
    powers = [_power(network, array, iris.test[0][:, seed]) for seed, network in enumerate(networks)]
    layers = [layer.weight.shape for layer in crossbars(networks[0])]
    parts = [array.inventory(inputs, outputs) for outputs, inputs in layers]
    return {
        "error": rounded(chip_error.mean(1)),
        "chip_error": [rounded(row) for row in chip_error],
        "spread": rounded(spread),
        "digital_error": rounded(100 - accuracy(trained, *iris.test)),
        "cells": [sum(part.cells for part in parts)] * params.seeds,
        "amplifiers": [sum(part.amplifiers for part in parts)] * params.seeds,
        "power": [round(sum(layers), 4) for layers in powers],
        "first_layer_power": [layers[0] for layers in powers],
    }


@torch.no_grad()
def _power(network: nn.Module, array: Array, x: Tensor) -> list[float]:
    """Mean over ``x`` (n, in) of the power of each layer without device errors, µW."""
    used = []
    with using(network, Hardware(array=array)):
        for layer in network.children():
            if isinstance(layer, Crossbar):
                used.append(round(float(power(array.target(layer.weight), SPAN * x).mean()), 4))
            x = layer(x)
    return used
