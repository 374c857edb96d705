"""What a ledger says: its entries as declared objects; a field that means nothing is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Strict
from pydantic.dataclasses import dataclass

from companion import experiments, records, yaml_files
from companion.fields import Count, Filed, Natural, Number, Scale, filed, one_of

CLAIMS = records.ROOT / "data" / "claims"


@dataclass(frozen=True)
class Reading(Filed):
    """Which values to read: one result of one record, with one value per seed or chip.

    Args:
        experiment: whose records are read.
        given: parameters that select one record, or several that differ only in ``tuned`` or ``over``.
        value: the name of the result.
        tuned: a parameter chosen by the least mean ``validation_error`` of the records selected.
        over: a parameter, the seed of a training say, of which each record has another value: a
            record then gives one value, its mean.
    """

    experiment: Annotated[str, one_of(experiments.names())]
    given: dict[str, Any]
    value: str
    tuned: str | None = None
    over: str | None = None


@dataclass(frozen=True)
class Evidence(Filed):
    """One measurement that bears on a claim.

    Args:
        label: what it is, in words.
        of: what is measured.
        against: what it is compared with, value by value on the same seeds or chips; may be absent. One
            value, on either side, is compared with all. The file names only what differs from ``of``.
        compare: ``"difference"`` or ``"ratio"`` of the two.
        statistic: ``"mean"`` or ``"std"`` over the values; ``"max"`` or ``"min"`` for what must hold of
            each of them; ``"stragglers"``: how many lie more than five below their mean.
        above, below: the whole 95 % interval must lie between them for the claim to hold here; one of
            them may be absent, or infinite.
        needs: fewer values than this leave it open.

    The interval is Student's t for a mean or a difference of means, and for a ratio or a standard
    deviation a paired percentile bootstrap with 9,999 resamples. The largest or smallest of the values is
    what it is, without an interval, and so is a count.
    """

    label: str
    of: Reading
    against: Reading | None = None
    compare: Literal["difference", "ratio"] = "difference"
    statistic: Literal["mean", "std", "max", "min", "stragglers"] = "mean"
    above: Annotated[float, Strict()] = -math.inf
    below: Annotated[float, Strict()] = math.inf
    needs: Annotated[Count, Strict()] = 1

    def __post_init__(self) -> None:
        if self.above == -math.inf and self.below == math.inf:
            raise ValueError("above, below = neither is not allowed; allowed: one of them, or both")
        if not self.above < self.below:
            raise ValueError(f"above = {self.above:g} is not allowed; allowed: < below = {self.below:g}")


@dataclass(frozen=True)
class Entry(Filed):
    """One statement of a paper, where it stands, and what decides it; or the reason why nothing does.

    Args:
        id: a name that no other claim has.
        statement: what the paper says.
        where: where it says so.
        provenance: how we know; see the page on sources.
        measure: what we measure.
        scale: of the records that decide it.
        unit: of ``number`` and of what is measured.
        number: the paper's number, if it gives one.
        digits: decimals shown.
        evidence: each piece has to hold.
        reason: why there is no evidence.
    """

    id: str
    statement: str
    where: str
    provenance: str
    measure: str
    scale: Scale
    unit: str
    number: Number | None = None
    digits: Annotated[Natural, Strict()] = 1
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if bool(self.evidence) == bool(self.reason):
            both = "both" if self.reason else "neither"
            raise ValueError(f"evidence, reason = {both} is not allowed; allowed: one of them")
        readings = (r for piece in self.evidence for r in (piece.of, piece.against) if r is not None)
        for scale in (reading.given.get("scale", self.scale) for reading in readings):
            if scale != self.scale:
                raise ValueError(f"scale = {self.scale!r} is not allowed; allowed: {scale!r}, as the records")


def papers(directory: Path | None = None) -> list[str]:
    """Papers that have a ledger."""
    return sorted(path.stem for path in (CLAIMS if directory is None else directory).glob("*.yml"))


def entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """The entries of the ledger at ``path``, each with the words for where it stands there.

    Raises ``ValueError`` that names file, entry, field, value and what is allowed.
    """
    content = yaml_files.read(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: {content!r} is not allowed; allowed: a list of claims")
    known = set[str]()
    for number, item in enumerate(content, 1):
        named = isinstance(item, dict) and "id" in item
        where = f"{path}: claim {item['id']!r}" if named else f"{path}: entry {number}"
        entry = filed(Entry, _whole(item), where)
        if entry.id in known:
            raise ValueError(f"{where}: this id is not allowed; allowed: one that no other claim has")
        known.add(entry.id)
        yield where, entry


def _whole(item: Any) -> Any:
    """The entry with every ``against`` in full; what is not of the right shape stays as it is."""
    match item:
        case {"evidence": [*pieces]}:
            return {**item, "evidence": [_compared(piece) for piece in pieces]}
    return item


def _compared(piece: Any) -> Any:
    match piece:
        case {"of": dict(of), "against": dict(against)}:
            base, given = of.get("given"), against.get("given", {})
            if "experiment" not in against and isinstance(given, dict) and isinstance(base, dict):
                given = {**base, **given}
            return {**piece, "against": {**of, **against, "given": given}}
    return piece
