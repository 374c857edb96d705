"""One array with several cells side by side for each weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cimlib.arrays.base import Conductances
from cimlib.arrays.inventory import Inventory
from cimlib.arrays.single import SingleArray
from cimlib.devices.effects import require_whole


@dataclass(frozen=True)
class ParallelArray(SingleArray):
    r"""A single array that spends :math:`m` cells in parallel on each weight: what it holds is their mean.

    All of them are asked for the same conductance, their currents add, and so does the scale:
    :math:`w = \sum_{i=1}^{m} (g_i - \bar g)/k` with :math:`k = m\,\Delta G/(2 w_{max})`.

    With two cells it has as many as a pair, and the same additive error. The two-sided pair holds
    :math:`\bar g + d` and :math:`\bar g - d`; turn the second about the middle of the range, error and all,
    and the pair is this array. So the two are equal under every error that is symmetric about the middle, a
    clipped additive one, say. They differ where it is not: two cells stuck on add here, and cancel in a pair.
    Derived here.

    The reference stays one conductance a row; its converter has :math:`m` times the gain.

    Args:
        parallel: :math:`m`, cells a weight, ≥ 1. Other arguments: see :class:`~.SingleArray`.

    The cells of a weight are its slices, all of one significance. Raises ``ValueError`` for arguments out of
    range.
    """

    parallel: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("parallel", self.parallel, 1)

    @property
    def slices(self) -> int:
        return self.parallel

    def target(self, weight: Tensor) -> Conductances:
        one = super().target(weight)
        cells = one.cells.expand(self.parallel, *one.cells.shape[1:])
        scale = (self.parallel * one.scale).expand(self.parallel, *one.scale.shape[1:])
        return Conductances(cells.clone(), one.reference, scale.clone())

    def decode(self, g: Conductances) -> Tensor:
        assert g.reference is not None
        weights = (g.cells[:, 0] - g.reference).mul_(self.sign).div_(g.per_weight)
        return torch.sum(weights, 0)

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """As a single array has it, with more cells for each weight [derived]."""
        one = super().inventory(inputs, outputs)
        more = (self.parallel - 1) * inputs * outputs
        return Inventory(one.cells + more, one.resistors, one.amplifiers)
