"""Which layers of a network can go on hardware, and what is said of those that cannot.

What would later give a number that is wrong without a word is refused here by name, with what to do instead.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from cimlib.chip.hardware import Hardware
from cimlib.chip.layers import LAYERS, Layer, require_scale
from cimlib.devices.effects import require

#: Modules around a network → where the network itself is. They come after it is programmed.
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}

#: Modules of torch and torchvision that read the weights of their layers themselves.
_READERS = (
    *("MultiheadAttention", "TransformerEncoderLayer"),
    *("ShiftedWindowAttention", "ShiftedWindowAttentionV2"),
)

_PLAIN = "a plain Linear or convolution"


def named_layers(model: nn.Module) -> dict[str, Layer]:
    """The layers of ``model`` that an array could compute, by name; each once, subclasses included."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}


def require_network(model: nn.Module) -> None:
    """Raise ``TypeError`` for what is no network of plain modules: a wrapper around one, a script."""
    for name, module in model.named_modules():
        kind, where = type(module).__name__, f"{name!r} in model" if name else "model"
        if kind in _WRAPPERS:
            raise TypeError(
                f"{where} = a {kind} is not allowed; allowed: the network in it (.{_WRAPPERS[kind]}): "
                "program that, and wrap what comes out"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"{where} = a script is not allowed; allowed: the module that it was made from")
        packed = any(hasattr(module, name) for name in ("weight", "get_weight"))
        if packed and "nn.quantized" in type(module).__module__:  # in torch.ao; its weights are no parameters
            raise TypeError(
                f"{where} = a quantised {kind} is not allowed; allowed: the network of floats that it was "
                "made from; BitSliced quantises in the array"
            )


def require_hardware(hardware: object) -> None:
    """Raise ``TypeError`` for what is no design, nor a mapping of names to designs."""
    every = hardware.values() if isinstance(hardware, Mapping) else [hardware]
    for one in every:
        if not isinstance(one, Hardware):
            allowed = "a Hardware, such as Hardware(Gaussian(0.1)) or presets('iris-double'), or one by layer"
            raise TypeError(f"hardware = {one!r} is not allowed; allowed: {allowed}")


def require_layer(model: nn.Module, name: str) -> None:
    """Raise unless layer ``name`` computes with parameters of its own, in the way of its class.

    ``TypeError`` for a subclass, ``ValueError`` for weights that are no parameters, are not finite or have
    another precision, and for a layer inside a module that reads its weights itself.
    """
    layer, where = model.get_submodule(name), f"layer {name!r}"
    _require_class(layer, where)
    for key in ("weight", "bias"):
        if key not in layer._parameters:
            remedy = "remove_weight_norm" if f"{key}_g" in layer._parameters else None
            if f"{key}_mask" in layer._buffers:
                remedy = "prune.remove"
            elif f"{key}_orig" in layer._parameters:
                remedy = "remove_spectral_norm"
            said = f"torch.nn.utils.{remedy}(layer)" if remedy else "nn.Parameter(layer.weight.detach())"
            require(False, f"{key} of {where}", "no parameter", f"a parameter: make it one by {said}")
        parameter = layer._parameters[key]
        if parameter is not None:
            _require_numbers(f"{key} of {where}", parameter)
    require_scale(f"weight of {where}", layer.get_parameter("weight"))
    for parent_name in _parents(name):
        parent = model.get_submodule(parent_name)
        read = type(parent).__name__ in _READERS and type(parent).__module__.startswith("torch")
        said = f"inside a {type(parent).__name__}, which reads its weights itself"
        require(not read, where, said, "layers that are called: program(unfused(model), hardware)")


def _require_class(layer: nn.Module, where: str) -> None:
    if "forward" in vars(layer):
        raise TypeError(f"{where} has a forward of its own, set on the object; allowed: {_PLAIN}")
    if type(layer) in LAYERS:
        return
    kind, remedy = type(layer).__name__, ""
    if parametrize.is_parametrized(layer):
        remedy = ": torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
    elif kind == "NonDynamicallyQuantizableLinear":
        remedy = " that is called, not read by its MultiheadAttention: program(unfused(model), hardware)"
    elif isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        remedy = ", whose sizes are known: call the model once before"
    raise TypeError(f"{where} is a {kind}, which might go round the array; allowed: {_PLAIN}{remedy}")


def _require_numbers(name: str, value: Tensor) -> None:
    wide = value.dtype in (torch.float32, torch.float64)
    require(wide, f"dtype of {name}", value.dtype, "float32 or float64: model.float()")
    require(not value.is_meta, name, "on the meta device", "on a device with memory: model.to_empty(...)")
    require(bool(value.isfinite().all()), name, "not finite", "finite numbers")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(len(parts))]


def require_single(model: nn.Module, names: Collection[str]) -> None:
    """Raise ``ValueError`` if an object keeps one of the layers ``names`` besides as a plain attribute, in a
    list or a dictionary: what is called there would stay digital."""
    layers = {id(model.get_submodule(name)): name for name in names}
    for where, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_modules", "_parameters", "_buffers"):
                continue
            found = next((layers[id(one)] for one in _held(value) if id(one) in layers), None)
            attribute = f"{where}.{key}".removeprefix(".")
            what = f"layer {found!r} besides"
            require(
                found is None, attribute, what, "modules as attributes, in nn.ModuleList or nn.ModuleDict"
            )


def _held(value: object, depth: int = 4) -> Iterator[object]:
    """``value``, and what lies in it if it is a list or the like."""
    yield value
    if isinstance(value, (list, tuple, set, frozenset, dict)) and depth:
        for one in value.values() if isinstance(value, dict) else value:
            yield from _held(one, depth - 1)


def require_called(model: nn.Module, names: Collection[str]) -> None:
    """Raise ``ValueError`` if it can be seen beforehand that no pass calls one of the layers ``names``, or
    that something else computes with its weight.

    It can where torch.fx traces the model, whatever its mode. A network of torch's own modules in
    ``Sequential`` has nothing to be seen.
    """
    if all(type(m) is nn.Sequential or not (_contains(m) or _is_own(m)) for m in model.modules()):
        return
    called, read, traced = set[str](), set[str](), 0
    for mode in (True, False):
        trial = copy.deepcopy(model).train(mode)
        for module in trial.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        try:
            with torch.random.fork_rng(devices=()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = fx.Tracer().trace(trial)
        except Exception:  # whatever a forward does with what is no tensor: evaluate and fit will see
            continue
        traced += 1
        called |= {str(node.target) for node in graph.nodes if node.op == "call_module"}
        got = (str(node.target) for node in graph.nodes if node.op == "get_attr" and _computes(node))
        weights = {id(trial.get_submodule(name).weight): name for name in names}
        read |= {weights.get(id(_attribute(trial, target)), "") for target in got}
    if not traced:
        return
    own = {id(model.get_submodule(name)) for name in called}
    around = sorted(read & set(names))
    require(not around, "layers", around, "layers whose weight nothing but themselves reads; " + _AROUND)
    never = sorted(name for name in names if id(model.get_submodule(name)) not in own)
    require(traced < 2 or not never, "layers", never, "layers that a forward pass calls; " + _AROUND)


def _contains(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _is_own(module: nn.Module) -> bool:
    """Whether a module is not torch's, and so might do anything in its forward."""
    return not type(module).__module__.startswith("torch.nn.modules")


def _attribute(model: nn.Module, target: str) -> object:
    for name in target.split("."):
        model = getattr(model, name)
    return model


def _computes(node: fx.Node) -> bool:
    """Whether what a parameter's ``node`` gives is used for more than its dtype, device or shape."""
    about = ("dtype", "device", "shape", "ndim", "requires_grad", "size", "dim", "numel")
    return not all(
        user.target in about or (user.target is getattr and user.args[1] in about) for user in node.users
    )


_AROUND = "leave others digital: program(..., layers=...)"


def warn_of_digital(model: nn.Module, names: Collection[str]) -> None:
    """Warn once, with the list, of matrices that stay digital though everything was to go on hardware."""
    left = left_digital(model, names)
    if left.described:
        listed = ", ".join(f"{name} ({what})" for name, what in left.described.items())
        warnings.warn(
            f"these weights stay digital: {listed}. Attention and recurrent layers can be rewritten: "
            "program(unfused(model), hardware). If they are meant to be digital, name the others in layers",
            stacklevel=3,
        )


class Digital(NamedTuple):
    """Matrices that stay digital. ``described``: class and number of weights by name; ``weights``: of all."""

    described: dict[str, str]
    weights: int


def left_digital(model: nn.Module, names: Collection[str]) -> Digital:
    """What has matrices of its own and is none of the modules ``names`` of ``model``.

    What multiplies nothing is left out: look-up tables (``Embedding``), and parameters that are added, whose
    names end in ``bias``, ``bias_table``, ``embed``, ``embedding``, ``position`` or ``token``.
    """
    found, total = dict[str, str](), 0
    seen = {id(p) for name in names for p in model.get_submodule(name).parameters(recurse=False)}
    for name, module in model.named_modules():
        if name in names or isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            continue
        matrices = {key: p for key, p in module._parameters.items() if p is not None and _is_matrix(key, p)}
        own = {key: p for key, p in matrices.items() if id(p) not in seen}
        if own:
            count = sum(parameter.numel() for parameter in own.values())
            found[name or "model"] = f"{type(module).__name__}, {count:,} weights"
            total += count
    return Digital(found, total)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    words = name.removesuffix("_table").split("_")
    if words[-1] in ("bias", "embed", "embedding", "position", "token"):
        return False
    uninitialised = isinstance(parameter, nn.parameter.UninitializedParameter)
    return not uninitialised and sum(size > 1 for size in parameter.shape) > 1


def require_untied(layers: Mapping[str, Layer]) -> None:
    """Raise ``ValueError`` if layers share a weight: conductances would be each array's own."""
    first: dict[int, str] = {}
    for name, layer in layers.items():
        other = first.setdefault(id(layer.weight), name)
        tied = f"the weight of {other!r}"
        own = "its own, for train='conductance': layer.weight = nn.Parameter(layer.weight.detach().clone())"
        require(other == name, f"weight of layer {name!r}", tied, own)
