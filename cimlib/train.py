"""One training loop for every method; a method is an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.devices import require
from cimlib.models import evaluating

Batch = tuple[Tensor, Tensor]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


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
    then the sum over replicas of each one's mean, so that each trains as if alone.

    Args:
        scale: factor of the logits, > 0. Voltages end at the rails, so that behind amplifiers logits in
            units of the input span cannot grow until the softmax is sharp; ``scale`` sharpens it.

    Raises ``ValueError`` for a ``scale`` out of range.
    """

    def __init__(self, scale: float = 1.0) -> None:
        require(0 < scale < float("inf"), "scale", scale, "0 < scale < ∞")
        self.scale = scale

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        logits = model(x).flatten(0, -2)
        if self.scale != 1:
            logits = self.scale * logits
        return F.cross_entropy(logits, y.flatten(), reduction="sum") / len(y)


@dataclass
class History:
    """``loss`` (epochs,): mean over batches; ``validation`` (epochs,): accuracy, %, if asked for."""

    loss: list[float] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Top-1 accuracy, %, in evaluation mode: a scalar, or (S,) for replicas with y (n, S)."""
    with evaluating(model):
        hit: Tensor = (model(x).argmax(-1) == y).float().mean(0)
    return 100 * hit


def fit(
    model: nn.Module,
    objective: Objective,
    data: Batch,
    *,
    epochs: int,
    lr: float,
    seed: int,
    batch_size: int = 128,
    validation: Batch | None = None,
    optimizer: OptimizerFactory | None = None,
    cosine: bool = False,
) -> History:
    """Train ``model`` in place.

    Args:
        objective: the method; see :class:`Objective`.
        data: x (n, ...) and y (n, ...); shuffled anew each epoch, split along the first dimension.
        epochs, lr, batch_size: schedule; ``lr`` for Adam unless ``optimizer`` is given.
        seed: of the shuffling, which uses a generator of its own.
        validation: scored after every epoch if given.
        optimizer: from parameters to optimiser, in place of Adam.
        cosine: let the learning rate fall to zero along a half cosine, batch by batch.

    Raises ``ValueError`` for arguments out of range and ``FloatingPointError`` as soon as the loss
    is not finite, naming epoch and batch.
    """
    x, y = data
    require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
    require(epochs >= 0, "epochs", epochs, "an integer ≥ 0")
    require(batch_size >= 1, "batch_size", batch_size, "an integer ≥ 1")
    require(0 < lr < float("inf"), "lr", lr, "0 < lr < ∞")
    shuffle = torch.Generator().manual_seed(seed)
    history = History()
    objective.setup(model)
    try:
        parameters = list(objective.parameters(model))
        step = torch.optim.Adam(parameters, lr) if optimizer is None else optimizer(parameters)
        batches = -(-len(x) // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, epochs * batches) if cosine else None
        model.train()
        for epoch in range(epochs):
            total = 0.0
            for i, index in enumerate(torch.split(torch.randperm(len(x), generator=shuffle), batch_size)):
                step.zero_grad()
                loss = objective(model, (x[index], y[index]))
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"loss = {loss.item()} at epoch {epoch}, batch {i}")
                torch.autograd.backward(loss)
                step.step()
                if schedule is not None:
                    schedule.step()
                total += loss.item()
            history.loss.append(total / batches)
            if validation is not None:
                history.validation.append(accuracy(model, *validation).reshape(-1).tolist())
    finally:
        objective.teardown(model)
    return history
