"""One training loop for every method; a method is an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cimlib.devices.effects import require
from cimlib.networks.participation import none_left_out, verify
from cimlib.networks.plain import evaluating
from cimlib.training.objectives import Batch, Objective, class_dim

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass
class History:
    """``loss`` (epochs,): mean over batches; ``validation`` (epochs,): accuracy, %, if asked for."""

    loss: list[float] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)


@torch.no_grad()
def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Whether each prediction is right, in evaluation mode: bool like y, (n,), or (n, S) for replicas.

    Raises ``ValueError`` for labels that are not those of a classification, see :func:`class_dim`, and
    ``FloatingPointError`` for outputs that are not finite.
    """
    with evaluating(model):
        logits = model(x)
    dim = class_dim(tuple(logits.shape), tuple(y.shape))
    if not bool(logits.isfinite().all()):
        raise FloatingPointError("outputs are not finite: look at the weights and the inputs before them")
    hits: Tensor = logits.argmax(dim) == y
    return hits


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Top-1 accuracy, %, in evaluation mode: a scalar, or (S,) for replicas with y (n, S).

    Raises as :func:`right` does.
    """
    hit: Tensor = right(model, x, y).float().mean(0)
    return 100 * hit


def fit(
    model: nn.Module,
    objective: Objective,
    data: Batch | Iterable[Batch],
    *,
    epochs: int,
    lr: float,
    seed: int,
    batch_size: int | None = None,
    validation: Batch | None = None,
    optimizer: OptimizerFactory | None = None,
    cosine: bool = False,
) -> History:
    """Train ``model`` in place.

    Args:
        objective: the method; see :class:`Objective`.
        data: x (n, ...) and y (n, ...), shuffled anew each epoch, split along the first dimension; or a
            ``DataLoader`` (anything that gives such pairs, anew each epoch), which shuffles as it is told.
        epochs, lr: schedule; ``lr`` for Adam unless ``optimizer`` is given.
        seed: of the shuffling, which uses a generator of its own; within a loader, of torch's global one,
            which is put back afterwards.
        batch_size: default 128; a loader has its own.
        validation: scored after every epoch if given.
        optimizer: from parameters to optimiser, in place of Adam.
        cosine: let the learning rate fall to zero along a half cosine, batch by batch.

    Raises ``ValueError`` for arguments out of range and for weights or conductances that cannot be computed
    with, ``RuntimeError`` if a layer on hardware is not called in the first batch, and ``FloatingPointError``
    as soon as the loss is not finite, naming epoch and batch.
    """
    whole = isinstance(epochs, int) and not isinstance(epochs, bool) and epochs >= 0
    require(whole, "epochs", epochs, "an integer ≥ 0")
    require(0 < lr < float("inf"), "lr", lr, "0 < lr < ∞")
    batches, count = _batches(data, batch_size, seed)
    require(count > 0 or not cosine, "cosine", cosine, "False for a loader that does not know its length")
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective = {objective!r} is not allowed; allowed: an Objective, such as CrossEntropy()"
        )
    verify(model)
    history = History()
    objective.setup(model)
    try:
        parameters = list(objective.parameters(model))
        trained = any(parameter.requires_grad for parameter in parameters)
        require(trained, "model", "nothing that requires a gradient", "parameters to train")
        step = torch.optim.Adam(parameters, lr) if optimizer is None else optimizer(parameters)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, epochs * count) if cosine else None
        model.train()
        for epoch in range(epochs):
            total, i = 0.0, -1
            for i, batch in enumerate(batches()):
                step.zero_grad()
                with none_left_out(model) if epoch == i == 0 else nullcontext():
                    loss = objective(model, batch)
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"loss = {loss.item()} at epoch {epoch}, batch {i}")
                torch.autograd.backward(loss)
                step.step()
                if schedule is not None:
                    schedule.step()
                total += loss.item()
            require(i >= 0, "data", "an empty loader", "at least one batch")
            history.loss.append(total / (i + 1))
            if validation is not None:
                history.validation.append(accuracy(model, *validation).reshape(-1).tolist())
    finally:
        objective.teardown(model)
    return history


def _batches(
    data: Batch | Iterable[Batch], size: int | None, seed: int
) -> tuple[Callable[[], Iterator[Batch]], int]:
    """What gives the batches of one epoch, and how many they are, 0 if a loader does not know."""
    positive = size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 1)
    require(positive, "batch_size", size, "an integer ≥ 1, or None")
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(one, Tensor) for one in data):
        x, y = data
        own = 128 if size is None else size
        require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
        shuffle = torch.Generator().manual_seed(seed)

        def shuffled() -> Iterator[Batch]:
            for index in torch.split(torch.randperm(len(x), generator=shuffle), own):
                yield x[index], y[index]

        return shuffled, -(-len(x) // own)
    require(size is None, "batch_size", size, "None: a loader has its own")
    again = hasattr(data, "__iter__") and not hasattr(data, "__next__")
    require(
        again, "data", type(data).__name__, "x and y, or a DataLoader that can be gone through each epoch"
    )
    loader: Iterable[Batch] = data  # type: ignore[assignment]
    state = torch.Generator().manual_seed(seed).get_state()

    def loaded() -> Iterator[Batch]:
        nonlocal state
        batches: Iterator[Batch] | None = None
        batch: Batch | None = None
        while batches is None or batch is not None:
            with torch.random.fork_rng(devices=()):  # a loader draws its order when it is asked
                torch.set_rng_state(state)
                batches = iter(loader) if batches is None else batches
                batch = next(batches, None)
                state = torch.get_rng_state()
            if batch is not None:
                yield batch

    return loaded, len(data) if isinstance(data, Sized) else 0
