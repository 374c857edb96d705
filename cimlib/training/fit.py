"""One training loop for every method; a method is an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cimlib.devices.effects import require
from cimlib.networks.plain import evaluating
from cimlib.training.objectives import Batch, Objective

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


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
