r"""Writing a memory cell in place: what a number of pulses does, their nonlinearity and noise.

A cell trained inside its array is never *set* to a conductance; it is *pushed* by identical voltage
pulses, up (potentiation, LTP) or down (depression, LTD). :class:`Pulses` says what a number of
pulses does to a conductance, :class:`.PulseOptimizer` turns gradients into numbers of pulses, writes
them and counts them. A cell whose value was found elsewhere is written once, by :func:`.write_verify`.
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
from os import PathLike
from typing import TYPE_CHECKING

import torch
from scipy.optimize import brentq
from torch import Tensor

from cimlib.devices.effects import require

if TYPE_CHECKING:
    from cimlib.training.measured_pulses import MeasuredPulses

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
        levels: pulses for the full range, :math:`P_{max}` ≥ 1, upwards, and downwards too unless
            ``levels_down`` is given.
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
        levels_down: pulses for the full range downwards, ≥ 1; ``None``: as many as upwards. A linear cell of
            100 levels up and 50 down takes steps twice as large on its way down.
        device_to_device: standard deviation of a cell's step **relative to the nominal one**, ≥ 0. One
            standard normal draw z per cell, for both directions and for life (:meth:`steps`): the cell takes
            :math:`1 + \sigma z` nominal pulses for each that it is sent. Below 0 that factor becomes 0, a
            cell that pulses do not move (3 in 10,000 at σ = 0.3); cycle-to-cycle noise is not scaled by it.

    Raises ``ValueError`` naming the argument for a value outside these ranges.
    """

    levels: int = 100
    potentiation: float = 0.0
    depression: float = 0.0
    cycle_to_cycle: float = 0.0
    endurance: float = math.inf
    levels_down: int | None = None
    device_to_device: float = 0.0

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
        down = self.levels_down
        whole = down is None or (isinstance(down, int) and not isinstance(down, bool) and down >= 1)
        require(whole, "levels_down", down, "None or a whole number ≥ 1")
        finite = 0 <= self.device_to_device < math.inf
        require(finite, "device_to_device", self.device_to_device, "0 ≤ device_to_device < ∞")

    @staticmethod
    def from_csv(path: str | PathLike[str], *, limit: float = 0.05) -> MeasuredPulses:
        """The cell of a measured update curve, with its range: :func:`.fit_pulses`."""
        from cimlib.training.measured_pulses import fit_pulses

        return fit_pulses(path, limit=limit)

    @property
    def down(self) -> int:
        """Pulses for the full range downwards."""
        return self.levels if self.levels_down is None else self.levels_down

    def steps(self, z: Tensor) -> Tensor:
        """Nominal pulses that each cell takes for one pulse, from its standard normal draw; like ``z``."""
        return (1 + self.device_to_device * z).clamp(min=0)

    def write(
        self,
        g: Tensor,
        pulses: Tensor,
        g_min: float,
        g_max: float,
        generator: torch.Generator | None = None,
        used: Tensor | None = None,
        step: Tensor | None = None,
    ) -> Tensor:
        """Conductances after one write; ``g`` itself is not changed.

        In NeuroSim's order: the curve, then the noise, then the limits of the range. A cell that
        gets no pulse keeps its conductance bit for bit. Where a strongly curved cell is flat, one
        pulse can be less than a float resolves and does nothing: beyond a label of about 7 at 100
        levels use float64, good to about 8.

        Args:
            g: µS, any shape.
            pulses: signed whole numbers, like ``g``; positive potentiates. Without ``step``, more than
                cross the range (``levels`` up, ``levels_down`` down) count as that many.
            g_min, g_max: range of the cell, µS, 0 ≤ g_min < g_max < ∞.
            generator: source of the noise, on the device of ``g``; needed for ``cycle_to_cycle``.
            used: pulses that each cell has received before, like ``g``; needed for ``endurance``. Of a
                write that would exceed it, only what is left of the cell's life moves the cell.
            step: nominal pulses that each cell takes for one, like ``g``, ≥ 0: what :meth:`steps` makes of
                the chip's draws, or measured. Needed for ``device_to_device``.

        Raises ``ValueError`` for a range that is not allowed, for noise without a generator, for wear
        without a history and for cells that differ without their steps.
        """
        require_range(g_min, g_max)
        n = pulses.to(g.dtype)
        if step is None:
            if self.device_to_device > 0:
                raise ValueError(
                    "step = None is not allowed; device_to_device > 0 needs the cells' own steps"
                )
            n = n.clamp(-self.down, self.levels)
        if self.endurance < math.inf:
            if used is None:
                raise ValueError("used = None is not allowed; a finite endurance needs the pulses so far")
            left = (self.endurance - used).clamp(min=0).to(g.dtype)
            n = torch.maximum(-left, torch.minimum(n, left))
        x = n / by_direction(n, self.levels, self.down)
        if step is not None:
            x = (x * step).clamp(-1, 1)
        up, down = curvature(self.potentiation), curvature(self.depression)
        if up == down:
            new = _advance(g, x, up, g_min, g_max)
        else:
            new = _advance(g, x.clamp(min=0), up, g_min, g_max)
            new = _advance(new, x.clamp(max=0), down, g_min, g_max)
        if self.cycle_to_cycle > 0:
            if generator is None:
                raise ValueError("generator = None is not allowed; cycle_to_cycle > 0 draws noise")
            z = torch.randn(n.shape, generator=generator, dtype=g.dtype, device=g.device)
            new = new + self.cycle_to_cycle * (g_max - g_min) * n.abs().sqrt() * z
        return new.clamp(g_min, g_max)


def by_direction(n: Tensor, up: float, down: float) -> Tensor | float:
    """``up``, but ``down`` where ``n`` is negative; like ``n`` unless the two are the same."""
    return up if up == down else torch.where(n < 0, down, up).to(n.dtype)


def require_range(g_min: float, g_max: float) -> None:
    """Raise ``ValueError`` unless 0 ≤ g_min < g_max < ∞, µS."""
    ordered = 0 <= g_min < g_max < math.inf
    require(ordered, "(g_min, g_max)", (g_min, g_max), "0 ≤ g_min < g_max < ∞ (µS)")


def _advance(g: Tensor, x: Tensor, a: float, g_min: float, g_max: float) -> Tensor:
    """``g`` moved along its curve by ``x``, a signed fraction of all pulses; not yet clipped."""
    if math.isinf(a):
        return g + x * (g_max - g_min)
    beyond = (g_max - g_min) / math.expm1(1 / abs(a))  # from the end of the range to the asymptote
    remaining = (g_max - g) + beyond if a > 0 else (g_min - g) - beyond
    return g - remaining * torch.expm1(x / -a)
