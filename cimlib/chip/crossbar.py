"""The seam: the same network, computed in crossbar arrays.

Three verbs: :func:`program` puts a network's layers on hardware, :func:`fabricate` holds one chip,
:func:`fresh` draws new errors at every forward pass (noise-aware training). Each layer does

    T = array.target(W)                   conductances asked for, µS
    G = device(T, z)                      conductances obtained, µS
    G = circuit.effective(G)              what wires make of it
    W' = W + array.decode(G - T)          a difference: no effect means no change, bit for bit
    y = circuit(op, array, G, W', bias, z)  the layer's own linear map, read by a circuit
    y = digital(x, y)                     absent by default

**A chip is a seed**: the standard draws ``z`` of a layer come from a generator seeded by the chip,
the layer's name and the slot, and by nothing else. They do not depend on a spread, a time or a
method. Taught in the chapter *A chip is a seed*.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.arrays.base import Conductances
from cimlib.chip.hardware import Hardware
from cimlib.devices.draws import Draw, sample, seeded
from cimlib.devices.effects import require

Reading = tuple[Tensor, Conductances, dict[str, Tensor]]


class Fabricated(nn.Module):
    """Base of the modules that chips differ in: they have a name, hardware, and draws.

    The draws of a held chip are buffers outside the ``state_dict``. A forward pass that needs draws
    raises ``RuntimeError`` before :func:`fabricate` or :func:`fresh`.
    """

    def __init__(self, name: str, hardware: Hardware) -> None:
        super().__init__()
        self.name = name
        self.hardware = hardware
        self.chip: int | None = None
        self.generator: torch.Generator | None = None

    def slots(self) -> dict[str, Draw]:
        """Every draw needed on this hardware, as ``{"part/slot": draw}``."""
        raise NotImplementedError

    def like(self) -> Tensor:
        """A tensor with the dtype and device of the draws."""
        raise NotImplementedError

    def hold(self, chip: int | None) -> None:
        """Hold the draws of ``chip``; ``None`` forgets them."""
        self.chip, self.generator = chip, None
        for name in [name for name in self._buffers if "/" in name]:
            delattr(self, name)
        if chip is not None:
            self.draws()

    def draws(self) -> dict[str, Tensor]:
        """The standard draws of this forward pass, by ``part/slot``."""
        slots = self.slots()
        if self.generator is not None:
            return {name: sample(draw, self.generator, self.like()) for name, draw in slots.items()}
        for name, draw in slots.items():
            held = self._buffers.get(name)
            if held is None or held.shape != draw[1]:
                if self.chip is None:
                    raise RuntimeError(
                        f"layer {self.name!r} has no chip: call fabricate(model, chip) or fresh(model)"
                    )
                z = sample(draw, seeded(self.chip, self.name, name), self.like())
                self.register_buffer(name, z, persistent=False)
        return {name: self.get_buffer(name) for name in slots}


class Crossbar(Fabricated):
    """A ``Linear`` or ``Conv2d`` computed in a crossbar array; made by :func:`program`.

    Its parameters carry the names of the layer it replaces: ``weight`` (out, in, ...) and ``bias``,
    which is digital. Trained in the array it has ``conductance`` (slices, sides, out, in, ...), µS,
    in place of ``weight``.
    """

    _template: nn.Linear | nn.Conv2d
    bias: Tensor | None

    def __init__(self, layer: nn.Linear | nn.Conv2d, name: str, hardware: Hardware, train: str) -> None:
        super().__init__(name, hardware)
        self.digital: Callable[[Tensor, Tensor], Tensor] | None = None
        self.reading: Reading | None = None
        if train == "weight":
            self.weight = layer.weight
        else:
            self.conductance = nn.Parameter(hardware.array.target(layer.weight.detach()).cells)
        self.bias = layer.bias
        # the layer without its parameters keeps stride, padding and groups, and adds no keys
        template = copy.copy(layer)
        template._parameters = dict.fromkeys(layer._parameters)
        object.__setattr__(self, "_template", template)

    def extra_repr(self) -> str:
        state = "fresh" if self.generator is not None else f"chip={self.chip}"
        return f"{self._template.extra_repr()}, {self.hardware}, {state}"

    @property
    def in_array(self) -> bool:
        """Whether the conductances, not the weights, are the parameters."""
        return "conductance" in self._parameters

    @property
    def plain(self) -> nn.Linear | nn.Conv2d:
        """The digital layer with this one's bias; trained in the array it has no weight."""
        layer = copy.copy(self._template)
        layer._parameters = {name: self._parameters.get(name) for name in ("weight", "bias")}
        return layer

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape (out, in, ...) of the weights."""
        return tuple(self.conductance.shape[2:] if self.in_array else self.weight.shape)

    def like(self) -> Tensor:
        return next(iter(self.parameters()))

    def slots(self) -> dict[str, Draw]:
        array, cell, shape = self.hardware.array, self.hardware.cell, self.weight_shape
        parts = {
            "cells": cell.draws(array.draw_shape(shape)),
            "circuit": self.hardware.circuit.draws(array, shape),
        }
        if array.reference_is_cells:
            parts["reference"] = cell.draws(shape[1:])
        return {f"{part}/{slot}": draw for part, draws in parts.items() for slot, draw in draws.items()}

    def read(self) -> Reading:
        """Weights that the array amounts to, its conductances in µS, and the circuit's draws."""
        array, cell = self.hardware.array, self.hardware.cell
        z: dict[str, dict[str, Tensor]] = {"cells": {}, "circuit": {}, "reference": {}}
        for name, value in self.draws().items():
            part, slot = name.split("/")
            z[part][slot] = value
        if self.in_array:
            target = array.target(torch.zeros_like(self.conductance[0, 0]))
            target = Conductances(self.conductance, target.reference, target.scale)
        else:
            target = array.target(self.weight)
        reference = target.reference
        if reference is not None and array.reference_is_cells:
            reference = cell(reference, z["reference"], array.g_min, array.g_max)
        cells = cell(target.cells, z["cells"], array.g_min, array.g_max)
        if target.connected is not None:
            cells = torch.where(target.connected, cells, target.cells)
        g = Conductances(cells, reference, target.scale, target.connected)
        g = self.hardware.circuit.effective(g, getattr(self._template, "groups", 1))
        if self.in_array:
            return array.decode(g), g, z["circuit"]
        return array.represent(self.weight) + array.decode(g - target), g, z["circuit"]

    def forward(self, x: Tensor) -> Tensor:
        weight, g, z = self.reading or self.read()
        op = _Operation(self._template, x)
        y: Tensor = self.hardware.circuit(op, self.hardware.array, g, weight, self.bias, z)
        return y if self.digital is None else self.digital(x, y)


@dataclass(frozen=True)
class _Operation:
    """The linear map of ``layer``; see :class:`~.Operation`."""

    layer: nn.Linear | nn.Conv2d
    x: Tensor

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        x = self.x if x is None else x
        if isinstance(self.layer, nn.Conv2d):
            y: Tensor = self.layer._conv_forward(x, weight, bias)
            return y
        return F.linear(x, weight, bias)


class AnalogReLU(Fabricated):
    """A ReLU computed by a circuit, one for each column of the layer before it; made by :func:`program`.

    It has no parameters; its hardware is that of the layer.
    """

    template: Tensor

    def __init__(self, layer: Crossbar, name: str) -> None:
        super().__init__(name, layer.hardware)
        self.outputs = layer.weight_shape[0]
        self.dim = 1 - len(layer.weight_shape)
        self.register_buffer("template", layer.like().detach().new_empty(0), persistent=False)

    def extra_repr(self) -> str:
        state = "fresh" if self.generator is not None else f"chip={self.chip}"
        return f"{self.outputs}, {state}"

    def like(self) -> Tensor:
        return self.template

    def slots(self) -> dict[str, Draw]:
        draws = self.hardware.circuit.activation_draws(self.outputs)
        return {f"circuit/{slot}": draw for slot, draw in draws.items()}

    def forward(self, x: Tensor) -> Tensor:
        z = {name.removeprefix("circuit/"): value for name, value in self.draws().items()}
        return self.hardware.circuit.activation(x, z, self.dim)


def fabricated(model: nn.Module) -> list[Fabricated]:
    """The modules of ``model`` that chips differ in. Raises ``ValueError`` if there is none."""
    crossbars(model)
    return [module for module in model.modules() if isinstance(module, Fabricated)]


def crossbars(model: nn.Module) -> list[Crossbar]:
    """The layers of ``model`` that are on hardware. Raises ``ValueError`` if there is none."""
    found = [module for module in model.modules() if isinstance(module, Crossbar)]
    require(
        bool(found),
        "model",
        type(model).__name__,
        "a network on hardware: program(model, hardware)",
    )
    return found
