"""Remedies side by side on the same chips: what each brings, what it knows, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from companion import records
from companion.claims.intervals import Sample, of_mean


@dataclass(frozen=True, eq=False)
class Way:
    """One remedy.

    Args:
        sample: a value a chip, and which images it is right about, where that is kept; see :func:`sample`.
        knows: what it has to know, in words.
        costs: what it costs, in words.
    """

    sample: Sample
    knows: str
    costs: str


def sample(row: pd.Series[Any], name: str = "accuracy") -> Sample:
    """The values (n,) under ``name`` of a record in a table, with the images that they are right about, if
    those are kept: (n, images), %."""
    kept = 100 * records.right(row, name).astype(np.float32) if name in row["right"] else None
    return Sample(np.asarray(row[name], dtype=np.float64), kept)


def expected(one: Sample, digits: int = 1) -> str:
    """What to expect of a chip on average: mean ± half of its 95 % interval, as in ``"97.4 ± 0.2"``."""
    low, high = of_mean(one)
    return f"{one.values.mean():z.{digits}f} ± {(high - low) / 2:.{digits}f}"


def table(ways: Mapping[str, Way], against: str, digits: int = 1, unit: str = "chip") -> str:
    """A Markdown table, a row each of ``ways``: mean, worst ``unit``, and the difference from the one named
    ``against``, unit by unit, with its 95 % interval, which covers what the last line says.

    Raises ``ValueError`` for ways read on different numbers of chips, and for an unknown ``against``.
    """
    if against not in ways:
        raise ValueError(f"against = {against!r} is not allowed; allowed: {', '.join(map(repr, ways))}")
    counts = {name: len(way.sample.values) for name, way in ways.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{unit}s = {counts} are not allowed; allowed: the same {unit}s for all")
    rows = [
        f"| | knows | costs | mean, % | worst {unit}, % | minus {against}, points |",
        "|---|---|---|---|---|---|",
    ]
    reference = ways[against].sample
    covered = list[int]()
    for name, way in ways.items():
        values = way.sample.values
        difference = way.sample - reference
        low, high = of_mean(difference)
        found = f"{difference.values.mean():+z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"
        if name == against:
            found = ""
        else:
            covered.append(difference.images)
        numbers = f"{values.mean():.{digits}f} | {values.min():.{digits}f}"
        rows.append(f"| {name} | {way.knows} | {way.costs} | {numbers} | {found} |")
    images = min(covered, default=0)
    over = f"{counts[against]} {unit}s" + (f" × {images:,} images" if images else "")
    return "\n".join([*rows, "", f"Differences {unit} by {unit}, with 95 % intervals over {over}."])
