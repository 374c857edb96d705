"""Measured conductances in files: tables whose headers say the unit."""

from __future__ import annotations

import csv
from os import PathLike

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cimlib.devices.effects import require

#: Units of a conductance in a header, and what each is in µS; µ may be either of Unicode's two.
UNITS = {"S": 1e6, "mS": 1e3, "uS": 1.0, "nS": 1e-3}


def read_table(path: str | PathLike[str]) -> pd.DataFrame:
    """The CSV file ``path``, UTF-8, with one header; lines that begin with ``#`` are comments.

    Raises ``ValueError`` naming the file if it is not UTF-8, has no rows, rows of another length than its
    header, or two columns of one name; ``OSError`` if it cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [line for line in file if line.strip() and not line.lstrip().startswith("#")]
    except UnicodeDecodeError as error:
        raise ValueError(f"path = {str(path)!r} is not allowed; allowed: a CSV file in UTF-8") from error
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True)] or [
        []
    ]
    require(len(rows) > 0, "path", str(path), "a CSV file with a header and rows below it")
    twice = sorted({name for name in header if header.count(name) > 1})
    require(not twice, f"columns of {str(path)!r}", twice, "each name once")
    odd = [i for i, row in enumerate(rows, 1) if len(row) != len(header)]
    require(not odd, f"rows of {str(path)!r}", odd[:5], f"{len(header)} values in each, as in the header")
    return pd.DataFrame(rows, columns=header)


def numbers(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """``column`` of ``table`` as numbers (rows,).

    Raises ``ValueError`` naming the column if it is missing or holds something that is no finite number.
    """
    require(column in table, "columns", list(table.columns), f"with {column!r} among them")
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd):
        found = table[column].iloc[odd[0]]
        require(False, f"{column}, row {odd[0] + 1}", found, "a finite number, in every row")
    return values


def whole_numbers(table: pd.DataFrame, column: str) -> NDArray[np.int64]:
    """``column`` of ``table`` as whole numbers ≥ 0 (rows,); raises ``ValueError`` as :func:`numbers` does."""
    values = numbers(table, column)
    odd = np.flatnonzero((values % 1 != 0) | (values < 0))
    if len(odd):
        require(False, f"{column}, row {odd[0] + 1}", float(values[odd[0]]), "whole numbers ≥ 0")
    return values.astype(np.int64)


def unit_of(table: pd.DataFrame, quantity: str) -> str:
    """The unit in which ``table`` has ``quantity``: of ``conductance_uS`` that is ``uS``.

    Raises ``ValueError`` naming the columns if none is the quantity in one of :data:`UNITS`, or several are.
    """
    plain = [str(name).replace("µ", "u").replace("μ", "u") for name in table.columns]
    found = [name.removeprefix(f"{quantity}_") for name in plain if name.startswith(f"{quantity}_")]
    allowed = ", ".join(f"{quantity}_{unit}" for unit in UNITS)
    fits = len(found) == 1 and found[0] in UNITS
    require(fits, "columns", list(table.columns), f"one column of the {quantity} with its unit: {allowed}")
    return found[0]


def microsiemens(table: pd.DataFrame, quantity: str) -> NDArray[np.float64]:
    """``quantity`` of ``table`` in µS (rows,), ≥ 0, whatever the unit in its header.

    Raises ``ValueError`` naming columns, row and value for an unknown unit and for anything but a finite
    number ≥ 0.
    """
    unit = unit_of(table, quantity)
    spelt = {str(name).replace("µ", "u").replace("μ", "u"): str(name) for name in table.columns}
    column = spelt[f"{quantity}_{unit}"]
    values = numbers(table, column)
    odd = np.flatnonzero(values < 0)
    if len(odd):
        require(False, f"{column}, row {odd[0] + 1}", float(values[odd[0]]), "conductances ≥ 0")
    return values * UNITS[unit] if UNITS[unit] != 1 else values
