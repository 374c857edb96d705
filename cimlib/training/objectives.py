"""What a network is trained for: a method is an objective."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.devices.effects import require

Batch = tuple[Tensor, Tensor]

NONE = -(2**31)  # a label that nobody gives: torch leaves −100 out of a sum, but not out of the mean


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


def require_labels(logits: Tensor, y: Tensor) -> None:
    """Raise ``ValueError`` unless ``y`` has a label for each row of ``logits``, whose last dimension are the
    classes."""
    require(logits.shape[-1] > 1, "classes", logits.shape[-1], "two or more: two outputs for one logit")
    found, wanted = tuple(y.shape), tuple(logits.shape[:-1])
    allowed = f"{wanted} for outputs {tuple(logits.shape)}: classes last, y.squeeze(1) for labels (n, 1)"
    require(found == wanted, "shape of y", found, allowed)


class CrossEntropy(Objective):
    """Mean cross-entropy of the logits: plain training, and noise injection on a fresh network.

    Logits (batch, classes) with labels (batch,), or of replicas (batch, S, classes) with (batch, S):
    then the sum over replicas of each one's mean, so that each trains as if alone.

    Args:
        scale: factor of the logits, > 0. Voltages end at the rails, so that behind amplifiers logits in
            units of the input span cannot grow until the softmax is sharp; ``scale`` sharpens it.

    Raises ``ValueError`` for a ``scale`` out of range, and for labels of another shape than the outputs
    without their last dimension, the classes.
    """

    def __init__(self, scale: float = 1.0) -> None:
        require(0 < scale < float("inf"), "scale", scale, "0 < scale < ∞")
        self.scale = scale

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        logits = model(x)
        require_labels(logits, y)
        logits = logits.flatten(0, -2)
        if self.scale != 1:
            logits = self.scale * logits
        return F.cross_entropy(logits, y.flatten(), reduction="sum", ignore_index=NONE) / len(y)
