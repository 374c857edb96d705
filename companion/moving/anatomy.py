"""The anatomy of a crossbar: the numbers of the drawing ``pages/images/crossbar.svg``."""

from __future__ import annotations

from typing import Any

VOLTS = [0.2, 0.4, 0.1]  # one a row
CELLS = [[30, 10, 90], [20, 70, 10], [80, 40, 80]]  # µS, row by row
FEEDBACK = 100  # µS, of every amplifier; and of what stands in its place
RANGE = [10, 100]  # µS, of a cell


def data() -> dict[str, Any]:
    """Volts (rows,), conductances (rows, columns), feedback and range of a cell, in V and µS."""
    return {"volts": VOLTS, "cells": CELLS, "feedback": FEEDBACK, "range": RANGE}
