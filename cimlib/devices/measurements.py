"""Measured conductances in files: tables whose headers say the unit."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from os import PathLike
from typing import TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cimlib.devices.effects import require

#: Units of a conductance in a header, and what each is in µS; µ may be either of Unicode's two.
UNITS = {"S": 1e6, "mS": 1e3, "uS": 1.0, "nS": 1e-3}


def read_table(path: str | PathLike[str]) -> pd.DataFrame:
    """The CSV file ``path``, UTF-8, with one header; lines that begin with ``#`` are comments.

    Lines within quotes belong to their cell, whatever they begin with.
    Raises ``ValueError`` naming the file if it is not UTF-8, has no rows, rows of another length than its
    header, quotes that are left open or followed by anything but a comma (with the line where that row
    begins), or two columns of one name; ``OSError`` if it cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            records = list(_records(file, str(path)))
    except UnicodeDecodeError as error:
        raise ValueError(f"path = {str(path)!r} is not allowed; allowed: a CSV file in UTF-8") from error
    header, *rows = records or [[]]
    require(len(rows) > 0, "path", str(path), "a CSV file with a header and rows below it")
    twice = sorted({name for name in header if header.count(name) > 1})
    require(not twice, f"columns of {str(path)!r}", twice, "each name once")
    odd = [i for i, row in enumerate(rows, 1) if len(row) != len(header)]
    require(not odd, f"rows of {str(path)!r}", odd[:5], f"{len(header)} values in each, as in the header")
    return pd.DataFrame(rows, columns=header)


def _records(file: TextIO, path: str) -> Iterator[list[str]]:
    """The records of ``file`` as cells without outer blanks; between them, blank lines and comments."""
    begun = 0  # line in which the record began; 0 between records

    def lines() -> Iterator[str]:
        nonlocal begun
        for line, text in enumerate(file, 1):
            if not begun and (not text.strip() or text.lstrip().startswith("#")):
                continue
            begun = begun or line
            yield text

    reader = csv.reader(lines(), skipinitialspace=True, strict=True)
    try:
        for record in reader:
            yield [cell.strip() for cell in record]
            begun = 0
    except csv.Error as error:
        allowed = "quotes that are closed, before a comma or the end of the line"
        raise ValueError(
            f"row of {path!r} that begins in line {begun} is not allowed ({error}); allowed: {allowed}"
        ) from error


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


def require_plausible_unit(table: pd.DataFrame, quantity: str) -> None:
    """Refuse ``quantity`` of ``table`` if it looks like S under the header of a smaller unit.

    It does if its largest value is below 10⁻³ of the header's unit: 1 nS in µS, 1 pS in nS, 1 µS in mS. Cells
    as small as that are taken if their header has a smaller unit, or S.
    Raises ``ValueError`` naming the column, and as :func:`microsiemens` does.
    """
    unit, largest = unit_of(table, quantity), float(microsiemens(table, quantity).max())
    plausible = unit == "S" or largest == 0 or largest >= 1e-3 * UNITS[unit]
    allowed = f"at least 0.001 {unit}; looks like S, not {unit}; smaller cells have a header in nS or S"
    require(plausible, f"largest {quantity}_{unit}", largest / UNITS[unit], allowed)
