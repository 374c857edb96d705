r"""A cell as it was measured: the update curve of a file, and the pulses that make it.

The model of :class:`.Pulses` is fitted to readings after numbers of pulses, up and down, by least squares. A
sweep up begins at :math:`G_{min}`, a sweep down at :math:`G_{max}`, and each crosses the range in
:math:`P_{max}` pulses on a curve of its own label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cimlib.devices.effects import require
from cimlib.devices.measurements import microsiemens, read_table, require_plausible_unit, whole_numbers
from cimlib.training.pulses import LABEL_MAX, Pulses

Values = NDArray[np.float64]

_START = 0.05  # largest standard deviation of the starts, as a fraction of the range
_WHOLE = 0.02  # misfit up to which a sweep counts as one crossing of the range


@dataclass(frozen=True)
class MeasuredPulses:
    """What a measured update curve amounts to.

    Args:
        pulses: the cell.
        g_min, g_max: range of the cell, µS, for the array and the optimiser.
        residual: goodness of the fit: root mean square distance of the mean curve from the model, as a
            fraction of the range.
        cells: cells in the file, and so in ``pulses.device_to_device``; 1 says nothing of how they differ.
    """

    pulses: Pulses
    g_min: float
    g_max: float
    residual: float
    cells: int

    def __str__(self) -> str:
        cell = self.pulses
        return (
            f"{self.g_min:.4g} … {self.g_max:.4g} µS in {cell.levels} pulses up, {cell.down} down; "
            f"labels {cell.potentiation:.1f} up, {cell.depression:.1f} down; "
            f"one pulse spreads by {100 * cell.cycle_to_cycle:.1f} % of the range, "
            f"steps of {self.cells} cell(s) by {100 * cell.device_to_device:.0f} %; "
            f"residual {100 * self.residual:.1f} % of the range"
        )


class _Sweep(NamedTuple):
    """One run of one cell in one direction, 1 or -1: pulses since its first reading, conductances in µS."""

    cell: str
    cycle: str
    direction: int
    pulses: Values
    g: Values
    first: float  # number of its first reading


def fit_pulses(path: str | PathLike[str], *, limit: float = 0.05) -> MeasuredPulses:
    r"""Fit :class:`.Pulses` to a measured update curve.

    The file is CSV in UTF-8, a reading a row, in the order in which they were made: ``pulse``, a whole number
    that rises within a sweep; ``direction``, ``up`` or ``down``; the conductance with its unit,
    ``conductance_uS`` or S, mS, nS; and ``cycle`` and ``cell`` if there are several. The first reading of a
    sweep is where it starts. All sweeps of one direction start at one ``pulse``, the lowest of them 0 or 1,
    and at one conductance: to a standard deviation of 5 % of the range of all readings, as if half of them
    lay 10 % from the others.

    1. Range and labels: least squares on the mean curve, in which each sweep crosses the range. So
       ``levels`` and ``levels_down`` are its numbers of pulses. If that leaves more than 2 % of the range,
       as where cells saturate early or one direction goes part of the way, the numbers are fitted as well.
    2. ``device_to_device``, from two cells on: the standard deviation of the cells' steps over their mean,
       each by least squares on its sweeps. With several cycles the part that does not repeat is taken off
       (analysis of variance); with one, noise counts as a difference between cells.
    3. ``cycle_to_cycle``: the standard deviation of what a cell's own curve leaves of each step from one
       reading to the next, over the root of its pulses and the range. Noise of reading counts as well, so it
       is an upper limit.

    Args:
        path: the file.
        limit: largest residual of a fit that is accepted, fraction of the range, > 0.

    Returns the cell, its range and the residual. Wear cannot be seen in such a file: ``endurance`` is
    infinite. Derived here.
    Raises ``ValueError`` naming column, row and value for a file that is no such table, sweeps that do not
    rise or fall or that start at different places, values that look like S under the header of a smaller unit
    (the largest is below 10⁻³ of it), and a curve that the model misses by more than ``limit``.
    """
    require(0 < limit < math.inf, "limit", limit, "0 < limit < ∞ (fraction of the range)")
    sweeps = _sweeps(read_table(path))
    cells = sorted({s.cell for s in sweeps})
    fit = _Fit(sweeps)
    fit.find()
    own, groups = _steps(sweeps, cells, fit)
    if len(cells) > 1:
        fit.refine(np.array(list(own.values())))
        own, groups = _steps(sweeps, cells, fit)
    allowed = f"at most limit = {limit:g} of the range; sweeps that cross it, or a larger limit"
    require(fit.residual <= limit, f"residual of the fit to {str(path)!r}", round(fit.residual, 4), allowed)
    cell = fit.cell
    pulses = Pulses(
        cell.levels,
        round(cell.potentiation, 6) + 0.0,  # -0.0 becomes 0.0
        round(cell.depression, 6) + 0.0,
        round(_noise(sweeps, own, fit), 6),
        levels_down=None if cell.down == cell.levels else cell.down,
        device_to_device=round(_between(groups), 6),
    )
    return MeasuredPulses(pulses, fit.low, fit.high, fit.residual, len(cells))


def _sweeps(table: pd.DataFrame) -> list[_Sweep]:
    """The runs of the file, each in the order of its rows."""
    require("direction" in table, "columns", list(table.columns), "with 'direction' among them")
    directions = table["direction"].str.lower()
    odd = sorted(set(directions) - {"up", "down"})
    require(not odd, "direction", odd, "'up' or 'down'")
    require_plausible_unit(table, "conductance")
    rows = pd.DataFrame({"pulse": whole_numbers(table, "pulse"), "g": microsiemens(table, "conductance")})
    rows["direction"] = directions.to_numpy()
    for name in ("cell", "cycle"):
        rows[name] = table[name].to_numpy() if name in table else ""
    sweeps = []
    for (cell, cycle, direction), one in rows.groupby(["cell", "cycle", "direction"], sort=False):
        name = f"sweep {direction} of cell {cell!r}, cycle {cycle!r}"
        pulse, g = one["pulse"].to_numpy(np.float64), one["g"].to_numpy(np.float64)
        require(len(g) >= 3, f"readings of the {name}", len(g), "at least three")
        rising = bool((np.diff(pulse) > 0).all())
        require(rising, f"pulse in the {name}", "not rising", "rising numbers; several runs need a 'cycle'")
        sign = 1 if direction == "up" else -1
        moved = float(g[-1] - g[0])
        wanted = f"a conductance that goes {direction}"
        require(sign * moved > 0, f"change along the {name}", f"{moved:g} µS", wanted)
        sweeps.append(_Sweep(str(cell), str(cycle), sign, pulse - pulse[0], g, float(pulse[0])))
    both = {s.direction for s in sweeps} == {1, -1}
    require(both, "direction", sorted(set(directions)), "sweeps up and sweeps down")
    _require_one_start(sweeps)
    return sweeps


def _require_one_start(sweeps: list[_Sweep]) -> None:
    """Refuse sweeps of one direction that start at different pulses or conductances, or late."""
    span = float(np.ptp(np.concatenate([s.g for s in sweeps])))
    for direction, sign in (("up", 1), ("down", -1)):
        numbers = sorted({s.first for s in sweeps if s.direction == sign})
        allowed = "one number; count every sweep from 0, and leave out those that lack their first readings"
        require(len(numbers) == 1, f"first pulse of the sweeps {direction}", numbers[:5], allowed)
        starts = np.array([s.g[0] for s in sweeps if s.direction == sign])
        said = f"{starts.min():.4g} … {starts.max():.4g} µS"
        allowed = f"one start, to a standard deviation of {100 * _START:g} % of the range; leave out sweeps "
        allowed += "after an incomplete SET or RESET, or drive cells to the end of the range before each"
        require(
            float(starts.std()) <= _START * span, f"first readings of the sweeps {direction}", said, allowed
        )
    lowest = min(s.first for s in sweeps)
    require(lowest <= 1, "lowest pulse", lowest, "0 or 1: the file needs the readings where sweeps start")


def _moved(
    start: Values | float, n: Values, cell: Pulses, low: float, high: float, step: Values | float = 1.0
) -> Values:
    """Conductances, µS, after ``n`` signed pulses from ``start``; all broadcast."""
    arrays = np.broadcast_arrays(np.clip(start, low, high), n, step)
    g, pulses, steps = (torch.from_numpy(np.array(array, np.float64)) for array in arrays)
    written: Values = cell.write(g, pulses, low, high, step=steps).numpy()
    return written


class _Fit:
    """The least squares of range, labels and, where it must be, levels on the mean curve."""

    def __init__(self, sweeps: list[_Sweep]) -> None:
        self.means = {}
        for sign in (1, -1):
            rows = pd.concat(pd.DataFrame({"n": s.pulses, "g": s.g}) for s in sweeps if s.direction == sign)
            by_pulse = rows.groupby("n")["g"]
            mean, count = by_pulse.mean(), by_pulse.count().to_numpy()
            self.means[sign] = (mean.index.to_numpy(np.float64), mean.to_numpy(np.float64), count)
        self.least = min(float(g.min()) for _, g, _ in self.means.values())
        self.span = max(float(g.max()) for _, g, _ in self.means.values()) - self.least
        self.longest = [int(self.means[sign][0].max()) for sign in (1, -1)]
        weight = np.concatenate([np.sqrt(count) for *_, count in self.means.values()])
        self.weight = weight / np.sqrt((weight**2).mean())
        self.steps: Values = np.ones(1)
        self.x: Values = np.zeros(4)

    def misfit(self, x: Values) -> Values:
        """Weighted distances, in spans, of two labels, the ends of the range and, if free, logarithms of the
        levels over the pulses of a sweep."""
        low, high = self.least + self.span * x[2], self.least + self.span * x[3]
        apart = []
        for sign, label, most, more in zip((1, -1), x[:2], self.longest, _logs(x), strict=True):
            n, g, _ = self.means[sign]
            cell = Pulses(most, float(label), float(label))
            start, steps = low if sign > 0 else high, self.steps * math.exp(-more)
            apart.append(_moved(start, sign * n, cell, low, high, steps[:, None]).mean(0) - g)
        misfits: Values = self.weight * np.concatenate(apart) / self.span
        return misfits

    def find(self) -> None:
        """Fit from several labels; with free levels only if sweeps that cross the range fit badly."""
        starts = [(a, b) for a in (-3.0, 0.1, 3.0) for b in (-3.0, 0.1, 3.0)]
        ends = [max(0.0, 1e-6 - self.least / self.span), 1.0]
        self.x = self._best([[*labels, *ends] for labels in starts])
        fixed, residual = self.x, self.residual
        if residual > _WHOLE:
            self.x = self._best([[*labels, *ends, 0.0, 0.0] for labels in starts])
            self.x = fixed if self.residual > residual / 2 else self.x

    def refine(self, steps: Values) -> None:
        """Fit again, to the mean of cells that differ: those of large steps arrive before the others."""
        self.steps = steps / steps.mean()
        self.x = self._best([list(self.x)])

    def _best(self, starts: list[list[float]]) -> Values:
        levels = len(starts[0]) - 4
        lowest = [-LABEL_MAX, -LABEL_MAX, max(-0.4, -self.least / self.span), 0.6, *[-3.0] * levels]
        highest = [LABEL_MAX, LABEL_MAX, 0.4, 1.4, *[3.0] * levels]
        runs = [least_squares(self.misfit, start, bounds=(lowest, highest)) for start in starts]
        best: Values = min(runs, key=lambda run: float(run.cost)).x
        return best

    @property
    def low(self) -> float:
        return float(self.least + self.span * self.x[2])

    @property
    def high(self) -> float:
        return float(self.least + self.span * self.x[3])

    @property
    def residual(self) -> float:
        """Root mean square of the misfit, as a fraction of the range."""
        return float(np.sqrt((self.misfit(self.x) ** 2).mean()) * self.span / (self.high - self.low))

    @property
    def cell(self) -> Pulses:
        """Levels and labels."""
        up, down = (
            max(1, round(most * math.exp(more)))
            for most, more in zip(self.longest, _logs(self.x), strict=True)
        )
        return Pulses(up, float(self.x[0]), float(self.x[1]), levels_down=down)


def _logs(x: Values) -> Values:
    return x[4:] if len(x) > 4 else np.zeros(2)


def _steps(sweeps: list[_Sweep], cells: list[str], fit: _Fit) -> tuple[dict[str, float], list[Values]]:
    """Nominal pulses that each cell takes for one: its mean, and for each of its cycles."""
    groups = []
    for name in cells:
        mine = [s for s in sweeps if s.cell == name]
        cycles = sorted({s.cycle for s in mine})
        groups.append(np.array([_step([s for s in mine if s.cycle == cycle], fit) for cycle in cycles]))
    return {name: float(group.mean()) for name, group in zip(cells, groups, strict=True)}, groups


def _step(sweeps: list[_Sweep], fit: _Fit) -> float:
    low, high, cell = fit.low, fit.high, fit.cell

    def misfit(x: Values) -> Values:
        pairs = ((s.g, _moved(s.g[0], s.direction * s.pulses, cell, low, high, float(x[0]))) for s in sweeps)
        return np.concatenate([model - g for g, model in pairs]) / (high - low)

    return float(least_squares(misfit, [1.0], bounds=([0.0], [20.0])).x[0])


def _between(groups: list[Values]) -> float:
    """Relative standard deviation of the cells' own steps, (cycles,) for each cell."""
    if len(groups) < 2:
        return 0.0
    variance = float(np.var([group.mean() for group in groups], ddof=1))
    repeated = [np.var(group, ddof=1) / len(group) for group in groups if len(group) > 1]
    variance -= float(np.mean(repeated)) if repeated else 0.0
    return math.sqrt(max(0.0, variance)) / float(np.mean([group.mean() for group in groups]))


def _noise(sweeps: list[_Sweep], own: dict[str, float], fit: _Fit) -> float:
    """Standard deviation of one pulse, as a fraction of the range."""
    left = []
    for s in sweeps:
        n = np.diff(s.pulses)
        model = _moved(s.g[:-1], s.direction * n, fit.cell, fit.low, fit.high, own[s.cell])
        left.append((s.g[1:] - model) / np.sqrt(n))
    return float(np.std(np.concatenate(left)) / (fit.high - fit.low))
