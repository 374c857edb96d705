r"""How far weights spread where cells are clipped to their range: the factor in front of σ, in closed form.

Without clipping a weight held by a pair spreads by :math:`\sqrt2\,\sigma\,w_{max}` and one held by a single
cell by :math:`2\,\sigma\,w_{max}`, wherever they lie. A clipped cell at the end of its range can err to one
side only, so that its spread is less and its mean is off. Taught in *A chip is a seed*.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from cimlib.arrays.base import Array
from cimlib.devices.effects import require


class Spread(NamedTuple):
    """Error of weights (out, in, ...) in units of :math:`\\sigma\\,w_{max}`: its ``mean``, and its standard
    deviation ``std`` about that."""

    mean: Tensor
    std: Tensor


def clipped_moments(target: Tensor, spread: float, g_min: float, g_max: float) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of the error of a cell with normal errors that is clipped to its range.

    With :math:`a, b = (g_{min} - t)/s,\ (g_{max} - t)/s`, :math:`\Phi` and :math:`\varphi` of the standard
    normal (derived, a censored normal):

    .. math:: \overline{e}/s = a\,\Phi(a) + \varphi(a) + b\,\Phi(-b) - \varphi(b), \qquad
        \overline{e^2}/s^2 = a^2\,\Phi(a) + b^2\,\Phi(-b) + \Phi(b) - \Phi(a) + a\,\varphi(a) - b\,\varphi(b)

    A cell at the end of a wide range: :math:`\overline e = s/\sqrt{2\pi} = 0.40\,s`, spread 0.58 s.

    Args:
        target: t, µS, any shape, within the range. spread: s > 0, µS. g_min, g_max: µS.

    Returns both like ``target``, float64, µS and µS². Raises ``ValueError`` for a spread that is not allowed.
    """
    require(0 < spread < math.inf, "spread", spread, "0 < spread < ∞ (µS)")
    a, b = ((end - target.double()) / spread for end in (g_min, g_max))
    below, above = torch.special.ndtr(a), torch.special.ndtr(-b)
    at_a, at_b = (torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) for x in (a, b))
    mean = a * below + at_a + b * above - at_b
    square = a.square() * below + b.square() * above + 1 - above - below + a * at_a - b * at_b
    return spread * mean, spread**2 * (square - mean.square()).clamp(min=0)


def weight_spread(array: Array, weight: Tensor, sigma: float, *, clip: bool = True) -> Spread:
    r"""How far the errors :class:`~.Gaussian` of the cells take weights that lie in an array.

    Args:
        array: in which a weight has one draw a cell.
        weight: (out, in, ...), within the range of the array.
        sigma: standard deviation of a cell, > 0, fraction of its range.
        clip: whether cells are kept in their range.

    Errors of different cells are independent, so that their means and variances add as ``decode`` says.
    Raises ``ValueError`` for arguments out of range.
    """
    require(0 < sigma < math.inf, "sigma", sigma, "0 < sigma < ∞ (fraction of the range)")
    weight = weight.detach().double()
    g, span = array.target(weight), array.g_max - array.g_min

    def moments(target: Tensor) -> tuple[Tensor, Tensor]:
        if clip:
            return clipped_moments(target, sigma * span, array.g_min, array.g_max)
        return torch.zeros_like(target), torch.full_like(target, (sigma * span) ** 2)

    mean, variance = moments(g.cells)
    reference = None if g.reference is None else torch.zeros_like(g.reference)
    squares = variance if g.connected is None else variance * g.connected
    total = (squares / g.per_weight[:, None].square()).sum((0, 1))
    if array.reference_is_cells and g.reference is not None:
        reference, own = moments(g.reference)
        total = total + (own / g.per_weight.square()).sum(0)
    unit = sigma * array.full_scale(weight)
    return Spread(array.decode(replace(g, cells=mean, reference=reference)) / unit, total.sqrt() / unit)
