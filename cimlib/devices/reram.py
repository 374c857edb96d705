"""Two ReRAM technologies over time, as they were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from scipy import constants
from torch import Tensor

from cimlib.devices.draws import Draw
from cimlib.devices.drift import Drift, normals, polynomial
from cimlib.devices.effects import clipped, require


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

    local: ClassVar[bool] = True

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
        return normals(shape, programming=self.programming, drift=True, read=self.read)

    def spread(self, g: Tensor) -> Tensor:
        """σ_p, µS: 0.00081107 + 0.00106879 g ("0.2 %") or 0.0112185 + 0.0112903 g ("2 %"), g in µS."""
        return polynomial(g, self._SPREAD[self.acceptance])

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
        return clipped(g, g_min, g_max) if self.clip else clipped(g)


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

    local: ClassVar[bool] = True

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
        return polynomial(g / unit, coefficients[self.t])

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        largest = self._FITS[self.fit][0]
        require(g_max <= largest, "g_max", g_max, f"g_max ≤ {largest} µS, as measured")
        return clipped(g + self.spread(g) * z["programming"])
