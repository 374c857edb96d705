r"""Writing a memory cell in place: pulses, their nonlinearity and noise, and who gets how many.

A cell trained inside its array is never *set* to a conductance; it is *pushed* by identical voltage
pulses, up (potentiation, LTP) or down (depression, LTD). :class:`Pulses` says what a number of
pulses does to a conductance, :class:`PulseOptimizer` turns gradients into numbers of pulses, writes
them and counts them. A cell whose value was found elsewhere is written once, by :func:`write_verify`.
Taught in *Training a ReRAM crossbar array* and *Where to train*.

**The curve.** With :math:`P` the position on the curve in pulses, :math:`P_{max}` pulses for the
full range and :math:`A` the curvature (behavioural model of NeuroSim, read in its public source):

.. math:: G(P) = G_{min} + B\,(1 - e^{-P/A}), \qquad B = \frac{G_{max}-G_{min}}{1-e^{-P_{max}/A}}

**What one write does** (derived). Find :math:`P(G)`, add :math:`n` pulses, read :math:`G(P+n)`; the
logarithm cancels the exponential and leaves

.. math:: G \;\leftarrow\; G + (G_\infty - G)\,(1 - e^{-n/A}), \qquad G_\infty = G_{min} + B:

every pulse covers the same *fraction* of what remains to an asymptote outside the range, above
:math:`G_{max}` if :math:`A > 0`, below :math:`G_{min}` if :math:`A < 0`. Depression is the same
equation with :math:`n < 0` and its own :math:`A`. As :math:`|A| \to \infty` every pulse is the same
step :math:`(G_{max}-G_{min})/P_{max}`: the linear cell.

Units: conductance µS, pulses are counts, noise is a fraction of the range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from scipy.optimize import brentq
from torch import Tensor

from cimlib.devices.effects import require

LABEL_MAX = 9.0


@cache
def curvature(label: float) -> float:
    r"""Curvature :math:`a = A/P_{max}` of the update curve with nonlinearity label ``label``.

    NeuroSim tabulates the label; the table is the solution of one equation (derived; compared once
    with the published entries, which it reproduced to 2·10⁻⁵): the normalised curve
    :math:`y(x) = (1-e^{-x/a})/(1-e^{-1/a})` strays from the diagonal by at most 0.07 · label,
    measured *perpendicular* to it,

    .. math:: \max_x\,[y(x) - x] = 0.07\sqrt2\,|\mathrm{label}|
        \quad\text{at}\quad x^* = a \ln\frac{1}{a\,(1-e^{-1/a})},

    solved for :math:`a` by Brent's method. A step function strays by 1, so no label can reach
    1/(0.07√2) = 10.1; the published table ends at 9, where one pulse in a hundred already covers a
    third of the range, and so do we. For small labels a ≈ 1/(0.56√2 · label) (derived).

    Args:
        label: -9 ≤ label ≤ 9. Positive is concave, steep at g_min; negative convex, steep at g_max.

    Returns:
        a, dimensionless, with the sign of ``label``; ``inf`` (linear) for 0, down to ±10⁻¹².

    Raises ``ValueError`` for any other label.
    """
    require(abs(label) <= LABEL_MAX, "label", label, f"{-LABEL_MAX:g} ≤ label ≤ {LABEL_MAX:g}")
    if abs(label) < 1e-12:
        return math.inf
    distance = 0.07 * math.sqrt(2) * abs(label)

    def excess(rate: float) -> float:
        x = math.log(rate / -math.expm1(-rate)) / rate
        return math.expm1(-rate * x) / math.expm1(-rate) - x - distance

    rate = brentq(excess, distance, 50.0, xtol=1e-15)
    return math.copysign(1 / rate, label)


@dataclass(frozen=True)
class Pulses:
    r"""How a cell answers to programming pulses; every default is ideal.

    Args:
        levels: pulses for the full range, :math:`P_{max}` ≥ 1, the same in both directions.
        potentiation: label of the potentiation curve (:func:`curvature`), -9 ≤ label ≤ 9.
        depression: label of the depression curve, -9 ≤ label ≤ 9, with NeuroSim's sign. **Opposite
            signs are the asymmetric cell**: +2.4/-4.88 (defaults of MLP+NeuroSim V3.0) takes ever
            smaller steps on its way up *and* on its way down, so that up and down differ at the
            same conductance. **Equal signs are the symmetric kind**: +1.75/+1.46 (defaults of
            DNN+NeuroSim V2.1) walks back down nearly the curve it came up; equal labels undo each
            other exactly.
        cycle_to_cycle: standard deviation of one pulse as a fraction of the range, ≥ 0, one normal
            per cell and write; :math:`n` pulses spread by :math:`\sqrt{|n|}` times as much.
        endurance: pulses after which a cell no longer moves, but stays where it is and is still read;
            a whole number ≥ 1 or ``inf``. The same for every cell: how it spreads was not found. What is
            published counts different things: ≥ 5,000 cycles (Prezioso et al. 2015), 10⁶ (multi-level
            HfOx), 10¹¹ (incremental switching, which wears far less than full cycles).

    Raises ``ValueError`` naming the argument for a value outside these ranges.
    """

    levels: int = 100
    potentiation: float = 0.0
    depression: float = 0.0
    cycle_to_cycle: float = 0.0
    endurance: float = math.inf

    def __post_init__(self) -> None:
        whole = isinstance(self.levels, int) and self.levels >= 1
        require(whole, "levels", self.levels, "a whole number ≥ 1")
        for name in ("potentiation", "depression"):
            label = getattr(self, name)
            allowed = f"{-LABEL_MAX:g} ≤ {name} ≤ {LABEL_MAX:g}"
            require(abs(label) <= LABEL_MAX, name, label, allowed)
        finite = 0 <= self.cycle_to_cycle < math.inf
        require(finite, "cycle_to_cycle", self.cycle_to_cycle, "0 ≤ cycle_to_cycle < ∞")
        countable = self.endurance == math.inf or (self.endurance >= 1 and self.endurance % 1 == 0)
        require(countable, "endurance", self.endurance, "a whole number ≥ 1 or inf (pulses)")

    def write(
        self,
        g: Tensor,
        pulses: Tensor,
        g_min: float,
        g_max: float,
        generator: torch.Generator | None = None,
        used: Tensor | None = None,
    ) -> Tensor:
        """Conductances after one write; ``g`` itself is not changed.

        In NeuroSim's order: the curve, then the noise, then the limits of the range. A cell that
        gets no pulse keeps its conductance bit for bit. Where a strongly curved cell is flat, one
        pulse can be less than a float resolves and does nothing: beyond a label of about 7 at 100
        levels use float64, good to about 8.

        Args:
            g: µS, any shape.
            pulses: signed whole numbers, like ``g``; positive potentiates. More than ``levels``
                count as ``levels``: they already cross the range.
            g_min, g_max: range of the cell, µS, 0 ≤ g_min < g_max < ∞.
            generator: source of the noise, on the device of ``g``; needed for ``cycle_to_cycle``.
            used: pulses that each cell has received before, like ``g``; needed for ``endurance``. Of a
            write that would exceed it, only what is left of the cell's life moves the cell.

        Raises ``ValueError`` for a range that is not allowed, for noise without a generator and for
        wear without a history.
        """
        _require_range(g_min, g_max)
        n = pulses.to(g.dtype).clamp(-self.levels, self.levels)
        if self.endurance < math.inf:
            if used is None:
                raise ValueError("used = None is not allowed; a finite endurance needs the pulses so far")
            left = (self.endurance - used).clamp(min=0).to(g.dtype)
            n = torch.maximum(-left, torch.minimum(n, left))
        up, down = curvature(self.potentiation), curvature(self.depression)
        if up == down:
            new = _advance(g, n / self.levels, up, g_min, g_max)
        else:
            new = _advance(g, n.clamp(min=0) / self.levels, up, g_min, g_max)
            new = _advance(new, n.clamp(max=0) / self.levels, down, g_min, g_max)
        if self.cycle_to_cycle > 0:
            if generator is None:
                raise ValueError("generator = None is not allowed; cycle_to_cycle > 0 draws noise")
            z = torch.randn(n.shape, generator=generator, dtype=g.dtype, device=g.device)
            new = new + self.cycle_to_cycle * (g_max - g_min) * n.abs().sqrt() * z
        return new.clamp(g_min, g_max)


def _require_range(g_min: float, g_max: float) -> None:
    ordered = 0 <= g_min < g_max < math.inf
    require(ordered, "(g_min, g_max)", (g_min, g_max), "0 ≤ g_min < g_max < ∞ (µS)")


def _advance(g: Tensor, x: Tensor, a: float, g_min: float, g_max: float) -> Tensor:
    """``g`` moved along its curve by ``x``, a signed fraction of all pulses; not yet clipped."""
    if math.isinf(a):
        return g + x * (g_max - g_min)
    beyond = (g_max - g_min) / math.expm1(1 / abs(a))  # from the end of the range to the asymptote
    remaining = (g_max - g) + beyond if a > 0 else (g_min - g) - beyond
    return g - remaining * torch.expm1(x / -a)


class Written(NamedTuple):
    """``g``: conductances obtained, µS; ``pulses``, ``writes``: int64, sent to each cell; all alike."""

    g: Tensor
    pulses: Tensor
    writes: Tensor


@torch.no_grad()
def write_verify(
    g: Tensor,
    target: Tensor,
    pulses: Pulses,
    g_min: float,
    g_max: float,
    *,
    tolerance: float = 0.0,
    passes: int = 50,
    generator: torch.Generator | None = None,
) -> Written:
    r"""Program cells to conductances found elsewhere: write, read, write again what is still missing.

    Each pass reads all cells and asks for **half** of what is missing, at least one pulse, as if the cell
    were linear:

    .. math:: n = \mathrm{sign}(m)\,\max\big(1, \mathrm{round}(|m|/2)\big), \qquad
        m = (g_T - g)\,\frac{P_{max}}{G_{max}-G_{min}} ,

    until it is within the tolerance, or half a step if that is more. So it needs no model of the cell.
    Why half (derived): if a pulse is worth :math:`s` nominal steps, a pass leaves :math:`(1 - s/2)\,m`.
    That shrinks for any :math:`0 < s < 4`, without crossing the target for :math:`s \le 2`; asking for all
    of it leaves :math:`(1 - s)\,m`, which grows as soon as :math:`s > 2`. A linear cell, :math:`s = 1`,
    needs about :math:`\log_2 P_{max}` passes and never crosses its target by more than half a step.
    A pulse up may be steeper than that if a pulse down is not: an overshoot is mended from the other side.
    With opposite labels :math:`\pm L` the two add up to :math:`s_+ + s_- = \coth(1/2a)/a` everywhere, so
    that either one of them never overshoots or both passes together leave at most
    :math:`(\coth(1/2a)/4a - 1)^2\,m`, less than :math:`m` for L ≤ 6.
    What no pass mends are cells as steep up as down where one pulse is worth four steps or more: equal
    labels above about 4; there, and where one pulse is larger than twice the tolerance, a cell may step over
    its target until the passes are used up. Standard practice; this form is ours. Reading is exact and
    wears nothing.

    Args:
        g: conductances before, µS, any shape; a blank array is at ``g_min``.
        target: conductances asked for, µS, like ``g``.
        pulses: the cell. Its life starts here.
        g_min, g_max: range of the cell, µS.
        tolerance: a cell at most this far from its target gets no pulse, fraction of the range,
            0 ≤ tolerance < 1.
        passes: at most so many writes, ≥ 1; a cell not done by then stays where the last one left it.
        generator: source of the cycle-to-cycle noise.

    Raises ``ValueError`` naming the argument for values out of range, unequal shapes and targets outside
    the range.
    """
    _require_range(g_min, g_max)
    require(0 <= tolerance < 1, "tolerance", tolerance, "0 ≤ tolerance < 1 (fraction of the range)")
    require(isinstance(passes, int) and passes >= 1, "passes", passes, "a whole number ≥ 1")
    require(target.shape == g.shape, "shape of target", tuple(target.shape), f"{tuple(g.shape)}, that of g")
    span, near = g_max - g_min, max(tolerance, 0.5 / pulses.levels)
    inside = bool(((target >= g_min - 1e-5 * span) & (target <= g_max + 1e-5 * span)).all())
    require(inside, "target", "conductances out of range", f"[{g_min:g}, {g_max:g}] µS")
    sent = torch.zeros_like(g, dtype=torch.int64)
    writes = sent.clone()
    for _ in range(passes):
        missing = (target - g) / span
        half = (missing.abs() * pulses.levels / 2).round().clamp(min=1)
        n = missing.sign() * half * (missing.abs() > near)
        if not n.any():
            break
        g = pulses.write(g, n, g_min, g_max, generator, sent)
        sent += n.abs().long()
        writes += n != 0
    return Written(g, sent, writes)
