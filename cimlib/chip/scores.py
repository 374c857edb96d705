"""What a batch of outputs is worth: right predictions, the divergence from the labels, or a metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cimlib.devices.effects import is_finite, require


class Metric(Protocol):
    """A metric in the manner of torchmetrics: batches are added, and one value comes out of all of them."""

    def update(self, preds: Any, target: Tensor) -> None: ...

    def compute(self) -> Any: ...

    def reset(self) -> None: ...


Score = Metric | Callable[[Any, Tensor], Any]


def require_finite(output: Any, what: str) -> None:
    """Raise ``FloatingPointError`` if a tensor in ``output`` holds a NaN or an infinity; ``what`` it is."""
    for value in pytree.tree_leaves(output):
        if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
            continue
        if not is_finite(torch.view_as_real(value.resolve_conj()) if value.is_complex() else value):
            row = int((~value.isfinite()).flatten(1).any(1).nonzero()[0]) if value.dim() > 1 else 0
            raise FloatingPointError(
                f"{what} is not finite, first in row {row} of its batch: look at the weights, inputs and "
                "conductances before it"
            )


def classes_last(logits: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (m, classes) and labels (m,) of classifications of whatever is classified.

    Args:
        logits: (n, classes) with labels (n,); of sequences (n, T, classes) with (n, T); of images
            (n, classes, height, width) with (n, height, width), as in torch's cross-entropy.

    Raises ``ValueError`` for a single logit, labels of another shape or type, or that are no classes, and
    where it cannot be told which dimension are the classes.
    """
    is_tensor = isinstance(logits, Tensor) and logits.dim() >= 2
    what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    require(is_tensor, "output", what, f"a tensor (n, classes), {_OWN}")
    whole = not y.is_floating_point() and y.dtype != torch.bool and not y.is_complex()
    require(whole, "dtype of y", y.dtype, f"whole numbers, the classes, {_OWN}")
    shape, labels = tuple(logits.shape), tuple(y.shape)
    last, second = shape[:-1] == labels, (shape[0], *shape[2:]) == labels
    allowed = f"{shape[:-1]} or {(shape[0], *shape[2:])} for outputs {shape}; y.squeeze(1) for labels (n, 1)"
    require(last or second, "shape of y", labels, allowed)
    clear = last != second or len(shape) == 2
    require(clear, "output", shape, f"not as many classes as positions, for which are which?; {_OWN}")
    if not last:
        logits = logits.movedim(1, -1)
    classes = logits.shape[-1]
    require(classes > 1, "classes", classes, f"two or more; one logit: {_OWN}")
    logits, y = logits.reshape(-1, classes), y.reshape(-1).long()
    outside = y[(y < 0) | (y >= classes)]
    found = outside[:1].tolist()
    require(not found, "labels", found, f"0 … {classes - 1}; to leave some out, {_OWN}")
    return logits, y


_OWN = "or a metric of your own: evaluate(..., metric=...)"


@dataclass
class Classification:
    """Right predictions, and the sum of −log p(label) over them, batch by batch; ``hits`` of inputs that have
    one label each, whether the prediction was right."""

    counts: list[tuple[int, float]] = field(default_factory=list)
    of: int = 0
    hits: list[Tensor] = field(default_factory=list)

    def add(self, logits: Any, y: Tensor) -> None:
        single = y.dim() == 1
        logits, y = classes_last(logits, y)
        correct = logits.argmax(1) == y
        surprise = nn.functional.cross_entropy(logits[correct], y[correct], reduction="sum")
        self.counts.append((int(correct.sum()), float(surprise)))
        self.of += len(y)
        if single:
            self.hits.append(correct.cpu())


class Measured:
    """The value of a metric, batch by batch, or of a function of all outputs together."""

    def __init__(self, metric: Score) -> None:
        self.metric = metric
        self.whole: list[tuple[Any, Tensor]] = []
        self.added = all(hasattr(metric, name) for name in ("update", "compute", "reset"))
        if self.added:
            metric.reset()  # type: ignore[union-attr]

    def add(self, output: Any, y: Tensor) -> None:
        if self.added:
            self.metric.update(output, y)  # type: ignore[union-attr]
        else:
            tensor = isinstance(output, Tensor)
            require(tensor, "output", type(output).__name__, "a tensor, for a metric that is a function")
            self.whole.append((output, y))

    def value(self) -> float:
        """A finite number. Raises ``ValueError`` if the metric gives something else."""
        if self.added:
            found = self.metric.compute()  # type: ignore[union-attr]
        else:
            outputs, labels = zip(*self.whole, strict=True)
            found = self.metric(torch.cat(outputs), torch.cat(labels))  # type: ignore[operator]
        number = isinstance(found, (int, float)) or getattr(found, "size", None) is not None
        try:
            value = float(found) if number else float("nan")
        except (TypeError, ValueError):
            value = float("nan")
        require(
            value == value and abs(value) != float("inf"), "metric", found, "one that gives a finite number"
        )
        return value
