"""One array and a fixed reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cimlib.arrays.base import Array, Conductances, Structure
from cimlib.arrays.inventory import Inventory
from cimlib.devices.effects import require


@dataclass(frozen=True)
class SingleArray(Array):
    r"""One array and a fixed reference: :math:`w = (g - \bar g)/k`, :math:`k=\Delta G/(2 w_{max})`.

    Args:
        reference: where :math:`\bar g\sum x` is subtracted. ``"column"``: a reference column with
            its own IV converter and one subtractor a neuron; ``"constant-term"``: one summing
            amplifier that feeds every column's virtual ground, no subtractors.
        reference_device: ``"resistor"``: exact resistors; ``"cell"``: memory cells with the errors
            of the others (only a column can be made of cells).

    Without errors of the cells and with ideal amplifiers both references give the same output. The
    constant term inverts it, so there the cells hold −W and the same cell error has the other sign;
    they differ in parts, and with real amplifiers in headroom and offset.

    Source: both derived here; the constant-term amplifier is the
    idea of Truong & Min (2014); ISIPS 2019 compares three structures, its third is not found.
    Raises ``ValueError`` for unknown names.
    """

    reference: Literal["column", "constant-term"] = "column"
    reference_device: Literal["resistor", "cell"] = "resistor"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.reference in ("column", "constant-term")
        require(known, "reference", self.reference, "'column', 'constant-term'")
        allowed = ("resistor", "cell") if self.reference == "column" else ("resistor",)
        fits = self.reference_device in allowed
        require(
            fits,
            "reference_device",
            self.reference_device,
            f"{allowed} for reference={self.reference!r}",
        )

    @property
    def structure(self) -> Structure:
        return self.reference

    @property
    def reference_is_cells(self) -> bool:
        return self.reference_device == "cell"

    @property
    def sign(self) -> int:
        """−1 if the output is inverted, so that the cells hold −W: the constant term has no subtractor."""
        return -1 if self.reference == "constant-term" else 1

    def target(self, weight: Tensor) -> Conductances:
        scale = (self.g_max - self.g_min) / (2 * self.full_scale(weight))
        cells = self.within((self.sign * scale * self.represent(weight)).add_(self.g_mid))
        reference = torch.full_like(weight[0].detach(), self.g_mid)
        return Conductances(cells[None, None], reference, self._scales(scale))

    def decode(self, g: Conductances) -> Tensor:
        assert g.reference is not None
        return (g.cells[0, 0] - g.reference).mul_(self.sign).div_(g.per_weight[0])

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """Column: N·(M+1) elements, M+1 IV converters, M subtractors (four resistors each).
        Constant term: N·M cells, N+M resistors, M+1 amplifiers and no subtractor. Each IV converter
        and the summing amplifier has one feedback resistor more [derived]."""
        cells, feedback = inputs * outputs, outputs + 1
        if self.reference == "constant-term":
            return Inventory(cells, inputs + outputs + feedback, outputs + 1)
        column = inputs if self.reference_device == "cell" else 0
        return Inventory(cells + column, inputs - column + feedback + 4 * outputs, 2 * outputs + 1)
