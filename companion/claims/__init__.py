"""The ledger: what a paper says, what we measured, and a verdict that code computes.

``data/claims/<paper>.yml`` holds a paper's claims. Each names the records that decide it and the
range in which the 95 % interval must lie; nothing about the verdict is written by hand.
"""

from companion.claims.cards import cards
from companion.claims.chapters import Chapter, chapter_of
from companion.claims.evidence import Estimate, measure
from companion.claims.ledger import CLAIMS, Earlier, Entry, Evidence, Reading, Reported, entries, papers
from companion.claims.readings import NotRunYet, Read, read
from companion.claims.verdicts import VERDICTS, Claim, load, pieces, summary

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Chapter",
    "Claim",
    "Earlier",
    "Entry",
    "Estimate",
    "Evidence",
    "NotRunYet",
    "Read",
    "Reading",
    "Reported",
    "cards",
    "chapter_of",
    "entries",
    "load",
    "measure",
    "papers",
    "pieces",
    "read",
    "summary",
]
