"""The paper's own numbers: a rule that they do not keep is no rule for us."""

from __future__ import annotations

from functools import cache

import pandas as pd

from companion import records
from companion.claims.ledger import Entry, Evidence

REPORTED = records.ROOT / "data" / "reported"


def number(evidence: Evidence) -> float | None:
    """What the paper's table gives for this piece, or ``None`` where it names no rows.

    Raises ``ValueError`` unless file, columns and one row each are there.
    """
    if evidence.reported is None:
        return None
    rows = [evidence.reported.of, evidence.reported.against]
    value, *other = [_value(evidence.reported.file, row) for row in rows if row is not None]
    if not other:
        return value
    return value / other[0] if evidence.compare == "ratio" else value - other[0]


def require(entry: Entry) -> None:
    """Raises ``ValueError`` if the paper itself fails a rule of ``entry``: a piece of it, or with the
    quantifier ``"any"`` every one of the same kind."""
    found = [(place, piece, number(piece)) for place, piece in enumerate(entry.evidence, 1)]
    numbers = [(place, piece, value) for place, piece, value in found if value is not None]
    kept = {piece.judges for _, piece, value in numbers if piece.above < value < piece.below}
    for place, piece, value in numbers:
        either = entry.quantifier == "any" and piece.judges in kept
        if not either and not piece.above < value < piece.below:
            raise ValueError(
                f"evidence.{place}.reported = {value:.4g} is not allowed; allowed: what the rule holds for, "
                f"above {piece.above:g} and below {piece.below:g}"
            )


@cache
def _table(file: str) -> pd.DataFrame:
    known = sorted(path.stem for path in REPORTED.glob("*.csv"))
    if file not in known:
        raise ValueError(f"reported.file = {file!r} is not allowed; allowed: {', '.join(known)}")
    return pd.read_csv(REPORTED / f"{file}.csv", encoding="utf-8", keep_default_na=False)


def _value(file: str, row: dict[str, object]) -> float:
    """The value in that row, which stands in the last column."""
    try:
        found = records.select(_table(file), **row)
    except ValueError as error:
        raise ValueError(f"reported: {error}".replace("record", f"row of {file}")) from error
    if len(found) != 1:
        raise ValueError(f"reported = {row} is not allowed; allowed: one row of {file}, not {len(found)}")
    return float(found.iloc[:, -1].to_numpy(dtype=float)[0])
