r"""Imperfection-tolerant training: a network retrained on the chip that it is for, whose errors are known.

Song et al., *ITT-RNA* (TCAD 2021), after Chen et al. (DATE 2017). Of ITT-RNA only the abstract is known to
us: off-device training that keeps large weights away from imperfect cells by "self-healing", a "dynamic
adjustment" for deep perceptrons, and a co-design with a few on-device iterations for convolutional networks.
What stands here is a reconstruction (derived): :func:`~.mapped` moves the weights, and then

* :class:`Retraining` trains on the held chip, off the device, through what its cells make of each weight;
* :func:`adjusted` maps and retrains layer by layer from the input, each layer knowing what those before it
  do wrong: our reading of the dynamic adjustment;
* :func:`on_device` writes a few updates into the array itself, with the noise of writing, and counts them.

:func:`frozen` is the baseline of DATE 2017, iterative freezing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from cimlib.chip.crossbar import Crossbar, Reading, crossbars
from cimlib.chip.layers import by_column
from cimlib.devices.defects import FaultMap
from cimlib.devices.effects import Device, require, straight_through
from cimlib.methods.mapping import mapped
from cimlib.methods.placement_costs import Weighting, sensitivity
from cimlib.training.fit import History, fit
from cimlib.training.objectives import Batch, CrossEntropy, labelled

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
        scale: see :class:`~.CrossEntropy`.

    Raises ``ValueError`` for arguments out of range and, before training, for a penalty in a network that is
    trained in its arrays: its conductances are no weights, and train as they do without this objective.
    """

    def __init__(self, penalty: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(scale)
        require(0 <= penalty < float("inf"), "penalty", penalty, "0 ≤ penalty < ∞")
        self.penalty = penalty

    def setup(self, model: nn.Module) -> None:
        in_array = [layer.name for layer in crossbars(model) if layer.in_array]
        said = f"0 for conductances, in layers {in_array}; weights: program(..., train='weight')"
        require(not (self.penalty and in_array), "penalty", self.penalty, said)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        layers = [layer for layer in crossbars(model) if not layer.in_array]
        penalties = []
        try:
            for layer in layers:
                layer.reading, gain = _through(layer)
                penalties.append((layer.asked.abs() * (1 - gain).abs().clamp(max=1)).sum())
            loss = super().__call__(model, batch)
            return loss + self.penalty * torch.stack(penalties).sum() if self.penalty else loss
        finally:
            for layer in layers:
                layer.reading = None


def _through(layer: Crossbar) -> tuple[Reading, Tensor]:
    """The reading of ``layer`` with the gain of each weight as its gradient, and the gain."""
    weight, g, z = layer.read()
    (gain,) = torch.autograd.grad(weight.sum(), layer.weight, retain_graph=True)
    gain = by_column(layer.plain, gain)
    gain = torch.where(gain.abs() < _NOTHING, 0.0, gain)
    return (straight_through(weight, layer.asked * gain), g, z), gain


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
    histories: list[History] | None = None,
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
        lr, seed, batch_size: see :func:`~.fit`.
        known, power, spares: see :func:`~.mapped`.
        weighting: likewise, or the kind of a :func:`~.sensitivity`, on the training data.
        penalty: see :class:`Retraining`.
        histories: to which those of the stages are added, in their order.

    Raises ``ValueError`` as these do.
    """
    kinds = ("uniform", "magnitude", "gradient", "fisher")
    require(weighting in kinds, "weighting", weighting, ", ".join(map(repr, kinds)))
    labelled(data)
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
        history = fit(model, objective, data, epochs=epochs, lr=lr, seed=seed + stage, batch_size=batch_size)
        if histories is not None:
            histories.append(history)
    return model


def _named(model: nn.Module, name: str) -> Crossbar:
    (layer,) = (layer for layer in crossbars(model) if layer.name == name)
    return layer
