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

Each is written so that before training it changes nothing, bit for bit. :func:`attach` adds the keys
``<layer>.digital.*`` to those of the network, and :func:`detach` takes them away.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.crossbar import Crossbar, crossbars, fabricate, seeded
from cimlib.devices import require
from cimlib.models import evaluating


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
        object.__setattr__(self, "_layer", layer)

    @property
    def layer(self) -> Crossbar:
        """The layer on hardware that this is the stage of."""
        return self._layer

    @property
    def groups(self) -> int:
        """Groups of the layer's channels; a ``Linear`` has one."""
        return int(getattr(self._layer.plain, "groups", 1))

    @property
    def stored(self) -> int:
        """Numbers stored: parameters, and buffers that are saved."""
        return sum(value.numel() for value in self.state_dict().values())

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
            :func:`~cimlib.methods.calibration.compensate`.

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
        if isinstance(layer, nn.Conv2d):
            change: Tensor = layer._conv_forward(x, self.change, None)
            return y + change
        return y + F.linear(x, self.change)


class LoRA(Adapter):
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
        down = torch.empty(self.groups * rank, *rows)
        generator = seeded("adapter", seed, layer.name)
        nn.init.kaiming_uniform_(down, a=5**0.5, generator=generator)
        self.down = nn.Parameter(down.to(layer.like()))
        self.up = nn.Parameter(layer.like().new_zeros(out, rank))

    def extra_repr(self) -> str:
        return f"rank={self.rank}"

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
        if isinstance(layer, nn.Conv2d):
            seen: Tensor = layer._conv_forward(x, self.down, None)
            return F.conv2d(seen, up[..., None, None], groups=self.groups)
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
        down = nn.init.kaiming_uniform_(torch.empty(self.rank, self.inputs), generator=generator)
        return down, nn.init.kaiming_uniform_(torch.empty(self.outputs, self.rank), generator=generator)


def projections(model: nn.Module, rank: int, seed: int = 0) -> Projections:
    """Projections that are wide enough for every layer of ``model`` that is on hardware.

    Raises ``ValueError`` for arguments out of range or a model that is not on hardware.
    """
    shapes = [layer.weight_shape for layer in crossbars(model)]
    return Projections(max(shape[1] for shape in shapes), max(shape[0] for shape in shapes), rank, seed)


class VeRA(Adapter):
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
        out, inputs = layer.weight_shape[:2]
        wide = shared.inputs >= inputs and shared.outputs >= out
        require(wide, "shared", shared, f"inputs ≥ {inputs} and outputs ≥ {out}")
        require(d_init != 0 and abs(d_init) < float("inf"), "d_init", d_init, "finite and not 0")
        like = layer.like()
        down, up = shared.down_and_up
        self.register_buffer("down", down[:, :inputs].to(like), persistent=False)
        self.register_buffer("up", up[:out].to(like), persistent=False)
        self.d = nn.Parameter(torch.full_like(down[:, 0].to(like), d_init))
        self.b = nn.Parameter(torch.zeros_like(up[:out, 0].to(like)))

    def extra_repr(self) -> str:
        return f"rank={len(self.d)}"

    @property
    def multiplications(self) -> int:
        return self.groups * (self.down.numel() + self.d.numel()) + self.up.numel() + self.b.numel()

    def update(self) -> Tensor:
        """The change of the weights that this amounts to, (out, in/groups, ...): zero but at the centre."""
        change = self.b[:, None] * self.up @ (self.d[:, None] * self.down)
        layer = self._layer.plain
        if not isinstance(layer, nn.Conv2d):
            return change
        update = change.new_zeros(self._layer.weight_shape)
        row, column = _centre(layer)
        update[:, :, row, column] = change
        return update

    def merged(self, weight: Tensor) -> Tensor:
        return weight + self.update()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        down, up, layer = self.d[:, None] * self.down, self.b[:, None] * self.up, self._layer.plain
        if not isinstance(layer, nn.Conv2d):
            return y + F.linear(F.linear(x, down), up)
        kernel = down.repeat(self.groups, 1)[..., None, None]
        seen = F.conv2d(_centre_tap(layer, x, y), kernel, groups=self.groups)
        return y + F.conv2d(seen, up[..., None, None], groups=self.groups)


def _centre(layer: nn.Conv2d) -> tuple[int, int]:
    """Row and column of the middle of the kernel, the first of two if its size is even."""
    height, width = layer.kernel_size
    return (height - 1) // 2, (width - 1) // 2


def _centre_tap(layer: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """What the middle of the kernel sees of ``x`` for every position of ``y``."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode)
    rows, columns = (
        slice(middle * dilation, middle * dilation + (size - 1) * stride + 1, stride)
        for middle, dilation, size, stride in zip(
            _centre(layer), layer.dilation, y.shape[-2:], layer.stride, strict=True
        )
    )
    return x[..., rows, columns]


class Chain(Adapter):
    """Several stages of one layer, each on the output of the one before; made by :func:`attach`."""

    def __init__(self, layer: Crossbar, *stages: Adapter) -> None:
        super().__init__(layer)
        self.stages = nn.ModuleList(stages)

    def parts(self) -> list[Adapter]:
        """The stages in their order."""
        return list(self.stages)  # type: ignore[arg-type]

    @property
    def multiplications(self) -> int:
        return sum(stage.multiplications for stage in self.parts())

    def merged(self, weight: Tensor) -> Tensor:
        for stage in self.parts():
            weight = stage.merged(weight)
        return weight

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for stage in self.parts():
            y = stage(x, y)
        return y


def attach(model: nn.Module, make: Callable[[Crossbar], Adapter | None]) -> nn.Module:
    """Give layers of ``model`` a digital stage (in place; returned for chaining).

    Args:
        model: a network on hardware. A layer that has a stage gets the new one behind it.
        make: the stage of a layer, or ``None`` for a layer that gets none, as in
            ``attach(model, lambda layer: DoRA(layer, rank=2))``.

    Raises ``ValueError`` for a model that is not on hardware, or with a digital stage of another kind.
    """
    layers = crossbars(model)
    for layer in layers:
        known = layer.digital is None or isinstance(layer.digital, Adapter)
        require(known, f"{layer.name}.digital", layer.digital, "None or an Adapter")
    for layer, stage in [(layer, make(layer)) for layer in layers]:
        if stage is None:
            continue
        before = layer.digital
        if isinstance(before, Adapter):
            stage = Chain(layer, *(before.parts() if isinstance(before, Chain) else [before]), stage)
        layer.digital = stage.train(layer.training)
    return model


def detach(model: nn.Module) -> nn.Module:
    """Remove the digital stages of ``model`` (in place; returned for chaining): its keys are what they were.

    Raises ``ValueError`` for a model that is not on hardware.
    """
    for layer in crossbars(model):
        del layer.digital  # a module set to None would leave its name behind
        layer.digital = None
    return model


def adapters(model: nn.Module) -> dict[str, Adapter]:
    """The digital stages of ``model`` by the name of their layer.

    Raises ``ValueError`` for a model that is not on hardware.
    """
    stages = {layer.name: layer.digital for layer in crossbars(model)}
    return {name: stage for name, stage in stages.items() if isinstance(stage, Adapter)}


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """What can be trained of the digital stages of ``model``, and nothing else.

    Raises ``ValueError`` if there is nothing.
    """
    stages = (layer.digital for layer in crossbars(model) if isinstance(layer.digital, Adapter))
    found = list(nn.ModuleList(stages).parameters())  # each once, though networks may share a stage
    require(bool(found), "model", type(model).__name__, "a network with adapters: attach(model, make)")
    return found


def _prefix(name: str) -> str:
    return f"{name}.digital." if name else "digital."


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that the digital stages of ``model`` store, by ``<layer>.digital.*``.

    Raises ``ValueError`` for a model that is not on hardware.
    """
    return {
        _prefix(name) + key: value.clone()
        for name, stage in adapters(model).items()
        for key, value in stage.state_dict().items()
    }


def load(model: nn.Module, stored: Mapping[str, Tensor]) -> nn.Module:
    """Set the digital stages of ``model`` to what :func:`state` returned (in place; returned for chaining).

    Raises ``ValueError`` unless the names are those of the stages of ``model``.
    """
    names = set(state(model))
    require(set(stored) == names, "stored", sorted(stored), f"exactly {sorted(names)}")
    for name, stage in adapters(model).items():
        stage.load_state_dict({key: stored[_prefix(name) + key] for key in stage.state_dict()})
    return model


@dataclass(frozen=True)
class Cost:
    """What digital stages cost beside their network; made by :func:`cost`.

    ``stored``: numbers stored, trained ones of all sets. ``network``: parameters of the network without its
    stages. ``operations``: digital multiply–accumulates for one input. ``network_operations``: those of the
    layers that are on hardware.
    """

    stored: int
    network: int
    operations: int
    network_operations: int

    @property
    def fraction(self) -> float:
        """Numbers stored over parameters of the network."""
        return self.stored / self.network

    @property
    def overhead(self) -> float:
        """Operations over those of the network."""
        return self.operations / self.network_operations

    def size(self, bits: int = 32) -> float:
        """Bytes stored, each number in ``bits`` ≥ 1. Raises ``ValueError`` for any other ``bits``."""
        _require_whole("bits", bits, 1)
        return self.stored * bits / 8


def cost(model: nn.Module, x: Tensor, *, sets: int = 1) -> Cost:
    """Storage and operations of the digital stages of ``model``, counted in a pass of a copy.

    Args:
        x: (n, ...), inputs of the shape that counts; their values do not matter.
        sets: ≥ 0, of what is trained; one at a time is in use, and every one is stored. What is measured on
            the chip, the factors of :class:`Scale`, belongs to no set.

    Numbers that follow from a seed are not stored, and the factor α/r is part of B. Multiplying a column by
    a factor counts as one operation. Raises ``ValueError`` for arguments out of range and a model that is
    not on hardware.
    """
    _require_whole("sets", sets, 0)
    require(len(x) > 0, "len(x)", len(x), "> 0")
    everything = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(p.numel() for stage in adapters(model).values() for p in stage.parameters())
    measured = sum(stage.stored for stage in adapters(model).values()) - trained
    model = fabricate(copy.deepcopy(model), 0)
    counts = [0, 0]

    def count(layer: Crossbar, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        out, *rows = layer.weight_shape
        positions = y.numel() // out
        stage = layer.digital
        counts[0] += positions * (stage.multiplications if isinstance(stage, Adapter) else 0)
        counts[1] += positions * out * prod(rows)

    for layer in crossbars(model):
        layer.register_forward_hook(count)
    with evaluating(model), torch.no_grad():
        model(x)
    return Cost(sets * trained + measured, everything - trained, counts[0] // len(x), counts[1] // len(x))
