"""Phase-change memory over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cimlib.devices.draws import Draw
from cimlib.devices.drift import Drift, normals, polynomial
from cimlib.devices.effects import clipped


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

    local: ClassVar[bool] = True

    programming: bool = True
    read: bool = True

    _T_0: ClassVar = 20.0
    _T_R: ClassVar = 250e-9

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return normals(shape, programming=self.programming, drift=True, read=self.read)

    @staticmethod
    def spread(x: Tensor) -> Tensor:
        r""":math:`\sigma_p / g_{max} = (0.26348 + 1.9650\,x - 1.1731\,x^2)/25`, ``x`` of any shape."""
        return polynomial(x, (0.26348, 1.9650, -1.1731)) / 25

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
            programmed = clipped(g + g_max * self.spread(x) * z["programming"])
        mean, std = self.exponent(x)
        drifted = programmed * torch.exp(-(mean + std * z["drift"]).abs() * math.log1p(self.t / self._T_0))
        if self.read:
            drifted = drifted + drifted * self.read_spread(programmed / g_max) * z["read"]
        return clipped(drifted)
