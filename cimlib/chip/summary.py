"""What of a network is on hardware, layer by layer, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from math import ceil, prod

from torch import nn

from cimlib.chip.admission import left_digital
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.mapped import Mapped, inside
from cimlib.circuits.converters import Converters
from cimlib.circuits.wires import Wires

_HEAD = ("layer", "kind", "weights", "arrays", "cells", "tiles", "design", "effects", "circuit")


@dataclass(frozen=True)
class Row:
    """One layer on hardware.

    ``shape``: of its weights, (out, in / groups, ...). ``weights``: their number. ``arrays``: one for each
    slice and side of each group. ``cells``: memory cells of all of them, a reference made of cells included.
    ``tiles``: pieces that the arrays of the layer are cut into, by wires or converters. ``design``,
    ``effects``, ``circuit``: the layer's hardware, with what is not at its default.
    """

    layer: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    arrays: int
    cells: int
    tiles: int
    design: str
    effects: str
    circuit: str


@dataclass(frozen=True)
class Summary:
    """What is on hardware, and what stays digital; made by :func:`summary`. ``print`` shows a table.

    ``rows``: one a layer on hardware. ``digital``: modules with matrices of their own that are not, by name:
    class and number of weights. ``weights``, ``left``: weights on hardware, and in matrices that are not.
    """

    rows: tuple[Row, ...]
    digital: dict[str, str]
    weights: int
    left: int

    def __str__(self) -> str:
        table = [_HEAD]
        for row in self.rows:
            sizes = (f"{row.weights:,}", f"{row.arrays:,}", f"{row.cells:,}", f"{row.tiles:,}")
            table.append((row.layer or "(the model)", row.kind, *sizes, row.design, row.effects, row.circuit))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        numbers = slice(2, 6)
        lines = []
        for entries in table:
            right = range(*numbers.indices(len(entries)))
            cut = [
                e.rjust(w) if k in right else e.ljust(w)
                for k, (e, w) in enumerate(zip(entries, widths, strict=True))
            ]
            lines.append("  ".join(cut).rstrip())
        share = 100 * self.weights / (self.weights + self.left)
        lines.append(f"on hardware: {self.weights:,} weights, {share:.1f} % of those in matrices")
        for name, what in self.digital.items():
            lines.append(f"stays digital: {name} ({what})")
        return "\n".join(lines)


def summary(model: nn.Module) -> Summary:
    """What of ``model``, a programmed network, is on hardware.

    Raises ``ValueError`` for a model that is not on hardware.
    """
    layers = crossbars(model)
    names = {name for name, module in model.named_modules() if isinstance(module, Crossbar)}
    inner = {name for name, _ in model.named_modules() if any(name.startswith(f"{own}.") for own in names)}
    left = left_digital(model, names | inner)
    rows = tuple(_row(layer) for layer in layers)
    return Summary(rows, left.described, sum(row.weights for row in rows), left.weights)


def _row(layer: Crossbar) -> Row:
    array, circuit, shape = layer.hardware.array, layer.hardware.circuit, layer.weight_shape
    count = prod(shape)
    cells = prod(array.cell_shape(shape)) + (prod(shape[1:]) if array.reference_is_cells else 0)
    if isinstance(layer, Mapped):
        cells = prod(array.cell_shape(layer.placement.shape))
        cells += layer.placement.shape[1] if array.reference_is_cells else 0
    arrays = array.slices * array.sides * layer.groups
    return Row(
        layer.name,
        type(layer.plain).__name__,
        shape,
        count,
        arrays,
        cells,
        arrays * _tiles(layer),
        _brief(array),
        ", ".join(map(_brief, layer.hardware.cell.effects)) or "none",
        _brief(circuit),
    )


def _brief(part: object) -> str:
    """``part`` with those of its fields that are not at their default."""
    if not is_dataclass(part):
        return repr(part)
    said = [(field, getattr(part, field.name)) for field in fields(part) if field.repr]
    own = [f"{field.name}={_brief(value)}" for field, value in said if value != field.default]
    return f"{type(part).__name__}({', '.join(own)})"


def _tiles(layer: Crossbar) -> int:
    """Tiles of one of the layer's arrays."""
    out, rows = layer.weight_shape[0] // layer.groups, prod(layer.weight_shape[1:])
    height, width = rows, out
    for part in inside(layer.hardware.circuit):
        if isinstance(part, Wires) and part.tile is not None:
            height, width = min(height, part.tile[0]), min(width, part.tile[1])
        if isinstance(part, Converters) and part.rows is not None:
            height = min(height, part.rows * prod(layer.weight_shape[2:]))
    return ceil(rows / height) * ceil(out / width)
