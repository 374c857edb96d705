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
from typing import ClassVar, Literal, Self

import torch
from scipy import constants
from torch import Tensor

from cimlib.devices.effects import Draw, Effect, require, straight_through

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


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """:math:`c_0 + c_1 x + c_2 x^2 + …`"""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _normal(shape: tuple[int, ...], **wanted: bool) -> dict[str, Draw]:
    """A standard normal draw per cell for each slot that is wanted."""
    return {slot: ("normal", shape) for slot, is_wanted in wanted.items() if is_wanted}


def _clipped(g: Tensor, low: float = 0.0, high: float = math.inf) -> Tensor:
    return straight_through(g.clamp(low, high), g)


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
class PCM(Drift):
    r"""Phase-change memory: programming error, power-law drift and 1/f read noise, :math:`x = g/g_{max}`.

    .. math::

        g_p &= \left[g_T + \sigma_p(x_T)\,z\right]_+ \qquad
        g(t) = g_p \left(1 + t/t_0\right)^{-\nu},\quad \nu = |\mu_\nu(x_T) + \sigma_\nu(x_T)\,z'| \\
        g &= \left[g(t)\left(1 + Q(x_p)\sqrt{\ln\tfrac{t + t_0 + t_r}{2 t_r}}\;z''\right)\right]_+

    with :math:`t_0` = 20 s, the first reading of the measurement, and :math:`t_r` = 250 ns; the spreads are
    those of :meth:`spread`, :meth:`exponent` and :meth:`read_spread`.

    Args:
        t: time since programming, s, ≥ 0; default 0, where nothing has drifted and read noise is there.
        programming: whether cells miss their targets. ``False`` leaves that to another effect.
        read: whether there is read noise.

    **Range.** The fit belongs to cells of 0 … 25 µS. Conductances count as fractions of the array's
    ``g_max`` and spreads grow with it, as the source does; ``g_min`` plays no part, because a cell drifts by
    what it conducts. So the off state of an array with ``g_min > 0`` drifts and spreads too, and leaves
    the range downwards. Source: read in the public code of aihwkit (``PCMLikeNoiseModel``), which names
    Nandakumar et al. (ICECS 2019). Measured up to which time: not found; ten years are an extrapolation.
    """

    programming: bool = True
    read: bool = True

    _T_0: ClassVar = 20.0
    _T_R: ClassVar = 250e-9

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return _normal(shape, programming=self.programming, drift=True, read=self.read)

    @staticmethod
    def spread(x: Tensor) -> Tensor:
        r""":math:`\sigma_p / g_{max} = (0.26348 + 1.9650\,x - 1.1731\,x^2)/25`, ``x`` of any shape."""
        return _polynomial(x, (0.26348, 1.9650, -1.1731)) / 25

    @staticmethod
    def exponent(x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and standard deviation of ν before its sign is dropped, both like ``x``.

        :math:`\mu_\nu = -0.0155\ln x + 0.0244` within 0.049 … 0.1 and
        :math:`\sigma_\nu = -0.0125\ln x - 0.0059` within 0.008 … 0.045.
        """
        log = x.clamp(min=1e-7).log()
        mean, std = -0.0155 * log + 0.0244, -0.0125 * log - 0.0059
        return mean.clamp(0.049, 0.1), std.clamp(0.008, 0.045)

    def read_spread(self, x: Tensor) -> Tensor:
        r"""Relative read noise at ``t`` of a cell programmed to ``x``: :math:`Q\sqrt{\ln\dots}`.

        :math:`Q = 0.0088\,x^{-0.65}`, at most 0.2.
        """
        quality = (0.0088 * x.clamp(min=1e-7) ** -0.65).clamp(max=0.2)
        return quality * math.sqrt(math.log((self.t + self._T_0 + self._T_R) / (2 * self._T_R)))

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        programmed, x = g, g / g_max
        if self.programming:
            programmed = _clipped(g + g_max * self.spread(x) * z["programming"])
        mean, std = self.exponent(x)
        drifted = programmed * torch.exp(-(mean + std * z["drift"]).abs() * math.log1p(self.t / self._T_0))
        if self.read:
            drifted = drifted + drifted * self.read_spread(programmed / g_max) * z["read"]
        return _clipped(drifted)


@dataclass(frozen=True)
class CMOReRAM(Drift):
    r"""Analog CMO/HfOₓ ReRAM: programming error, relaxation in the logarithm of time, read noise.

    .. math::

        g(t) = g_T + \sigma_p(g_T)\,z + \mu(t) + \sigma(t)\,z', \qquad
        g = g(t) + 0.0277316\,\log_{10} g(t) \sqrt{\ln\tfrac{t + t_r}{2 t_r}}\;z''

    with :math:`t_r` = 1 µs, g in µS, and μ and σ of :meth:`relaxation`, the same for every state.

    Args:
        t: time since programming, s: 0 (default), where there is programming error alone, or ≥ 1. Below 1 s
            the fitted logarithm would *raise* conductances and is refused.
        acceptance: distance from the target at which the loop of writing and verifying stops, in % of it;
            see :meth:`spread`. The source falls back to "0.2 %" for any range that it does not know, also
            for its own default.
        programming: whether cells miss their targets.
        read: whether there is read noise.
        clip: keep the cell in the range of the array, as the source does at every time but 0. No detail: a
            cell at ``g_min`` then cannot relax downwards while its partner in a pair does; without the clip
            their common shift cancels. ``False`` clips at 0 only.

    **Range.** The fits are in µS and belong to cells of 9 … 88.2 µS; they are not scaled. An array may use a
    part of that range, and one that leaves it is refused: ``DoubleArray(*CMOReRAM.RANGE)`` uses it all.
    Source: read in the public code of aihwkit (``ReRamCMONoiseModel``), which names Falcone et al.
    (arXiv 2502.04524). Measured up to which time: not found; ten years are an extrapolation.
    Raises ``ValueError`` for a time, an acceptance or, when called, an array that is not allowed.
    """

    #: Measured range of a cell, µS.
    RANGE: ClassVar[tuple[float, float]] = (9.0, 88.2)

    acceptance: Literal["0.2 %", "2 %"] = "0.2 %"
    programming: bool = True
    read: bool = True
    clip: bool = True

    _SPREAD: ClassVar = {"0.2 %": (0.00081107, 0.00106879), "2 %": (0.0112185, 0.0112903)}
    _T_R: ClassVar = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.t == 0 or self.t >= 1, "t", self.t, "0 or t ≥ 1 (s)")
        known = ", ".join(map(repr, self._SPREAD))
        require(self.acceptance in self._SPREAD, "acceptance", self.acceptance, known)

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return _normal(shape, programming=self.programming, drift=True, read=self.read)

    def spread(self, g: Tensor) -> Tensor:
        """σ_p, µS: 0.00081107 + 0.00106879 g ("0.2 %") or 0.0112185 + 0.0112903 g ("2 %"), g in µS."""
        return _polynomial(g, self._SPREAD[self.acceptance])

    def relaxation(self) -> tuple[float, float]:
        """μ and σ at ``t``, µS: −0.08900206 ln t and 0.04201137 ln t + 0.41183342; at t = 0 none."""
        if self.t == 0:
            return 0.0, 0.0
        return -0.08900206 * math.log(self.t), 0.04201137 * math.log(self.t) + 0.41183342

    def read_spread(self, g: Tensor) -> Tensor:
        """Read noise at ``t`` of a cell that conducts ``g``, µS; none at t = 0, nor below 1 µS."""
        growth = math.sqrt(math.log((self.t + self._T_R) / (2 * self._T_R))) if self.t else 0.0
        return 0.0277316 * growth * g.clamp(min=1).log10()

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        low, high = self.RANGE
        within = low <= g_min and g_max <= high
        require(within, "(g_min, g_max)", (g_min, g_max), f"a range within {low} … {high} µS, as measured")
        if self.programming:
            g = g + self.spread(g) * z["programming"]
        shift, std = self.relaxation()
        g = g + shift + std * z["drift"]
        if self.read:
            g = g + self.read_spread(g) * z["read"]
        return _clipped(g, g_min, g_max) if self.clip else _clipped(g)


@dataclass(frozen=True)
class WanReRAM(Drift):
    r"""Broadening about the target without a shift, :math:`g = [g_T + \sigma(g_T, t)\,z]_+`.

    One measurement (Wan et al., Nature 2022), read off its published figures by two groups who fitted it
    independently. σ is the distance from the *target* and so contains programming error: this effect
    draws from ``programming``, and another programming error beside it is refused. There is no read noise.

    Args:
        t: time since programming, one of those fitted: 1 s (default), 1 day, 2 days with "aihwkit", 1 s with
            "crosssim". Nothing between or beyond them is published, the last two hardly differ, and other
            times, 0 too, are refused.
        fit: a quartic of :math:`g/40` up to 40 µS (public code of aihwkit, ``ReRamWan2022NoiseModel``), or a
            cubic of g up to 39.26 µS (public code of CrossSim, ``RRAMWan``); see :meth:`spread`.

    **Range.** The fits are in µS and are not scaled; an array with a larger ``g_max`` is refused. (aihwkit
    means to scale them, but stores the reference of 40 µS under a name it does not use: with its default
    of 25 µS, σ is 1.6 times as large in relation to the range.)
    Raises ``ValueError`` for a time, a fit or, when called, an array that is not allowed.
    """

    t: float = field(default=1.0, kw_only=True)
    fit: Literal["aihwkit", "crosssim"] = "aihwkit"

    #: Fit → largest conductance, unit of g (both µS), and c_0, c_1, … (µS) for each time, s.
    _FITS: ClassVar[dict[str, tuple[float, float, dict[float, tuple[float, ...]]]]] = {
        "aihwkit": (
            40.0,
            40.0,
            {
                1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
                constants.day: (0.701, 22.086, -50.773, 47.095, -16.458),
                2 * constants.day: (0.782, 20.274, -43.507, 37.062, -11.934),
            },
        ),
        "crosssim": (39.26, 1.0, {1.0: (1.053, 0.2374, -1.167e-2, 1.536e-4)}),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.fit in self._FITS, "fit", self.fit, ", ".join(map(repr, self._FITS)))
        times = self._FITS[self.fit][2]
        allowed = f"{', '.join(f'{time:g}' for time in times)} (s), fitted by {self.fit}"
        require(self.t in times, "t", self.t, allowed)

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"programming": ("normal", shape)}

    def spread(self, g: Tensor) -> Tensor:
        """σ at ``t`` of cells asked to hold ``g``, both µS."""
        _, unit, coefficients = self._FITS[self.fit]
        return _polynomial(g / unit, coefficients[self.t])

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        largest = self._FITS[self.fit][0]
        require(g_max <= largest, "g_max", g_max, f"g_max ≤ {largest} µS, as measured")
        return _clipped(g + self.spread(g) * z["programming"])


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

    rho: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.rho < math.inf, "rho", self.rho, "0 ≤ rho < ∞ (std relative to the target)")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"drift": ("normal", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        return _clipped(g * (1 + self.rho * z["drift"]))
