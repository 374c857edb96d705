"""Networks whose weights are in linear layers: the verb :func:`unfused`.

Some modules of torch hold their weights themselves and hand them to a fused kernel; others hand a kernel the
weights of their layers. Whatever is put in place of a layer is then never called. What is rewritten:

================================================  ===================================================
``nn.MultiheadAttention``                         :class:`~cimlib.networks.attention.Attention`
``nn.TransformerEncoderLayer``                    :class:`~cimlib.networks.attention.EncoderLayer`
``nn.TransformerEncoder``                         :class:`~cimlib.networks.attention.Encoder`
``nn.LSTM``, ``nn.GRU``, ``nn.RNN``               :class:`~cimlib.networks.recurrent.Recurrent`
``nn.LSTMCell``, ``nn.GRUCell``, ``nn.RNNCell``   :class:`~cimlib.networks.recurrent.Cell`
torchvision's ``ShiftedWindowAttention``          :class:`~cimlib.networks.windows.WindowAttention`
torchvision's ``ShiftedWindowAttentionV2``        :class:`~cimlib.networks.windows.CosineWindowAttention`
================================================  ===================================================

``nn.TransformerDecoderLayer``, ``nn.TransformerDecoder`` and ``nn.Transformer`` call their parts, and stay;
so does everything else.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from cimlib.networks.attention import Attention, Encoder, EncoderLayer
from cimlib.networks.recurrent import Cell, Recurrent
from cimlib.networks.windows import CosineWindowAttention, WindowAttention


def _cell(cell: nn.RNNCellBase) -> Cell:
    mode = {nn.LSTMCell: "LSTM", nn.GRUCell: "GRU"}.get(type(cell)) or f"RNN_{cell.nonlinearity}".upper()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return Cell(mode, [p for p in map(cell._parameters.get, names) if p is not None])


#: What holds weights itself → what is made of it.
MADE: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.MultiheadAttention: Attention,
    **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), Recurrent),
    **dict.fromkeys((nn.LSTMCell, nn.GRUCell, nn.RNNCell), _cell),
}
#: What reads the weights of its layers → the same with a forward pass that calls them.
CALLING: dict[type[nn.Module], type[nn.Module]] = {
    nn.TransformerEncoderLayer: EncoderLayer,
    nn.TransformerEncoder: Encoder,
    ShiftedWindowAttention: WindowAttention,
    ShiftedWindowAttentionV2: CosineWindowAttention,
}
#: Layers that are read and not called: by which class, under which name.
READ = {nn.MultiheadAttention: ("out_proj",), ShiftedWindowAttention: ("qkv", "proj")}
#: All that a subclass of may have weights, and a forward pass, of its own.
FAMILIES = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, *CALLING)
OURS = (Attention, Recurrent, Cell, *CALLING.values())


def unfused(model: nn.Module) -> nn.Module:
    """A deep copy of ``model`` in which every weight of attention and recurrence is in an ``nn.Linear``.

    It computes the same in training and in evaluation, gradients and dropout included, up to rounding: in
    float32 to about 1e-5 of the largest output. What it equals is torch *without* its fast path for
    evaluation (``torch.backends.mha.set_fastpath_enabled(False)``), which takes a mask of finite floats for
    one of booleans; zeros at padded positions are kept.

    Parameters keep their values, dtypes, devices and ``requires_grad``; one that is used twice stays one.
    Where weights move into layers, the keys of the ``state_dict`` change: load a checkpoint into the plain
    model, then call this. Modes and hooks of a module stay, and a module in several places stays one.

    Args:
        model: a digital network; it is not changed. One that is unfused already comes back as a copy.

    Raises, before any work, ``TypeError`` for a subclass of a class that would be rewritten, which may have a
    forward pass of its own, and for a scripted module; ``ValueError`` for weights that are pruned or
    parametrised, a packed attention weight that another module has as well, a method replaced on the
    object, and hooks that could not stay: on a ``state_dict`` whose keys change, or on a layer that torch
    never calls.
    """
    shared = Counter(p for m in model.modules() for p in m._parameters.values() if p is not None)
    for name, module in model.named_modules():
        _check(name or type(module).__name__, module, shared)
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if type(module) in MADE:
            _become(module, MADE[type(module)](module))
        elif type(module) in CALLING:
            module.__class__ = CALLING[type(module)]
            if isinstance(module, (Encoder, CosineWindowAttention)):
                module.rewritten()
    return model


def _become(module: nn.Module, new: nn.Module) -> None:
    """Turn ``module`` into ``new`` where it is, so that all who hold it, and its hooks, hold the new one."""
    hooks = {name: value for name, value in vars(module).items() if "hook" in name}
    state = {**vars(new.train(module.training)), **hooks}
    module.__class__ = type(new)
    vars(module).clear()
    vars(module).update(state)


def _check(name: str, module: nn.Module, shared: Counter[nn.Parameter]) -> None:
    """Refuse what cannot be rewritten; see :func:`unfused`."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"{name!r} is a scripted module, not a plain one: call unfused before torch.jit")
    if not isinstance(module, FAMILIES) or kind in OURS:
        return
    if kind in MADE or parametrize.is_parametrized(module):
        _check_parameters(name, module, _weights(module))
    if kind not in {**MADE, **CALLING}:
        raise TypeError(
            f"{name!r} is a {kind.__name__}, not one of torch's own, and may have a forward pass of its own: "
            "rewrite it with nn.Linear layers that it calls"
        )
    replaced = [own for own in vars(module) if callable(getattr(kind, own, None))]
    _require(not replaced, f"methods of {name!r}", replaced, "those of its class, none put on the object")
    for family, layers in READ.items():
        for layer in layers if isinstance(module, family) else ():
            _check_read(f"{name}.{layer}", module.get_submodule(layer))
    if kind in MADE or kind is ShiftedWindowAttentionV2:
        keyed = [hook for hook in _hooks(module) if "state_dict" in hook]
        _require(not keyed, f"hooks of {name!r}", keyed, "none on the state_dict, whose keys change")
    for packed in ("in_proj_weight", "in_proj_bias") if kind is nn.MultiheadAttention else ():
        parameter = module._parameters[packed]
        own = parameter is None or shared[parameter] == 1
        _require(own, f"{name}.{packed}", "that of another module too", "its own, to be cut in three")


def _check_read(name: str, layer: nn.Module) -> None:
    """Refuse a layer that torch reads and never calls, unless calling it is the same."""
    _check_parameters(name, layer, {"weight", "bias"})
    if type(layer) not in (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear):
        raise TypeError(f"{name!r} is a {type(layer).__name__}, not a plain Linear")
    none = "none: torch never calls this layer; put them on the module that has it"
    _require(not _hooks(layer), f"hooks of {name!r}", _hooks(layer), none)


def _weights(module: nn.Module) -> set[str]:
    """The names under which torch keeps the parameters of a module that holds weights itself."""
    if isinstance(module, nn.MultiheadAttention):
        packed = {f"in_proj_{what}" for what in ("weight", "bias")}
        return packed | {"q_proj_weight", "k_proj_weight", "v_proj_weight", "bias_k", "bias_v"}
    if isinstance(module, nn.RNNBase):
        return {name for names in module._all_weights for name in names}
    return {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}


def _check_parameters(name: str, module: nn.Module, expected: set[str]) -> None:
    """Refuse parameters that are computed from others."""
    found = set(module._parameters)
    optional = {"bias_k", "bias_v"}  # not registered when there is none
    ok = found <= expected and expected <= found | optional and not parametrize.is_parametrized(module)
    permanent = "prune.remove or parametrize.remove_parametrizations, from torch.nn.utils, make them plain"
    plain = f"those of its class, neither pruned nor parametrised: {permanent}"
    _require(ok, f"parameters of {name!r}", sorted(p for p, _ in module.named_parameters()), plain)


def _hooks(module: nn.Module) -> list[str]:
    """The kinds of hooks that are registered."""
    return [name for name, value in vars(module).items() if name.endswith("_hooks") and value]


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: {allowed}")
