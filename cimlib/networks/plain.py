"""Plain torch networks; they know nothing of chips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

#: Normalisations whose statistics are of a batch in training, and running ones afterwards.
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode within the context; afterwards every submodule has the mode it had."""
    training = {module: module.training for module in model.modules()}
    mode = model.training
    try:
        yield model.eval()
    finally:
        model.train(mode)
        for module, own in training.items():
            module.training = own


def linear(weight: nn.Parameter, bias: nn.Parameter | None = None) -> nn.Linear:
    """A linear layer with just these parameters: ``weight`` (out, in), ``bias`` (out,) or none."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")  # draws nothing
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


class BiasRow(nn.Module):
    """Appends a constant 1 to the inputs, (..., n) → (..., n + 1): the bias becomes a row of the array."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, torch.ones_like(x[..., :1])), -1)


def mlp(*widths: int, bias: bool | Literal["row"] = True, seed: int | None = None) -> nn.Sequential:
    """A multilayer perceptron with ReLU between layers, flattening its input.

    Args:
        widths: inputs, hidden layers, outputs: ``mlp(4, 8, 3)`` has two linear layers.
        bias: whether the linear layers have one; ``"row"``: as weights of a constant input, so that
            it lies in the array with the others.
        seed: of the initial weights; ``None`` takes torch's global generator.

    Raises ``ValueError`` for fewer than two widths, one that is not positive, or an unknown ``bias``.
    """
    if bias not in (True, False, "row"):
        raise ValueError(f"bias = {bias!r} is not allowed; allowed: True, False, 'row'")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths = {widths} is not allowed; allowed: at least two integers ≥ 1")
    with torch.random.fork_rng(devices=(), enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            layers += [nn.ReLU()] if i else []
            if bias == "row":
                layers += [BiasRow(), nn.Linear(fan_in + 1, fan_out, bias=False)]
            else:
                layers.append(nn.Linear(fan_in, fan_out, bias=bias))
    return nn.Sequential(*layers)
