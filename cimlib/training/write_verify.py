"""Programming a cell to a conductance that was found elsewhere: write, read, write again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cimlib.devices.effects import require
from cimlib.training.pulses import Pulses, by_direction, require_range


class Written(NamedTuple):
    """``g``: conductances obtained, µS; ``pulses``, ``writes``: int64, sent to each cell; all alike.

    ``(written.g - target).abs() > allowed * (g_max - g_min)`` are the cells that missed their target: with
    ``allowed`` the ``tolerance``, but at least half a step, 0.5/levels.
    """

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
    step: Tensor | None = None,
) -> Written:
    r"""Program cells to conductances found elsewhere: write, read, write again what is still missing.

    Each pass reads all cells and asks for **half** of what is missing, at least one pulse, as if the cell
    were linear:

    .. math:: n = \mathrm{sign}(m)\,\max\big(1, \mathrm{round}(|m|/2)\big), \qquad
        m = (g_T - g)\,\frac{P_{max}}{G_{max}-G_{min}} ,

    with :math:`P_{max}` of its direction,

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
            0 ≤ tolerance < 1. Half a step of its direction, 0.5/levels, is the least: a smaller tolerance
            counts as that. Cells that ``passes`` did not suffice for are not reported: see :class:`Written`.
        passes: at most so many writes, ≥ 1; a cell not done by then stays where the last one left it.
        generator: source of the cycle-to-cycle noise.
        step: nominal pulses that each cell takes for one, like ``g``, finite and ≥ 0; see
            :meth:`.Pulses.write`. The loop does not know them: it mends what they do, and a cell of twice the
            step is the s = 2 of above.

    Raises ``ValueError`` naming the argument for values out of range, unequal shapes and conductances
    outside the range.
    """
    require_range(g_min, g_max)
    require(0 <= tolerance < 1, "tolerance", tolerance, "0 ≤ tolerance < 1 (fraction of the range)")
    require(isinstance(passes, int) and passes >= 1, "passes", passes, "a whole number ≥ 1")
    require(target.shape == g.shape, "shape of target", tuple(target.shape), f"{tuple(g.shape)}, that of g")
    span = g_max - g_min
    for name, value in (("target", target), ("g", g)):
        inside = bool(((value >= g_min - 1e-5 * span) & (value <= g_max + 1e-5 * span)).all())
        require(inside, name, "conductances out of range", f"[{g_min:g}, {g_max:g}] µS")
    if step is not None:
        require(step.shape == g.shape, "shape of step", tuple(step.shape), f"{tuple(g.shape)}, that of g")
        odd = step[~((step >= 0) & step.isfinite())]
        require(len(odd) == 0, "step", odd[:3].tolist(), "finite numbers ≥ 0 (nominal pulses for one)")
    sent = torch.zeros_like(g, dtype=torch.int64)
    writes = sent.clone()
    for _ in range(passes):
        missing = (target - g) / span
        half = (missing.abs() * by_direction(missing, pulses.levels, pulses.down) / 2).round().clamp(min=1)
        near = by_direction(missing, *(max(tolerance, 0.5 / n) for n in (pulses.levels, pulses.down)))
        n = missing.sign() * half * (missing.abs() > near)
        if not n.any():
            break
        g = pulses.write(g, n, g_min, g_max, generator, sent, step)
        sent += n.abs().long()
        writes += n != 0
    return Written(g, sent, writes)
