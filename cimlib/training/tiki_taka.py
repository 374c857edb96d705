r"""Training in two arrays: one remembers gradients, the other one computes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cimlib.devices.effects import require, require_whole
from cimlib.training.pulse_optimizer import PulseOptimizer, _weight_dim
from cimlib.training.pulses import Pulses, _advance, curvature, require_range


def symmetry_point(pulses: Pulses, g_min: float, g_max: float) -> float:
    r"""Conductance at which a pulse up and a pulse down undo each other, µS.

    There a cell ends that gets as many pulses up as down, in any order. Each write is affine in the
    conductance, :math:`g \to g + (G_\infty - g)c`, so that the sum of one step up and one down is a line,
    whose zero this is (derived). Where there is none in the range, as for a linear cell, or for labels of
    equal sign and size, it is the middle of the range.

    Args:
        pulses: the cell. g_min, g_max: its range, µS.

    Raises ``ValueError`` for a range that is not allowed.
    """
    require_range(g_min, g_max)
    g = torch.tensor([g_min, g_max], dtype=torch.float64)
    up, down = (curvature(label) for label in (pulses.potentiation, pulses.depression))
    x_up, x_down = (torch.full_like(g, x) for x in (1 / pulses.levels, -1 / pulses.down))
    both = _advance(g, x_up, up, g_min, g_max) + _advance(g, x_down, down, g_min, g_max) - 2 * g
    low, high = float(both[0]), float(both[1])
    span = g_max - g_min
    if abs(high - low) <= 1e-9 * span or low * high > 0:
        return (g_min + g_max) / 2
    return g_min + span * low / (low - high)


class TikiTaka(PulseOptimizer):
    r"""Two arrays: a fast one collects gradients, and is transferred, line by line, to the one that computes.

    .. math:: a \leftarrow a \oplus \big(-\eta\,\partial E/\partial g\big), \qquad
        g_{\cdot j} \leftarrow g_{\cdot j} \oplus \lambda\,(a_{\cdot j} - a^*)

    where :math:`\oplus` is a write by stochastically rounded pulses, :math:`a^*` the symmetry point of its
    cells (:func:`symmetry_point`), at which the fast array starts, and :math:`j` an input, the next one after
    every ``every`` updates. Of a pair half the difference of its fast cells is read, so that what both
    have in common drops out. The fast array is no part of the network's weights, the published
    :math:`\gamma = 0`.

    An asymmetric cell under pulses up and down decays to its symmetry point; so the fast array forgets old
    gradients and holds a running mean, and the slow one is written seldom and in one direction. A linear cell
    never forgets: where every input is transferred at every update and pulses are infinitely fine, this is
    gradient descent at the rate :math:`\eta\lambda` with momentum 1, which swings for ever (derived).

    Source: Gokmen and Haensch, *Algorithm for training neural networks on resistive device arrays*, Front.
    Neurosci. 14:103 (2020). Here the network's array has the range and the cells of the fast one.

    ``state[p]`` counts the pulses and writes of the slow cells, as :class:`~.PulseOptimizer` does, and as
    ``fast_pulses`` and ``fast_writes`` those of the fast ones; :meth:`pulses` and :meth:`writes` are of both.

    Args:
        lr: η > 0 of the fast array, µS² per unit of E.
        transfer: λ > 0, how much of what is read is written on.
        every: updates between two transfers, ≥ 1.
        Others: see :class:`~.PulseOptimizer`; of a pair both cells are written.

    Raises ``ValueError`` for arguments out of range, and for cells that differ in their steps, as the fast
    ones have no draws.
    """

    def __init__(
        self,
        params: ParamsT,
        pulses: Pulses,
        *,
        g_min: float,
        g_max: float,
        lr: float = 1.0,
        transfer: float = 0.1,
        every: int = 1,
        weight_dim: int | None = None,
        seed: int = 0,
    ) -> None:
        require(0 < transfer < math.inf, "transfer", transfer, "0 < transfer < ∞")
        require_whole("every", every, 1)
        alike, found = pulses.device_to_device == 0, pulses.device_to_device
        require(alike, "device_to_device", found, "0: cells of the fast array have no draws of their own")
        self.transfer, self.every, self.updates = transfer, every, 0
        options: dict[str, Any] = {"g_min": g_min, "g_max": g_max, "lr": lr, "rounding": "stochastic"}
        super().__init__(params, pulses, weight_dim=weight_dim, seed=seed, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add conductances; their fast array starts at the symmetry point."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for name, only in (("rule", "proportional"), ("pair", "both")):
            require(group[name] == only, name, group[name], repr(only))
        for p in group["params"]:
            centre = symmetry_point(self.cell, group["g_min"], group["g_max"])
            zeros = torch.zeros_like(p, dtype=torch.int64, requires_grad=False)
            fast = torch.full_like(p, centre, requires_grad=False)
            self.state[p] |= {"fast": fast, "fast_pulses": zeros, "fast_writes": zeros.clone()}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Write the fast array once, and where it is time one input of the slow array."""
        loss = super().step(closure)
        self.updates += 1
        if self.updates % self.every == 0:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._transfer(p, group, self.updates // self.every - 1)
        return loss

    def _step(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """Write the fast cells of ``p``; returns the pulses sent, like ``p``."""
        assert p.grad is not None
        state = self.state[p]
        n = self._request(p.grad, _weight_dim(p, group), group)
        low, high = group["g_min"], group["g_max"]
        state["fast"] = self.cell.write(state["fast"], n, low, high, self.generator, state["fast_pulses"])
        state["fast_pulses"] += n.abs().long()
        state["fast_writes"] += n != 0
        return n

    def _transfer(self, p: Tensor, group: dict[str, Any], count: int) -> None:
        """Write on what the fast cells of the next input hold; the ``count``-th transfer."""
        dim, state, low, high = _weight_dim(p, group), self.state[p], group["g_min"], group["g_max"]
        axis = -dim + 1 if dim > 1 else -1
        line = torch.tensor([count % p.shape[axis]], device=p.device)
        read = state["fast"].index_select(axis, line) - symmetry_point(self.cell, low, high)
        if p.shape[-dim - 1] == 2:
            read = (read - read.flip(-dim - 1)) / 2
        n = self._request(-self.transfer * read, dim, group | {"lr": 1.0})
        cells, used = p.index_select(axis, line), state["pulses"].index_select(axis, line)
        p.index_copy_(axis, line, self.cell.write(cells, n, low, high, self.generator, used))
        state["pulses"].index_add_(axis, line, n.abs().long())
        state["writes"].index_add_(axis, line, (n != 0).long())

    def _total(self, count: str) -> Tensor:
        totals = [super()._total(count)]
        for group in self.param_groups:
            for p in group["params"]:
                cells = tuple(range(-_weight_dim(p, group) - 2, 0))
                totals.append(self.state[p][f"fast_{count}"].sum(cells))
        return torch.stack(totals).sum(0)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            name: getattr(self, name) for name in ("transfer", "every", "updates")
        }

    def state_dict(self) -> dict[str, Any]:
        """As that of :class:`~.PulseOptimizer`, with the fast array and the number of updates."""
        return super().state_dict() | {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict()``, fast array included."""
        super().load_state_dict(state_dict)
        self.updates = state_dict["updates"]
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for key, p in zip(keys, params, strict=True):
            self.state[p]["fast"] = state_dict["state"][key]["fast"].to(p).clone()
