"""A gain and an offset for each column in closed form: what every trained digital stage has to beat.

Per-column calibration of gain and offset is common practice for analog arrays. Here it is fitted to what
:func:`~.distil` is trained with, the features of a teacher for a few samples, so that both know the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from cimlib.chip.attachment import adapters
from cimlib.chip.crossbar import crossbars
from cimlib.chip.stages import Affine
from cimlib.devices.effects import require
from cimlib.methods.distillation import _seen
from cimlib.training.objectives import require_finite_samples

_CONSTANT = 1e-5  # deviations from a mean, relative to the largest output, that are taken for rounding


@torch.no_grad()
def regress_columns(
    model: nn.Module, teacher: nn.Module, x: Tensor, *, inputs: Literal["student", "teacher"] = "student"
) -> nn.Module:
    r"""Set the :class:`~.Affine` stages of ``model`` by ordinary least squares (in place; returned).

    Layer by layer in the order in which they run, and column by column,

    .. math:: a = \frac{\sum (y - \bar y)(Y - \bar Y)}{\sum (y - \bar y)^2}, \qquad
        c = \bar Y - \text{bias} - a\,(\bar y - \text{bias})

    minimise :math:`\sum (a\,(y - \text{bias}) + \text{bias} + c - Y)^2`, with y what the stage is given and Y
    the output of the teacher's layer, over all samples and positions of the column; in a convolution a column
    is an output channel. Sums are in double precision. A common factor in front of a column changes nothing,
    so that no drift compensation is needed before it. Nothing else changes; BatchNorm and dropout are in
    evaluation mode.

    **A column that is constant**, y deviating from its mean by no more than rounding, has no gain to be told
    from its offset: a = 1, and c makes the means equal.

    Args:
        model: a network on hardware that holds a chip. Behind several stages of a layer the last
            :class:`~.Affine` is set; a layer without one stays as it is.
        teacher: a network with the same names of layers, as a rule the digital one; it is not changed.
        x: (n, ...), calibration samples; each array is given each of them once.
        inputs: what a layer is given: ``"student"``: what it gets in ``model`` with the layers before it
            calibrated; ``"teacher"``: what it gets in ``teacher``.

    Raises ``ValueError`` for arguments out of range, a network with fresh errors at every pass or without
    such stages, and layers that the teacher does not have or that do not run exactly once.
    """
    require(inputs in ("student", "teacher"), "inputs", inputs, "'student', 'teacher'")
    held = all(layer.generator is None for layer in crossbars(model))
    require(held, "model", "a fresh network", "one that holds a chip: fabricate(model, chip)")
    require_finite_samples(x)
    stages = {
        name: part
        for name, stage in adapters(model).items()
        for part in stage.modules()
        if isinstance(part, Affine)
    }
    require(
        bool(stages), "model", type(model).__name__, "a network with Affine stages: attach(model, Affine)"
    )
    named = dict(teacher.named_modules())
    require(set(stages) <= set(named), "teacher", sorted(named), f"a network with layers {sorted(stages)}")
    taught = _seen(teacher, {name: named[name] for name in stages}, x)
    handles = [stage.register_forward_pre_hook(_set(taught[name][-1])) for name, stage in stages.items()]
    try:
        if inputs == "student":
            _seen(model, stages, x)  # a stage is set as soon as its layer has run, before the next one does
        else:
            for name, stage in stages.items():
                _seen(stage.layer, {name: stage}, taught[name][0])
    finally:
        for handle in handles:
            handle.remove()
    return model


def _set(target: Tensor) -> Callable[[Affine, tuple[Tensor, Tensor]], None]:
    """A hook that sets a stage, before it runs, to give ``target`` (batch, ..., out) or (batch, out, ...)."""

    def hook(stage: Affine, inputs: tuple[Tensor, Tensor]) -> None:
        layer = stage.layer
        dim = 1 - len(layer.weight_shape)  # of the columns
        y, wanted = (each.movedim(dim, -1).flatten(0, -2).double() for each in (inputs[1], target))
        mean, wanted_mean = y.mean(0), wanted.mean(0)
        apart = y - mean
        constant = apart.abs().amax(0) <= _CONSTANT * y.abs().amax(0)
        gain = (apart * (wanted - wanted_mean)).sum(0) / apart.square().sum(0)
        gain = torch.where(constant, 1.0, gain)
        bias = 0.0 if layer.bias is None else layer.bias.double()
        stage.gain.copy_(gain)
        stage.offset.copy_(wanted_mean - bias - gain * (mean - bias))

    return hook
