"""How firm a verdict is: the share of resamples that turn it, kept in ``data/turned.json``.

:mod:`companion.resamples` finds the shares and keeps each under its claim, with a digest of the rule, of the
records that it rests on and of the code. A share whose digest is another one is not known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from companion import definitions, provenance, records
from companion.claims.evidence import Estimate
from companion.claims.ledger import Entry

FILE = records.ROOT / "data" / "turned.json"
FIRM = 0.1  # a verdict that more resamples turn is undecided


@cache
def _code() -> str:
    return definitions.digest("companion.resamples", "turned_share")


def digest(entry: Entry, measured: Sequence[Estimate]) -> str:
    """Sixteen hexadecimal digits of what the share of ``entry`` follows from: rule, records and code."""
    rule = [str(asdict(piece)) for piece in entry.evidence]
    made = [[m.status in ("stale", "missing"), *m.made] for m in measured]
    return provenance.digest([rule, entry.quantifier, entry.unknown, made, _code()])


def share(entry: Entry, measured: Sequence[Estimate]) -> float | None:
    """The share of resamples that turn the verdict of ``entry``; ``None`` if it is not known."""
    kept = _kept(FILE, FILE.stat().st_mtime_ns).get(entry.id) if FILE.exists() else None
    return kept["turned"] if kept and kept["digest"] == digest(entry, measured) else None


@cache
def _kept(path: Path, changed: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
