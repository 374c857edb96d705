r"""Broken cells beyond the independent ones of :class:`~.StuckAt`: clusters, dead lines, maps.

A broken cell is stuck **on** (at ``g_max``, low resistance) or stuck **off** (at ``g_min``, high resistance),
whatever is written, and passes no gradient. As everywhere, faults follow from standard draws that belong to
the chip, so that the faults of a chip at 5 % are also its faults at 10 % (at one ratio of on to off).

**Where a cell lies.** Cells (slices, sides, out, in, ...) are one array for each slice and side, in which
inputs are rows (those of a ``Conv2d`` are flattened, in·kh·kw) and outputs are columns. A reference made of
cells is drawn apart, as an array of one column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cimlib.devices.draws import Draw, sample, seeded
from cimlib.devices.effects import Effect, require

#: The two readings of one measurement → stuck on, stuck off, % of cells; see :func:`stuck_rates`.
READINGS = {"mostly off": (1.75, 9.04), "mostly on": (9.04, 1.75)}


def stuck_rates(total: float, reading: Literal["mostly off", "mostly on"]) -> dict[str, float]:
    """Fractions ``{"on": ..., "off": ...}`` of stuck cells that add to ``total``, in the measured ratio.

    Every paper of this kind takes its rates from one 4 Mb HfO₂ chip: 1.75 % "SA0" and 9.04 % "SA1" (rates as
    given in third-party summaries; the abstract of the measurement, Chen et al., IEEE TC 64(1), 2015, has
    none). **The trap**: which of the two is the conducting state?

    * ``"mostly off"``: SA0 is the *low*-resistance state, on:off = 1.75:9.04. So DATE 2017 (third-party
      summary) and the public code of PytorX.
    * ``"mostly on"``: on:off = 9.04:1.75, as in Yuan et al. (ISQED 2021), where stuck on is 5.2 times as
      frequent. The public code of MNSIM 2.0 reads its own pair of rates once one way and once the other.

    It matters: most cells of a one-sided differential pair are near ``g_min`` anyway, so that cells stuck off
    do less harm there (derived). State which one a number belongs to; show both. The names SA0 and SA1 are
    not used here.

    Args:
        total: fraction of cells that are stuck, 0 ≤ total ≤ 1; as measured, 0.1079.
        reading: one of :data:`READINGS`.

    Raises ``ValueError`` for arguments out of range. Example: ``StuckAt(**stuck_rates(0.2, "mostly on"))``.
    """
    require(0 <= total <= 1, "total", total, "0 ≤ total ≤ 1 (fraction of cells)")
    require(reading in READINGS, "reading", reading, ", ".join(map(repr, READINGS)))
    on, off = READINGS[reading]
    return {"on": total * on / (on + off), "off": total * off / (on + off)}


def _stuck(g: Tensor, on: Tensor, off: Tensor, g_min: float, g_max: float) -> Tensor:
    """``g`` with the cells of ``on`` at ``g_max`` and those of ``off`` at ``g_min``."""
    return torch.where(off, g_min, torch.where(on, g_max, g))


def _lattice(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    """Leading dimensions, columns and rows of cells or of a reference of ``shape``."""
    if len(shape) < 4:  # (in, ...): a reference
        return (), 1, prod(shape)
    return shape[:2], shape[2], prod(shape[3:])


@dataclass(frozen=True)
class Clusters(Effect):
    r"""Stuck cells in square blocks of ``size`` × ``size``; blocks overlap, and may lie across the border.

    Each cell is stuck with probability on + off, exactly, wherever it lies: the corner of a block is at any
    place with probability :math:`c = 1 - (1 - on - off)^{1/size^2}`, also outside the array. Where blocks
    overlap, the one that comes first as the rate grows decides, so that a cell stuck on stays stuck on.
    With ``size=1`` these are the cells of :class:`~.StuckAt`, from draws of their own.
    Model derived here; no measured shape of a cluster is known to us.

    Args:
        on, off: fractions of cells stuck at ``g_max`` and at ``g_min``; on + off ≤ 1.
        size: edge of a block, cells, ≥ 1.

    Raises ``ValueError`` for arguments out of range.
    """

    on: float = 0.0
    off: float = 0.0
    size: int = 3

    def __post_init__(self) -> None:
        require(0 <= self.on <= 1, "on", self.on, "0 ≤ on ≤ 1 (fraction of cells)")
        require(0 <= self.off <= 1, "off", self.off, "0 ≤ off ≤ 1 (fraction of cells)")
        require(self.on + self.off <= 1, "on + off", self.on + self.off, "on + off ≤ 1")
        whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        require(whole and self.size >= 1, "size", self.size, "an integer ≥ 1 (cells)")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        leading, columns, rows = _lattice(shape)
        more = self.size - 1
        return {"cluster": ("uniform", (*leading, columns + more, rows + more))}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        total, u = self.on + self.off, z["cluster"]
        if total == 0:
            return g
        share, corner = self.on / total, 1 - (1 - total) ** (1 / self.size**2)
        # when a block of either kind appears: uniform in [0, 1), and at the rates given if before `corner`
        on = self._first(torch.where(u < share, u / max(share, 1e-9), 2.0))
        off = self._first(torch.where(u < share, 2.0, (1 - u) / max(1 - share, 1e-9)))
        if g.dim() in (3, 6):  # a convolution: its rows are not flattened
            on, off = (first.reshape(*first.shape[:-2], *g.shape[-4:]) for first in (on, off))
        elif g.dim() == 1:
            on, off = on[0], off[0]
        return _stuck(g, on < corner, (off <= corner) & (off < on), g_min, g_max)

    def _first(self, when: Tensor) -> Tensor:
        """The smallest of all blocks that cover a cell, (..., columns, rows)."""
        pooled = F.max_pool2d(-when.reshape(-1, 1, *when.shape[-2:]), self.size, 1)
        return -pooled.reshape(*when.shape[:-2], *pooled.shape[-2:])


@dataclass(frozen=True)
class DeadLines(Effect):
    """Whole rows and columns of which every cell is stuck: **open** lines off, **shorted** lines on.

    Args:
        rows, columns: fractions of the lines that are dead, 0 … 1.
        shorted: share of the dead lines that are shorted, 0 … 1. Where a shorted line crosses an open
            one the cell is off: nothing flows through an open line.

    One draw for each line of each slice and side. A line is the whole layer's, however it is cut into tiles,
    and an open one conducts ``g_min`` a cell, as a test of its cells finds, not zero. Model derived here.
    Raises ``ValueError`` for arguments out of range.
    """

    rows: float = 0.0
    columns: float = 0.0
    shorted: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "shorted"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, f"0 ≤ {name} ≤ 1 (fraction of lines)")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        if len(shape) < 4:
            rows, columns = shape, tuple(1 for _ in shape)
        else:
            rows = (*shape[:2], 1, *shape[3:])
            columns = (*shape[:3], *(1 for _ in shape[3:]))
        return {"dead_rows": ("uniform", rows), "dead_columns": ("uniform", columns)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        lines = ((self.rows, z["dead_rows"]), (self.columns, z["dead_columns"]))
        (row_on, row_off), (column_on, column_off) = (
            (u < dead * self.shorted, u >= 1 - dead * (1 - self.shorted)) for dead, u in lines
        )
        return _stuck(g, row_on | column_on, row_off | column_off, g_min, g_max)


@dataclass(frozen=True)
class FaultMap:
    """Stuck cells of one layer, in physical order; made by :func:`~.fault_map`.

    Args:
        cells: (slices, sides, columns, physical rows) int8: 1 is stuck on, −1 stuck off, 0 works.
        reference: (physical rows,), likewise, if the reference is made of cells; else ``None``.
    """

    cells: Tensor
    reference: Tensor | None = None

    @property
    def stuck_on(self) -> Tensor:
        """Cells stuck at ``g_max``, bool."""
        return self.cells == 1

    @property
    def stuck_off(self) -> Tensor:
        """Cells stuck at ``g_min``, bool."""
        return self.cells == -1

    @property
    def stuck(self) -> Tensor:
        """All stuck cells, bool."""
        return self.cells != 0


def detected(
    maps: Mapping[str, FaultMap], *, missed: float = 0.0, false: float = 0.0, seed: int = 0
) -> dict[str, FaultMap]:
    """What an imperfect test reports of ``maps``.

    Args:
        maps: the true faults by layer.
        missed: fraction of stuck cells that are reported to work, 0 … 1.
        false: fraction of working cells that are reported stuck, on or off with equal chance, 0 … 1.
        seed: of the test, ≥ 0. Reports nest: what is missed at 5 % is also missed at 10 %.

    Raises ``ValueError`` for arguments out of range.
    """
    require(0 <= missed <= 1, "missed", missed, "0 ≤ missed ≤ 1 (fraction of stuck cells)")
    require(0 <= false <= 1, "false", false, "0 ≤ false ≤ 1 (fraction of working cells)")
    valid = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(valid, "seed", seed, "an integer ≥ 0")

    def report(state: Tensor, *name: str) -> Tensor:
        u = sample(
            ("uniform", tuple(state.shape)),
            seeded("detected", seed, *name),
            state.new_empty(0, dtype=torch.float32),
        )
        working = (u < false / 2).to(state.dtype) - (u >= 1 - false / 2).to(state.dtype)
        return torch.where(state != 0, torch.where(u < missed, 0, state), working)

    return {
        name: FaultMap(
            report(known.cells, name, "cells"),
            None if known.reference is None else report(known.reference, name, "reference"),
        )
        for name, known in maps.items()
    }
