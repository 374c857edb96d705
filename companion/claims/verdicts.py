"""Claims with what was measured, and the verdict that follows."""

from __future__ import annotations

from dataclasses import field
from functools import cache
from pathlib import Path

import pandas as pd
from pydantic.dataclasses import dataclass

from companion import records
from companion.claims import ledger
from companion.claims.evidence import Estimate, Tables, measure


@dataclass(frozen=True)
class Claim(ledger.Entry):
    """An entry of the ledger of ``paper``, measured: one result for each piece of evidence."""

    paper: str = ""
    measured: tuple[Estimate, ...] = field(default=(), compare=False)

    @property
    def verdict(self) -> str:
        """reproduced · partly · not reproduced · undecided · not testable here · stale records ·
        not run yet."""
        status = [m.status for m in self.measured]
        if not status:
            return "not testable here"
        if "stale" in status:
            return "stale records"
        if "missing" in status:
            return "not run yet"
        if all(s == "holds" for s in status):
            return "reproduced"
        if "holds" in status:
            return "partly"
        return "not reproduced" if "fails" in status else "undecided"


def load(paper: str, directory: Path | None = None) -> list[Claim]:
    """All claims of ``data/claims/<paper>.yml``, measured.

    Raises ``ValueError`` for an unknown paper, naming those that have a ledger, and for an entry with a
    wrong field, naming file, entry, field, value and what is allowed.
    """
    return _load(paper, directory, cache(records.read))


def _load(paper: str, directory: Path | None, tables: Tables) -> list[Claim]:
    directory = ledger.CLAIMS if directory is None else directory
    path = directory / f"{paper}.yml"
    if not path.exists():
        known = ", ".join(ledger.papers(directory))
        raise ValueError(f"paper = {paper!r} has no ledger; allowed: {known}")
    claims = []
    for where, entry in ledger.entries(path):
        try:
            measured = tuple(measure(item, tables) for item in entry.evidence)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        claims.append(Claim(**vars(entry), paper=paper, measured=measured))
    return claims


def summary() -> pd.DataFrame:
    """All ledgers: a row per claim with paper, id, statement and verdict."""
    tables = cache(records.read)
    claims = [claim for paper in ledger.papers() for claim in _load(paper, None, tables)]
    return pd.DataFrame([{k: getattr(c, k) for k in ("paper", "id", "statement", "verdict")} for c in claims])
