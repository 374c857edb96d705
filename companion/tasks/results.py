"""What tensors and histories become in a record: lists of rounded numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cimlib.chip import Evaluation, VeRA, cost
from cimlib.remedies import Budget, Costs
from cimlib.training import History

#: Under this name a result holds which images were predicted right: {name of an accuracy: (values, images)}.
RIGHT = "right"
Right = NDArray[np.bool_]


def stacked(evaluations: Iterable[Evaluation]) -> Right:
    """Which images were predicted right, (chips, images), of evaluations of the same images."""
    found = [one.right for one in evaluations]
    return np.concatenate([one for one in found if one is not None])


def rounded(values: Tensor) -> list[float]:
    """Values (n,) with three decimals."""
    return [round(value, 3) for value in values.tolist()]


def tenths(history: History) -> list[list[float]]:
    """Validation error (10, replicas) at each tenth of training, %, with one decimal."""
    epochs = len(history.validation)
    ends = [max(round(tenth * epochs / 10), 1) - 1 for tenth in range(1, 11)]
    return [[round(100 - value, 1) for value in history.validation[end]] for end in ends]


def counted(model: nn.Module, task: Budget, costs: Costs, shared: bool) -> dict[str, float]:
    """What a remedy beside the arrays of ``model`` stores and computes, by the names of :mod:`.drifted`.

    ``shared``: the projections of VeRA are the same for all layers.
    """
    x, _ = task.images(1)
    one = cost(model, x, sets=costs.sets)
    stored = one.stored + costs.stored
    random = [(stage.down.numel(), stage.up.numel()) for stage in model.modules() if isinstance(stage, VeRA)]
    total = max if shared else sum
    return {
        "sets": costs.sets,
        "stored": stored,
        "bytes": 4 * stored,
        "fraction": 100 * stored / one.network,
        "operations": 100 * one.overhead,
        "projections": sum(total(sizes) for sizes in zip(*random, strict=True)),
        "sample_bytes": costs.images * x.numel(),
    }
