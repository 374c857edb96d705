"""Pulses up and down to one cell: the cells of *Training a ReRAM crossbar array*, by their curvatures."""

from __future__ import annotations

import math
from typing import Any

from cimlib.training import Pulses
from cimlib.training.pulses import curvature

RANGE = (10.0, 100.0)  # µS
LEVELS = 100
#: What is said of each cell, and the cell.
CELLS: dict[str, tuple[str, Pulses]] = {
    "imperfect": ("imperfect (NL ±3)", Pulses(LEVELS, 3.0, -3.0)),
    "returning": ("curved alike (NL 3)", Pulses(LEVELS, 3.0, 3.0)),
    "linear": ("linear (NL 0)", Pulses(LEVELS)),
}


def data() -> dict[str, Any]:
    """Range, pulses that cross it, and each cell's curvature up and down, ``None`` where it is infinite."""
    cells = {
        name: {"said": said, "a": [_finite(curvature(nl)) for nl in (cell.potentiation, cell.depression)]}
        for name, (said, cell) in CELLS.items()
    }
    return {"range": RANGE, "levels": LEVELS, "cells": cells}


def _finite(a: float) -> float | None:
    return float(f"{a:.12g}") if math.isfinite(a) else None
