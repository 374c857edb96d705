"""Training in the array: every update is a pulse to a cell. Iris, many seeds at once.

Used by *Training a ReRAM crossbar array* and *One array instead of two*.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from cimlib import Hardware, fit
from cimlib.devices import StuckAt, require
from cimlib.training import (
    CrossEntropy,
    MixedPrecision,
    Pair,
    PulseMomentum,
    PulseOptimizer,
    Pulses,
    Replicas,
    Rounding,
    Rule,
    TikiTaka,
    accuracy,
)
from companion.experiments.deployed import STRUCTURES
from companion.fields import STRICT, Count, Fraction, NonNegative, Positive, Scale, one_of
from companion.tasks.iris import SIZES, Iris
from companion.tasks.iris import data as data
from companion.tasks.results import rounded, tenths


@dataclass(frozen=True, config=STRICT)
class Params:
    """``lr``: of the weights, per unit of loss. ``levels``: pulses for the full range of a cell.
    ``potentiation``, ``depression``: NL labels. ``cycle_to_cycle``: std of one pulse, fraction of
    the range. ``w_max``: weight of the full range. ``batch``: samples per update, 1 … 90.
    ``stuck_on``, ``stuck_off``: fractions of cells, chip = seed. ``accumulator``, where gradients are
    remembered: not at all, in ``"digital"`` memory (:class:`~.MixedPrecision`), or in a second ``"array"``
    (:class:`~.TikiTaka`), of which ``transfer`` is how much of what is read is written on. ``momentum``, < 1,
    in digital memory. Other names: see :class:`~.PulseOptimizer`."""

    scale: Scale = "quick"
    structure: Annotated[str, one_of(STRUCTURES)] = "double, two-sided"
    rule: Rule = "proportional"
    rounding: Rounding = "stochastic"
    pair: Pair = "both"
    batch: Annotated[int, Field(ge=1, le=SIZES[0])] = 90
    epochs: Count = 200
    lr: Positive = 1.0
    levels: Count = 100
    potentiation: float = 0.0
    depression: float = 0.0
    cycle_to_cycle: NonNegative = 0.0
    stuck_on: Fraction = 0.0
    stuck_off: Fraction = 0.0
    w_max: Positive = 4.0
    hidden: Count = 8
    seeds: Count = 20
    accumulator: Literal["none", "digital", "array"] = "none"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    transfer: Positive = 0.1

    def __post_init__(self) -> None:
        remembers = self.accumulator != "none" or self.momentum > 0
        usual = not remembers or self.rule == "proportional"
        require(usual, "rule", self.rule, "'proportional' with an accumulator or momentum")
        for name, known in (("rounding", ("stochastic",)), ("pair", ("both", "one")[: 1 + self.digital])):
            value, alone = getattr(self, name), self.accumulator == "none"
            require(alone or value in known, name, value, f"{known} with accumulator={self.accumulator!r}")
        apart = self.accumulator != "array" or self.momentum == 0
        require(apart, "momentum", self.momentum, "0 with accumulator='array', which is one")
        self.hardware(), self.pulses()

    @property
    def digital(self) -> bool:
        """Whether gradients wait in digital memory until they are a pulse."""
        return self.accumulator == "digital"

    def hardware(self) -> Hardware:
        """The structure with a fixed scale: what a weight is worth does not move in training."""
        array = replace(STRUCTURES[self.structure], w_max=self.w_max)
        return Hardware(StuckAt(on=self.stuck_on, off=self.stuck_off), array)

    def pulses(self) -> Pulses:
        """The cell's answer to pulses."""
        return Pulses(self.levels, self.potentiation, self.depression, self.cycle_to_cycle)


SCALES: dict[str, dict[str, Any]] = {"quick": {}, "desk": {"seeds": 200}, "paper": {"seeds": 1000}}


def _optimizer(model: Replicas, params: Params, lr: float) -> PulseOptimizer:
    """What turns gradients into pulses; ``lr``: of the conductances, µS² per unit of loss."""
    array = params.hardware().array
    common: dict[str, Any] = {"g_min": array.g_min, "g_max": array.g_max, "lr": lr, "weight_dim": 2}
    conductances, cell = model.parameters(), params.pulses()
    if params.accumulator == "array":
        return TikiTaka(conductances, cell, transfer=params.transfer, **common)
    common |= {"pair": params.pair}
    if params.digital:
        return MixedPrecision(conductances, cell, momentum=params.momentum, **common)
    common |= {"rounding": params.rounding}
    if params.momentum:
        return PulseMomentum(conductances, cell, momentum=params.momentum, **common)
    return PulseOptimizer(conductances, cell, rule=params.rule, **common)


def run(params: Params) -> dict[str, Any]:
    """Train every seed's network by pulses, in the array and through its stuck cells.

    Returns ``error``, ``validation_error``, ``train_error`` (seeds,), %; ``pulses`` and ``writes``
    (seeds,): per cell that computes, mean, those to a second array included;
    ``curve`` (10, seeds): validation error at each tenth of training, %.
    """
    iris, hardware = Iris.of(params.seeds, params.hidden), params.hardware()
    model, array = Replicas(iris.chips(hardware, train="conductance")), hardware.array
    scale = float(array.target(torch.zeros(1, 1)).scale)
    moved = array.sides if params.pair == "both" else 1
    optimizer = _optimizer(model, params, params.lr * scale**2 / moved)
    history = fit(
        model,
        CrossEntropy(),
        iris.train,
        epochs=params.epochs,
        lr=params.lr,
        seed=0,
        batch_size=params.batch,
        validation=iris.validation,
        optimizer=lambda _: optimizer,
    )
    cells = sum(p[0].numel() for p in model.parameters())
    return {
        "error": rounded(100 - accuracy(model, *iris.test)),
        "validation_error": rounded(100 - accuracy(model, *iris.validation)),
        "train_error": rounded(100 - accuracy(model, *iris.train)),
        "pulses": rounded(optimizer.pulses() / cells),
        "writes": rounded(optimizer.writes() / cells),
        "curve": tenths(history),
    }
