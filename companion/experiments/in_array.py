"""Training in the array: every update is a pulse to a cell. Iris, many seeds at once.

Used by *Training a ReRAM crossbar array* and *One array instead of two*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import torch

from cimlib.chip.fabrication import fabricate
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.datasets.loading import load
from cimlib.devices.effects import StuckAt, require
from cimlib.networks.plain import mlp
from cimlib.training.fit import accuracy, fit
from cimlib.training.objectives import CrossEntropy
from cimlib.training.pulse_optimizer import Pair, PulseOptimizer, Rounding, Rule
from cimlib.training.pulses import Pulses
from cimlib.training.replicas import Replicas, resample
from companion.experiments.deployed import SIZES, STRUCTURES, rounded


@dataclass(frozen=True)
class Params:
    """``lr``: of the weights, per unit of loss. ``levels``: pulses for the full range of a cell.
    ``potentiation``, ``depression``: NL labels. ``cycle_to_cycle``: std of one pulse, fraction of
    the range. ``w_max``: weight of the full range. ``batch``: samples per update, 1 … 90.
    ``stuck_on``, ``stuck_off``: fractions of cells, chip = seed. Other names: see
    :class:`~.PulseOptimizer`."""

    scale: str = "quick"
    structure: str = "double, two-sided"
    rule: Rule = "proportional"
    rounding: Rounding = "stochastic"
    pair: Pair = "both"
    batch: int = 90
    epochs: int = 200
    lr: float = 1.0
    levels: int = 100
    potentiation: float = 0.0
    depression: float = 0.0
    cycle_to_cycle: float = 0.0
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    w_max: float = 4.0
    hidden: int = 8
    seeds: int = 20

    def __post_init__(self) -> None:
        require(self.structure in STRUCTURES, "structure", self.structure, str(list(STRUCTURES)))
        for name, kind in (("rule", Rule), ("rounding", Rounding), ("pair", Pair)):
            require(
                getattr(self, name) in get_args(kind),
                name,
                getattr(self, name),
                str(get_args(kind)),
            )
        for name in ("epochs", "hidden", "seeds"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        require(1 <= self.batch <= SIZES[0], "batch", self.batch, f"1 ≤ batch ≤ {SIZES[0]} (samples)")
        require(0 < self.lr < float("inf"), "lr", self.lr, "0 < lr < ∞")
        self.hardware(), self.pulses()

    def hardware(self) -> Hardware:
        """The structure with a fixed scale: what a weight is worth does not move in training."""
        array = replace(STRUCTURES[self.structure], w_max=self.w_max)
        return Hardware(StuckAt(on=self.stuck_on, off=self.stuck_off), array)

    def pulses(self) -> Pulses:
        """The cell's answer to pulses."""
        return Pulses(self.levels, self.potentiation, self.depression, self.cycle_to_cycle)


SCALES: dict[str, dict[str, Any]] = {"quick": {}, "desk": {"seeds": 200}, "paper": {"seeds": 1000}}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {"iris": SIZES[0]}


def run(params: Params) -> dict[str, Any]:
    """Train every seed's network by pulses, in the array and through its stuck cells.

    Returns ``error``, ``validation_error``, ``train_error`` (seeds,), %; ``pulses`` and ``writes``
    (seeds,): per cell, mean; ``curve`` (10, seeds): validation error at each tenth of training, %.
    """
    seeds = range(params.seeds)
    train, validation, test = resample(*load("iris", "all"), seeds, SIZES)
    hardware = params.hardware()
    networks = [
        fabricate(
            program(mlp(4, params.hidden, 3, bias="row", seed=seed), hardware, train="conductance"),
            seed,
        )
        for seed in seeds
    ]
    model = Replicas(networks)
    array = hardware.array
    scale = float(array.target(torch.zeros(1, 1)).scale)
    moved = array.sides if params.pair == "both" else 1
    optimizer = PulseOptimizer(
        model.parameters(),
        params.pulses(),
        g_min=array.g_min,
        g_max=array.g_max,
        lr=params.lr * scale**2 / moved,
        rule=params.rule,
        rounding=params.rounding,
        pair=params.pair,
    )
    history = fit(
        model,
        CrossEntropy(),
        train,
        epochs=params.epochs,
        lr=params.lr,
        seed=0,
        batch_size=params.batch,
        validation=validation,
        optimizer=lambda _: optimizer,
    )
    tenths = [max(round(tenth * params.epochs / 10), 1) - 1 for tenth in range(1, 11)]
    cells = sum(p[0].numel() for p in model.parameters())
    return {
        "error": rounded(100 - accuracy(model, *test)),
        "validation_error": rounded(100 - accuracy(model, *validation)),
        "train_error": rounded(100 - accuracy(model, *train)),
        "pulses": rounded(optimizer.pulses() / cells),
        "writes": rounded(optimizer.writes() / cells),
        "curve": [[round(100 - value, 1) for value in history.validation[i]] for i in tenths],
    }
