"""Giving a network digital stages, taking them away, and what they store and compute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.fabrication import fabricate
from cimlib.chip.stages import Adapter, _require_whole
from cimlib.devices.effects import require
from cimlib.networks.plain import evaluating


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
