"""A digital stage of two vectors between random projections that all layers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.chip.checkpoint import Remembering
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.layers import CONVOLUTIONS, Convolution, pointwise
from cimlib.chip.stages import Adapter, _require_whole
from cimlib.devices.effects import require


@dataclass(frozen=True)
class Projections:
    """The random projections A and B that all :class:`VeRA` stages of a network share.

    They follow from the seed, so that nothing of them need be stored: Kaiming uniform, A drawn before B from
    one generator, as in the library peft. A layer takes the first columns of A and the first rows of B.

    Args:
        inputs, outputs: of the largest layers, ≥ 1; see :func:`projections`.
        rank: r ≥ 1.
        seed: ≥ 0.

    Raises ``ValueError`` for arguments out of range.
    """

    inputs: int
    outputs: int
    rank: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "rank"):
            _require_whole(name, getattr(self, name), 1)
        _require_whole("seed", self.seed, 0)

    @cached_property
    def down_and_up(self) -> tuple[Tensor, Tensor]:
        """A (rank, inputs) and B (outputs, rank)."""
        generator = torch.Generator().manual_seed(self.seed)

        def projection(*shape: int) -> Tensor:
            return nn.init.kaiming_uniform_(
                torch.empty(shape, dtype=torch.float32, device="cpu"), generator=generator
            )

        return projection(self.rank, self.inputs), projection(self.outputs, self.rank)


def projections(model: nn.Module, rank: int, seed: int = 0) -> Projections:
    """Projections that are wide enough for every layer of ``model`` that is on hardware.

    Raises ``ValueError`` for arguments out of range or a model that is not on hardware.
    """
    shapes = [layer.weight_shape for layer in crossbars(model)]
    return Projections(max(shape[1] for shape in shapes), max(shape[0] for shape in shapes), rank, seed)


class VeRA(Remembering, Adapter):
    r"""Vector-based random adaptation, :math:`y' = y + \Lambda_b B \Lambda_d A x`.

    Only the vectors d (r,) and b (out,) are trained and stored (Kopiczko et al., arXiv 2310.11454); b = 0
    at the start. In a ``Conv2d`` A and B are 1 × 1 kernels (reported in a secondary source on VeRA+). What
    such a kernel sees is inferred: the centre tap of the layer's own kernel, at its stride, so that it fits
    any padding. Groups of channels share A and d (derived).

    Args:
        layer: of a programmed network.
        shared: the same for all layers; see :func:`projections`.
        d_init: every d at the start; 0.1 as in the library peft.

    Raises ``ValueError`` if the projections are too narrow, and for a ``d_init`` that is 0 or not finite.
    """

    down: Tensor
    up: Tensor

    def __init__(self, layer: Crossbar, shared: Projections, *, d_init: float = 0.1) -> None:
        super().__init__(layer)
        require(d_init != 0 and abs(d_init) < float("inf"), "d_init", d_init, "finite and not 0")
        self.register_buffer("down", None, persistent=False)
        self.register_buffer("up", None, persistent=False)
        self._share(shared)
        self.d = nn.Parameter(torch.full_like(self.down[:, 0], d_init))
        self.b = nn.Parameter(torch.zeros_like(self.up[:, 0]))

    def _share(self, shared: Projections) -> None:
        out, inputs = self._layer.weight_shape[:2]
        wide = shared.inputs >= inputs and shared.outputs >= out
        require(wide, "shared", shared, f"inputs ≥ {inputs} and outputs ≥ {out}")
        self.shared, like = shared, self._layer.like()
        down, up = shared.down_and_up
        self.down, self.up = down[:, :inputs].to(like), up[:out].to(like)

    def remembered(self) -> dict[str, Any]:
        return asdict(self.shared)

    def recall(self, kept: Mapping[str, Any]) -> None:
        self._share(Projections(**kept))

    def extra_repr(self) -> str:
        return f"rank={len(self.d)}"

    @property
    def multiplications(self) -> int:
        return self.groups * (self.down.numel() + self.d.numel()) + self.up.numel() + self.b.numel()

    def update(self) -> Tensor:
        """The change of the weights that this amounts to, (out, in/groups, ...): zero but at the centre."""
        change = self.b[:, None] * self.up @ (self.d[:, None] * self.down)
        layer = self._layer.plain
        if not isinstance(layer, CONVOLUTIONS):
            return change
        update = change.new_zeros(self._layer.weight_shape)
        update[:, :, *_centre(layer)] = change  # type: ignore[index]
        return update

    def merged(self, weight: Tensor) -> Tensor:
        return weight + self.update()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        down, up, layer = self.d[:, None] * self.down, self.b[:, None] * self.up, self._layer.plain
        if not isinstance(layer, CONVOLUTIONS):
            return y + F.linear(F.linear(x, down), up)
        seen = pointwise(layer, _centre_tap(layer, x, y), down.repeat(self.groups, 1), self.groups)
        return y + pointwise(layer, seen, up, self.groups)


def _centre(layer: Convolution) -> tuple[int, ...]:
    """The middle of the kernel in each dimension, the first of two if its size is even."""
    return tuple((size - 1) // 2 for size in layer.kernel_size)


def _centre_tap(layer: Convolution, x: Tensor, y: Tensor) -> Tensor:
    """What the middle of the kernel sees of ``x`` for every position of ``y``."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    sizes = y.shape[-len(layer.kernel_size) :]
    positions = (
        slice(middle * dilation, middle * dilation + (size - 1) * stride + 1, stride)
        for middle, dilation, size, stride in zip(
            _centre(layer), layer.dilation, sizes, layer.stride, strict=True
        )
    )
    return x[..., *positions]  # type: ignore[index]
