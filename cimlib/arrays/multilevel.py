"""Weights in multi-level cells as negative feedback training simulates them: errors of whole weights.

The released code of NFT (arXiv 2305.14561) knows neither cells nor slices: it adds to each weight one
normal number whose spread is that of all its slices together. :class:`SignedArray` and
:class:`LevelSpread` do the same. :class:`~.BitSliced`, with every slice a cell and an error of
its own, gives a weight the same spread and is what they are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cimlib.arrays.base import Array, Conductances, Structure
from cimlib.devices.draws import Draw
from cimlib.devices.effects import Effect, require, straight_through

#: Device types of NFT, by the names of its code (January 2025) → :attr:`LevelSpread.ratio`.
RATIOS = {"rram1": 1.0, "fefet2": 2.0, "rram4": 4.0, "fefet6": 6.0}


@dataclass(frozen=True)
class SignedArray(Array):
    r"""A weight as one conductance with a sign: :math:`g = k\,w`, :math:`k = g_{max}/w_{max}`.

    The difference of two arrays with ``g_min = 0`` of which only one cell a weight is connected,
    :class:`DoubleArray(g_min=0, inactive="disconnected") <.DoubleArray>`, written as one
    number. With errors that are symmetric and not clipped it is the same in distribution, at a third of the
    cost (derived). Its conductances lie between −g_max and g_max and are no circuit: wires and
    amplifiers refuse it.

    Args:
        bits: magnitudes are rounded to multiples of :math:`w_{max}/(2^{bits} - 1)`, 1 ≤ bits ≤ 16, and
            gradients pass as if they were not; 0 keeps them real, as the released code does.

    Raises ``ValueError`` for arguments out of range.
    """

    g_min: float = 0.0
    bits: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.g_min == 0, "g_min", self.g_min, "0 for signed conductances (µS)")
        whole = isinstance(self.bits, int) and not isinstance(self.bits, bool)
        require(whole and 0 <= self.bits <= 16, "bits", self.bits, "an integer, 0 ≤ bits ≤ 16")

    @property
    def structure(self) -> Structure:
        raise ValueError(f"array = {self!r} is not allowed; allowed: arrays of cells, for this circuit")

    def represent(self, weight: Tensor) -> Tensor:
        kept = super().represent(weight)
        if self.bits == 0:
            return kept
        step = self.full_scale(weight) / (2**self.bits - 1)
        return straight_through((kept.detach() / step).round() * step, kept)

    def target(self, weight: Tensor) -> Conductances:
        scale = self.g_max / self.full_scale(weight)
        return Conductances((self.represent(weight) * scale)[None, None], None, self._scales(scale))

    def decode(self, g: Conductances) -> Tensor:
        weight: Tensor = g.cells[0, 0] / g.per_weight[0]
        return weight


@dataclass(frozen=True)
class LevelSpread(Effect):
    r"""Programming error that depends on the level: :math:`g = g_T + \kappa\,\sigma(g_T)\,\Delta G\,z`.

    .. math::

        \sigma(g_T) = \frac{\sigma}{\sqrt{0.4\,s^2 + 0.6}} \times
            \begin{cases}
                s & \text{if } 0.25 < (|g_T| - g_{min})/\Delta G < 0.75 \\ 1 & \text{else}
            \end{cases}

    so that σ is the root mean square over targets two fifths of which are in the middle.

    Args:
        sigma: standard deviation **of one cell** as a fraction of the range, ≥ 0.
        ratio: s > 0, spread in the middle over spread outside; 1: the same everywhere. See :data:`RATIOS`.
        slices: cells that one draw stands for, ≥ 1. With 1, κ = 1: the error of one cell. With more it is
            that of a weight whose digits lie in as many cells,
            :math:`\kappa = \sqrt{\sum_j 4^{jK}}/\sum_j 2^{jK}`; four cells of two bits have κ = 0.77763.
        cell_bits: K of those cells, ≥ 1.

    The error is not clipped. Source: released code of NFT, where level means that of the whole weight; in
    cells of their own (``slices=1`` in a :class:`~.BitSliced` array) each digit has its own.
    Raises ``ValueError`` for arguments out of range.
    """

    local: ClassVar[bool] = True
    unit_gradient: ClassVar[bool] = True

    sigma: float = 0.0
    ratio: float = 1.0
    slices: int = 1
    cell_bits: int = 2

    def __post_init__(self) -> None:
        allowed = "0 ≤ sigma < ∞ (fraction of g_max - g_min)"
        require(0 <= self.sigma < float("inf"), "sigma", self.sigma, allowed)
        require(0 < self.ratio < float("inf"), "ratio", self.ratio, "0 < ratio < ∞")
        for name in ("slices", "cell_bits"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and 1 <= value <= 16, name, value, f"an integer, 1 ≤ {name} ≤ 16")

    @property
    def factor(self) -> float:
        """κ."""
        powers = [2.0 ** (j * self.cell_bits) for j in range(self.slices)]
        return math.sqrt(sum(p * p for p in powers)) / sum(powers)

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"programming": ("normal", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        mean_square = 0.4 * self.ratio * self.ratio + 0.6
        spread = self.factor * self.sigma * (g_max - g_min) / math.sqrt(mean_square)
        if self.ratio == 1:
            return g + spread * z["programming"]
        level = (g.detach().abs() - g_min) / (g_max - g_min)
        middle = (level > 0.25) & (level < 0.75)
        moved: Tensor = g + torch.where(middle, self.ratio * spread, spread) * z["programming"]
        return moved
