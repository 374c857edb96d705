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
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Conductances
from cimlib.chip.fabricated import Fabricated
from cimlib.chip.hardware import Hardware
from cimlib.chip.layers import Layer, LinearMap, by_column, require_scale
from cimlib.chip.placement import Placement
from cimlib.circuits.base import Circuit
from cimlib.devices.draws import Draw
from cimlib.devices.effects import is_finite, require, transformed

Reading = tuple[Tensor, Conductances, dict[str, Tensor]]


class Crossbar(Fabricated):
    """A linear layer or convolution computed in a crossbar array; made by :func:`program`.

    Its parameters carry the names of the layer it replaces: ``weight``, in its shape, and ``bias``,
    which is digital. Trained in the array it has ``conductance`` (slices, sides, out, in, ...), µS,
    in place of ``weight``. It has the layer's public attributes (``in_features``, ``kernel_size``, …), its
    hooks, and whatever else was registered on it.
    """

    _template: Layer
    bias: Tensor | None
    reading: Reading | None

    def __init__(self, layer: Layer, name: str, hardware: Hardware, train: str) -> None:
        super().__init__(name, hardware)
        self.digital: Callable[[Tensor, Tensor], Tensor] | None = None
        if train == "weight":
            self.weight = layer.weight
        else:
            weight = by_column(layer, layer.weight.detach())
            cells = hardware.array.target(weight).cells
            self.conductance = nn.Parameter(cells, requires_grad=layer.weight.requires_grad)
        self.bias = layer.bias
        self._take_over(layer)
        # the layer without its parameters keeps stride, padding and groups, and adds no keys
        template = copy.copy(layer)
        template._parameters = dict.fromkeys(layer._parameters)
        object.__setattr__(self, "_template", template)

    def _take_over(self, layer: Layer) -> None:
        """What ``layer`` has beside weight and bias."""
        for key, value in vars(layer).items():
            if "hook" in key or not (key.startswith("_") or key in vars(self)):
                self.__dict__[key] = value
        for key, parameter in layer._parameters.items():
            if key not in ("weight", "bias"):
                self.register_parameter(key, parameter)
        for key, buffer in layer._buffers.items():
            self.register_buffer(key, buffer, persistent=key not in layer._non_persistent_buffers_set)
        for key, module in layer._modules.items():
            self.add_module(key, module)

    def remembered(self) -> dict[str, Any]:
        own = {"array": repr(self.hardware.array)} if self.in_array else {}
        return super().remembered() | own

    def recall(self, kept: Mapping[str, Any]) -> None:
        """As in :class:`Fabricated`; one that was mapped when it was saved is mapped from now on. Raises
        ``ValueError`` for conductances of another array."""
        array = repr(self.hardware.array)
        same = not self.in_array or kept.get("array", array) == array
        require(same, "array", array, f"the one in which it was trained, {kept.get('array')}")
        super().recall(kept)
        if type(self) is Crossbar and kept.get("placement") is not None:
            from cimlib.chip.mapped import Mapped  # which is derived from this

            mapped = Mapped(self, Placement.of(kept["placement"]))
            self.__class__ = Mapped  # the same object: stages and optimisers know it
            self.__dict__.update(mapped.__dict__)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        try:
            if self.in_array and f"{prefix}conductance" in state_dict:
                self.verify()
        except ValueError as error:
            rest[-1].append(str(error))

    def extra_repr(self) -> str:
        state = "fresh" if self.generator is not None else f"chip={self.chip}"
        return f"{self.plain.extra_repr()}, {self.hardware}, {state}"

    @property
    def in_array(self) -> bool:
        """Whether the conductances, not the weights, are the parameters."""
        return hasattr(self, "conductance")

    @property
    def plain(self) -> Layer:
        """The digital layer with this one's bias; trained in the array it has no weight."""
        layer = copy.copy(self._template)
        layer._parameters = {name: self._parameters.get(name) for name in ("weight", "bias")}
        return layer

    @property
    def asked(self) -> Tensor:
        """The weights that the array is asked to hold, (out, in / groups, ...): ``weight``, turned if it is a
        transposed convolution's."""
        return by_column(self._template, self.weight)

    @property
    def groups(self) -> int:
        """Groups of the layer's channels; a ``Linear`` has one."""
        return int(getattr(self._template, "groups", 1))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape (out, in / groups, ...) of the weights in the array."""
        return tuple(self.conductance.shape[2:] if self.in_array else self.asked.shape)

    def verify(self) -> None:
        """Raise ``ValueError`` for weights, biases or conductances that are not finite, for conductances
        outside the array's range, and for half precision, in which errors vanish."""
        for key, value in self._parameters.items():
            if value is None or not value.is_floating_point():
                continue
            where = f"{key} of layer {self.name!r}"
            _require_wide(where, value)
            require(is_finite(value), where, "not finite", "finite numbers")
            if key == "weight":
                require_scale(where, value)
        if self.in_array:
            low, high = self.hardware.array.g_min, self.hardware.array.g_max
            least, most = self.conductance.detach().aminmax()
            slack = 1e-5 * (high - low)
            inside = low - slack <= float(least) and float(most) <= high + slack
            found = f"{float(least):.3g} … {float(most):.3g}"
            said = f"{low:g} … {high:g} µS" + ("; these look like S" if float(most) < 1e-2 * high else "")
            require(inside, f"conductance of layer {self.name!r}", found, said)

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

    @property
    def weights_suffice(self) -> bool:
        """Whether the circuit reads the weights that the cells amount to, and never the cells."""
        circuit = self.hardware.circuit
        return not circuit.reads_cells and type(circuit).effective is Circuit.effective

    def read(self, cells: bool = True) -> Reading:
        """Weights that the array amounts to, its conductances in µS, and the circuit's draws.

        Without ``cells`` only the weights are meant to be used: conductances may have no gradient, and those
        of disconnected cells mean nothing. The weights and their gradient are the same.
        """
        array, cell, circuit = self.hardware.array, self.hardware.cell, self.hardware.circuit
        z: dict[str, dict[str, Tensor]] = {"cells": {}, "circuit": {}, "reference": {}}
        for name, value in self.draws().items():
            part, slot = name.split("/")
            z[part][slot] = value

        def obtain(target: Conductances) -> Conductances:
            reference = target.reference
            if reference is not None and array.reference_is_cells:
                reference = cell(reference, z["reference"], array.g_min, array.g_max)
            obtained = cell(target.cells, z["cells"], array.g_min, array.g_max)
            if cells and target.connected is not None:
                obtained = torch.where(target.connected, obtained, target.cells)
            g = Conductances(obtained, reference, target.scale, target.connected)
            return circuit.effective(g, self.groups)

        if self.in_array:
            target = array.target(torch.zeros_like(self.conductance[0, 0]))
            g = obtain(Conductances(self.conductance, target.reference, target.scale))
            return array.decode(g), g, z["circuit"]
        asked = self.asked
        _require_wide(f"weight of layer {self.name!r}", asked)
        straight = not cells and cell.unit_gradient  # then the gradient of the error is 0
        with torch.set_grad_enabled(torch.is_grad_enabled() and not straight):
            target = array.target(asked.detach() if straight else asked)
            g = obtain(target)
            error = array.decode(g - target)
        return array.represent(asked) + error, g, z["circuit"]

    def compute(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight, g, z = self.reading or self.read(cells=not self.weights_suffice)
        if x.dim() > 2 and not (torch.is_grad_enabled() or weight.requires_grad or x.is_contiguous()):
            weight = _like_parameter(weight)
        op = LinearMap(self._template, x, output_size)
        y: Tensor = self.hardware.circuit(op, self.hardware.array, g, weight, self.bias, z)
        return y if self.digital is None else self.digital(x, y)


def _like_parameter(weight: Tensor) -> Tensor:
    """``weight`` as one that requires a gradient, outside transforms: without, torch sums a linear layer of
    inputs that are not contiguous in another order."""
    return weight if transformed() else weight.detach().requires_grad_()


def _require_wide(name: str, value: Tensor) -> None:
    """Refuse precisions in which errors vanish."""
    wide = value.dtype in (torch.float32, torch.float64)
    allowed = (
        "float32 or float64, for errors are lost in fewer digits: model.float(); torch.autocast for speed"
    )
    require(wide, f"dtype of {name}", value.dtype, allowed)


class AnalogReLU(Fabricated):
    """A ReLU computed by a circuit, one for each column of the layer before it; made by :func:`program`.

    It has no parameters; its hardware is that of the layer, whose name is ``layer``.
    """

    template: Tensor

    def __init__(self, layer: Crossbar, name: str) -> None:
        super().__init__(name, layer.hardware)
        self.layer = layer.name
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

    def compute(self, x: Tensor) -> Tensor:
        z = {name.removeprefix("circuit/"): value for name, value in self.draws().items()}
        return self.hardware.circuit.activation(x, z, self.dim)


def fabricated(model: nn.Module) -> list[Fabricated]:
    """The modules of ``model`` that chips differ in. Raises ``ValueError`` if there is none."""
    crossbars(model)
    return [module for module in model.modules() if isinstance(module, Fabricated)]


def to_fabricate(model: nn.Module) -> list[Fabricated]:
    """The same, of a network whose layers have names of their own. Raises ``ValueError`` for several networks
    with layers of one name, whose errors would be the same."""
    modules = fabricated(model)
    owners = {module.name: module.passes for module in reversed(modules)}
    twice = sorted({module.name for module in modules if owners[module.name] is not module.passes})
    what = f"several programmed networks, all with layers {twice}"
    require(not twice, "model", what, "one network: program them as one, or hold a chip of its own in each")
    return modules


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
