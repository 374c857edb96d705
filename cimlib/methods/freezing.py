"""Iterative freezing: weights fixed a few at a time, the others trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal

import torch
from torch import Tensor, nn

from cimlib.chip.crossbar import crossbars
from cimlib.chip.layers import require_untransposed
from cimlib.chip.mapped import Mapped
from cimlib.devices.defects import FaultMap
from cimlib.devices.effects import require, require_whole
from cimlib.methods.mapping import mapped
from cimlib.methods.placement_costs import fault_map
from cimlib.methods.retraining import _NOTHING, _through
from cimlib.networks.plain import evaluating
from cimlib.training.fit import History, fit
from cimlib.training.objectives import Batch, CrossEntropy, labelled


@dataclass(frozen=True)
class Frozen:
    """A network after iterative freezing: ``model``, the number of ``steps`` and of weights ``fixed``.

    ``history``: the mean loss of each step; ``images``: trained on in all steps, after a gradient of each.
    """

    model: nn.Module
    steps: int
    fixed: int
    history: History = field(default_factory=History)
    images: int = 0


def frozen(
    model: nn.Module,
    data: Batch,
    *,
    per_step: int,
    batches: int,
    lr: float,
    seed: int,
    threshold: float = 0.2,
    order: Literal["most sensitive first", "least sensitive first"] = "most sensitive first",
    batch_size: int = 128,
) -> Frozen:
    r"""Weights on abnormal cells fixed a few at a time, while the others train: the baseline of DATE 2017.

    "Weights on abnormal cells are reduced and fixed in order of a sensitivity measure, N independent weights
    per step" (third-party summary; nothing else is found). Our reading, word by word:

    * *abnormal*: a cell of the weight is stuck, as a test finds, or its badness b exceeds ``threshold``; see
      :class:`Retraining`. Both are known exactly;
    * *sensitivity*: :math:`|\partial L/\partial w|` of the cross-entropy, on the samples that the step trains
      with, in the network as it then is;
    * *reduced*: where the chip multiplies by more than 1, :math:`w / (\partial\hat w/\partial w)` is written,
      so that it makes of the weight no more than the training asks for;
    * *fixed*: from then on it is what the chip makes of that, and does not train;
    * *independent*: no column gives a step more than its share, N by the number of columns, rounded up, so
      that each keeps others to make up for them. Where a column runs out, a step fixes fewer than N;
    * *the others* train as on a perfect chip, within the range of the array. Unlike :class:`Retraining`, this
      does not see errors of weights that are not fixed yet, and to the end not those below ``threshold``.

    A step fixes weights and then trains, until no free weight is on abnormal cells.

    Args:
        model: a network on hardware that holds a chip, its weights programmed; it is not changed. Its arrays
            need ``w_max``: else the scale follows the largest weight, and moves what is fixed.
        data: x (n, ...), y (n,).
        per_step: N ≥ 1; in the paper 1, 5, 10 and 20.
        batches: updates in a step, ≥ 1, an epoch at most, of samples drawn anew for it.
        lr: of Adam, which goes on from step to step.
        seed: of the batches, ≥ 0.
        threshold: of the badness, 0 ≤ threshold < 1; the paper's is not found.
        order: which weights come first; the paper's is not found.
        batch_size: ≥ 1.

    Raises ``ValueError`` for arguments out of range, conductances trained in the array and no ``w_max``.
    """
    for name, value in (("per_step", per_step), ("batches", batches), ("batch_size", batch_size)):
        require_whole(name, value, 1)
    require(0 <= threshold < 1, "threshold", threshold, "0 ≤ threshold < 1 (badness)")
    signs = {"most sensitive first": 1, "least sensitive first": -1}
    require(order in signs, "order", order, ", ".join(map(repr, signs)))
    x, y = labelled(data)
    for layer in crossbars(model):
        require_untransposed(layer.plain, layer.name, "freezing")
    model = mapped(model, rows=False)
    layers = [layer for layer in crossbars(model) if isinstance(layer, Mapped)]
    for layer in layers:
        require(not layer.in_array, "model", "conductances", "weights, programmed")
        require(layer.hardware.array.w_max is not None, "w_max", None, "set, for weights that stay fixed")
    stuck = [
        _on_stuck_cells(layer, known) for layer, known in zip(layers, fault_map(model).values(), strict=True)
    ]
    objective = _Freezing(layers)
    adam = torch.optim.Adam(model.parameters(), lr)
    generator, steps, images = torch.Generator().manual_seed(seed), 0, 0
    history = History()
    while True:
        for layer in layers:
            most = (1 - _NOTHING) * layer.hardware.array.full_scale(layer.weight)
            layer.weight.data.clamp_(-most, most)  # at the end of its range, every weight would seem stuck
        gains = [_through(layer)[1] for layer in layers]
        found = zip(objective.fixed, stuck, gains, strict=True)
        left = [~fixed & (known | ((1 - gain).abs() > threshold)) for fixed, known, gain in found]
        if not any(bool(abnormal.any()) for abnormal in left):
            count = sum(int(fixed.sum()) for fixed in objective.fixed)
            return Frozen(model, steps, count, history, images)
        index = torch.randperm(len(x), generator=generator)[: batches * batch_size]
        samples = x[index], y[index]
        scores = [signs[order] * score for score in objective.sensitivities(model, samples)]
        for i, now in enumerate(_first(scores, left, per_step)):
            weight, state = layers[i].weight, adam.state[layers[i].weight]
            weight.data = torch.where(now, weight / gains[i].clamp(min=1), weight).detach()
            objective.fixed[i] |= now
            if state:
                state["exp_avg"][now] = 0  # or they would drift on
        steps, images = steps + 1, images + len(index)
        history.loss += fit(
            model,
            objective,
            samples,
            epochs=1,
            lr=lr,
            seed=seed + steps,
            batch_size=batch_size,
            optimizer=lambda _: adam,
        ).loss


class _Freezing(CrossEntropy):
    """Cross-entropy of a network of which only the weights in ``fixed``, by layer, are on the chip."""

    def __init__(self, layers: list[Mapped]) -> None:
        super().__init__()
        self.layers = layers
        self.fixed = [torch.zeros_like(layer.weight, dtype=torch.bool) for layer in layers]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        try:
            for layer, fixed in zip(self.layers, self.fixed, strict=True):
                with torch.no_grad():
                    weight, g, z = layer.read()
                array = layer.hardware.array
                cells = torch.where(fixed, g.cells, array.target(layer.weight).cells)
                weight = torch.where(fixed, weight, array.represent(layer.weight))
                layer.reading = weight, replace(g, cells=cells), z
            return super().__call__(model, batch)
        finally:
            for layer in self.layers:
                layer.reading = None

    def sensitivities(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Size of the derivative with respect to each weight that is free, by layer."""
        with evaluating(model):
            loss = self(model, batch)
        gradients = torch.autograd.grad(loss, [layer.weight for layer in self.layers])
        return [gradient.abs() for gradient in gradients]


def _on_stuck_cells(layer: Mapped, known: FaultMap) -> Tensor:
    """Which weights have a cell that is stuck, or their reference, (out, in, ...)."""
    stuck = known.stuck.flatten(0, 1).any(0)
    if known.reference is not None:
        stuck = stuck | (known.reference != 0)
    return layer.take(stuck).reshape(layer.weight_shape)


def _first(scores: list[Tensor], allowed: list[Tensor], count: int) -> list[Tensor]:
    """The ``count`` weights with the largest scores, of each column no more than its share."""
    share = ceil(count / sum(map(len, scores)))
    best = []
    for score, own in zip(scores, allowed, strict=True):
        columns = torch.where(own, score, -torch.inf).flatten(1)
        top = columns.topk(min(share, columns.shape[1]))
        best.append(torch.full_like(columns, -torch.inf).scatter(1, top.indices, top.values).flatten())
    every = torch.cat(best)
    top = every.topk(min(count, len(every)))
    chosen = torch.zeros_like(every, dtype=torch.bool)
    chosen[top.indices[top.values > -torch.inf]] = True
    parts = torch.split(chosen, [len(own) for own in best])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]
