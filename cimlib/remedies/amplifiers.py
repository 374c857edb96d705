"""What is done about the amplifiers of a chip without a model of it: biases trimmed by what neurons show."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn

from cimlib.chip.crossbar import crossbars
from cimlib.methods.bias_rows import require_trim, trim, trimmable
from cimlib.remedies.base import Case, Remedy
from cimlib.remedies.budget import Budget
from cimlib.remedies.chips import Chip


@dataclass(frozen=True)
class BiasTrim(Remedy):
    """Each neuron read at rest, and the opposite written into its bias: :func:`~.trim`.

    It needs no image, no emulator and no training, and takes the place of one. A reading of all neurons is
    one pass of an input of zeros through each array.

    Args:
        error: standard deviation of each reading, V, ≥ 0.
        readings: of each neuron, with a writing after each, ≥ 1.
        seed: of the errors, ≥ 0.

    Raises ``ValueError`` for arguments out of range and, before any work, for a network that is not behind
    :class:`~.OpAmp` with fixed ranges and its biases in the arrays.
    """

    error: float = 0.0
    readings: int = 1
    seed: int = 0

    steps = ("retrain",)
    knows = frozenset({"this chip"})

    def __post_init__(self) -> None:
        require_trim(self.error, self.readings, self.seed)

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        trimmable(model)

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        with case.costs.timed("retrain"):
            done = trim(model, self.error, self.readings, self.seed)
        case.costs.readings += self.readings
        cells = [layer.hardware.array.cell_shape(layer.weight_shape) for layer in crossbars(model)]
        case.costs.writes += done.writes / sum(map(prod, cells))
        return model
