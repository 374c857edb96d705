r"""Training in the array with past gradients in digital memory: momentum, and mixed precision.

Of an asymmetric cell each write forgets a little, and plain descent writes at every update. Gradients that
are remembered elsewhere need fewer writes. Here they are numbers in digital memory, one or two a weight;
:class:`.TikiTaka` keeps them in a second array. Taught in *Training a ReRAM crossbar array*.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cimlib.devices.effects import require
from cimlib.training.pulse_optimizer import Pair, PulseOptimizer, Rounding
from cimlib.training.pulses import Pulses, by_direction


class PulseMomentum(PulseOptimizer):
    r"""Pulses by a running sum of gradients in digital memory, written in place of the gradient:

    .. math:: v \leftarrow \mu v + \partial E/\partial g

    With a linear cell and infinitely many levels it is gradient descent with momentum (``torch.optim.SGD``).
    Needs one number a weight: the two cells of a pair have opposite ones.

    Args:
        momentum: :math:`\mu`, 0 ≤ μ < 1. Steps are :math:`1/(1-\mu)` times as long as without.
        Others: see :class:`~.PulseOptimizer`; the rule is the proportional one.

    Raises ``ValueError`` for arguments out of range.
    """

    #: Names of what is kept for each cell, a float like its conductance.
    memory: tuple[str, ...] = ("velocity",)

    def __init__(
        self,
        params: ParamsT,
        pulses: Pulses,
        *,
        g_min: float,
        g_max: float,
        lr: float = 1.0,
        momentum: float = 0.9,
        rounding: Rounding = "stochastic",
        pair: Pair = "both",
        weight_dim: int | None = None,
        seed: int = 0,
        chip: int = 0,
        place: int = 0,
    ) -> None:
        require(0 <= momentum < 1, "momentum", momentum, "0 ≤ momentum < 1")
        self.momentum = momentum
        options: dict[str, Any] = {
            "g_min": g_min,
            "g_max": g_max,
            "lr": lr,
            "rounding": rounding,
            "pair": pair,
        }
        super().__init__(params, pulses, weight_dim=weight_dim, seed=seed, chip=chip, place=place, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add conductances; nothing is remembered of them yet."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        require(group["rule"] == "proportional", "rule", group["rule"], "'proportional'")
        for p in group["params"]:
            self.state[p] |= {name: torch.zeros_like(p, requires_grad=False) for name in self.memory}

    def _step(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        return super()._step(p, group | {"memory": self.state[p]})

    def _request(self, grad: Tensor, weight_dim: int, group: dict[str, Any]) -> Tensor:
        memory = group.get("memory")
        if memory is not None:  # a step, and no question of how much would be asked for
            grad = memory["velocity"].mul_(self.momentum).add_(grad)
        return super()._request(grad, weight_dim, group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"momentum": self.momentum}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict()``, with all that is remembered."""
        super().load_state_dict(state_dict)
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for key, p in zip(keys, params, strict=True):
            kept = state_dict["state"][key]
            self.state[p] |= {name: kept[name].to(p).clone() for name in self.memory}


class MixedPrecision(PulseMomentum):
    r"""Gradients accumulate in digital memory, and a cell is pulsed when they have come to a whole pulse.

    .. math:: \chi \leftarrow \chi - \eta\,v, \qquad n = \mathrm{trunc}(\chi/\varepsilon), \qquad
        \chi \leftarrow \chi - n\,\varepsilon

    with :math:`v` the gradient, or its running sum if there is momentum, and :math:`\varepsilon` the nominal
    step of a pulse in its direction, :math:`\Delta G/P_{max}`. Writes are blind: what a pulse really did is
    not read back. With linear cells, cell and memory together are gradient descent exactly, whatever the
    number of levels; nothing is rounded away, and gradients that change sign cancel before they are written.
    Needs one number a weight, two with momentum, and the product of inputs and errors as a number.

    Source: Nandakumar et al., *Mixed-precision deep learning based on computational memory*, Front.
    Neurosci. 14:406 (2020); that paper updates a pair by potentiation alone, which is not offered here.

    Args:
        momentum: :math:`\mu`, 0 ≤ μ < 1.
        pair: ``"both"``, or ``"one"``, see :class:`~.PulseOptimizer`, which says what the others are.

    Raises ``ValueError`` for arguments out of range.
    """

    memory = ("velocity", "residue")

    def __init__(
        self,
        params: ParamsT,
        pulses: Pulses,
        *,
        g_min: float,
        g_max: float,
        lr: float = 1.0,
        momentum: float = 0.0,
        pair: Pair = "both",
        weight_dim: int | None = None,
        seed: int = 0,
        chip: int = 0,
        place: int = 0,
    ) -> None:
        options: dict[str, Any] = {
            "g_min": g_min,
            "g_max": g_max,
            "lr": lr,
            "momentum": momentum,
            "pair": pair,
        }
        options |= {"weight_dim": weight_dim, "seed": seed, "chip": chip, "place": place}
        super().__init__(params, pulses, rounding="truncate", **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        pair = self.param_groups[-1]["pair"]
        require(pair in ("both", "one"), "pair", pair, "'both', 'one' with an accumulator")

    def _request(self, grad: Tensor, weight_dim: int, group: dict[str, Any]) -> Tensor:
        memory = group.get("memory")
        if memory is None:
            return super()._request(grad, weight_dim, group)
        velocity, owed = memory["velocity"], memory["residue"]
        velocity.mul_(self.momentum).add_(grad)
        owed.add_(velocity, alpha=-group["lr"])
        if group["pair"] == "one":
            owed.select(-weight_dim - 1, 1).zero_()
        span = group["g_max"] - group["g_min"]
        step = span / by_direction(owed, float(self.cell.levels), float(self.cell.down))
        n: Tensor = (owed / step).trunc_().clamp_(-self.cell.down, self.cell.levels)
        owed.sub_(n * step)
        return n

    def _listen(self, index: int, group: dict[str, Any], given: list[Tensor], sent: bool) -> None:
        """Silence is no fault: requests wait in the accumulator until they are a pulse."""
