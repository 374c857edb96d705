"""Putting a digital network on hardware: the verb :func:`program`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

from torch import fx, nn

from cimlib.arrays.base import Array
from cimlib.chip import admission
from cimlib.chip.crossbar import AnalogReLU, Crossbar
from cimlib.chip.fabricated import Fabricated
from cimlib.chip.hardware import Hardware
from cimlib.chip.passes import Passes
from cimlib.devices.effects import require


def program(
    model: nn.Module,
    hardware: Hardware | Mapping[str, Hardware],
    *,
    layers: Collection[str] | None = None,
    train: Literal["weight", "conductance"] = "weight",
) -> nn.Module:
    """A deep copy of ``model`` with its linear layers and convolutions on ``hardware``.

    Args:
        model: a digital network; it is not changed. Its ``Linear``, ``Conv1d`` … ``Conv3d`` and
            ``ConvTranspose1d`` … ``ConvTranspose3d`` can go on hardware; for attention and recurrent layers
            give :func:`unfused(model) <.unfused>`.
        hardware: the chip design of every layer, or one for each layer by its name. If the circuit has an
            activation of its own (:class:`~.OpAmp`), every ``nn.ReLU`` directly behind the
            layer becomes an :class:`AnalogReLU`; one behind anything else (``BatchNorm``, pooling,
            ``Flatten``) stays digital.
        layers: names of the layers to put on hardware, as in ``model.named_modules()``; default all, or
            those that ``hardware`` names. By default a warning lists the weights that stay digital.
        train: ``"weight"``: the keys of ``model`` stay its keys; ``"conductance"``: training in
            the array, each layer's ``weight`` becomes ``conductance`` (slices, sides, out, in, ...) in
            µS, which needs an array with a fixed ``w_max``.

    A checkpoint of ``model`` loads into what is returned. A layer that is used twice is one array; two layers
    that share a weight are two arrays that are asked to hold it. Each call of the returned network is one
    pass, see :func:`fresh`. Draws follow from the names of layers in ``model``, so program a network first
    and wrap it then.

    Raises ``ValueError`` for unknown layers, a model already on hardware or one without layers to
    put there, a layer that the circuit cannot read, a ReLU that cannot become a circuit (a function,
    or one module behind several layers), weights that are no parameters (pruned, normalised by a hook), not
    finite or in half precision, layers that a pass is seen not to call or whose weights their parent reads;
    ``TypeError`` for a subclass of such layers, which might go round the array, and for a wrapper
    (``DataParallel``, ``torch.compile``) or a script.
    """
    require(train in ("weight", "conductance"), "train", train, "'weight', 'conductance'")
    on_hardware = any(isinstance(module, Crossbar) for module in model.modules())
    require(
        not on_hardware,
        "model",
        type(model).__name__,
        "a digital network; this one is already on hardware",
    )
    admission.require_network(model)
    admission.require_hardware(hardware)
    named = admission.named_layers(model)
    require(not isinstance(layers, str), "layers", layers, "a collection of names, not one string")
    every = named if isinstance(hardware, Hardware) else hardware
    wanted = set(every) if layers is None else set(layers)
    kinds = "a network with Linear, Conv1d … Conv3d or ConvTranspose1d … ConvTranspose3d"
    require(bool(named), "layers", sorted(wanted), kinds)
    require(bool(wanted) and wanted <= set(named), "layers", sorted(wanted), f"some of {sorted(named)}")
    require(wanted <= set(every), "hardware", sorted(every), f"a design for each of {sorted(wanted)}")
    for name in sorted(wanted):
        admission.require_layer(model, name)
    admission.require_single(model, wanted)
    admission.require_called(model, wanted)
    if layers is None and isinstance(hardware, Hardware):
        admission.warn_of_digital(model, wanted)
    if train == "conductance":
        admission.require_untied({name: named[name] for name in sorted(wanted)})
    model = copy.deepcopy(model)
    named = admission.named_layers(model)
    replaced: dict[nn.Module, Fabricated] = {}
    for name in sorted(wanted):
        own = hardware if isinstance(hardware, Hardware) else hardware[name]
        own.circuit.check(own.array, named[name])
        if train == "conductance":
            _check_trainable(own.array)
        replaced[named[name]] = Crossbar(named[name], name, own, train)
    analog = {layer.name for layer in replaced.values() if layer.hardware.circuit.has_activation}
    analog = set() if model in replaced else analog  # behind which there is nothing
    for relu, (name, layer) in (_activations(model, analog) if analog else {}).items():
        replaced[relu] = AnalogReLU(replaced[layer], name)  # type: ignore[arg-type]
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):
            if child in replaced:
                setattr(parent, child_name, replaced[child].train(child.training))
    model = replaced[model].train(model.training) if model in replaced else model
    passes = Passes()
    passes.watch(model)
    for module in replaced.values():
        module.passes = passes
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
