r"""Imperfection-tolerant training: a network retrained on the chip that it is for, whose errors are known.

Song et al., *ITT-RNA* (TCAD 2021), after Chen et al. (DATE 2017). Of ITT-RNA only the abstract is known to
us: off-device training that keeps large weights away from imperfect cells by "self-healing", a "dynamic
adjustment" for deep perceptrons, and a co-design with a few on-device iterations for convolutional networks.
What stands here is a reconstruction (derived): :func:`~cimlib.mapping.mapped` moves the weights, and then

* :class:`Retraining` trains on the held chip, off the device, through what its cells make of each weight;
* :func:`adjusted` maps and retrains layer by layer from the input, each layer knowing what those before it
  do wrong: our reading of the dynamic adjustment;
* :func:`on_device` writes a few updates into the array itself, with the noise of writing, and counts them.

:func:`frozen` is the baseline of DATE 2017, iterative freezing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.circuits import Ideal
from cimlib.crossbar import Crossbar, Reading, crossbars, program
from cimlib.defects import FaultMap
from cimlib.devices import Device, require, straight_through
from cimlib.mapping import Weighting, fault_map, mapped, sensitivity
from cimlib.models import evaluating
from cimlib.placement import Mapped
from cimlib.train import Batch, CrossEntropy, fit
from cimlib.updates import PulseOptimizer, Pulses

_NOTHING = 1e-4  # the gain of a weight on stuck cells is the rounding error of a difference, at most


class Retraining(CrossEntropy):
    r"""Cross-entropy on a held chip, with a penalty on weights where the chip is imperfect.

    .. math:: \mathcal L = \mathrm{CE} + \lambda \sum |w|\,b, \qquad
        b = \min\Big(1, \Big|1 - \frac{\partial\hat w}{\partial w}\Big|\Big)

    where :math:`\hat w` is what the chip makes of a weight. Badness b is 0 for a perfect cell, 1 for a stuck
    one and :math:`|1 - e^\theta|` for a cell off by the factor :math:`e^\theta` (derived). Gradients of the
    cross-entropy are multiplied by :math:`\partial\hat w/\partial w`, the chain rule; on stuck cells that is
    exactly 0, where without this objective a rounding error is left, which an optimiser that divides by
    the gradient's size, like Adam, turns into full steps.

    Args:
        penalty: λ ≥ 0.
        scale: see :class:`~cimlib.train.CrossEntropy`.

    Raises ``ValueError`` for arguments out of range.
    """

    def __init__(self, penalty: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(scale)
        require(0 <= penalty < float("inf"), "penalty", penalty, "0 ≤ penalty < ∞")
        self.penalty = penalty

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        layers = [layer for layer in crossbars(model) if not layer.in_array]
        penalties = []
        try:
            for layer in layers:
                layer.reading, gain = _through(layer)
                penalties.append((layer.weight.abs() * (1 - gain).abs().clamp(max=1)).sum())
            loss = super().__call__(model, batch)
            return loss + self.penalty * torch.stack(penalties).sum() if self.penalty else loss
        finally:
            for layer in layers:
                layer.reading = None


def _through(layer: Crossbar) -> tuple[Reading, Tensor]:
    """The reading of ``layer`` with the gain of each weight as its gradient, and the gain."""
    weight, g, z = layer.read()
    (gain,) = torch.autograd.grad(weight.sum(), layer.weight, retain_graph=True)
    gain = torch.where(gain.abs() < _NOTHING, 0.0, gain)
    return (straight_through(weight, layer.weight * gain), g, z), gain


def adjusted(
    model: nn.Module,
    data: Batch,
    *,
    epochs: int,
    lr: float,
    seed: int,
    known: Mapping[str, FaultMap] | None = None,
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform",
    power: float = 1.0,
    spares: int | None = None,
    penalty: float = 0.0,
    batch_size: int = 128,
) -> nn.Module:
    """A copy of ``model``, mapped and retrained layer by layer from the input.

    Stage by stage one more layer is put on the chip, the layers behind it still perfect: it is mapped, with
    sensitivities (if any) of the network as it then is, and the whole network is retrained. So each layer is
    placed knowing what those before it do wrong, and those behind it learn to live with it. Our reading of
    ITT-RNA's dynamic adjustment.

    Args:
        model: a network on hardware that holds a chip; it is not changed. Its layers must run in the order in
            which ``model.modules()`` lists them.
        data: training data.
        epochs: of **each** stage.
        lr, seed, batch_size: see :func:`~cimlib.train.fit`.
        known, power, spares: see :func:`~cimlib.mapping.mapped`.
        weighting: likewise, or the kind of a :func:`~cimlib.mapping.sensitivity`, on the training data.
        penalty: see :class:`Retraining`.

    Raises ``ValueError`` as these do.
    """
    kinds = ("uniform", "magnitude", "gradient", "fisher")
    require(weighting in kinds, "weighting", weighting, ", ".join(map(repr, kinds)))
    objective = Retraining(penalty)
    model = mapped(model, rows=False, spares=spares)
    hardware = {layer.name: layer.hardware for layer in crossbars(model)}
    for layer in crossbars(model):
        layer.hardware = replace(layer.hardware, device=Device())
    for stage, (name, own) in enumerate(hardware.items()):
        counts: Weighting
        if weighting == "uniform" or weighting == "magnitude":
            counts = weighting
        else:
            counts = sensitivity(model, data, weighting)
        _named(model, name).hardware = own
        model = mapped(model, known, weighting=counts, power=power, layers=[name])
        fit(model, objective, data, epochs=epochs, lr=lr, seed=seed + stage, batch_size=batch_size)
    return model


def _named(model: nn.Module, name: str) -> Crossbar:
    (layer,) = (layer for layer in crossbars(model) if layer.name == name)
    return layer


@dataclass(frozen=True)
class Frozen:
    """A network after iterative freezing: ``model``, the number of ``steps`` and of weights ``fixed``."""

    model: nn.Module
    steps: int
    fixed: int


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
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        require(whole, name, value, "an integer ≥ 1")
    require(0 <= threshold < 1, "threshold", threshold, "0 ≤ threshold < 1 (badness)")
    signs = {"most sensitive first": 1, "least sensitive first": -1}
    require(order in signs, "order", order, ", ".join(map(repr, signs)))
    x, y = data
    require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
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
    generator, steps = torch.Generator().manual_seed(seed), 0
    while True:
        for layer in layers:
            most = (1 - _NOTHING) * layer.hardware.array.full_scale(layer.weight)
            layer.weight.data.clamp_(-most, most)  # at the end of its range, every weight would seem stuck
        gains = [_through(layer)[1] for layer in layers]
        found = zip(objective.fixed, stuck, gains, strict=True)
        left = [~fixed & (known | ((1 - gain).abs() > threshold)) for fixed, known, gain in found]
        if not any(bool(abnormal.any()) for abnormal in left):
            return Frozen(model, steps, sum(int(fixed.sum()) for fixed in objective.fixed))
        index = torch.randperm(len(x), generator=generator)[: batches * batch_size]
        samples = x[index], y[index]
        scores = [signs[order] * score for score in objective.sensitivities(model, samples)]
        for i, now in enumerate(_first(scores, left, per_step)):
            weight, state = layers[i].weight, adam.state[layers[i].weight]
            weight.data = torch.where(now, weight / gains[i].clamp(min=1), weight).detach()
            objective.fixed[i] |= now
            if state:
                state["exp_avg"][now] = 0  # or they would drift on
        steps += 1
        fit(
            model,
            objective,
            samples,
            epochs=1,
            lr=lr,
            seed=seed + steps,
            batch_size=batch_size,
            optimizer=lambda _: adam,
        )


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


@dataclass(frozen=True)
class Updated:
    """A network after updates on the device.

    ``model``: its layers hold ``conductance``, what their cells now have. ``pulses``, ``writes``: sent to all
    cells together.
    """

    model: nn.Module
    pulses: int
    writes: int


def on_device(
    model: nn.Module,
    data: Batch,
    pulses: Pulses,
    *,
    iterations: int,
    lr: float,
    seed: int,
    batch_size: int = 128,
) -> Updated:
    r"""A few updates of the weights, written into the array of the held chip.

    Pulses move a cell from where programming has left it, wherever it was meant to be. Each iteration finds
    the gradient of one batch on the chip and writes every cell once, as
    :class:`~cimlib.updates.PulseOptimizer` does, fractions of a pulse by chance. A stuck cell gets no pulse.
    Digital parameters stay as they are.

    Args:
        model: a network on hardware that holds a chip, its weights programmed; it is not changed. Its arrays
            need what training in the array needs, ``w_max`` set and no slices, a spread that is clipped, and
            a reference of resistors, if any.
        data: x (n, ...), y (n,); batches are drawn from it without repetition until it is used up.
        pulses: how a cell answers to a pulse.
        iterations: T ≥ 0, updates written.
        lr: η > 0 of gradient descent on the weights. Both cells of a pair move, so that it counts twice.
        seed: of batches and writing, ≥ 0.
        batch_size: ≥ 1.

    Raises ``ValueError`` for arguments out of range and hardware on which this cannot be done.
    """
    whole = isinstance(iterations, int) and not isinstance(iterations, bool) and iterations >= 0
    require(whole, "iterations", iterations, "an integer ≥ 0")
    require(0 < lr < float("inf"), "lr", lr, "0 < lr < ∞")
    require(batch_size >= 1, "batch_size", batch_size, "an integer ≥ 1")
    x, y = data
    require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
    model = copy.deepcopy(model)
    works = [_written(layer) for layer in crossbars(model)]
    groups = [_group(layer, lr) for layer in crossbars(model)]
    optimizer = PulseOptimizer(groups, pulses, g_min=0.0, g_max=1.0, rounding="stochastic", seed=seed)
    conductances = [layer.conductance for layer in crossbars(model)]
    generator, batches = torch.Generator().manual_seed(seed), list[Tensor]()
    with evaluating(model):
        for _ in range(iterations):
            batches = batches or list(torch.split(torch.randperm(len(x), generator=generator), batch_size))
            index = batches.pop(0)
            loss = F.cross_entropy(model(x[index]), y[index])
            gradients = torch.autograd.grad(loss, conductances)
            for g, gradient, working in zip(conductances, gradients, works, strict=True):
                g.grad = gradient * working
            optimizer.step()
            optimizer.zero_grad()
    return Updated(model, int(optimizer.pulses()), int(optimizer.writes()))


def _written(layer: Crossbar) -> Tensor:
    """Give ``layer`` the conductances that its cells have in place of its weights, on a device without
    errors, and return which cells are not stuck: those in which what is asked for makes a difference."""
    hardware = layer.hardware
    shared = hardware.array.reference_is_cells
    require(not shared, "reference_device", "cell", "'resistor', for updates on the device")
    if not layer.in_array:
        in_array = program(layer.plain, hardware, train="conductance")
        del layer.weight
        layer.conductance = nn.Parameter(in_array.get_parameter("conductance").detach())
    layer.hardware = replace(hardware, circuit=Ideal())
    obtained = layer.read()[1].cells
    (gain,) = torch.autograd.grad(obtained.sum(), layer.conductance)
    layer.hardware = replace(hardware, device=Device())
    layer.conductance = nn.Parameter(obtained.detach())
    return gain != 0


def _group(layer: Crossbar, lr: float) -> dict[str, Any]:
    """Options of the pulses for ``layer``; the rate is that of its weights in terms of its conductances."""
    array = layer.hardware.array
    scale = float(array.target(torch.zeros_like(layer.conductance[0, 0])).scale)
    options = {"g_min": array.g_min, "g_max": array.g_max, "lr": lr * scale**2}
    return {"params": [layer.conductance], "weight_dim": len(layer.weight_shape), **options}
