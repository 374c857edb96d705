"""Cells that hold one of finitely many levels, as they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cimlib.devices.draws import Draw
from cimlib.devices.effects import Effect, require, straight_through
from cimlib.devices.measurements import microsiemens, read_table, require_plausible_unit


@dataclass(frozen=True)
class Levels(Effect):
    r"""A cell with a finite table of levels: the one nearest to its target, with that level's spread.

    .. math:: g = \left[\mu_k + s_k\,z\right]_+, \qquad k = \arg\min_j |g_T - \mu_j|

    Convention of the spread: :math:`s_k` is the standard deviation **of one cell**, in µS, over cells and
    writes, about the level's own mean, with one standard normal draw per cell. A weight held by a pair sees
    two. A target half-way between two levels takes the lower one. Cells may leave the array's range, as
    measured ones do, but not below 0. The gradient is that of the target, as if there were no levels. A
    conductance with a sign (:class:`.SignedArray`) takes the level of its magnitude.

    Args:
        means: :math:`\mu_k`, µS, ascending, ≥ 0, at least two.
        stds: :math:`s_k`, µS, ≥ 0, one for each level.

    **Range.** The table belongs to one range, :attr:`range`, and is not scaled. An array whose ``g_min`` or
    ``g_max`` is further than half a step from the end of the table is refused when the effect is called:
    ``DoubleArray(*levels.range)`` fits. Standard form.
    Raises ``ValueError`` for levels that are not ascending or listed twice, negative or not finite, fewer
    than two, or without a spread each.
    """

    local: ClassVar[bool] = True
    unit_gradient: ClassVar[bool] = True

    means: tuple[float, ...]
    stds: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("means", "stds"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            allowed = "finite numbers ≥ 0 (µS)"
            sound = all(0 <= value < math.inf for value in getattr(self, name))
            require(sound, name, getattr(self, name), allowed)
        require(len(self.means) >= 2, "means", self.means, "at least two levels")
        counts = (len(self.means), len(self.stds))
        require(counts[0] == counts[1], "len(means), len(stds)", counts, "a spread for each level")
        twice = sorted({mean for mean in self.means if self.means.count(mean) > 1})
        require(not twice, "means", twice, "each level once")
        ascending = all(low < high for low, high in pairwise(self.means))
        require(ascending, "means", self.means, "ascending levels; sort the rows by their mean")

    @classmethod
    def from_csv(cls, path: str | PathLike[str]) -> Levels:
        """Levels of a CSV file, one a row: ``mean`` and ``std`` of their conductance.

        The headers say the units: ``mean_uS`` or with S, mS, nS; ``std_uS`` likewise. Other columns are left
        alone. Raises ``ValueError`` naming column, row and value for what is no such table or no such levels,
        and for what looks like another unit or swapped columns: means below 10⁻³ of their unit (unless that
        is S), a spread larger than the whole range of the means, or spreads none of which is 10⁻⁶ of it (all
        0 is taken).
        """
        table = read_table(path)
        means, stds = (microsiemens(table, quantity) for quantity in ("mean", "std"))
        require_plausible_unit(table, "mean")
        span, largest = float(np.ptp(means)), float(stds.max())
        fits = len(means) < 2 or span == 0 or largest == 0 or 1e-6 * span <= largest <= span
        allowed = (
            f"from {1e-6 * span:.3g} to {span:.3g} µS, the range of the means; is the unit another, or are "
        )
        allowed += "the columns swapped?"
        require(fits, "largest std (µS)", largest, allowed)
        return cls(tuple(means.tolist()), tuple(stds.tolist()))

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest level, µS: ``g_min`` and ``g_max`` of an array that uses all of them."""
        return self.means[0], self.means[-1]

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"programming": ("normal", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        low, high = self.range
        near = (self.means[1] - low) / 2, (high - self.means[-2]) / 2
        fits = abs(g_min - low) <= near[0] and abs(g_max - high) <= near[1]
        allowed = f"the range of the levels, ({low:g}, {high:g}) µS, to half a step"
        require(fits, "(g_min, g_max)", (g_min, g_max), allowed)
        between = g.new_tensor([(a + b) / 2 for a, b in pairwise(self.means)])
        level = torch.bucketize(g.detach().abs(), between)
        obtained = g.new_tensor(self.means)[level] + g.new_tensor(self.stds)[level] * z["programming"]
        obtained = obtained.clamp(min=0)
        return straight_through(torch.where(g < 0, -obtained, obtained), g)
