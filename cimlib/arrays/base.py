r"""Weights ↔ conductances: how signed weights sit in arrays of positive conductances.

For a weight matrix :math:`W` (out, in) the inputs drive the rows (word lines) and each output is a
column (bit line). Taught in *One array instead of two*, where the equations are derived; the tests
check them by nodal analysis. Everything is in µS.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from cimlib.arrays.inventory import Inventory
from cimlib.devices.effects import clipped, require

Structure = Literal["pair", "column", "constant-term"]


@dataclass(frozen=True)
class Conductances:
    """What one layer's array holds.

    Args:
        cells: ``(slices, sides, *W.shape)``, µS.
        reference: ``(*W.shape[1:])``, µS: one conductance per row, or ``None``.
        scale: µS per unit of weight: (slices,), or (slices, out) where each column has its own.
        connected: bool, like ``cells``: cells whose access transistor is on, or ``None`` for all. The
            others conduct nothing and hold 0.
    """

    cells: Tensor
    reference: Tensor | None
    scale: Tensor
    connected: Tensor | None = None

    def __sub__(self, other: Conductances) -> Conductances:
        """Cell-wise difference; scale and connections are those of ``self``."""
        reference = None
        if self.reference is not None and other.reference is not None:
            reference = self.reference - other.reference
        return replace(self, cells=self.cells - other.cells, reference=reference)

    @property
    def conducting(self) -> Tensor:
        """``cells``, and 0 for those that are not connected."""
        return self.cells if self.connected is None else self.cells * self.connected.to(torch.uint8)

    @property
    def per_weight(self) -> Tensor:
        """``scale`` so that it broadcasts with the weights of every slice: (slices, 1 or out, 1, ...)."""
        return self.scale.reshape(len(self.scale), -1, *[1] * (self.cells.dim() - 3))

    def scale_of(self, columns: Tensor) -> Tensor:
        """``scale`` for cells that hold these ``columns`` (n,) of the weights, in this order."""
        return self.scale if self.scale.dim() == 1 else self.scale[:, columns]


@dataclass(frozen=True)
class Array:
    """Common part of the arrays: range and scale.

    Args:
        g_min, g_max: range of one cell, µS, 0 ≤ g_min < g_max < ∞.
        w_max: weight held by the full range. ``None``: the largest magnitude of each weight tensor,
            found anew whenever the weights change; a number: fixed, and larger weights saturate.
        scale: what takes the full range if ``w_max`` is ``None``. ``"layer"``: the largest weight of the
            tensor, so that one outlier shrinks the conductances of all columns. ``"column"``: the largest
            weight of each output. A column then has a feedback conductance of its own behind amplifiers,
            and a digital factor of its own without them; its errors do not depend on other columns.

    A device's spread is a fraction of the range of a cell. With one scale it is the same error for every
    weight of a layer; with a scale for each column it is small in a column of small weights. Use
    ``"column"`` where the columns' largest weights differ much and the read-out has a gain for each of
    them. The published designs of the book have one scale.

    Raises ``ValueError`` for a range, a ``w_max`` or a ``scale`` that is not allowed.
    """

    g_min: float = 10.0
    g_max: float = 100.0
    w_max: float | None = None
    scale: Literal["layer", "column"] = field(default="layer", kw_only=True)

    def __post_init__(self) -> None:
        ordered = 0 <= self.g_min < self.g_max < float("inf")
        require(ordered, "(g_min, g_max)", (self.g_min, self.g_max), "0 ≤ g_min < g_max < ∞ (µS)")
        positive = self.w_max is None or 0 < self.w_max < float("inf")
        require(positive, "w_max", self.w_max, "None or 0 < w_max < ∞")
        require(self.scale in ("layer", "column"), "scale", self.scale, "'layer', 'column'")
        free = self.scale == "layer" or self.w_max is None
        require(free, "w_max", self.w_max, "None with scale='column', where each column has its own")

    @property
    def g_mid(self) -> float:
        """Middle of the range, µS."""
        return (self.g_min + self.g_max) / 2

    def represent(self, weight: Tensor) -> Tensor:
        """The weights the array can hold, (out, in, ...): saturated at ``w_max`` if that is fixed."""
        return weight if self.w_max is None else weight.clamp(-self.w_max, self.w_max)

    def full_scale(self, weight: Tensor) -> Tensor:
        """Weight held by the full range, > 0 without gradient: a scalar, or (out, 1, ...) of the columns."""
        if self.w_max is not None:
            return torch.as_tensor(self.w_max, dtype=weight.dtype, device=weight.device)
        weight, columns = weight.detach(), self.scale == "column"
        dims = tuple(range(int(columns), weight.dim()))
        peak = torch.maximum(weight.amax(dims, columns), -weight.amin(dims, columns))
        return peak.masked_fill(peak == 0, 1.0)

    @property
    def structure(self) -> Structure:
        """How signs come about: ``"pair"`` of arrays, reference ``"column"``, ``"constant-term"``."""
        raise NotImplementedError

    @property
    def slices(self) -> int:
        """Cells in which the bits of one weight lie, per side."""
        return 1

    @property
    def sides(self) -> int:
        """Arrays whose difference makes the sign (2 for a pair, 1 for a single array)."""
        return 1

    def cell_shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the cells (slices, sides, out, in, ...) of weights (out, in, ...)."""
        return (self.slices, self.sides, *weight)

    def draw_shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the standard draws, broadcastable to the cells: by default one per cell."""
        return self.cell_shape(weight)

    @property
    def reference_is_cells(self) -> bool:
        """Whether the reference is made of memory cells and so shares the device's errors."""
        return False

    def target(self, weight: Tensor) -> Conductances:
        """Conductances to ask for, given weights (out, in, ...)."""
        raise NotImplementedError

    def decode(self, g: Conductances) -> Tensor:
        """Weights (out, in, ...) that conductances amount to; linear in ``g``."""
        raise NotImplementedError

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """Parts needed for a layer of ``inputs`` rows and ``outputs`` neurons."""
        raise NotImplementedError

    def _scales(self, scale: Tensor) -> Tensor:
        """``scale``, a scalar or (out, 1, ...), in the shape that :class:`Conductances` wants."""
        return scale.reshape(1) if scale.dim() == 0 else scale.reshape(1, -1)

    def within(self, cells: Tensor) -> Tensor:
        """``cells``, just computed, without the last digit by which rounding may have left the range."""
        return clipped(cells, self.g_min, self.g_max)
