r"""Cells with a clock: what becomes of a programmed conductance while a chip lies in a drawer.

A :class:`Drift` is an effect at a time ``t`` after programming. Its standard draws belong to the chip and not
to the time, so that :meth:`Drift.at` takes the same chip to another moment of **one** trajectory. What is
published are distributions at single times; that a cell far from the mean at one time is as many standard
deviations from it at every other is assumed here (of PCM alone it is the model itself: ν belongs to a cell).
So is read noise here one draw per cell, held, whatever the time: a chip is read once.

Conductances in µS, times in s, ln is natural. One standard draw **per cell** and slot: a pair of cells sees
two. Gradients are those of the formulas, and pass where a conductance is clipped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import ClassVar, Self

import torch
from scipy import constants
from torch import Tensor

from cimlib.devices.draws import Draw
from cimlib.devices.effects import Effect, clipped, require

_WORDS = {
    "second": 1.0,
    "minute": constants.minute,
    "hour": constants.hour,
    "day": constants.day,
    "week": constants.week,
    "month": constants.Julian_year / 12,
    "year": constants.Julian_year,
}


_UNITS = {"s": 1.0, "min": constants.minute, "h": constants.hour, "d": constants.day} | {
    word + plural: value for word, value in _WORDS.items() for plural in ("", "s")
}


def seconds(t: float | str) -> float:
    """A time in seconds: a number of them, or text such as ``"30 s"``, ``"1 hour"``, ``"10 years"``.

    Units are s, min, h, d and second, minute, hour, day, week, month, year with or without a plural s. A year
    has 365.25 days and a month is a twelfth of it. Raises ``ValueError`` for a negative, non-finite or
    unparsable time, such as text without a unit.
    """
    value = math.nan
    if isinstance(t, str):
        parts = re.fullmatch(r"\s*([-+]?\d*\.?\d+(?:e[-+]?\d+)?)\s*([a-z]+)\s*", t)
        if parts and parts[2] in _UNITS:
            value = float(parts[1]) * _UNITS[parts[2]]
    elif isinstance(t, Real) and not isinstance(t, bool):
        value = float(t)
    units = f"s, min, h, d, {', '.join(_WORDS)}"
    allowed = f"a finite number of seconds ≥ 0, or text like '10 years' (units: {units})"
    require(0 <= value < math.inf, "t", t, allowed)
    return value


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """:math:`c_0 + c_1 x + c_2 x^2 + …`"""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def normals(shape: tuple[int, ...], **wanted: bool) -> dict[str, Draw]:
    """A standard normal draw per cell for each slot that is wanted."""
    return {slot: ("normal", shape) for slot, is_wanted in wanted.items() if is_wanted}


@dataclass(frozen=True)
class Drift(Effect):
    """An effect with a clock; the base class does nothing at any time.

    Args:
        t: time since programming, s, by name only; text becomes seconds as in :func:`seconds`.

    Raises ``ValueError`` for a time that is no time, or not one of the model's.
    """

    t: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", seconds(self.t))

    def at(self, t: float | str) -> Self:
        """The same effect at another time since programming, e.g. ``PCM().at("10 years")``."""
        return replace(self, t=seconds(t))


@dataclass(frozen=True)
class RelativeDrift(Drift):
    r"""Drift in proportion to the target and nothing else: :math:`g = [g_T (1 + \rho\,z)]_+`.

    Args:
        rho: standard deviation of a cell relative to its target, ≥ 0; in the source mostly below 0.2.
        t: time since programming, s, default 0. **There is no time in this model**: :meth:`at` keeps it, and
            no conductance depends on it. ``rho`` is what stands for a longer wait.

    Source: drift model of the DoRA calibration paper (arXiv 2504.03763), as quoted by the public code of
    PyRRAM-Sim. That no conductance is negative is ours. Raises ``ValueError`` for a negative or non-finite
    ``rho``, and for a time that is no time.
    """

    local: ClassVar[bool] = True

    rho: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.rho < math.inf, "rho", self.rho, "0 ≤ rho < ∞ (std relative to the target)")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"drift": ("normal", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        return clipped(g * (1 + self.rho * z["drift"]))
