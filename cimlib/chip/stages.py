r"""Digital stages behind an array: a few numbers beside the chip that repair what the chip has become.

A stage is called as ``digital(x, y)``, with the input x of a layer and the output y of its array, in which
every ``Linear`` and ``Conv2d`` may have one. The cells are never touched. With :math:`W_0` the weights that
the array was asked to hold and :math:`W` those that it amounts to now, :math:`y = W x + \text{bias}`:

* :class:`LoRA`: :math:`y' = y + \frac{\alpha}{r} B A x`
* :class:`DoRA`: :math:`y' = \frac{m}{n}\big((y - \text{bias}) + \frac{\alpha}{r} B A x\big) + \text{bias}`,
  :math:`n = \lVert W_0 + \frac{\alpha}{r} B A\rVert_c`
* :class:`VeRA`: :math:`y' = y + \Lambda_b B \Lambda_d A x`, where A and B are random and the same for all
* :class:`FullRank`: :math:`y' = y + \Delta W x`, a number for every weight
* :class:`Scale`: :math:`y' = s\,(y - \text{bias}) + \text{bias}`, drift compensation
* :class:`Affine`: :math:`y' = a\,(y - \text{bias}) + \text{bias} + c`, a gain and an offset a column

Each is written so that before training it changes nothing, bit for bit. :func:`attach` adds the keys
``<layer>.digital.*`` to those of the network, and :func:`detach` takes them away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.chip.checkpoint import Remembering
from cimlib.chip.crossbar import Crossbar
from cimlib.chip.layers import CONVOLUTIONS, pointwise, require_untransposed
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require


def _require_whole(name: str, value: int, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(whole, name, value, f"an integer ≥ {least}")


class Adapter(nn.Module):
    """A digital stage of ``layer``; what is stored of it is its ``state_dict``.

    It refers to the layer without being its parent: weights and bias stay the layer's.
    """

    _layer: Crossbar

    def __init__(self, layer: Crossbar) -> None:
        super().__init__()
        require_untransposed(layer.plain, layer.name, type(self).__name__)
        object.__setattr__(self, "_layer", layer)

    @property
    def layer(self) -> Crossbar:
        """The layer on hardware that this is the stage of."""
        return self._layer

    @property
    def groups(self) -> int:
        """Groups of the layer's channels; a ``Linear`` has one."""
        return self._layer.groups

    @property
    def stored(self) -> int:
        """Numbers stored: parameters, and buffers that are saved."""
        saved = self.state_dict().items()
        return sum(value.numel() for key, value in saved if not key.endswith("_extra_state"))

    @property
    def multiplications(self) -> int:
        """Digital multiplications for one sample and position of the layer's output, all columns."""
        raise NotImplementedError

    def merged(self, weight: Tensor) -> Tensor:
        """The weights (out, in, ...) with which the plain layer gives what this stage makes of a layer with
        ``weight``, whose circuit is ideal."""
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Output of the layer: the shape of ``y``.

        Args:
            x: input of the layer, (batch, ..., in) or (batch, in, height, width).
            y: output of its array, bias included, (batch, ..., out) or (batch, out, height, width).
        """
        raise NotImplementedError

    def _columns(self, vector: Tensor) -> Tensor:
        """``vector``, one number a column, so that it broadcasts with the output."""
        return vector.reshape(-1, *[1] * (len(self._layer.weight_shape) - 2))

    def _rows(self, vector: Tensor) -> Tensor:
        """``vector``, one number a column, so that it broadcasts with the weights."""
        return vector.reshape(-1, *[1] * (len(self._layer.weight_shape) - 1))

    def _without_bias(self, y: Tensor) -> Tensor:
        return y if self._layer.bias is None else y - self._columns(self._layer.bias)


class Scale(Adapter):
    """The array's part of the output times a measured factor; nothing is trained.

    Args:
        layer: of a programmed network.
        factor: (1,) for the layer or (out,), one for each column; see
            :func:`~.compensate`.

    Raises ``ValueError`` for any other number of factors.
    """

    factor: Tensor

    def __init__(self, layer: Crossbar, factor: Tensor) -> None:
        super().__init__(layer)
        shapes = ((1,), layer.weight_shape[:1])
        require(factor.shape in shapes, "factor.shape", tuple(factor.shape), f"{shapes[0]} or {shapes[1]}")
        self.register_buffer("factor", factor.detach().to(layer.like(), copy=True))

    @property
    def multiplications(self) -> int:
        return self._layer.weight_shape[0]

    def merged(self, weight: Tensor) -> Tensor:
        return self._rows(self.factor) * weight

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + (self._columns(self.factor) - 1) * self._without_bias(y)


class Affine(Adapter):
    r"""A gain and an offset for each column, :math:`y' = a\,(y - \text{bias}) + \text{bias} + c`.

    a (``gain``) and c (``offset``) are (out,) and start at 1 and 0. They have a closed form, see
    :func:`~.regress_columns`, and can be trained like those of any stage.

    Args:
        layer: of a programmed network.
    """

    def __init__(self, layer: Crossbar) -> None:
        super().__init__(layer)
        columns = layer.weight_shape[0]
        self.gain = nn.Parameter(layer.like().new_ones(columns))
        self.offset = nn.Parameter(layer.like().new_zeros(columns))

    @property
    def multiplications(self) -> int:
        return self.gain.numel()

    def merged(self, weight: Tensor) -> Tensor:
        """See :class:`Adapter`. Raises ``ValueError`` for offsets other than 0: they are no weights."""
        largest = float(self.offset.detach().abs().max())
        require(largest == 0, "largest |offset|", largest, "0: an offset is no weight")
        return self._rows(self.gain) * weight

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + ((self._columns(self.gain) - 1) * self._without_bias(y) + self._columns(self.offset))


class FullRank(Adapter):
    r"""A change of every weight, :math:`y' = y + \Delta W x`: what stages of low rank spare, and their bound.

    ΔW (``change``) has the shape of the layer's weights, out·in·kh·kw numbers, and starts at 0. It takes as
    many multiplications as the array (derived).

    Args:
        layer: of a programmed network.
    """

    def __init__(self, layer: Crossbar) -> None:
        super().__init__(layer)
        self.change = nn.Parameter(layer.like().new_zeros(layer.weight_shape))

    @property
    def multiplications(self) -> int:
        return self.change.numel()

    def merged(self, weight: Tensor) -> Tensor:
        return weight + self.change

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        layer = self._layer.plain
        if isinstance(layer, CONVOLUTIONS):
            change: Tensor = layer._conv_forward(x, self.change, None)
            return y + change
        return y + F.linear(x, self.change)


class LoRA(Remembering, Adapter):
    r"""Low-rank adaptation, :math:`y' = y + \frac{\alpha}{r} B A x`.

    A (``down``) is (groups·r, in/groups, kh, kw), with the stride, padding and dilation of the layer, and B
    (``up``) is (out, r), a 1 × 1 convolution: every group of the layer has a product of rank r of its own
    (derived; without groups it is the layout of the library peft). Starts with B = 0 and A Kaiming uniform
    with :math:`a = \sqrt 5` (read in public code of the authors). r (in·kh·kw + out) numbers.

    Args:
        layer: of a programmed network.
        rank: r ≥ 1.
        alpha: α > 0; ``None`` is r, a factor of 1.
        seed: of A, ≥ 0; every layer draws its own.

    Raises ``ValueError`` for arguments out of range.
    """

    def __init__(self, layer: Crossbar, rank: int, *, alpha: float | None = None, seed: int = 0) -> None:
        super().__init__(layer)
        _require_whole("rank", rank, 1)
        require(alpha is None or 0 < alpha < float("inf"), "alpha", alpha, "None or 0 < alpha < ∞")
        _require_whole("seed", seed, 0)
        self.rank = rank
        self.factor = 1.0 if alpha is None else alpha / rank
        out, *rows = layer.weight_shape
        down = torch.empty(self.groups * rank, *rows, dtype=torch.float32, device="cpu")
        generator = seeded("adapter", seed, layer.name)
        nn.init.kaiming_uniform_(down, a=5**0.5, generator=generator)
        self.down = nn.Parameter(down.to(layer.like()))
        self.up = nn.Parameter(layer.like().new_zeros(out, rank))

    def extra_repr(self) -> str:
        return f"rank={self.rank}"

    def remembered(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def recall(self, kept: Mapping[str, Any]) -> None:
        self.factor = float(kept["factor"])

    @property
    def multiplications(self) -> int:
        return self.down.numel() + self.up.numel()

    def update(self) -> Tensor:
        """(α/r) BA as a change of the weights, (out, in/groups, ...)."""
        up = (self.factor * self.up).reshape(self.groups, -1, self.rank)
        down = self.down.reshape(self.groups, self.rank, -1)
        return (up @ down).reshape(self._layer.weight_shape)

    def product(self, x: Tensor) -> Tensor:
        """(α/r) BAx, in the shape of the output."""
        up, layer = self.factor * self.up, self._layer.plain
        if isinstance(layer, CONVOLUTIONS):
            seen: Tensor = layer._conv_forward(x, self.down, None)
            return pointwise(layer, seen, up, self.groups)
        return F.linear(F.linear(x, self.down), up)

    def merged(self, weight: Tensor) -> Tensor:
        return weight + self.update()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.product(x)


class DoRA(LoRA):
    r"""Weight-decomposed low-rank adaptation: a direction of low rank, and a magnitude for each column.

    .. math:: W' = m \odot \frac{W_0 + \frac{\alpha}{r} B A}{\lVert W_0 + \frac{\alpha}{r} B A\rVert_c}

    with one m for each output, m starting at :math:`\lVert W_0\rVert_c`, and no gradient through the norm
    (Liu et al., arXiv 2402.09353). Behind an array :math:`W_0 x` is what the array gives, drifted as it is.
    What the norm is of, the calibration papers known to us do not say. **Our reading**: of the weights that
    the array was asked to hold, which the digital side knows; the drifted ones cannot be read out exactly.
    So m repairs what all cells of a column lost together, :math:`BA` the rest. For a trained stage m / n is
    one number a column: of the norm, nothing is left to compute.

    A column of zeros has the norm 1. Arguments are those of :class:`LoRA`, to whose numbers it adds ``out``.

    Raises ``ValueError`` for arguments out of range and a layer that is trained in its array.
    """

    def __init__(self, layer: Crossbar, rank: int, *, alpha: float | None = None, seed: int = 0) -> None:
        require(not layer.in_array, "layer", layer.name, "one that has weights: program(..., train='weight')")
        super().__init__(layer, rank, alpha=alpha, seed=seed)
        self.magnitude = nn.Parameter(self.norm())

    @property
    def multiplications(self) -> int:
        return super().multiplications + self.magnitude.numel()

    @torch.no_grad()
    def norm(self) -> Tensor:
        """n (out,): norms of the columns, over everything that leads to one output."""
        norm = torch.linalg.vector_norm((self._layer.weight + self.update()).flatten(1), dim=1)
        return torch.where(norm > 0, norm, 1.0)

    def merged(self, weight: Tensor) -> Tensor:
        return self._rows(self.magnitude / self.norm()) * super().merged(weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        ratio = self._columns(self.magnitude / self.norm())
        return y + ((ratio - 1) * self._without_bias(y) + ratio * self.product(x))
