"""The cells of a chip as a table: out to be programmed or looked at, in as they were measured."""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass, replace
from os import PathLike

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.mapped import Mapped
from cimlib.circuits.base import Ideal
from cimlib.devices.effects import Device, require
from cimlib.devices.measured import Measured
from cimlib.devices.measurements import UNITS, microsiemens, read_table, unit_of, whole_numbers

_NAMES, _AXES = ("layer", "part"), ("slice", "side", "output", "input")


def conductances(chip: nn.Module) -> pd.DataFrame:
    """Every cell of ``chip``, a row each: where it is, what it was asked to hold and what it holds.

    Columns: ``layer``; ``part``, ``cells`` or ``reference`` (a reference made of cells, whose slice, side and
    output are 0); ``slice``; ``side``, 0 for :math:`g^+` and 1 for :math:`g^-` of a pair; ``output`` and
    ``input``, the indices of the weight, which for a convolution go on in ``kernel_1``, ``kernel_2`` (0 in
    layers that have none); ``target_uS`` and ``conductance_uS``, µS. Disconnected cells are left out: they
    conduct nothing. What wires make of a conductance is not in it. ``.to_csv(path, index=False)`` writes it,
    with the units in the header.

    Args:
        chip: a network on hardware that holds a chip; it is not changed.

    Raises ``ValueError`` for a network that holds no chip, or whose arrays are no arrays of cells.
    """
    with torch.no_grad():
        parts = [part for layer in _held(chip) for part in _parts(layer)]
    table = _places(parts)
    table["target_uS"] = np.concatenate([part.flat(part.asked) for part in parts])
    table["conductance_uS"] = np.concatenate([part.flat(part.obtained) for part in parts])
    return table


def with_conductances(
    chip: nn.Module, table: pd.DataFrame | str | PathLike[str], *, slack: float = 0.2
) -> nn.Module:
    """A copy of ``chip`` whose cells hold what was measured.

    A layer whose parameters are weights keeps them, and its cells hold the table in place of what its device
    would make of them (:class:`~cimlib.devices.measured.Measured`). They do so on this chip,
    ``evaluate(model, x, y, chips=[7])`` for chip 7, and under these weights; anything else is refused. A
    layer trained in its array has the table as its ``conductance``, and no other errors: training goes on
    from there. Amplifiers and wires stay those of ``chip``.

    Args:
        chip: a network on hardware that holds a chip; it is not changed. Its number stands for the measured
            chip.
        table: rows as of :func:`conductances`, in any order, or a CSV file of them. The conductance is in
            ``conductance_uS``, or with S, mS, nS; ``part``, ``slice``, ``side`` and the kernel's columns may
            be left out where all are 0 (``cells``). If there are targets, they must be the chip's. Other
            columns are left alone, unless their name looks like one of these misspelt.
        slack: how far a measured cell may lie outside the array's range, as a fraction of it, ≥ 0.

    Raises ``ValueError`` naming layer, row and value for cells that are missing, unknown, there twice, or out
    of range, for a column without a known unit or with a misspelt name, targets of another network, and
    layers in another order (:class:`.Mapped`).
    """
    require(0 <= slack < float("inf"), "slack", slack, "0 ≤ slack < ∞ (fraction of the range)")
    table = table if isinstance(table, pd.DataFrame) else read_table(table)
    require(len(table) > 0, "table", "without rows", "a row for each cell")
    model = copy.deepcopy(chip)
    layers = _held(model)
    ordered = not any(isinstance(layer, Mapped) for layer in layers)
    require(ordered, "chip", "with layers under a placement", "layers in their own order")
    with torch.no_grad():
        parts = [part for layer in layers for part in _parts(layer)]
        values = np.split(_matched(table, parts, slack), np.cumsum([part.count for part in parts])[:-1])
        held = {
            (part.layer, part.name): part.filled(value) for part, value in zip(parts, values, strict=True)
        }
        for layer in layers:
            cells, reference = (held.get((layer, name)) for name in ("cells", "reference"))
            assert cells is not None
            if layer.in_array:
                layer.conductance.copy_(cells[1])
                cells = None
            _hold(layer, cells, reference)
    return model


@dataclass(frozen=True)
class _Part:
    """Cells of one layer, or its reference made of cells: conductances (slices, sides, out, in, ...), µS."""

    layer: Crossbar
    name: str
    asked: Tensor
    obtained: Tensor
    connected: Tensor

    @property
    def count(self) -> int:
        """Cells that are connected."""
        return int(self.connected.sum())

    def flat(self, values: Tensor) -> NDArray[np.float64]:
        """``values`` of the connected cells (count,)."""
        flat: NDArray[np.float64] = values[self.connected].double().cpu().numpy()
        return flat

    def filled(self, values: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """What was asked for, and ``values`` (count,) in its connected cells, as the layer has them."""
        obtained = self.asked.clone()
        obtained[self.connected] = torch.from_numpy(values).to(obtained)
        if self.name == "reference":
            return self.asked[0, 0, 0].clone(), obtained[0, 0, 0]
        return self.asked.clone(), obtained


def _held(model: nn.Module) -> list[Crossbar]:
    """The layers of ``model`` on hardware, all of which hold a chip."""
    layers = crossbars(model)
    for layer in layers:
        held = layer.chip is not None
        require(
            held, "chip", f"none, in layer {layer.name!r}", "a network that holds one: fabricate(model, chip)"
        )
        _ = layer.hardware.array.structure  # refuses what is no array of cells
    return layers


def _parts(layer: Crossbar) -> list[_Part]:
    """The cells of ``layer``, and its reference if that is made of cells, as asked for and as obtained."""
    hardware = layer.hardware
    try:
        layer.hardware = replace(hardware, circuit=Ideal())
        obtained = layer.read()[1]
        layer.hardware = replace(layer.hardware, device=Device())
        asked = layer.read()[1]
    finally:
        layer.hardware = hardware
    everywhere = torch.ones_like(asked.cells, dtype=torch.bool)
    connected = everywhere if asked.connected is None else asked.connected.expand_as(everywhere)
    parts = [_Part(layer, "cells", asked.cells.detach(), obtained.cells.detach(), connected)]
    if hardware.array.reference_is_cells:
        assert asked.reference is not None and obtained.reference is not None
        one, other = asked.reference.detach()[None, None, None], obtained.reference.detach()[None, None, None]
        parts.append(_Part(layer, "reference", one, other, torch.ones_like(one, dtype=torch.bool)))
    return parts


def _places(parts: list[_Part]) -> pd.DataFrame:
    """Where the connected cells of ``parts`` are, a row each."""
    kernels = max(part.asked.dim() for part in parts) - 4
    axes = [*_AXES, *(f"kernel_{i + 1}" for i in range(kernels))]
    tables = []
    for part in parts:
        place = part.connected.nonzero().cpu().numpy()
        columns = {axis: place[:, i] if i < place.shape[1] else 0 for i, axis in enumerate(axes)}
        tables.append(pd.DataFrame({"layer": part.layer.name, "part": part.name} | columns))
    return pd.concat(tables, ignore_index=True)


def _matched(table: pd.DataFrame, parts: list[_Part], slack: float) -> NDArray[np.float64]:
    """Measured conductances of the cells of all ``parts``, µS, checked and in their order."""
    unit = unit_of(table, "conductance")
    _require_known(table)
    measured = pd.DataFrame({"conductance": microsiemens(table, "conductance")})
    expected = _places(parts)
    kernels = [str(name) for name in table.columns if str(name).startswith("kernel_")]
    axes = list(dict.fromkeys([*(str(name) for name in expected if name not in _NAMES), *kernels]))
    require("layer" in table, "columns", list(table.columns), "with 'layer' among them")
    measured["layer"] = table["layer"].astype(str).to_numpy()
    measured["part"] = table["part"].astype(str).to_numpy() if "part" in table else "cells"
    for axis in axes:
        given = axis in table or axis in ("output", "input")
        measured[axis] = whole_numbers(table, axis) if given else 0
        expected[axis] = expected.get(axis, 0)
    place = [*_NAMES, *axes]
    wanted = pd.MultiIndex.from_frame(expected[place])
    found = pd.MultiIndex.from_frame(measured[place])
    for what, odd, allowed in (
        ("there twice", found[found.duplicated()], "each cell once"),
        ("unknown", found.difference(wanted), f"cells of {sorted(expected['layer'].unique())}"),
        ("missing", wanted.difference(found), "every connected cell"),
    ):
        cells = [dict(zip(place, cell, strict=True)) for cell in odd[:3]]
        require(len(odd) == 0, f"cells {what}: {len(odd)}, such as", cells, allowed)
    order = found.get_indexer(wanted)
    values: NDArray[np.float64] = measured["conductance"].to_numpy()[order]
    ends = np.cumsum([part.count for part in parts])[:-1]
    for part, own in zip(parts, np.split(values, ends), strict=True):
        _check_range(part, own, unit, slack)
    if any(str(name).startswith("target_") for name in table.columns):
        targets = np.split(microsiemens(table, "target")[order], ends)
        for part, own in zip(parts, targets, strict=True):
            array = part.layer.hardware.array
            apart = np.abs(own - part.flat(part.asked)).max(initial=0)
            same = bool(apart <= 1e-3 * (array.g_max - array.g_min))
            said = f"up to {apart:.3g} µS from those of the chip"
            require(
                same, f"targets of layer {part.layer.name!r}", said, "a table of the network on this chip"
            )
    return values


def _require_known(table: pd.DataFrame) -> None:
    """Refuse columns of ``table`` that look like one of those that are read, but are none of them."""
    quantities = [f"{quantity}_{unit}" for quantity in ("conductance", "target") for unit in UNITS]
    known = [*_NAMES, *_AXES, *(f"kernel_{i}" for i in (1, 2, 3)), *quantities]
    lower = {name.lower(): name for name in known}
    for column in map(str, table.columns):
        plain = column.replace("µ", "u").replace("μ", "u")
        near = difflib.get_close_matches(plain.lower(), list(lower), 1, cutoff=0.8)
        read = plain in known or plain.startswith(("kernel_", "conductance_", "target_"))
        meant = lower[near[0]] if near else ""
        require(read or not near, "column", column, f"{meant!r}, if that is meant; else a name less like it")


def _check_range(part: _Part, values: NDArray[np.float64], unit: str, slack: float) -> None:
    """Refuse ``values``, µS, outside the range of their array, or of another order than what was asked for,
    and guess the unit that they may have."""
    array = part.layer.hardware.array
    room = slack * (array.g_max - array.g_min)
    low, high = max(0.0, array.g_min - room), array.g_max + room
    outside = (values < low) | (values > high)
    asked, mean = part.flat(part.asked).sum(), values.sum()
    if outside.any():
        said = f"{int(outside.sum())} of {len(values)} outside, such as {values[outside][0]:g} µS"
    elif mean < asked / 100:
        said = f"in all {mean / asked:.2g} of what was asked for"
    else:
        return
    apart = {other: abs(np.log(mean * factor / UNITS[unit] / asked)) for other, factor in UNITS.items()}
    nearest = min(apart, key=lambda other: float(apart[other])) if min(mean, asked) > 0 else unit
    hint = f"; looks like {nearest}, not {unit}" if nearest != unit and apart[nearest] < np.log(10) else ""
    allowed = f"[{low:g}, {high:g}] µS, the array's range and slack = {slack:g} of it{hint}"
    require(False, f"conductances of layer {part.layer.name!r}", said, allowed)


def _hold(
    layer: Crossbar, cells: tuple[Tensor, Tensor] | None, reference: tuple[Tensor, Tensor] | None
) -> None:
    """Put ``layer`` on a device that holds these conductances, asked for and measured, on its chip alone."""
    chip = layer.chip
    assert chip is not None
    layer.hardware = replace(layer.hardware, device=Device(Measured(chip, (), None)))
    layer.hold(chip)
    mark = tuple(z.clone() for name, z in layer.draws().items() if name.endswith("/measured"))
    layer.hardware = replace(layer.hardware, device=Device(Measured(chip, mark, cells, reference)))
