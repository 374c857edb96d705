"""What an array consists of, and what it consumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cimlib.devices.effects import require

if TYPE_CHECKING:
    from cimlib.arrays.base import Conductances


@dataclass(frozen=True)
class Inventory:
    """Parts of one array of a layer: memory cells, fixed resistors, operational amplifiers."""

    cells: int
    resistors: int
    amplifiers: int


def power(g: Conductances, voltage: Tensor) -> Tensor:
    r"""Power dissipated in the array and its reference, µW: :math:`\sum_{ij} g_{ij} (V_i-V_0)^2`.

    Args:
        g: conductances of a linear layer, cells (slices, sides, out, in) in µS.
        voltage: (batch, in), V, relative to the virtual ground.

    Returns (batch,). Amplifiers are not included. Source: Joule's law with every column held at
    virtual ground [derived]. Raises ``ValueError`` unless the layer is linear.
    """
    require(g.cells.dim() == 4, "g.cells.shape", tuple(g.cells.shape), "(slices, sides, out, in)")
    cells = g.cells if g.connected is None else torch.where(g.connected, g.cells, 0.0)
    per_row = cells.sum((0, 1, 2)) + (0.0 if g.reference is None else g.reference)
    dissipated: Tensor = voltage.square() @ per_row
    return dissipated
