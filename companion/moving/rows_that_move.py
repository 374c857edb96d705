"""Rows of a small layer on the rows of an array with broken cells: its weights, and cells broken at first."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS, COLUMNS = 6, 4
STEP = 0.05  # of the largest weight


def weights() -> np.ndarray:
    """Weights (rows, columns) in units of the largest one, drawn at random, none negative."""
    drawn = np.random.default_rng(3).uniform(0.05, 1, (ROWS, COLUMNS))
    rounded: np.ndarray = np.rint(drawn / drawn.max() / STEP) * STEP
    return rounded


def broken() -> np.ndarray:
    """Cells broken at first (rows, columns): 1 is stuck on, −1 stuck off, 0 works."""
    drawn = np.random.default_rng(16).uniform(0, 1, (ROWS, COLUMNS))
    state: np.ndarray = (drawn < 0.1).astype(int) - (drawn > 0.9).astype(int)
    return state


def data() -> dict[str, Any]:
    """Weights row by row, and the cells that are broken at first."""
    return {
        "shape": [ROWS, COLUMNS],
        "weights": [round(float(w), 2) for w in weights().ravel()],
        "broken": broken().ravel().tolist(),
    }
