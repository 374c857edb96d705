"""What tensors and histories become in a record: lists of rounded numbers."""

from __future__ import annotations

from torch import Tensor

from cimlib.training import History


def rounded(values: Tensor) -> list[float]:
    """Values (n,) with three decimals."""
    return [round(value, 3) for value in values.tolist()]


def tenths(history: History) -> list[list[float]]:
    """Validation error (10, replicas) at each tenth of training, %, with one decimal."""
    epochs = len(history.validation)
    ends = [max(round(tenth * epochs / 10), 1) - 1 for tenth in range(1, 11)]
    return [[round(100 - value, 1) for value in history.validation[end]] for end in ends]
