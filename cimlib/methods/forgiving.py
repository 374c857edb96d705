r"""Mapping that forgives a common factor: what a digital factor behind the array mends is no error.

**What is forgiven.** A column computes :math:`\hat w_j \cdot x` where :math:`w_j \cdot x` was meant. If its
output is scaled afterwards, by a BatchNorm whose statistics are found anew or by a drift compensation, what
counts is the error behind the best factor,

.. math:: J = \sum_j \min_{\gamma_j \ge 0} \sum_p \alpha_{pj}\,(\gamma_j \hat w_{pj} - w_{pj})^2, \qquad
    \gamma_j = \frac{\sum_p \alpha_{pj}\, w_{pj} \hat w_{pj}}{\sum_p \alpha_{pj}\, \hat w_{pj}^2},

without α the squared length of :math:`w_j` times the squared sine of its angle to :math:`\hat w_j`: a column
that is twice too large costs nothing. A factor that all columns of a layer share is forgiven by a layer's one
:math:`\gamma`.

**How it is minimised.** For given factors it is an assignment problem like that of
:mod:`~cimlib.methods.mapping`; for a given placement the factors are a formula. They take turns from
:math:`\gamma = 1`, the usual mapping. No turn raises :math:`J`; where it ends is a local minimum.

**When it helps.** Where errors have a common sign: lognormal cells are too large by
:math:`e^{\sigma^2/2}` in the mean, cells stuck off take away. The usual cost then prefers rows whose cells
conduct too little, as an error downwards is bounded by the weight and one upwards is not. It helps only if
the factor is mended, or does not matter, as in a network of ReLUs without biases. Derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Conductances
from cimlib.chip.crossbar import Crossbar
from cimlib.devices.effects import require
from cimlib.methods.mapping import _prepared, _with_rows
from cimlib.methods.placement_costs import Weighting, _Costs, _held

Forgiven = Literal["column", "layer"]

_TURNS = 20  # of placement and factors; three or four are enough (measured)


@dataclass(frozen=True)
class _Gained(_Costs):
    """What it costs to place weights if column j is multiplied by ``gain`` (out, 1) afterwards."""

    gain: Tensor

    def _error(self, asked: Conductances, cells: Tensor, reference: Tensor | None) -> Tensor:
        """The squared error behind the gain, less that of a cell that does what it is asked: the same for all
        places of a row, so that it changes no choice."""
        array = self.layer.hardware.array
        wrong = array.decode(Conductances(cells, reference, asked.scale, asked.connected) - asked)
        return self.gain * wrong * (self.gain * wrong + 2 * (self.gain - 1) * array.decode(asked))


@torch.no_grad()
def mapped_forgiving(
    model: nn.Module,
    *,
    per: Forgiven = "column",
    weighting: Weighting = "uniform",
    spares: int | None = None,
    tile: tuple[int, int] | None = None,
) -> nn.Module:
    """A copy of a network on its chip, its rows placed where weights suffer least but for a common factor.

    Args:
        model: a network on hardware that holds a chip, all of which is known; it is not changed. Its columns
            lie in their own order, and stay there.
        per: whether each ``"column"`` or each ``"layer"`` has a factor of its own.
        weighting: α; see :func:`~.mapped`, as for ``spares`` and ``tile``.

    The factors themselves are not applied: that is what a BatchNorm or a compensation behind the array does.
    Raises ``ValueError`` as :func:`~.mapped` does, for another ``per`` and for columns that were moved.
    """
    require(per in get_args(Forgiven), "per", per, "'column', 'layer'")
    named = {layer.name for layer in _held(model)}
    model, found = _prepared(model, named, None, weighting, 2.0, spares, tile)
    for name, costs in found.items():
        layer, outputs = costs.layer, len(costs.alpha)
        straight = list(layer.placement.columns) == list(range(outputs))
        require(straight, f"columns of layer {name!r}", layer.placement.columns, "in their own order")
        gain = costs.alpha.new_ones(outputs, 1)
        for _ in range(_TURNS):
            before = layer.placement
            layer.place(_with_rows(_Gained(layer, costs.known, costs.alpha, 2.0, gain)))
            gain = best_gain(layer, costs.alpha, per)
            if layer.placement == before:
                break
    return model


def best_gain(layer: Crossbar, alpha: Tensor, per: Forgiven) -> Tensor:
    r"""The factors :math:`\gamma` that bring the weights of a layer on its chip closest to those meant.

    Args:
        layer: on hardware, with a chip. alpha: (out, rows), ≥ 0, what each weight counts.
        per: whether each ``"column"`` or the ``"layer"`` has one.

    Returns (out, 1), ≥ 0, as no BatchNorm turns a sign; 1 where the chip makes nothing of all weights.
    """
    asked = layer.hardware.array.represent(layer.asked).flatten(1)
    obtained = layer.read()[0].flatten(1)
    dims = (1,) if per == "column" else (0, 1)
    above, below = ((alpha * one * obtained).sum(dims, keepdim=True) for one in (asked, obtained))
    return torch.where(below > 0, above / below, 1.0).clamp(min=0).expand(len(alpha), 1)
