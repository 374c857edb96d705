r"""Mapping: which physical line of an array holds which row of the weights, so that broken cells matter least.

A :class:`Mapped` layer knows where each of its weights lies. Devices and wires act on the cells where they
lie, broken ones included; the circuit behind the array, the gradients and the ``state_dict`` see weights in
their own order. So the same chip has the same broken cells under every mapping, and a chip without errors
gives the digital network bit for bit under every mapping.

**The assignment.** With :math:`\hat w_{qj}(w)` the weight that the chip makes of :math:`w` in physical row
:math:`q` and column :math:`j`, placing row :math:`p` of the weights on row :math:`q` costs

.. math:: C_{pq} = \sum_j \alpha_{pj}\,\big|\hat w_{qj}(w_{pj}) - w_{pj}\big| ,

and the cheapest placement of all rows is a linear assignment problem; :math:`\alpha` says how much each
weight matters. That rows are matched to rows is the idea of DATE 2017 (third-party summary) and ITT-RNA
(abstract); this cost is derived here, theirs is not found.

**What a permutation needs.** *Rows*: the inputs of the layer must reach other word lines. Where the layer
before it is an array too, and its columns may lie in any order, they do so without a router: hidden channels
inside a block fold into the two layers around them, here only if the order of the one's columns is taken to be
that of the other's rows. The inputs of a network, and residual streams, which several layers share in one
order, need a router in front of the array; so does a match of its own for each layer, as it is made here,
and each tile has its own. *Columns*: the outputs are read in another order, which is free if they are read
one after another, and folds into the layer behind otherwise. *Spare rows* are rows with drivers and cells.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from cimlib.arrays import Conductances
from cimlib.circuits import Circuit, Converters, Ideal, Wires
from cimlib.crossbar import Crossbar, Reading, crossbars
from cimlib.defects import FaultMap
from cimlib.devices import Draw, require
from cimlib.models import evaluating

Weighting = Literal["uniform", "magnitude"] | Mapping[str, Tensor]
Written = tuple[Tensor, Tensor | None]
_STAY = 1e-6  # of the largest cost: what moving must gain, summed over all rows


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class Placement:
    """Where the weights of one layer lie. Lines are counted from 0.

    A physical array has the rows 0 … in − 1 and behind them the spare rows, tile by tile. Rows do not leave
    their tile of rows, and each tile of columns has an order of rows of its own; each group of a convolution
    is a tile of columns, or several.

    Args:
        rows: for each tile of columns, the physical row of every row of the weights.
        columns: the physical column of every output; columns do not leave their tile.
        spares: spare rows of each tile of rows, ≥ 0.
        tile: most rows and most columns of a tile, each ≥ 1; ``None``: no limit.
        groups: groups of a convolution, ≥ 1.

    Raises ``ValueError`` for what is no such placement.
    """

    rows: tuple[tuple[int, ...], ...]
    columns: tuple[int, ...]
    spares: int = 0
    tile: tuple[int, int] | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        require(_whole(self.spares, 0), "spares", self.spares, "an integer ≥ 0")
        tiled = self.tile is None or [_whole(n, 1) for n in self.tile] == [True, True]
        require(tiled, "tile", self.tile, "None or (rows, columns), integers ≥ 1")
        own = _tiles(len(self.columns), self.columns_in_tile, self.groups)
        stays = sorted(self.columns) == [*range(len(own))] and own == [own[k] for k in self.columns]
        require(stays, "columns", self.columns, "every column once, in its own tile")
        count = own[-1] + 1
        require(len(self.rows) == count, "len(rows)", len(self.rows), f"{count}, one for each tile of columns")
        home = self.row_tiles
        inputs = len(self.rows[0])
        for order in self.rows:
            fits = len(order) == inputs and all(0 <= q < len(home) for q in order)
            fits = fits and len(set(order)) == inputs and [home[q] for q in order] == home[:inputs]
            require(fits, "rows", order, "every row once, in its own tile")

    @property
    def rows_in_tile(self) -> int:
        """Rows of a tile without spares; the last one may have fewer."""
        return len(self.rows[0]) if self.tile is None else self.tile[0]

    @property
    def columns_in_tile(self) -> int:
        """Columns of a tile; the last one of a group may have fewer."""
        return len(self.columns) if self.tile is None else self.tile[1]

    @property
    def row_tiles(self) -> list[int]:
        """Tile of each physical row, spares included."""
        main = _tiles(len(self.rows[0]), self.rows_in_tile)
        return main + [t for t in range(main[-1] + 1) for _ in range(self.spares)]

    @property
    def column_tiles(self) -> list[int]:
        """Tile of each physical column."""
        return _tiles(len(self.columns), self.columns_in_tile, self.groups)

    @property
    def shape(self) -> tuple[int, int]:
        """Physical columns and rows, spares included."""
        return len(self.columns), len(self.row_tiles)

    @property
    def index(self) -> Tensor:
        """(out, in) int64: the physical cell of each weight, column · physical rows + row."""
        columns = torch.tensor(self.columns)
        rows = torch.tensor(self.rows)[torch.tensor(self.column_tiles)[columns]]
        return columns[:, None] * self.shape[1] + rows

    @staticmethod
    def straight(
        out: int, rows: int, spares: int = 0, tile: tuple[int, int] | None = None, groups: int = 1
    ) -> Placement:
        """Every line in its own place, spares unused: ``rows`` × ``out`` weights as if not mapped."""
        width = out if tile is None else tile[1]
        count = _tiles(out, width, groups)[-1] + 1
        return Placement((tuple(range(rows)),) * count, tuple(range(out)), spares, tile, groups)


def _tiles(size: int, most: int, groups: int = 1) -> list[int]:
    """Tile of each of ``size`` lines: each of ``groups`` is cut into tiles of at most ``most``."""
    group = size // groups
    return [g * ceil(group / most) + i // most for g in range(groups) for i in range(group)]


class Mapped(Crossbar):
    """A layer on hardware whose weights lie where a :class:`Placement` says; made by :func:`mapped`.

    Everything else is as in the layer it was made from, ``hardware`` included, which may be swapped
    (:func:`~cimlib.crossbar.using`) under the same placement. Its draws are those of that layer, and others
    for the spare rows, whose number changes nothing else; they share their columns with the other rows.
    Rows that hold no weight are disconnected.

    The conductances of a reading, which amplifiers see, are in the order of the weights, those that wires see
    in that of the array. Refused, when a layer is made or read, by ``ValueError``: references made of cells,
    or wires around single arrays, where tiles of columns or groups have orders of their own; converters in
    other tiles than the rows; wires in tiles that hold spare rows; columns in another order before
    circuits that differ from column to column.
    """

    index: Tensor
    inverse: Tensor

    def __init__(self, layer: Crossbar, placement: Placement) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)
        self._buffers = {name: z for name, z in self._buffers.items() if "/" not in name}
        self.register_buffer("index", None, persistent=False)
        self.register_buffer("inverse", None, persistent=False)
        self.place(placement)

    def place(self, placement: Placement) -> None:
        """Move the weights; the chip stays. Raises ``ValueError`` for a placement of other weights."""
        shape = self.weight_shape
        found = (len(placement.columns), len(placement.rows[0]), placement.groups)
        wanted = (shape[0], shape[1:].numel(), getattr(self._template, "groups", 1))
        require(found == wanted, "(columns, rows, groups) of placement", found, f"{wanted}")
        self.placement = placement
        self.check()
        device, cells = self.like().device, placement.index.numel()
        index = placement.index.flatten()
        inverse = torch.full((placement.shape[0] * placement.shape[1],), cells)  # unused: one behind the last
        inverse[index] = torch.arange(cells)
        self.index, self.inverse = index.to(device), inverse.to(device)

    def check(self) -> None:
        """Raise ``ValueError`` if the hardware does not go with the placement."""
        placement, array, circuit = self.placement, self.hardware.array, self.hardware.circuit
        one = len(set(placement.rows)) == 1
        allowed = "one order of rows for all columns"
        alike = one or not array.reference_is_cells
        require(alike, "placement", "several orders of rows", f"{allowed}, if the reference is made of cells")
        straight = placement.columns == tuple(range(len(placement.columns)))
        equal = straight or not circuit.draws(array, self.weight_shape)
        require(equal, "columns", "in another order", "their own, where amplifiers differ")
        height = None if placement.tile is None else placement.tile[0]
        for part in _parts(circuit):
            if isinstance(part, Wires) and (part.r_row or part.r_col):
                alike = one or array.structure == "pair"
                require(alike, "placement", "several orders of rows", f"{allowed} of a single array with wires")
                whole = part.tile is None or part.tile == placement.tile and not placement.spares
                require(whole, "tile of the wires", part.tile, "None, or the placement's without spares")
            if isinstance(part, Converters) and part.rows is not None:
                taps = self.weight_shape[2:].numel()
                fits = height == part.rows * taps
                name = "tile of the placement"
                require(fits, name, placement.tile, f"({part.rows * taps}, ...), the converters' rows")

    def slots(self) -> dict[str, Draw]:
        array, cell, columns = self.hardware.array, self.hardware.cell, self.weight_shape[0]
        rows = self.weight_shape[1:].numel()
        parts = {"cells": cell.draws(array.draw_shape((columns, rows)))}
        if array.reference_is_cells:
            parts["reference"] = cell.draws((rows,))
        if spares := self.placement.shape[1] - rows:
            longer = cell.draws(array.draw_shape((columns, rows + 1)))
            own = {slot for slot, draw in parts["cells"].items() if draw != longer[slot]}  # not a column's
            parts["spares"] = _only(own, cell.draws(array.draw_shape((columns, spares))))
            if array.reference_is_cells:
                parts["spare reference"] = _only(own, cell.draws((spares,)))
        parts["circuit"] = self.hardware.circuit.draws(array, self.weight_shape)
        return {f"{part}/{slot}": draw for part, draws in parts.items() for slot, draw in draws.items()}

    def wanted(self) -> Conductances:
        """Conductances to ask for, µS, cells (slices, sides, out, rows) in the order of the weights."""
        array = self.hardware.array
        if self.in_array:
            cells = self.conductance.flatten(3)
            target = array.target(torch.zeros_like(cells[0, 0]))
            return Conductances(cells, target.reference, target.scale)
        return array.target(self.weight.flatten(1))

    def lay(self, values: Tensor, unused: float | bool = 0.0) -> Tensor:
        """``values`` (..., out, rows) where they lie: (..., columns, physical rows)."""
        flat = values.flatten(-2)
        if self.inverse.shape != self.index.shape:
            flat = torch.cat((flat, flat.new_full((*flat.shape[:-1], 1), unused)), -1)
        return flat.index_select(-1, self.inverse).unflatten(-1, self.placement.shape)

    def take(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`lay`."""
        out = len(self.placement.columns)
        return values.flatten(-2).index_select(-1, self.index).unflatten(-1, (out, -1))

    def write(self, cells: Tensor, reference: Tensor | None) -> Written:
        """Conductances obtained, µS, where cells (slices, sides, columns, physical rows) are asked for."""
        array, cell = self.hardware.array, self.hardware.cell
        z = self.parts()

        def obtain(g: Tensor, part: str, spare: str) -> Tensor:
            rows = self.weight_shape[1:].numel()
            main = cell(g[..., :rows], z.get(part, {}), array.g_min, array.g_max)
            if g.shape[-1] == rows:
                return main
            draws = {**z.get(part, {}), **z.get(spare, {})}
            return torch.cat((main, cell(g[..., rows:], draws, array.g_min, array.g_max)), -1)

        if reference is not None and array.reference_is_cells:
            reference = obtain(reference, "reference", "spare reference")
        return obtain(cells, "cells", "spares"), reference

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The standard draws by part and slot."""
        z: dict[str, dict[str, Tensor]] = {}
        for name, value in self.draws().items():
            part, slot = name.split("/")
            z.setdefault(part, {})[slot] = value
        return z

    def read(self) -> Reading:
        self.check()
        array, shape = self.hardware.array, self.weight_shape
        target = self.wanted()
        reference = target.reference
        if reference is not None:
            reference = self._lay_reference(reference)
        cells, reference = self.write(self.lay(target.cells, array.g_min), reference)
        connected = None if target.connected is None else self.lay(target.connected, False)
        if connected is not None:
            cells = torch.where(connected, cells, self.lay(target.cells))
        if self.inverse.shape != self.index.shape:  # rows without weights are open
            used = self.lay(torch.ones_like(target.cells[0, 0], dtype=torch.bool), False)
            cells = torch.where(used, cells, 0.0)
            reference = None if reference is None else torch.where(used[0], reference, 0.0)
        g = Conductances(cells, reference, target.scale, connected)
        g = self.hardware.circuit.effective(g, self.placement.groups)
        if g.reference is not None:
            reference = g.reference[self.index[: shape[1:].numel()]]
        connected = None if g.connected is None else self.take(g.connected)
        g = Conductances(self.take(g.cells), reference, g.scale, connected)
        weight = array.decode(g) if self.in_array else array.decode(g - target)
        weight = weight.reshape(shape)
        if not self.in_array:
            weight = array.represent(self.weight) + weight
        cells = g.cells.reshape(*g.cells.shape[:2], *shape)
        connected = None if connected is None else connected.reshape(cells.shape)
        reference = None if reference is None else reference.reshape(shape[1:])
        return weight, Conductances(cells, reference, g.scale, connected), self.parts().get("circuit", {})
