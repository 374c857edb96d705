"""How many resamples turn each verdict: images, chips and trainings drawn again, the rule applied again.

Each piece of a claim is estimated in 1,000 resamples of its values and images; those with as many values, or
images, are resampled alike. Its interval is as wide there as it was measured. The share of resamples whose
verdict is another one is written to ``data/turned.json``. Command line::

    python -m companion.resamples
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np

from companion import records
from companion.claims import evidence, intervals, turned, verdicts
from companion.claims.evidence import Estimate
from companion.claims.ledger import Evidence, papers
from companion.claims.readings import Tables


def turned_share(claim: verdicts.Claim, tables: Tables = records.read) -> float:
    """The share of resamples in which the verdict of ``claim`` is another one; 0 if nothing is measured."""
    pieces = zip(claim.evidence, claim.measured, strict=True)
    statuses = list(zip(*(_statuses(piece, m, tables) for piece, m in pieces), strict=True))

    @cache
    def verdict(statuses: tuple[str, ...]) -> str:
        again = zip(claim.measured, statuses, strict=True)
        measured = tuple(replace(m, status=status) for m, status in again)  # type: ignore[arg-type]
        return replace(claim, measured=measured).leaning

    return float(np.mean([verdict(each) != claim.leaning for each in statuses])) if statuses else 0.0


def _statuses(piece: Evidence, m: Estimate, tables: Tables) -> list[str]:
    """What the piece says in each resample."""
    if m.status in ("stale", "missing") or m.n < piece.least or piece.settled == "by arithmetic":
        return [m.status] * intervals.RESAMPLES
    drawn = intervals.resampled(evidence.samples_of(piece, tables), evidence.estimator_of(piece))
    below, above = m.estimate - m.low, m.high - m.estimate
    return [evidence.judged(piece, m.n, value - below, value + above) for value in drawn]


def main() -> None:
    """Find the shares of all claims and keep them."""
    tables, claims = cache(records.read), [claim for paper in papers() for claim in verdicts.load(paper)]
    pending = [c.id for c in claims if c.leaning in ("stale records", "not run yet")]
    shares = {c.id: round(turned_share(c, tables), 3) for c in claims if c.id not in pending}
    kept = {
        claim.id: {"digest": turned.digest(claim, claim.measured), "turned": shares[claim.id]}
        for claim in claims
        if claim.id in shares
    }
    turned.FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    many = [name for name, share in shares.items() if share > turned.FIRM]
    print(f"{len(kept)} claims, {len(many)} of them turned too often: {', '.join(many) or 'none'}")
    if pending:
        print(f"left out, for their records are stale or missing: {', '.join(pending)}")


if __name__ == "__main__":
    main()
