"""Monte Carlo evaluation: one accuracy per chip, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn, split

from cimlib.chip.crossbar import fabricated
from cimlib.chip.fabrication import fabricate, reading_once
from cimlib.devices.effects import require
from cimlib.networks.plain import evaluating

Values = NDArray[np.float64]


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
class Difference:
    """A paired difference: chip by chip, first minus second. ``values`` (chips,), in points."""

    chips: tuple[int, ...]
    values: Values

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the mean difference."""
        return interval(self.values)


@dataclass(frozen=True)
class Evaluation:
    """Result of :func:`evaluate`.

    ``accuracy`` (chips,): top-1, %. ``ekl`` (chips,): expected Kullback–Leibler divergence between
    label and softmax output over the *correct* predictions, nats (NFT); nan where none is correct.
    Subtracting two evaluations gives their paired :class:`Difference`; it raises ``ValueError``
    unless they were made on the same chips.
    """

    chips: tuple[int, ...]
    accuracy: Values
    ekl: Values

    @property
    def mean(self) -> float:
        """Mean accuracy over chips, %."""
        return float(self.accuracy.mean())

    @property
    def std(self) -> float:
        """Standard deviation over chips (n − 1), points; nan for one chip."""
        return float(self.accuracy.std(ddof=1)) if len(self.accuracy) > 1 else float("nan")

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the mean accuracy, %."""
        return interval(self.accuracy)

    def __sub__(self, other: Evaluation) -> Difference:
        same = self.chips == other.chips
        require(same, "other.chips", other.chips, f"the same chips {self.chips}: differences are paired")
        return Difference(self.chips, self.accuracy - other.accuracy)

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{self.mean:.1f} % [{low:.1f}, {high:.1f}], std {self.std:.1f}, n = {len(self.chips)} chips"


def _score(logits: Tensor, y: Tensor) -> tuple[int, float]:
    """Correct predictions, and the sum of −log p(label) over them."""
    correct = logits.argmax(1) == y
    surprise = nn.functional.cross_entropy(logits[correct], y[correct], reduction="sum")
    return int(correct.sum()), float(surprise)


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    chips: Iterable[int] = range(200),
    batch_size: int | None = None,
) -> Evaluation:
    """Accuracy of ``model`` on each of ``chips``, one instance of the errors for all of ``x``.

    Args:
        model: a network on hardware; its held chip and its mode are restored.
        x: (n, ...) inputs; y: (n,) int64 labels.
        chips: seeds of the chips, at least one.
        batch_size: inputs per forward pass; default all. It does not change the result.

    Raises ``ValueError`` for empty or unequal inputs, no chips, or a model that is not on hardware.
    """
    chips = tuple(chips)
    require(len(x) == len(y) > 0, "len(x), len(y)", (len(x), len(y)), "equal and > 0")
    require(len(chips) > 0, "chips", chips, "at least one chip")
    size = len(x) if batch_size is None else batch_size
    require(isinstance(size, int) and size > 0, "batch_size", batch_size, "an integer > 0, or None")
    held = [(layer, layer.chip, layer.generator) for layer in fabricated(model)]
    scores = []
    try:
        with evaluating(model):
            for chip in chips:
                with reading_once(fabricate(model, chip)):
                    batches = zip(split(x, size), split(y, size), strict=True)
                    scores.append([_score(model(xs), ys) for xs, ys in batches])
    finally:
        for layer, chip_before, generator in held:
            layer.hold(chip_before)
            layer.generator = generator
    correct, surprise = np.asarray(scores, dtype=float).sum(1).T
    ekl = np.divide(surprise, correct, out=np.full_like(surprise, np.nan), where=correct > 0)
    return Evaluation(chips, 100 * correct / len(x), ekl)
