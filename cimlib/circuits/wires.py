r"""Wires with resistance, around any other read-out circuit.

An array with resistive wires delivers the currents of another array with perfect ones, whose conductances
:math:`G^\text{eff}` are found by nodal analysis (:mod:`cimlib.circuits.parasitics`). The circuit behind the
array then reads :math:`G^\text{eff}` in place of the cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.circuits.base import Circuit, Ideal, Operation
from cimlib.circuits.parasitics import effective_conductance
from cimlib.devices.draws import Draw
from cimlib.devices.effects import require


@dataclass(frozen=True)
class Wires(Circuit):
    """Wire resistance in every array, read by ``inner``.

    Inputs are the rows of an array, driven at the left, the first at the top; outputs are its columns,
    read below the last row. A ``Conv2d`` kernel is flattened to in·kh·kw rows. Each side of a pair, each
    bit slice and each group of a convolution is an array of its own; the reference of a single array is
    one more column, to the right of the others. Open cells are 0.

    **When it is exact** (derived). With feet of the columns at one voltage, as behind perfect amplifiers
    (:class:`Ideal`), and, for feet at any voltages, if ``r_row`` is 0. Offset and finite gain move the
    feet apart; where ``r_row`` is not 0, currents then flow from column to column through the rows, which
    are left out: at 32×32, 2.5 Ω and offsets of σ = 15.9 mV, 5 % of what the offsets do (the tests).

    Args:
        r_row, r_col: resistance of the wire from one cell to the next, Ω, 0 ≤ r < ∞. With both 0 this is
            ``inner``, bit for bit.
        inner: what reads the array.
        tile: most rows and most columns of one array, each ≥ 1. Larger ones are cut into tiles, the last
            of which may be smaller; each has wires of its own, and the currents of tiles in one column
            add. ``None``: no limit; from 256×256 on that takes seconds and gigabytes.

    The nodal equations are solved anew whenever the array is read. Gradients reach the weights through
    them (adjoint method), once; those of cells with digits pass as if wires were perfect. Raises
    ``ValueError`` for values out of range, :meth:`check` for grouped convolutions in single arrays, reading
    for negative conductances (an unclipped spread); ``TypeError`` if ``inner`` is no circuit.
    """

    r_row: float
    r_col: float
    inner: Circuit = field(default_factory=Ideal)
    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, resistance in (("r_row", self.r_row), ("r_col", self.r_col)):
            require(0 <= resistance < float("inf"), name, resistance, "0 ≤ r < ∞ (Ω)")
        if not isinstance(self.inner, Circuit):
            raise TypeError(f"inner = {self.inner!r} is not a Circuit")
        tiled = self.tile is None or [isinstance(n, int) and n > 0 for n in self.tile] == [True, True]
        require(tiled, "tile", self.tile, "None or (rows, columns), integers ≥ 1")

    @property
    def has_activation(self) -> bool:
        return self.inner.has_activation

    def check(self, array: Array, layer: nn.Module | None = None) -> None:
        groups = getattr(layer, "groups", 1)
        _require_ungrouped(groups, array.structure != "pair")
        self.inner.check(array, layer)

    def draws(self, array: Array, weight: tuple[int, ...]) -> dict[str, Draw]:
        return self.inner.draws(array, weight)

    def activation_draws(self, outputs: int) -> dict[str, Draw]:
        return self.inner.activation_draws(outputs)

    def activation(self, x: Tensor, z: Mapping[str, Tensor], dim: int) -> Tensor:
        return self.inner.activation(x, z, dim)

    def effective(self, g: Conductances, groups: int = 1) -> Conductances:
        """The conductances, µS, that arrays holding ``g`` amount to. All are connected: with resistance
        along rows and columns an open cell is bypassed by its neighbours."""
        if self.r_row == self.r_col == 0:
            return g
        _require_ungrouped(groups, g.reference is not None)
        rows = g.cells.flatten(3)  # (slices, sides, out, in·kh·kw)
        if g.reference is not None:
            rows = torch.cat((rows, g.reference.reshape(1, 1, 1, -1)), 2)
        arrays = [group.T for side in rows.flatten(0, 1) for group in side.chunk(groups)]
        found = torch.cat([self._tiled(one).T for one in arrays]).reshape(rows.shape)
        cells = found[:, :, : g.cells.shape[2]].reshape(g.cells.shape)
        reference = None if g.reference is None else found[0, 0, -1].reshape(g.reference.shape)
        return replace(g, cells=cells, reference=reference, connected=None)

    def _tiled(self, cells: Tensor) -> Tensor:
        """One array (rows, columns), µS, cut into tiles."""
        height, width = self.tile or cells.shape
        siemens = 1e-6 * cells.double()
        strips = [
            [effective_conductance(tile, self.r_row, self.r_col) for tile in torch.split(strip, width, 1)]
            for strip in torch.split(siemens, height)
        ]
        return (1e6 * torch.cat([torch.cat(strip, 1) for strip in strips])).to(cells.dtype)

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        return self.inner(op, array, g, weight, bias, z)


def _require_ungrouped(groups: int, single: bool) -> None:
    require(groups == 1 or not single, "groups", groups, "1, where single arrays have wires")
