"""Which chapter a claim stands in, and what that chapter finds: ``data/claims/chapters.yml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from companion import yaml_files
from companion.claims import ledger
from companion.claims.verdicts import Claim
from companion.fields import Filed, Text, filed

FILE = ledger.CLAIMS / f"{ledger.CHAPTERS}.yml"
#: The ledger whose entries say by ``where`` in which chapter they stand.
CONTROLS = "controls"
OWN = ("conventions", CONTROLS)  # ledgers of this book, not of papers
WORDS = 12


def _short(finding: str) -> str:
    if len(finding.split()) > WORDS:
        raise ValueError(f"at most {WORDS} words")
    return finding


@dataclass(frozen=True)
class Chapter(Filed):
    """A chapter that judges claims.

    Args:
        file: its notebook, without its ending.
        name: a short one; a control that stands in it has it as its ``where``.
        finding: what it finds, in at most twelve words.
        papers: the ledgers that it judges.
    """

    file: Text
    name: Text
    finding: Annotated[Text, AfterValidator(_short)]
    papers: tuple[Text, ...]


@cache
def chapters(path: Path = FILE) -> tuple[Chapter, ...]:
    """The chapters of the file at ``path``, in their order.

    Raises ``ValueError`` that names file, chapter, field, value and what is allowed, and one for a chapter, a
    name or a ledger that is there twice.
    """
    content = yaml_files.read(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: {content!r} is not allowed; allowed: a list of chapters")
    found = tuple(filed(Chapter, item, f"{path}: chapter {n}") for n, item in enumerate(content, 1))
    for kind in ("file", "name", "papers"):
        said = [one for each in found for one in _listed(getattr(each, kind))]
        for one in said:
            if said.count(one) > 1:
                raise ValueError(f"{path}: {kind} = {one!r} is not allowed twice; allowed: once")
    return found


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def chapter_of(claim: Claim, path: Path = FILE) -> Chapter:
    """The chapter in which ``claim`` stands. ``ValueError``, naming what is allowed, if it stands in none."""
    known = chapters(path)
    for chapter in known:
        if chapter.name == claim.where if claim.paper == CONTROLS else claim.paper in chapter.papers:
            return chapter
    if claim.paper == CONTROLS:
        allowed = ", ".join(chapter.name for chapter in known)
        raise ValueError(f"{claim.id}: where = {claim.where!r} is not allowed; allowed: {allowed}")
    allowed = ", ".join(paper for chapter in known for paper in chapter.papers)
    raise ValueError(f"{claim.id}: paper = {claim.paper!r} has no chapter; allowed: {allowed}")
