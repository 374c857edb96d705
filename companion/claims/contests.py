"""Controls that contest the cause of a claim: a gain may be there, and have another reason than is said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from companion.claims import ledger
from companion.claims.verdicts import Claim, load

#: What a control makes of a claim's cause: it holds, it is undecided, or it fails.
CONTESTED, ASKED, UPHELD = "cause contested", "cause questioned, undecided", "cause stands against a control"
_SAYS = {
    **dict.fromkeys(("reproduced", "direction only", "holds where decided", "by arithmetic"), CONTESTED),
    **dict.fromkeys(("not reproduced", "not by arithmetic"), UPHELD),
}


def contesting(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    """The controls that contest the cause of each of the ``claims``, by its id: those among them, and those
    of the book's ledgers."""
    here = {claim.id: claim for claim in claims}
    elsewhere = {
        paper for name, (paper, ids) in _contests().items() if here.keys() & ids and name not in here
    }
    known = [*claims, *(c for paper in sorted(elsewhere) for c in load(paper) if c.id not in here)]
    return {name: [control for control in known if name in control.contests] for name in here}


@cache
def _contests() -> dict[str, tuple[str, frozenset[str]]]:
    """Of each control in the book's ledgers: which ledger it stands in, and what it contests."""
    paths = {paper: ledger.CLAIMS / f"{paper}.yml" for paper in ledger.papers()}
    entries = ((paper, entry) for paper, path in paths.items() for _, entry in ledger.entries(path))
    return {entry.id: (paper, frozenset(entry.contests)) for paper, entry in entries if entry.contests}


def says(control: Claim) -> str:
    """What one control makes of the cause that it contests, in a few words."""
    return _SAYS.get(control.verdict, ASKED)


def contested(controls: Sequence[Claim]) -> str:
    """What the ``controls`` of a claim say together: one that holds is enough. None for no control."""
    said = {says(control) for control in controls}
    return next((words for words in (CONTESTED, ASKED, UPHELD) if words in said), "")
