"""A layer on hardware whose weights lie where a placement says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Conductances
from cimlib.chip.crossbar import Crossbar, Reading
from cimlib.chip.placement import Placement
from cimlib.circuits.base import Circuit
from cimlib.circuits.converters import Converters
from cimlib.circuits.wires import Wires
from cimlib.devices.draws import Draw
from cimlib.devices.effects import require

Written = tuple[Tensor, Tensor | None]


Parts = dict[str, dict[str, Tensor]]


class Mapped(Crossbar):
    """A layer on hardware whose weights lie where a :class:`Placement` says.

    :func:`~.mapped` makes it. Everything else is as in the layer it was made from, ``hardware``
    included, which may be swapped (:func:`~.using`) under the same placement. Its draws are
    those of that layer, and others for the spare rows, whose number changes nothing else; spare rows share
    their columns with the other rows. Rows that hold no weight are disconnected.

    The conductances of a reading, which amplifiers see, are in the order of the weights, those that wires see
    in that of the array. Refused by ``ValueError``, when a layer is made or read:

    * tiles of columns, or groups, with orders of rows of their own where :attr:`one_order` is asked for;
    * wires or converters in other tiles than the placement's, and wires in tiles with spare rows;
    * columns in another order in front of circuits that differ from column to column.
    """

    index: Tensor
    inverse: Tensor

    def __init__(self, layer: Crossbar, placement: Placement) -> None:
        nn.Module.__init__(self)
        own = layer.__dict__.items()  # everything of the layer; what it registers is copied
        self.__dict__.update({k: v.copy() if isinstance(v, dict | set) else v for k, v in own})
        self.register_buffer("index", None, persistent=False)
        self.register_buffer("inverse", None, persistent=False)
        self.place(placement)

    def remembered(self) -> dict[str, Any]:
        return super().remembered() | {"placement": asdict(self.placement)}

    def recall(self, kept: Mapping[str, Any]) -> None:
        """Lie where the saved layer lay: straight, if that was not mapped."""
        super().recall(kept)
        old, saved = self.placement, kept.get("placement")
        if saved is None:
            rows = len(old.rows[0])
            self.place(Placement.straight(len(old.columns), rows, old.spares, old.tile, old.groups))
        else:
            self.place(Placement.of(saved))

    def place(self, placement: Placement) -> None:
        """Move the weights; the chip stays. Raises ``ValueError`` for a placement of other weights."""
        shape = self.weight_shape
        found = (len(placement.columns), len(placement.rows[0]), placement.groups)
        wanted = (shape[0], prod(shape[1:]), self.groups)
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
        alike = not self.one_order or len(set(placement.rows)) == 1
        require(alike, "rows", "several orders", "one for all columns, where they share a reference")
        straight = placement.columns == tuple(range(len(placement.columns)))
        alike = straight or not circuit.draws(array, self.weight_shape)
        require(alike, "columns", "in another order", "in their own, where amplifiers differ")
        for part in inside(circuit):
            if isinstance(part, Wires) and (part.r_row or part.r_col):
                fits = placement.tile in (None, part.tile)
                require(fits, "tile of the placement", placement.tile, f"None, or the wires' {part.tile}")
                fits = part.tile is None or not placement.spares
                require(fits, "spares", placement.spares, "0 with tiles of wires")
            if isinstance(part, Converters) and part.rows is not None:
                rows = part.rows * prod(self.weight_shape[2:])
                fits = placement.tile is not None and placement.tile[0] == rows
                require(fits, "tile of the placement", placement.tile, f"({rows}, ...), the converters' rows")

    @property
    def one_order(self) -> bool:
        """Whether all columns need one order of rows: their reference is made of cells, or behind wires."""
        array = self.hardware.array
        wired = any(isinstance(part, Wires) for part in inside(self.hardware.circuit))
        return array.reference_is_cells or (wired and array.structure != "pair")

    def slots(self) -> dict[str, Draw]:
        array, cell, columns = self.hardware.array, self.hardware.cell, self.weight_shape[0]
        rows = prod(self.weight_shape[1:])
        parts = {
            "cells": cell.draws(array.draw_shape((columns, rows))),
            "circuit": self.hardware.circuit.draws(array, self.weight_shape),
        }
        if array.reference_is_cells:
            parts["reference"] = cell.draws((rows,))
        if spares := self.placement.shape[1] - rows:
            longer = cell.draws(array.draw_shape((columns, rows + 1)))
            own = [slot for slot, draw in parts["cells"].items() if draw != longer[slot]]  # not a column's
            more = {"spare cells": array.draw_shape((columns, spares))}
            if array.reference_is_cells:
                more["spare reference"] = (spares,)
            for part, shape in more.items():
                drawn = cell.draws(shape)
                parts[part] = {slot: drawn[slot] for slot in own}
        return {f"{part}/{slot}": draw for part, draws in parts.items() for slot, draw in draws.items()}

    def parts(self) -> Parts:
        """The standard draws by part and slot."""
        z: Parts = {}
        for name, value in self.draws().items():
            part, slot = name.split("/")
            z.setdefault(part, {})[slot] = value
        return z

    def wanted(self) -> Conductances:
        """Conductances to ask for, µS, in the order of the weights: cells (slices, sides, out, rows)."""
        array = self.hardware.array
        if not self.in_array:
            return array.target(self.asked.flatten(1))
        cells = self.conductance.flatten(3)
        return replace(array.target(torch.zeros_like(cells[0, 0])), cells=cells)

    def lay(self, values: Tensor, unused: float | bool = 0.0) -> Tensor:
        """``values`` (..., out, rows) where the weights lie, (..., columns, physical rows)."""
        flat = values.flatten(-2)
        if self.has_unused:
            flat = torch.cat((flat, flat.new_full((*flat.shape[:-1], 1), unused)), -1)
        laid = flat.gather(-1, self.inverse.expand(*flat.shape[:-1], -1))
        return laid.reshape(*values.shape[:-2], *self.placement.shape)

    def take(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`lay`."""
        flat = values.flatten(-2)
        taken = flat.gather(-1, self.index.expand(*flat.shape[:-1], -1))
        return taken.reshape(*values.shape[:-2], self.weight_shape[0], -1)

    @property
    def has_unused(self) -> bool:
        """Whether there are physical cells that hold no weight."""
        return self.inverse.shape != self.index.shape

    def write(self, cells: Tensor, reference: Tensor | None, z: Parts) -> Written:
        """Conductances obtained, µS, where these are asked for: cells (slices, sides, columns, physical rows)
        and the reference (physical rows)."""
        array, cell = self.hardware.array, self.hardware.cell

        def obtain(g: Tensor, part: str) -> Tensor:
            own, spare = g.tensor_split([prod(self.weight_shape[1:])], -1)
            draws = z.get(part, {})
            obtained = cell(own, draws, array.g_min, array.g_max)
            if not spare.shape[-1]:
                return obtained
            draws = draws | z.get(f"spare {part}", {})
            return torch.cat((obtained, cell(spare, draws, array.g_min, array.g_max)), -1)

        if reference is not None and array.reference_is_cells:
            reference = obtain(reference, "reference")
        return obtain(cells, "cells"), reference

    def read(self, cells: bool = True) -> Reading:
        self.check()
        array, shape, z = self.hardware.array, self.weight_shape, self.parts()
        target = self.wanted()
        g = self.hardware.circuit.effective(self._physical(target, z), self.placement.groups)
        taken, reference = self.take(g.cells), g.reference
        if reference is not None:  # all outputs have the rows of the first, or the reference is uniform
            reference = self.take(reference.expand(shape[0], -1))[0]
        connected = _apply(self.take, g.connected)
        g = replace(g, cells=taken, reference=reference, scale=target.scale, connected=connected)
        weight = array.decode(g if self.in_array else g - target).reshape(shape)
        if not self.in_array:
            weight = array.represent(self.asked) + weight

        def like_weights(value: Tensor) -> Tensor:
            return value.reshape(*value.shape[:-1], *shape[1:])

        reference, connected = _apply(like_weights, g.reference), _apply(like_weights, g.connected)
        g = Conductances(like_weights(g.cells), reference, g.scale, connected)
        return weight, g, z.get("circuit", {})

    def _physical(self, target: Conductances, z: Parts) -> Conductances:
        """The array that holds ``target``: conductances obtained in physical order, unused rows open."""
        array = self.hardware.array
        asked, reference, connected = self.lay(target.cells, array.g_min), target.reference, target.connected
        if reference is not None:
            reference = self.lay(reference.expand(self.weight_shape[0], -1), array.g_mid)[0]
        cells, reference = self.write(asked, reference, z)
        if connected is not None:
            connected = self.lay(connected, False)
            cells = torch.where(connected, cells, asked)
        if self.has_unused:
            used = self.lay(torch.ones_like(target.cells[0, 0], dtype=torch.bool), False)
            cells = torch.where(used, cells, 0.0)
            reference = None if reference is None else torch.where(used[0], reference, 0.0)
        columns = torch.tensor(self.placement.columns, device=cells.device).argsort()
        return Conductances(cells, reference, target.scale_of(columns), connected)


def inside(circuit: Circuit) -> Iterator[Circuit]:
    """``circuit`` and what lies inside it."""
    yield circuit
    if isinstance(circuit, Wires):
        yield from inside(circuit.inner)


def _apply(change: Callable[[Tensor], Tensor], value: Tensor | None) -> Tensor | None:
    return None if value is None else change(value)
