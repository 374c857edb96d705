"""Mapping for a chip behind which a digital factor mends what all weights of a column have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from torch import nn

from cimlib.devices.effects import require
from cimlib.methods.forgiving import Forgiven, mapped_forgiving
from cimlib.remedies.base import Case
from cimlib.remedies.cells import FaultMapping


@dataclass(frozen=True)
class ForgivingMapping(FaultMapping):
    """Rows moved to where weights suffer least, but for a common factor: :func:`~.mapped_forgiving`.

    It leaves the factor to what comes behind it, :class:`~.BatchNormStatistics`, say.

    Args:
        per: whether each ``"column"`` or each ``"layer"`` has a factor of its own.
        routing, power: ``"rows"`` and 2, as the factors are those of least squares. Others: see
            :class:`~.FaultMapping`.

    Raises ``ValueError`` for arguments out of range.
    """

    per: Forgiven = "column"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.per in get_args(Forgiven), "per", self.per, "'column', 'layer'")
        require(self.routing == "rows", "routing", self.routing, "'rows' for a cost that forgives a factor")
        require(self.power == 2, "power", self.power, "2 for a cost that forgives a factor")

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        return mapped_forgiving(known, per=self.per, weighting=self._weighting(known, case))
