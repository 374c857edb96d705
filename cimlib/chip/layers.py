"""The layers that can be computed in an array, and the linear map of each.

Arrays see weights (out, in, ...): rows are inputs, columns outputs. A transposed convolution stores them the
other way round, (in, out, ...); :func:`by_column` turns them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.devices.effects import require

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

Layer = nn.Linear | Convolution | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)

CONVOLUTION = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_CONVOLUTION = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _turned(weight: Tensor, groups: int) -> Tensor:
    """Weights (a, b / groups, ...) as (b, a / groups, ...), group by group."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    return grouped.transpose(1, 2).flatten(0, 1).contiguous()


def by_column(layer: Layer, weight: Tensor) -> Tensor:
    """``weight`` as ``layer`` stores it → (out, in / groups, ...)."""
    return _turned(weight, layer.groups) if isinstance(layer, TRANSPOSED) else weight


def as_stored(layer: Layer, weight: Tensor) -> Tensor:
    """The inverse of :func:`by_column`."""
    return _turned(weight, layer.groups) if isinstance(layer, TRANSPOSED) else weight


def require_scale(name: str, weight: Tensor) -> None:
    """Raise ``ValueError`` for weights that are none, or so small that conductances over them overflow."""
    require(weight.numel() > 0, f"size of {name}", tuple(weight.shape), "at least one row and one column")
    peak = float(weight.detach().abs().amax())
    require(peak == 0 or peak > 1e-30, f"largest of {name}", peak, "0, or more than 1e-30: scale the network")


def pointwise(layer: Convolution, x: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """A convolution with a ``kernel`` (out, in / groups) of one point, in as many dimensions as ``layer``."""
    dims = len(layer.kernel_size)
    return CONVOLUTION[dims](x, kernel.reshape(*kernel.shape, *[1] * dims), groups=groups)


def require_untransposed(layer: Layer, name: str, what: str) -> None:
    """Raise ``ValueError`` for a transposed convolution, for which ``what`` is not made."""
    turned = isinstance(layer, TRANSPOSED)
    require(
        not turned, what, f"for layer {name!r}, a {type(layer).__name__}", "for Linear and Conv1d … Conv3d"
    )


@dataclass(frozen=True)
class LinearMap:
    """The linear map of ``layer``; see :class:`~.Operation`. ``output_size`` is that of a transposed
    convolution's ``forward``."""

    layer: Layer
    x: Tensor
    output_size: list[int] | None = None

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        x, layer = self.x if x is None else x, self.layer
        if isinstance(layer, CONVOLUTIONS):
            y: Tensor = layer._conv_forward(x, weight, bias)
            return y
        if isinstance(layer, TRANSPOSED):
            dims = len(layer.kernel_size)
            padding = layer._output_padding(
                x,
                self.output_size,
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.kernel_size,  # type: ignore[arg-type]
                dims,
                layer.dilation,  # type: ignore[arg-type]
            )
            convolve = _TRANSPOSED_CONVOLUTION[dims]
            stored = as_stored(layer, weight)
            options = (layer.stride, layer.padding, padding, layer.groups, layer.dilation)
            return convolve(x, stored, bias, *options)  # type: ignore[arg-type]
        return F.linear(x, weight, bias)
