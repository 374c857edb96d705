"""What a network is trained for: a method is an objective."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.devices.effects import require

Batch = tuple[Tensor, Tensor]


class Objective:
    """A method of training: a loss, what it trains, and what it adds to the network meanwhile.

    ``setup`` may change the network before training and ``teardown`` must undo it; ``parameters``
    are those to train; calling gives the loss of a batch, a scalar tensor.
    """

    def setup(self, model: nn.Module) -> None:
        """Prepare ``model``; nothing by default."""

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """Parameters to train; all by default."""
        return model.parameters()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss of ``batch``."""
        raise NotImplementedError

    def teardown(self, model: nn.Module) -> None:
        """Undo :meth:`setup`; nothing by default."""


class CrossEntropy(Objective):
    """Mean cross-entropy of the logits: plain training, and noise injection on a fresh network.

    Logits (batch, classes) with labels (batch,), or of replicas (batch, S, classes) with (batch, S):
    then the sum over replicas of each one's mean, so that each trains as if alone. Of sequences and images
    likewise the sum over all positions; see :func:`classified` for their shapes.

    Args:
        scale: factor of the logits, > 0. Voltages end at the rails, so that behind amplifiers logits in
            units of the input span cannot grow until the softmax is sharp; ``scale`` sharpens it.

    Raises ``ValueError`` for a ``scale`` out of range, and at the first batch for outputs and labels that are
    no classification.
    """

    def __init__(self, scale: float = 1.0) -> None:
        require(0 < scale < float("inf"), "scale", scale, "0 < scale < ∞")
        self.scale = scale

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        logits, labels = classified(model(x), y)
        if self.scale != 1:
            logits = self.scale * logits
        return F.cross_entropy(logits, labels, reduction="sum") / len(y)


class Penalised(Objective):
    r"""Another objective and an L1 penalty on the weights: :math:`\mathcal L + \lambda \sum |w|`.

    Over all weights of layers, those of a bias row with them; digital biases are none. Behind amplifiers it
    is a tolerance of offsets (derived): a converter multiplies its own by the noise gain, which is
    :math:`1 + \sum |w|` of its side where :math:`|w| = 1` is the feedback and cells of no weight are open.

    Args:
        objective: what is penalised.
        l1: λ ≥ 0; at 0 the loss is the other's.

    Raises ``ValueError`` for an ``l1`` out of range and, before training, for a network that is trained in
    its arrays: its conductances are no weights.
    """

    def __init__(self, objective: Objective, l1: float) -> None:
        require(0 <= l1 < float("inf"), "l1", l1, "0 ≤ l1 < ∞")
        self.objective, self.l1 = objective, l1

    def setup(self, model: nn.Module) -> None:
        in_array = [name for name, _ in model.named_parameters() if name.endswith("conductance")]
        require(not (self.l1 and in_array), "model", in_array, "a network whose weights are its parameters")
        self.objective.setup(model)

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return self.objective.parameters(model)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = self.objective(model, batch)
        if not self.l1:
            return loss
        weights = [p for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1]
        return loss + self.l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()

    def teardown(self, model: nn.Module) -> None:
        self.objective.teardown(model)


def labelled(data: Batch) -> Batch:
    """``data`` itself, samples x (n, ...) and labels y (n, ...), if one can compute with it.

    Raises ``TypeError`` for what is no pair of tensors, ``ValueError`` for unequal or no samples and for
    samples that are not finite.
    """
    pair = isinstance(data, (tuple, list)) and [isinstance(part, Tensor) for part in data] == [True, True]
    if not pair:
        raise TypeError(f"data = a {type(data).__name__} is not allowed; allowed: a pair of tensors (x, y)")
    x, y = data
    require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
    require_finite_samples(x)
    return x, y


def require_finite_samples(x: Tensor) -> None:
    """Raise ``ValueError`` for samples ``x`` (n, ...) with a NaN or an infinity, or for none at all."""
    require(len(x) > 0, "len(x)", len(x), "> 0")
    finite = x.isfinite().flatten(1).all(1) if x.dim() > 1 else x.isfinite()
    bad = int((~finite).sum())
    require(bad == 0, "x", f"not finite in {bad} of {len(x)} samples", "finite numbers")


def class_dim(shape: tuple[int, ...], labels: tuple[int, ...]) -> int:
    """The dimension of outputs of ``shape`` in which the classes are, −1 or 1.

    Args:
        labels: their shape: (n, ...) for outputs (n, ..., classes), the classes last wherever that fits, or
            (n, height, width) for outputs (n, classes, height, width), as in torch's cross-entropy.

    Raises ``ValueError`` for a single logit, for labels of any other shape, and for images of as many
    positions in a row and a column as classes, of which it cannot be told.
    """
    require(
        len(shape) >= 2, "shape of the output", shape, "(n, classes), (n, ..., classes), (n, classes, ...)"
    )
    last, second = shape[:-1] == labels, (shape[0], *shape[2:]) == labels
    allowed = f"{shape[:-1]} or {(shape[0], *shape[2:])} for outputs {shape}; y.squeeze(1) for labels (n, 1)"
    require(last or second, "shape of y", labels, allowed)
    clear = len(shape) < 4 or last != second
    require(clear, "shape of the output", shape, "not as many classes as positions: which are which?")
    classes = shape[-1] if last else shape[1]
    require(classes > 1, "classes", classes, "two or more: of one logit the cross-entropy is always 0")
    return -1 if last else 1


def positions(logits: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (m, classes) and labels (m,) int64 of everything that is classified, whatever the labels are.

    Args:
        logits: (n, classes) with labels (n,); of replicas and sequences (n, S, classes) with (n, S); of
            images (n, classes, height, width) with (n, height, width).

    Raises ``ValueError`` as :func:`class_dim` does, and for labels that are no whole numbers.
    """
    tensor = isinstance(logits, Tensor)
    require(tensor, "output", type(logits).__name__, "a tensor (n, classes), or an objective of your own")
    whole = not (y.is_floating_point() or y.is_complex())
    require(whole, "dtype of y", y.dtype, "whole numbers, the classes, or an objective of your own")
    dim = class_dim(tuple(logits.shape), tuple(y.shape))
    return logits.movedim(dim, -1).flatten(0, -2), y.flatten().long()


def require_classes(y: Tensor, classes: int) -> None:
    """Raise ``ValueError`` for labels ``y`` that are not among 0 … ``classes`` − 1."""
    found = y[(y < 0) | (y >= classes)][:1].tolist()
    require(not found, "label", found, f"0 … {classes - 1}, or an objective of your own")


def classified(logits: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`positions`, which see; raises ``ValueError`` for labels that are no classes, too."""
    logits, y = positions(logits, y)
    require_classes(y, logits.shape[-1])
    return logits, y
