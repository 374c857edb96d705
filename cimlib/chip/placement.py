r"""Where weights lie: physical lines of an array that hold the rows and columns of a layer in any order.

A :class:`Mapped` layer knows where each of its weights lies. Devices and wires act on the cells where they
lie, broken ones included; the circuit behind the array, the gradients and the ``state_dict`` see weights in
their own order. So the same chip has the same broken cells under every placement, and a chip without errors
gives the digital network bit for bit under every placement. :mod:`cimlib.methods.mapping` finds good ones.

**What an order of lines needs.** *Rows*: the inputs of a layer must reach other word lines. Inputs of the
network, and residual streams, which several layers share in one order, need a router in front of the array.
Hidden channels inside a block do not, if the columns of the layer before are moved along: then the order
folds into the two layers, for nothing. Here each layer has an order of its own, and so has each tile; whether
that takes a router is for the design to say. *Columns*: the outputs are read in another order, free where
they are read one after another. *Spare rows* need drivers and cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

import torch
from torch import Tensor

from cimlib.devices.effects import require


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
        require(
            len(self.rows) == count, "len(rows)", len(self.rows), f"{count}, one for each tile of columns"
        )
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

    @cached_property
    def row_tiles(self) -> list[int]:
        """Tile of each physical row, spares included."""
        main = _tiles(len(self.rows[0]), self.rows_in_tile)
        return main + [t for t in range(main[-1] + 1) for _ in range(self.spares)]

    @cached_property
    def column_tiles(self) -> list[int]:
        """Tile of each physical column."""
        return _tiles(len(self.columns), self.columns_in_tile, self.groups)

    @cached_property
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
    def of(saved: Mapping[str, Any]) -> Placement:
        """The inverse of ``dataclasses.asdict``, from JSON's lists. Raises as the class does."""
        tile = saved["tile"]
        rows = tuple(map(tuple, saved["rows"]))
        return Placement(
            rows,
            tuple(saved["columns"]),
            saved["spares"],
            None if tile is None else tuple(tile),
            saved["groups"],
        )

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
