"""The regulariser that the released code of negative feedback training calls CorrectNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cimlib.devices.effects import require
from cimlib.training.objectives import Batch, CrossEntropy

_OTHER = (nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d)


class CorrectNet(CrossEntropy):
    r"""The regulariser that the released code of NFT calls CorrectNet, its third baseline.

    .. math:: \mathcal L = \mathrm{CE}(\mathrm{Softmax}(O_b),\,y) + \lambda \sum_l \|W_l^\top W_l - I\|_F^2

    over all weights without errors, with :math:`W_l` the last two dimensions: a linear layer's whole
    matrix, but of a convolution each k × k kernel by itself. Read in that code (since removed from it);
    not checked against CorrectNet's own paper. After: the CorrectNet columns of the accuracy figure.

    Args:
        strength: λ ≥ 0, 5·10⁻⁴ in that code.

    Raises ``ValueError`` for a ``strength`` out of range, for a network trained in its arrays, and for
    convolutions in one or three dimensions, of whose kernels that code says nothing.
    """

    def __init__(self, strength: float = 5e-4) -> None:
        super().__init__()
        require(0 <= strength < float("inf"), "strength", strength, "0 ≤ strength < ∞")
        self.strength = strength

    def setup(self, model: nn.Module) -> None:
        in_array = [name for name, _ in model.named_parameters() if name.endswith("conductance")]
        require(not in_array, "model", in_array, "a network whose weights are its parameters")
        layers = ((name, getattr(m, "plain", m)) for name, m in model.named_modules())
        odd = [f"{name} ({type(layer).__name__})" for name, layer in layers if isinstance(layer, _OTHER)]
        require(not odd, "model", odd, "Linear and convolutions in two dimensions")

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        weights = (p for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1)
        return super().__call__(model, batch) + self.strength * sum(map(_skewness, weights))


def _skewness(weight: Tensor) -> Tensor:
    """Sum over the leading dimensions of ‖WᵀW − I‖²."""
    rows, columns = weight.shape[-2:]
    if rows < columns:  # ‖WᵀW − Iₙ‖² = ‖WWᵀ − Iₘ‖² + n − m, of the smaller matrix (derived)
        return _skewness(weight.mT) + (columns - rows) * weight[..., 0, 0].numel()
    with torch.autocast(weight.device.type, enabled=False):
        gram = weight.mT @ weight
    return (gram - torch.eye(columns, dtype=weight.dtype, device=weight.device)).square().sum()
