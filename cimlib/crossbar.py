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
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from cimlib.arrays import Array, Conductances
from cimlib.devices import Draw, require
from cimlib.hardware import Hardware

Reading = tuple[Tensor, Conductances, dict[str, Tensor]]


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator seeded by the parts, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def _sample(draw: Draw, generator: torch.Generator, like: Tensor) -> Tensor:
    kind, shape = draw
    sampler = {"normal": torch.randn, "uniform": torch.rand}[kind]
    return sampler(shape, generator=generator).to(device=like.device, dtype=like.dtype)


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
            return {name: _sample(draw, self.generator, self.like()) for name, draw in slots.items()}
        for name, draw in slots.items():
            held = self._buffers.get(name)
            if held is None or held.shape != draw[1]:
                if self.chip is None:
                    raise RuntimeError(
                        f"layer {self.name!r} has no chip: call fabricate(model, chip) or fresh(model)"
                    )
                z = _sample(draw, seeded(self.chip, self.name, name), self.like())
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
    """The linear map of ``layer``; see :class:`cimlib.circuits.Operation`."""

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


def program(
    model: nn.Module,
    hardware: Hardware | Mapping[str, Hardware],
    *,
    layers: Collection[str] | None = None,
    train: Literal["weight", "conductance"] = "weight",
) -> nn.Module:
    """A deep copy of ``model`` with its ``Linear`` and ``Conv2d`` layers on ``hardware``.

    Args:
        model: a digital network; it is not changed.
        hardware: the chip design of every layer, or one for each layer by its name. If the circuit has an
            activation of its own (:class:`~cimlib.circuits.OpAmp`), every ``nn.ReLU`` directly behind the
            layer becomes an :class:`AnalogReLU`; one behind anything else (``BatchNorm``, pooling,
            ``Flatten``) stays digital.
        layers: names of the layers to put on hardware, as in ``model.named_modules()``; default all, or
            those that ``hardware`` names.
        train: ``"weight"``: same ``state_dict`` keys as ``model``; ``"conductance"``: training in
            the array, each layer's ``weight`` becomes ``conductance`` (slices, sides, out, in, ...) in
            µS, which needs an array with a fixed ``w_max``.

    Raises ``ValueError`` for unknown layers, a model already on hardware or one without layers to
    put there, a layer that the circuit cannot read, and a ReLU that cannot become a circuit (a function,
    or one module behind several layers); ``TypeError`` for a subclass of ``Linear``/``Conv2d``, which
    might go round the array.
    """
    require(train in ("weight", "conductance"), "train", train, "'weight', 'conductance'")
    on_hardware = any(isinstance(module, Crossbar) for module in model.modules())
    require(
        not on_hardware,
        "model",
        type(model).__name__,
        "a digital network; this one is already on hardware",
    )
    model = copy.deepcopy(model)
    named = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    require(not isinstance(layers, str), "layers", layers, "a collection of names, not one string")
    every = named if isinstance(hardware, Hardware) else hardware
    wanted = set(every) if layers is None else set(layers)
    require(bool(wanted) and wanted <= set(named), "layers", sorted(wanted), f"some of {sorted(named)}")
    require(wanted <= set(every), "hardware", sorted(every), f"a design for each of {sorted(wanted)}")
    replaced: dict[nn.Module, Fabricated] = {}
    for name in sorted(wanted):
        if type(named[name]) not in (nn.Linear, nn.Conv2d):
            raise TypeError(f"layer {name!r} is a {type(named[name]).__name__}, not a plain Linear or Conv2d")
        own = hardware if isinstance(hardware, Hardware) else hardware[name]
        own.circuit.check(own.array, named[name])
        if train == "conductance":
            _check_trainable(own.array)
        replaced[named[name]] = Crossbar(named[name], name, own, train)
    if model in replaced:
        return replaced[model].train(model.training)
    analog = {layer.name for layer in replaced.values() if layer.hardware.circuit.has_activation}
    for relu, (name, layer) in (_activations(model, analog) if analog else {}).items():
        replaced[relu] = AnalogReLU(replaced[layer], name)  # type: ignore[arg-type]
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):
            if child in replaced:
                setattr(parent, child_name, replaced[child].train(child.training))
    return model


def _check_trainable(array: Array) -> None:
    """Refuse arrays in which conductances cannot be the parameters."""
    fixed = array.w_max is not None and array.slices == 1
    require(fixed, "hardware.array", array, "an unsliced array with w_max set, for train='conductance'")
    inactive = getattr(array, "inactive", "programmed")
    require(inactive == "programmed", "inactive", inactive, "'programmed' for train='conductance'")
    zero_state = getattr(array, "zero_state", False)
    require(not zero_state, "zero_state", zero_state, "False for train='conductance'")


def _activations(model: nn.Module, layers: Collection[str]) -> dict[nn.Module, tuple[str, nn.Module]]:
    """ReLU modules directly behind ``layers``, each with its name and its layer."""
    found: dict[nn.Module, tuple[str, nn.Module]] = {}
    try:
        graph = fx.symbolic_trace(model).graph
    except fx.proxy.TraceError as error:
        what = f"{type(model).__name__} ({error})"
        require(False, "model", what, "a network without control flow, so that its ReLUs can be found")
    used = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or node.target not in layers:
            continue
        for user in node.users:
            function = getattr(user.target, "__name__", user.target)
            inline = user.op in ("call_function", "call_method") and function in ("relu", "relu_")
            behind = f"{function!r} behind layer {node.target!r}"
            require(not inline, "model", behind, "a module nn.ReLU there, to become a circuit")
            module = model.get_submodule(user.target) if user.op == "call_module" else None
            if isinstance(module, nn.ReLU):
                shared = used[user.target] > 1 or module in found
                require(not shared, "model", f"{behind}, used more than once", "one nn.ReLU for each layer")
                found[module] = (user.target, model.get_submodule(node.target))
    return found


def fabricate(model: nn.Module, chip: int | None = 0) -> nn.Module:
    """Hold one chip in every layer of ``model`` (in place; returned for chaining).

    Args:
        chip: the seed that *is* the chip, ≥ 0; ``None`` holds no chip.

    Raises ``ValueError`` for a negative or non-integer chip or a model that is not on hardware.
    """
    valid = chip is None or (isinstance(chip, Integral) and not isinstance(chip, bool) and chip >= 0)
    require(valid, "chip", chip, "an integer ≥ 0, or None")
    for module in fabricated(model):
        module.hold(None if chip is None else int(chip))
    return model


def fresh(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw new errors at every forward pass, from generators of ``model``'s own (in place).

    Raises ``ValueError`` for a negative or non-integer seed or a model that is not on hardware.
    """
    valid = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(valid, "seed", seed, "an integer ≥ 0")
    for module in fabricated(model):
        module.hold(None)
        module.generator = seeded("fresh", seed, module.name)
    return model


@contextmanager
def using(model: nn.Module, hardware: Hardware) -> Iterator[nn.Module]:
    """Within the context every layer is on ``hardware``: same parameters, same chip.

    Raises ``ValueError`` if a layer trained in its array would change arrays (its conductances mean
    weights in that array only), and if a network programmed without amplifiers would get them (its
    ReLUs are digital).
    """
    for layer in crossbars(model):
        same = not layer.in_array or hardware.array == layer.hardware.array
        require(same, "hardware.array", hardware.array, "the array in which the layer was trained")
        hardware.circuit.check(hardware.array, layer.plain)
    modules = fabricated(model)
    before = [module.hardware for module in modules]
    analog = all(own.circuit.has_activation for own in before) or not hardware.circuit.has_activation
    require(analog, "hardware.circuit", hardware.circuit, "one without amplifiers: the ReLUs are digital")
    try:
        for module in modules:
            module.hardware = hardware
        yield model
    finally:
        for module, own in zip(modules, before, strict=True):
            module.hardware = own


@contextmanager
def reading_once(model: nn.Module) -> Iterator[nn.Module]:
    """Within the context each layer's array is read once, not at every forward pass (no gradient).

    For evaluating many batches on a held chip; parameters must not change meanwhile.
    """
    layers = crossbars(model)
    try:
        with torch.no_grad():
            for layer in layers:
                layer.reading = layer.read()
            yield model
    finally:
        for layer in layers:
            layer.reading = None
