"""The bits of a weight in several cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cimlib.arrays.base import Conductances
from cimlib.arrays.inventory import Inventory
from cimlib.arrays.pairs import DoubleArray
from cimlib.devices.effects import require, straight_through


@dataclass(frozen=True)
class BitSliced(DoubleArray):
    r"""A weight of ``weight_bits`` in several cells of ``cell_bits``, sign in a second array.

    :math:`|w| = \frac{w_{max}}{2^M-1}\sum_j 2^{jK} m_j`, digit :math:`m_j` in one cell as
    :math:`g_{min} + \Delta G\,m_j/(2^K-1)`. A spread σ per cell (fraction of ΔG) then gives a weight
    the spread :math:`\sigma\,w_{max}\sqrt{\sum_j 4^{jK}}/\sum_j 2^{jK}`, see :attr:`noise_factor`.

    Args:
        weight_bits, cell_bits: M and K; K must divide M, 1 ≤ K ≤ M ≤ 16.
        quantise: ``False`` keeps the weights real and slices only their errors, as the released code
            of NFT does.

    Default ``g_min = 0`` and ``inactive="disconnected"``: one draw per digit, as in NFT. Source: NFT
    Eq. 4–5 (standard form; the printed equations are not available). Raises ``ValueError``.
    """

    g_min: float = 0.0
    inactive: Literal["programmed", "disconnected"] = "disconnected"
    weight_bits: int = 8
    cell_bits: int = 2
    quantise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        bits = (self.weight_bits, self.cell_bits)
        fits = 1 <= self.cell_bits <= self.weight_bits <= 16 and self.weight_bits % self.cell_bits == 0
        require(
            fits,
            "(weight_bits, cell_bits)",
            bits,
            "1 ≤ cell_bits ≤ weight_bits ≤ 16, cell_bits divides weight_bits",
        )
        require(self.mapping == "one-sided", "mapping", self.mapping, "'one-sided'")
        require(not self.zero_state, "zero_state", self.zero_state, "False for bit slices")

    @property
    def slices(self) -> int:
        return self.weight_bits // self.cell_bits

    @property
    def noise_factor(self) -> float:
        """Spread of a weight in units of σ·w_max with one draw per digit (0.77763 for 8 bits in 2)."""
        powers = [2 ** (j * self.cell_bits) for j in range(self.slices)]
        return float(sum(p * p for p in powers) ** 0.5 / sum(powers))

    def levels(self, weight: Tensor) -> Tensor:
        """Integer magnitude of every weight, 0 … 2^M − 1, without gradient."""
        w = super().represent(weight).detach().abs() / self.full_scale(weight)
        level: Tensor = (w * (2**self.weight_bits - 1)).round()
        return level

    def represent(self, weight: Tensor) -> Tensor:
        kept = super().represent(weight)
        if not self.quantise:
            return kept
        step = self.full_scale(weight) / (2**self.weight_bits - 1)
        return straight_through(self.levels(weight) * step * weight.detach().sign(), kept)

    def target(self, weight: Tensor) -> Conductances:
        base, span = 2**self.cell_bits, self.g_max - self.g_min
        power = base ** torch.arange(self.slices + 1, device=weight.device)
        rest = (self.levels(weight) / power.reshape(-1, *[1] * weight.dim())).floor()
        digits, power = rest[:-1] - base * rest[1:], power[:-1]
        positive = weight >= 0
        sides = digits[:, None] * torch.stack((positive, ~positive)).to(torch.uint8)
        connected = None
        if self.inactive == "disconnected":
            connected = torch.stack((positive, ~positive)).unsqueeze(0)
        unit = self.full_scale(weight) / (2**self.weight_bits - 1)
        power = power if unit.dim() == 0 else power[:, None]
        scale = span / ((base - 1) * power * unit.flatten())
        cells = self.within(sides.mul_(span).div_(base - 1).add_(self.g_min))
        return Conductances(cells, None, scale, connected)

    def inventory(self, inputs: int, outputs: int) -> Inventory:
        """Each slice is a double array of its own."""
        one = super().inventory(inputs, outputs)
        return Inventory(*(self.slices * count for count in (one.cells, one.resistors, one.amplifiers)))
