"""Claims with what was measured, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path

import pandas as pd
from pydantic.dataclasses import dataclass

from companion import records
from companion.claims import ledger, reported, turned
from companion.claims.evidence import Estimate, measure
from companion.claims.readings import Tables

#: Every verdict, in the order in which they are counted.
VERDICTS = {
    "reproduced": "every piece holds",
    "direction only": "what it says of more or less holds, what it says of how much fails",
    "holds where decided": "some pieces hold, none fails, and some are open",
    "partly": "some pieces hold and some fail",
    "not reproduced": "some pieces fail and none holds",
    "undecided": "all pieces are open; or what a number is of or compared with is not known; or more than a "
    "tenth of the resamples turn it",
    "by arithmetic": "counting gives it, or a formula: there was nothing to measure",
    "not by arithmetic": "counting does not give it",
    "not testable here": "a fact is missing, or the cost is too high",
    "stale records": "older code made a record of it",
    "not run yet": "a record that its sweep asks for is missing",
}

_NAMES = {"holds": "reproduced", "fails": "not reproduced", "open": "undecided"}


def judged(statuses: Iterable[str]) -> str:
    """What pieces say together: none for no piece, else holds, fails, open, partly or holds where decided."""
    made = {"partly": {"holds", "fails"}, "holds where decided": {"holds", "open"}}
    found = set[str]().union(*(made.get(status, {status}) for status in statuses))
    for whole, parts in made.items():
        if parts <= found:
            return whole
    return next((status for status in ("fails", "open", "holds") if status in found), "none")


def _any(statuses: Iterable[str]) -> str:
    """What members of a family say together: one that holds is enough."""
    found = set(statuses)
    return next((status for status in ("holds", "open", "fails") if status in found), "none")


@dataclass(frozen=True)
class Claim(ledger.Entry):
    """An entry of the ledger of ``paper``, measured: one result for each piece of evidence; ``turned``: the
    share of resamples that turn its verdict, ``None`` if it is not known."""

    paper: str = ""
    measured: tuple[Estimate, ...] = field(default=(), compare=False)
    turned: float | None = None

    @property
    def counted(self) -> bool:
        """Whether all its evidence is arithmetic."""
        return bool(self.evidence) and all(piece.settled == "by arithmetic" for piece in self.evidence)

    @property
    def direction(self) -> str:
        """What the pieces that judge a direction say: none if there are none, holds, fails, open, partly or
        holds where decided."""
        return self._of("direction")

    @property
    def size(self) -> str:
        """What the pieces that judge a size say, in the same words."""
        return self._of("size")

    def _of(self, kind: str) -> str:
        """Beside something measured, arithmetic that holds says nothing; arithmetic that fails counts."""
        both = [(e, m) for e, m in zip(self.evidence, self.measured, strict=True) if e.judges == kind]
        says = [m.status for e, m in both if self.counted or e.settled == "measured" or m.status == "fails"]
        if says and (self.unknown or {"stale", "missing"}.intersection(says)):
            return "open"
        return (_any if self.quantifier == "any" else judged)(says)

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`: where it leans, unless too many resamples turn it."""
        firm = self.turned is None or self.turned <= turned.FIRM
        return self.leaning if firm else "undecided"

    @property
    def leaning(self) -> str:
        """What the pieces say together, one of :data:`VERDICTS`."""
        status = [m.status for m in self.measured]
        if "stale" in status:
            return "stale records"
        if "missing" in status:
            return "not run yet"
        if self.unknown:
            return "undecided"
        if not status:
            return "not testable here"
        if (self.direction, self.size) == ("holds", "fails") and not self.counted:
            return "direction only"
        said = judged({self.direction, self.size} - {"none"})
        if self.counted and said in ("holds", "fails"):
            return {"holds": "by arithmetic", "fails": "not by arithmetic"}[said]
        return _NAMES.get(said, said)


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
    claims, ids = [], cache(lambda: _ids(directory))
    for where, entry in ledger.entries(path):
        measured = []
        try:
            _require_earlier(entry)
            _require_contested(entry, ids)
            reported.require(entry)
            for number, piece in enumerate(entry.evidence, 1):
                measured.append(_measured(number, piece, tables))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        firmness = turned.share(entry, measured)
        claims.append(Claim(**vars(entry), paper=paper, measured=tuple(measured), turned=firmness))
    return claims


def _measured(number: int, piece: ledger.Evidence, tables: Tables) -> Estimate:
    try:
        return measure(piece, tables)
    except ValueError as error:
        raise ValueError(f"evidence.{number} ({piece.label}): {error}") from error


def _require_earlier(entry: ledger.Entry) -> None:
    if entry.earlier and entry.earlier.verdict not in VERDICTS:
        allowed = ", ".join(VERDICTS)
        raise ValueError(f"earlier.verdict = {entry.earlier.verdict!r} is not allowed; allowed: {allowed}")


def _require_contested(entry: ledger.Entry, ids: Callable[[], set[str]]) -> None:
    for name in entry.contests:
        if name not in (others := ids() - {entry.id}):
            allowed = ", ".join(sorted(others)) or "another claim, of which there is none"
            raise ValueError(f"contests = {name!r} is not allowed; allowed: {allowed}")


def _ids(directory: Path) -> set[str]:
    """The ids of all claims there."""
    paths = (directory / f"{paper}.yml" for paper in ledger.papers(directory))
    return {entry.id for path in paths for _, entry in ledger.entries(path)}


def summary() -> pd.DataFrame:
    """All ledgers: a row per claim with paper, id, statement, verdict, and direction and size apart."""
    tables = cache(records.read)
    claims = [claim for paper in ledger.papers() for claim in _load(paper, None, tables)]
    shown = ("paper", "id", "statement", "verdict", "direction", "size")
    return pd.DataFrame([{k: getattr(c, k) for k in shown} for c in claims])


def pieces(claims: Sequence[Claim]) -> dict[str, int]:
    """How many pieces of evidence there are, by what chance could do to them.

    ``pieces`` in all, of which ``arithmetic``, ``few``, with fewer values than decide, and ``exact``, without
    an interval, as a largest value or a count. The others judge a ``sign``, for which no difference is not
    enough; ``no_worse``, for which it is; or a ``size``. ``signs_held`` of the first hold.
    """
    both = [pair for c in claims for pair in zip(c.evidence, c.measured, strict=True)]
    measured = [(e, m) for e, m in both if e.settled == "measured"]
    enough = [(e, m) for e, m in measured if m.n >= e.least]
    drawn = [(e, m) for e, m in enough if e.statistic in ("mean", "std")]
    directions = [(e, m) for e, m in drawn if e.judges == "direction"]
    signs = [(e, m) for e, m in directions if not e.above < e.neutral < e.below]
    return {
        "pieces": len(both),
        "arithmetic": len(both) - len(measured),
        "few": sum(0 < m.n < e.least for e, m in measured),
        "exact": len(enough) - len(drawn),
        "sign": len(signs),
        "signs_held": sum(m.status == "holds" for _, m in signs),
        "no_worse": len(directions) - len(signs),
        "size": len(drawn) - len(directions),
    }
