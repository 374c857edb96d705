"""What calibration has to beat: drift compensation by measured factors, and new BatchNorm statistics."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from cimlib.chip.attachment import attach
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.layers import CONVOLUTION, require_untransposed
from cimlib.chip.stages import Adapter, Scale
from cimlib.devices.effects import require, require_whole
from cimlib.methods.distillation import _seen
from cimlib.networks.plain import BATCH_NORMS, evaluating
from cimlib.training.objectives import require_finite_samples

_DARK = 1e-4  # least mean magnitude of a read-out: no line is amplified without end


@dataclass(frozen=True)
class _Rows:
    """The cells of an array read row by row: its linear map for one-hot inputs, without stride or padding."""

    x: Tensor

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        x = self.x if x is None else x
        return (
            F.linear(x, weight, bias) if weight.dim() == 2 else CONVOLUTION[weight.dim() - 2](x, weight, bias)
        )


def _magnitude(layer: Crossbar, x: Tensor | None, per: str) -> Tensor:
    """Mean |output| of the array of ``layer``, (1,) or (out,), without its bias; ``None``: row by row."""
    if x is None:
        rows = layer.weight_shape[1:]
        weight, g, z = layer.read()
        every = torch.eye(prod(rows)).to(weight).reshape(-1, *rows)
        y = layer.hardware.circuit(_Rows(every), layer.hardware.array, g, weight, None, z)
    else:
        y = layer(x)
        if layer.bias is not None:
            y = y - layer.bias.reshape(-1, *[1] * (len(layer.weight_shape) - 2))
    columns = y.abs().movedim(1 - len(layer.weight_shape), -1).flatten(0, -2)
    mean = columns.mean(0) if per == "column" else columns.mean().reshape(1)
    return mean.clamp(min=_DARK)


@torch.no_grad()
def compensate(
    model: nn.Module,
    reference: nn.Module,
    x: Tensor | None = None,
    *,
    per: Literal["layer", "column"] = "layer",
) -> nn.Module:
    r"""Attach drift compensation: each layer's output times how much it has faded (in place; returned).

    .. math:: \hat\alpha = \overline{|Y(t_0)|} \,/\, \overline{|Y(t)|}

    of the same inputs to the same array, just programmed and now, biases excluded, both means at least
    :math:`10^{-4}` (read in public code of aihwkit; one factor for a tile there, for a whole layer here).

    Args:
        model: a network on hardware, without digital stages.
        reference: the same network on the same chip when it had just been programmed; it is not changed.
        x: (n, ...), inputs of the network; every layer is read with what it receives in ``reference``, now
            as then. ``None``: one-hot inputs of 1 to one row after the other, as in the code; then both are
            means of the magnitudes of weights. (Its documentation speaks of inputs that are all ones.)
        per: one factor for a ``"layer"``, or for each ``"column"``.

    Raises ``ValueError`` for arguments out of range, a network with stages or transposed convolutions, and
    layers that differ.
    """
    require(per in ("layer", "column"), "per", per, "'layer', 'column'")
    for name, network in (("model", model), ("reference", reference)):
        bare = all(layer.digital is None for layer in crossbars(network))
        require(bare, name, "a network with digital stages", "one without: detach(model)")
    for layer in crossbars(model):
        require_untransposed(layer.plain, layer.name, "compensation")
    then = {layer.name: layer for layer in crossbars(reference)}
    shapes = {layer.name: layer.weight_shape for layer in crossbars(model)}
    same = shapes == {name: layer.weight_shape for name, layer in then.items()}
    require(same, "reference", sorted(then), f"a network with the layers {sorted(shapes)}")
    inputs: dict[str, Tensor] = {}
    if x is not None:
        require_finite_samples(x)
        inputs = {name: found[0] for name, found in _seen(reference, then, x).items()}

    def factor(layer: Crossbar) -> Adapter:
        given = inputs.get(layer.name)
        return Scale(layer, _magnitude(then[layer.name], given, per) / _magnitude(layer, given, per))

    return attach(model, factor)


@torch.no_grad()
def recalibrate_batchnorm(model: nn.Module, x: Tensor, *, batch_size: int | None = None) -> int:
    """Find the running statistics of every BatchNorm anew, on calibration samples (in place).

    Args:
        model: any network with BatchNorm; nothing else of it changes.
        x: (n, ...), calibration samples; no labels are used.
        batch_size: most samples of a forward pass, ≥ 1; statistics are the plain mean over the passes, in
            each of which layers see inputs normalised by their own batch. Default all at once.

    Returns how many numbers would be stored, a mean and a variance for each channel. Raises ``ValueError``
    for arguments out of range, a model without BatchNorm that tracks statistics, one that a pass does not
    call, and (torch) a single value for a channel, of which there is no variance; the statistics are then
    what they were.
    """
    require_finite_samples(x)
    size = len(x) if batch_size is None else batch_size
    require_whole("batch_size", size, 1)
    norms = tracking(model)
    before = [(norm.momentum, copy.deepcopy(norm.state_dict())) for norm in norms.values()]
    done = False
    try:
        with evaluating(model):
            for norm in norms.values():
                norm.reset_running_stats()
                norm.momentum = None  # torch: the cumulative average
                norm.train()
            for batch in torch.split(x, size):
                model(batch)
        never = [name for name, norm in norms.items() if not norm.num_batches_tracked]
        require(not never, "model", f"BatchNorm that a pass does not call: {never}", "layers that are called")
        done = True
    finally:
        for norm, (momentum, old) in zip(norms.values(), before, strict=True):
            norm.momentum = momentum
            if not done:
                norm.load_state_dict(old)
    return sum(2 * norm.num_features for norm in norms.values())


@torch.no_grad()
def mix_batchnorm(model: nn.Module, x: Tensor, mix: float, *, batch_size: int | None = None) -> int:
    r"""Move the running statistics of every BatchNorm towards those of calibration samples (in place).

    .. math:: \mu = (1 - \alpha)\,\mu_\text{old} + \alpha\,\mu_\text{new}, \qquad
        \sigma^2 = (1 - \alpha)\,\sigma^2_\text{old} + \alpha\,\sigma^2_\text{new}

    The new ones come of few samples and the old ones of many, so that a mean of both may err less than
    either; a common remedy for shifted inputs, as in Schneider et al. (NeurIPS 2020).

    Args:
        mix: α, 0 < α ≤ 1; with 1 it is :func:`recalibrate_batchnorm`, bit for bit, whose arguments the other
            ones are.

    Returns and raises as :func:`recalibrate_batchnorm`, and ``ValueError`` for another ``mix``.
    """
    require(0 < mix <= 1, "mix", mix, "0 < mix ≤ 1")
    statistics = [
        value
        for norm in tracking(model).values()
        for value in (norm.running_mean, norm.running_var)
        if value is not None
    ]
    old = [value.clone() for value in statistics]
    stored = recalibrate_batchnorm(model, x, batch_size=batch_size)
    for value, before in zip(statistics, old, strict=True):
        value.lerp_(before, 1 - mix)
    return stored


def tracking(model: nn.Module) -> dict[str, _BatchNorm]:
    """BatchNorms of ``model`` with running statistics, by name. Raises ``ValueError`` if there is none."""
    norms: dict[str, _BatchNorm] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    }
    require(bool(norms), "model", type(model).__name__, "a network with BatchNorm that tracks statistics")
    return norms
