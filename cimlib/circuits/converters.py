r"""Converters between numbers and voltages: a DAC on every input, ADCs behind every tile.

Both are uniform, *mid-tread* and symmetric: with :math:`b` bits and full scale :math:`F` the levels are

.. math:: \frac{k}{K}\,F, \qquad K = 2^{b-1}-1, \qquad k = -K, \dots, 0, \dots, K,

:math:`2^b-1` of them (the one code left over is not used), :math:`F/K` apart. Zero is a level, so that an
input of zero adds nothing. A value takes the nearest level, half-way the even :math:`k`, and beyond
:math:`\pm F` the last one. The gradient is that of clipping alone: 1 up to :math:`\pm F`, 0 beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.circuits.base import Circuit, Operation
from cimlib.devices.effects import require, straight_through

Converted = tuple[Tensor, Tensor]


def quantise(value: Tensor, bits: int | None, full: Tensor) -> Tensor:
    """``value`` at the levels of a converter with full scale ``full`` > 0; ``bits=None`` is perfect."""
    if bits is None:
        return value
    codes = 2 ** (bits - 1) - 1
    clipped = torch.where(value.abs() > full, full * value.sign(), value)
    return straight_through((clipped / full * codes).round() / codes * full, clipped)


@dataclass(frozen=True)
class Converters(Circuit):
    r"""Quantised inputs and outputs; currents between them are ideal, and a bias is added digitally.

    The inputs of a layer pass a DAC of full scale ``x_max``. The array is cut into tiles of ``rows`` input
    channels, each column of a tile has an ADC, and what the ADCs give is added digitally. Full scale of
    the ADCs of a tile is ``full_scale`` times the largest output that inputs of at most ``x_max`` could
    cause in it, :math:`x_{max}\max_j\sum_i|w_{ji}|` of the weights that this chip holds (no gradient):
    it does not depend on the batch. Sides of a pair and bit slices are combined before the ADC. Where each
    column of the array has a scale :math:`k_j` of its own, the ADCs are alike in the currents that they
    convert, and the scale is a digital factor behind them: column j has the full scale
    :math:`x_{max}\max_l(k_l\sum_i|w_{li}|)/k_j`.

    Args:
        dac_bits, adc_bits: 2 … 16; ``None`` is a perfect converter, behind which tiles make no difference.
        rows: most input channels of a tile (kh·kw rows each in a ``Conv2d``), ≥ 1; ``None``: one tile.
        full_scale: 0 < full_scale ≤ 1; less than 1 trades clipping of large outputs for smaller steps.
        x_max: largest magnitude of an input, > 0. Images lie in [0, 1], what hidden layers give may not:
            :func:`~.calibrated` finds the ranges of every layer from data.

    Raises ``ValueError`` for values out of range, and :meth:`check` for grouped convolutions in tiles.
    Source: standard uniform quantisers; choice of the full scale derived.
    """

    dac_bits: int | None = None
    adc_bits: int | None = None
    rows: int | None = None
    full_scale: float = 1.0
    x_max: float = 1.0

    def __post_init__(self) -> None:
        for name, bits in (("dac_bits", self.dac_bits), ("adc_bits", self.adc_bits)):
            allowed = bits is None or (isinstance(bits, int) and 2 <= bits <= 16)
            require(allowed, name, bits, "None or an integer, 2 … 16")
        tiled = self.rows is None or (isinstance(self.rows, int) and self.rows > 0)
        require(tiled, "rows", self.rows, "None or an integer ≥ 1")
        require(0 < self.full_scale <= 1, "full_scale", self.full_scale, "0 < full_scale ≤ 1")
        require(0 < self.x_max < float("inf"), "x_max", self.x_max, "0 < x_max < ∞")

    @property
    def reads_cells(self) -> bool:
        return False

    def check(self, array: Array, layer: nn.Module | None = None) -> None:
        groups = getattr(layer, "groups", 1)
        require(groups == 1 or self.rows is None, "groups", groups, "1, or no tiles (rows=None)")

    def full_scale_of(self, weight: Tensor, scale: Tensor | None = None) -> Tensor:
        """Largest output of the ADCs of a tile with weights (out, in, ...), > 0: a scalar, or (out,) with the
        ``scale`` (out,) of columns that have their own."""
        sums = weight.detach().abs().flatten(1).sum(1)
        largest = self.full_scale * self.x_max * (sums if scale is None else sums * scale).amax()
        largest = torch.where(largest > 0, largest, 1.0)
        return largest if scale is None else largest / scale

    def before_adc(self, op: Operation, x: Tensor, g: Conductances, weight: Tensor) -> list[Converted]:
        """What the ADCs of each tile are given for the converted inputs ``x``, and their full scale, which
        broadcasts with it."""
        scale = None if g.scale.dim() == 1 else g.scale[0]  # of bit slices the ratios are the same in all
        tiles = [(x, weight)]
        if self.rows is not None:
            parts = torch.split(x, self.rows, 1 - weight.dim()), torch.split(weight, self.rows, 1)
            tiles = list(zip(*parts, strict=True))
        columns = (-1, *[1] * (weight.dim() - 2)) if scale is not None else ()
        return [(op(w, None, part), self.full_scale_of(w, scale).reshape(columns)) for part, w in tiles]

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        x = quantise(op.x, self.dac_bits, op.x.new_tensor(self.x_max))
        if self.adc_bits is None:
            return op(weight, bias, x)
        outputs = [quantise(y, self.adc_bits, full) for y, full in self.before_adc(op, x, g, weight)]
        y = sum(outputs[1:], start=outputs[0])
        return y if bias is None else y + bias.reshape(-1, *[1] * (weight.dim() - 2))
