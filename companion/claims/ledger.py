"""What a ledger says: its entries as declared objects; a field that means nothing is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Strict
from pydantic.dataclasses import dataclass

from companion import experiments, records, yaml_files
from companion.fields import Count, Filed, Natural, NonNegative, Number, Scale, Text, filed, one_of

CLAIMS = records.ROOT / "data" / "claims"
CHAPTERS = "chapters"  # a file there that is no ledger: see :mod:`companion.claims.chapters`
TRAININGS, SPREADS = 5, 50  # fewer decide nothing, unless the ledger says why

Settled = Literal["measured", "by arithmetic"]


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
class Reported(Filed):
    """Where the paper's own numbers for a piece of evidence stand; see :mod:`companion.claims.reported`.

    Args:
        file: a table of ``data/reported``, without its ending.
        of: columns and the values in them that select one row.
        against: of the row to compare with, what differs from ``of``.
    """

    file: str
    of: dict[str, Any]
    against: dict[str, Any] | None = None


@dataclass(frozen=True)
class Evidence(Filed):
    """One measurement that bears on a claim.

    Args:
        label: what it is, in words.
        judges: ``"direction"``, whether something is more, less or no different; or ``"size"``, whether it is
            as much as the paper says.
        of: what is measured.
        against: what it is compared with, value by value on the same seeds or chips; may be absent. One
            value, on either side, is compared with all. The file names only what differs from ``of``.
        compare: ``"difference"`` or ``"ratio"`` of the two.
        statistic: ``"mean"`` or ``"std"`` over the values; ``"max"`` or ``"min"`` for what must hold of
            each of them; ``"stragglers"``: how many lie more than five below their mean.
        above, below: the whole 95 % interval must lie between them for the claim to hold here; one of
            them may be absent, or infinite. For a direction each is no difference (0, or 1 for a ratio) or
            lies ``margin`` from it. A size has both, unless the entry's ``words`` ask for one.
        margin: of indifference, for a direction: how far from no difference is still no different.
        settled: ``"by arithmetic"`` for what is counted, or follows from a formula or from how the
            measurement was built: it could not have come out otherwise.
        needs: fewer values than this leave it open; by default as :attr:`least` says.
        why: the reason for another ``needs``, which readers see.
        reported: the paper's own numbers, for which the rule has to hold as well.

    The interval covers the values and the images that they share: see :mod:`companion.claims.intervals`. The
    largest or smallest of the values is what it is, without an interval, and so is a count.
    """

    label: Text
    judges: Literal["direction", "size"]
    of: Reading
    against: Reading | None = None
    compare: Literal["difference", "ratio"] = "difference"
    statistic: Literal["mean", "std", "max", "min", "stragglers"] = "mean"
    above: Annotated[float, Strict()] = -math.inf
    below: Annotated[float, Strict()] = math.inf
    margin: Annotated[NonNegative, Strict()] = 0.0
    settled: Settled = "measured"
    needs: Annotated[Count, Strict()] | None = None
    why: str = ""
    reported: Reported | None = None

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError("above, below = neither is not allowed; allowed: one of them, or both")
        if not self.above < self.below:
            raise ValueError(f"above = {self.above:g} is not allowed; allowed: < below = {self.below:g}")
        if self.against == self.of:
            raise ValueError("against = of is not allowed; allowed: what differs from it")
        if (self.needs is None) == bool(self.why):
            allowed = "the reason for needs" if self.needs else "none, as needs is not given"
            raise ValueError(f"why = {self.why!r} is not allowed; allowed: {allowed}")
        if self.judges == "size" and self.margin:
            raise ValueError(f"margin = {self.margin:g} is not allowed; allowed: 0, as a size is judged")
        signs = {self.neutral, self.neutral - self.margin, self.neutral + self.margin}
        for name, limit in self.limits.items():
            if self.judges == "direction" and not any(math.isclose(limit, sign) for sign in signs):
                allowed = " or ".join(f"{sign:g}" for sign in sorted(signs))
                raise ValueError(
                    f"{name} = {limit:g} is not allowed; allowed: {allowed}, as a direction is judged"
                )

    @property
    def limits(self) -> dict[str, float]:
        """The finite ones of ``above`` and ``below``."""
        both = {"above": self.above, "below": self.below}
        return {name: limit for name, limit in both.items() if math.isfinite(limit)}

    @property
    def neutral(self) -> float:
        """What is measured if there is no difference."""
        return 1.0 if self.compare == "ratio" else 0.0

    @property
    def least(self) -> int:
        """How many values decide: of trainings five; of a standard deviation fifty, below which its interval
        is too short; of a largest or smallest value two, as one value is no extreme."""
        if self.needs is not None:
            return self.needs
        if self.of.over or (self.against and self.against.over):
            return TRAININGS
        if self.settled == "by arithmetic" or self.statistic == "mean":
            return 1
        return SPREADS if self.statistic == "std" else 2


@dataclass(frozen=True)
class Earlier(Filed):
    """What the verdict of a claim was before, where it is another one now, and what turned it."""

    verdict: str
    why: str


@dataclass(frozen=True)
class Entry(Filed):
    """One statement of a paper, where it stands, and what decides it; or the reason why nothing does.

    Args:
        id: a name that no other claim has.
        statement: what the paper says.
        where: where it says so.
        provenance: how we know; see the page on sources.
        measure: what we measure; needed where there is evidence.
        scale: of the records that decide it.
        unit: of ``number`` and of what is measured.
        number: the paper's number, if it gives one.
        digits: decimals shown.
        evidence: each piece has to hold, or with the quantifier ``"any"`` one.
        quantifier: ``"any"`` for what a paper says "up to": one of a family is enough.
        family: of what ``"any"`` is one, in words.
        words: the paper's own where it names one end of a range ("less than", "more than", "over"): a size
            then has that limit alone.
        unknown: what a number is of, or compared with, and is not known to us; nothing is decided then.
        seen: whether the rule was written when its records had been seen.
        earlier: the verdict in version 0.2, if it was another one.
        reason: why there is no evidence.
        contests: of a control, the claims whose cause it contests, by their ids.
        figure: of the chapter, the name of the one that shows it.
    """

    id: Text
    statement: Text
    where: Text
    provenance: Text
    measure: str
    scale: Scale
    unit: str
    number: Number | None = None
    digits: Annotated[Natural, Strict()] = 1
    evidence: tuple[Evidence, ...] = ()
    quantifier: Literal["all", "any"] = "all"
    family: str = ""
    words: Literal["at least", "at most"] | None = None
    unknown: str = ""
    seen: Annotated[bool, Strict()] = False
    earlier: Earlier | None = None
    reason: str = ""
    contests: tuple[Text, ...] = ()
    figure: str = ""

    def __post_init__(self) -> None:
        if bool(self.evidence or self.unknown) == bool(self.reason):
            both = "both" if self.reason else "neither"
            raise ValueError(
                f"evidence or unknown, reason = {both} is not allowed; allowed: evidence, or reason"
            )
        if self.evidence and not self.measure.strip():
            raise ValueError("measure = '' is not allowed; allowed: what is measured, as there is evidence")
        if (self.quantifier == "any") != bool(self.family):
            allowed = "the members, in words" if self.quantifier == "any" else "'', as each piece has to hold"
            raise ValueError(f"family = {self.family!r} is not allowed; allowed: {allowed}")
        if self.figure and not self.figure.startswith("fig-"):
            raise ValueError(f"figure = {self.figure!r} is not allowed; allowed: a figure's name, 'fig-…'")
        for number, piece in enumerate(self.evidence, 1):
            self._sized(f"evidence.{number}", piece)
        readings = (r for piece in self.evidence for r in (piece.of, piece.against) if r is not None)
        for scale in (reading.given.get("scale", self.scale) for reading in readings):
            if scale != self.scale:
                raise ValueError(f"scale = {self.scale!r} is not allowed; allowed: {scale!r}, as the records")

    def _sized(self, where: str, piece: Evidence) -> None:
        """Raises ``ValueError`` unless a piece that judges a size has the limits that ``words`` ask for."""
        asked = {"at least": ["above"], "at most": ["below"], None: ["above", "below"]}[self.words]
        if piece.judges == "size" and list(piece.limits) != asked:
            has = " and ".join(f"{name} = {limit:g}" for name, limit in piece.limits.items())
            says = f"as words = {self.words!r}" if self.words else "a size is a band, or the entry has words"
            raise ValueError(f"{where}: {has} is not allowed; allowed: {' and '.join(asked)}, {says}")


def papers(directory: Path | None = None) -> list[str]:
    """Papers that have a ledger."""
    found = (path.stem for path in (CLAIMS if directory is None else directory).glob("*.yml"))
    return sorted(name for name in found if name != CHAPTERS)


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
        case {"reported": {"of": dict(of), "against": dict(against)}}:
            piece = {**piece, "reported": {**piece["reported"], "against": {**of, **against}}}
    match piece:
        case {"of": dict(of), "against": dict(against)}:
            base, given = of.get("given"), against.get("given", {})
            if "experiment" not in against and isinstance(given, dict) and isinstance(base, dict):
                given = {**base, **given}
            return {**piece, "against": {**of, **against, "given": given}}
    return piece
