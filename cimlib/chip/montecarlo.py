"""Monte Carlo evaluation: one accuracy per chip, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn, split

from cimlib.chip.calibration import watching_converters
from cimlib.chip.crossbar import fabricated
from cimlib.chip.fabrication import reading_chip
from cimlib.chip.scores import Classification, Measured, Score, require_finite
from cimlib.devices.effects import require
from cimlib.networks.participation import none_left_out, verify
from cimlib.networks.plain import evaluating

Values = NDArray[np.float64]

Batch = tuple[Any, Tensor]


def interval(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent ``values`` (n,): (low, high).

    ``(nan, nan)`` for n < 2, where nothing is known of the spread; zero width if all are equal.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / n**0.5
    return float(np.mean(values) - half), float(np.mean(values) + half)


@dataclass(frozen=True)
class PerChip:
    """One number a chip. ``values`` (chips,), in points or in the unit of a metric.

    Subtracting two of them gives their paired :class:`Difference`; it raises ``ValueError`` unless they were
    made on the same chips.
    """

    chips: tuple[int, ...]
    values: Values

    @property
    def mean(self) -> float:
        """Mean over chips."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """Standard deviation over chips (n − 1); nan for one chip."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else float("nan")

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the mean."""
        return interval(self.values)

    def __sub__(self, other: PerChip) -> Difference:
        same = self.chips == other.chips
        require(same, "other.chips", other.chips, f"the same chips {self.chips}: differences are paired")
        return Difference(self.chips, self.values - other.values)

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{self.mean:.4g} [{low:.4g}, {high:.4g}], std {self.std:.2g}, n = {len(self.chips)} chips"


class Difference(PerChip):
    """A paired difference: chip by chip, first minus second."""


@dataclass(frozen=True)
class Evaluation(PerChip):
    """Result of :func:`evaluate`.

    ``accuracy`` (chips,), also ``values``: top-1, %. ``ekl`` (chips,): expected Kullback–Leibler divergence
    between label and softmax output over the *correct* predictions, nats (NFT); nan where none is correct.
    ``right`` (chips, n): whether each input was predicted right, so that an interval may cover the inputs
    too; ``None`` for a loader, whose order is its own, and for inputs of several labels.
    """

    ekl: Values
    right: NDArray[np.bool_] | None = None

    @property
    def accuracy(self) -> Values:
        """(chips,), %."""
        return self.values

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{self.mean:.1f} % [{low:.1f}, {high:.1f}], std {self.std:.1f}, n = {len(self.chips)} chips"


#: Numbers in the inputs of a batch, at most, unless a size is asked for.
BATCH = 2**24


@overload
def evaluate(
    model: nn.Module,
    x: Tensor | Iterable[Batch],
    y: Tensor | None = None,
    chips: Iterable[int] = ...,
    batch_size: int | None = None,
    metric: None = None,
) -> Evaluation: ...


@overload
def evaluate(
    model: nn.Module,
    x: Tensor | Iterable[Batch],
    y: Tensor | None = None,
    chips: Iterable[int] = ...,
    batch_size: int | None = None,
    *,
    metric: Score,
) -> PerChip: ...


def evaluate(
    model: nn.Module,
    x: Tensor | Iterable[Batch],
    y: Tensor | None = None,
    chips: Iterable[int] = range(200),
    batch_size: int | None = None,
    metric: Score | None = None,
) -> PerChip:
    """Accuracy of ``model`` on each of ``chips``, one instance of the errors for all of ``x``.

    Args:
        model: a network on hardware; its held chip and its mode are restored.
        x: (n, ...) inputs, or a ``DataLoader`` (anything that gives pairs of inputs and labels, and the same
            ones whenever it is asked); its order does not matter.
        y: (n,) labels, whole numbers; of a sequence (n, T), of the points of an image (n, height, width),
            see :func:`~.classes_last`. ``None`` with a loader.
        chips: seeds of the chips, at least one, none twice.
        batch_size: inputs per forward pass; default as many as make 2²⁴ numbers. It does not change the
            result.
        metric: in place of accuracy: an object with ``update``, ``compute`` and ``reset``, as torchmetrics
            has them, or a function of all outputs and all labels; it gives one number.

    Raises ``ValueError`` for empty or unequal inputs, no chips, a model that is not on hardware, outputs and
    labels that are no classification, and conductances out of range; ``FloatingPointError`` for inputs,
    weights or outputs that are not finite, before a number is given; ``RuntimeError`` if a layer on hardware
    was not called. Warns if converters of the first chip clip more than a hundredth of a layer's
    signals, see :func:`~.warn_if_clipped`.
    """
    if not isinstance(chips, Iterable):
        raise TypeError(
            f"chips = {chips!r} is not allowed; allowed: seeds of chips, such as range({chips!r})"
        )
    chips = tuple(chips)
    require(len(chips) > 0, "chips", chips, "at least one chip")
    require(len(set(chips)) == len(chips), "chips", chips, "each chip once")
    data = _batches(x, y, batch_size)
    held = [(module, module.held()) for module in fabricated(model)]
    verify(model)
    found: list[Classification] = []
    values: list[float] = []
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=()):
            for number, chip in enumerate(chips):
                measured = Classification() if metric is None else Measured(metric)
                watching = watching_converters(model, stacklevel=2) if number == 0 else nullcontext()
                with reading_chip(model, chip), watching:
                    for batch, (xs, ys) in enumerate(data()):
                        if number == 0:
                            require_finite(xs, f"the input of batch {batch}")
                        with none_left_out(model) if number == batch == 0 else nullcontext():
                            output = model(xs)
                        require_finite(output, f"the output of chip {chip}")
                        measured.add(output, ys)
                if isinstance(measured, Classification):
                    found.append(measured)
                else:
                    values.append(measured.value())
    finally:
        for module, before in held:
            module.restore(before)
    if metric is not None:
        return PerChip(chips, np.asarray(values))
    sizes = {one.of for one in found}
    require(len(sizes) == 1, "x", f"a loader of {sorted(sizes)} samples by chip", "the same for every chip")
    correct, surprise = np.asarray([one.counts for one in found], dtype=float).sum(1).T
    ekl = np.divide(surprise, correct, out=np.full_like(surprise, np.nan), where=correct > 0)
    ordered = isinstance(x, Tensor) and bool(found[0].hits)
    right = np.stack([torch.cat(one.hits).numpy() for one in found]) if ordered else None
    return Evaluation(chips, 100 * correct / found[0].of, ekl, right)


def _batches(x: Any, y: Tensor | None, size: int | None) -> Callable[[], Iterable[Batch]]:
    """What gives the batches of one chip."""
    whole = size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
    require(whole, "batch_size", size, "an integer > 0, or None")
    if isinstance(x, Tensor):
        require(isinstance(y, Tensor), "y", type(y).__name__, "a tensor of labels")
        assert y is not None
        require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
        own = max(1, BATCH // max(1, x[0].numel())) if size is None else size
        return lambda: zip(split(x, own), split(y, own), strict=True)
    array = isinstance(x, np.ndarray) or isinstance(y, np.ndarray)
    require(not array, "x, y", "NumPy arrays", "tensors: torch.from_numpy(...)")
    require(y is None, "y", "given", "None: a loader gives inputs and labels")
    require(size is None, "batch_size", size, "None: a loader has its own")
    again = hasattr(x, "__iter__") and not hasattr(x, "__next__")
    require(again, "x", type(x).__name__, "tensors, or a DataLoader that can be gone through for every chip")

    def batches() -> Iterator[Batch]:
        empty = True
        for batch in x:
            pair = isinstance(batch, (list, tuple)) and len(batch) == 2 and isinstance(batch[1], Tensor)
            require(pair, "a batch of x", type(batch).__name__, "inputs and labels (x, y)")
            empty = False
            yield batch[0], batch[1]
        require(not empty, "x", "an empty loader", "at least one batch")

    return batches
