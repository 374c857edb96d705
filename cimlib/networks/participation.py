"""Modules that a network's forward pass must not go round, and the check that it did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

#: What takes a tensor for its type, place or size, not for its numbers.
_ABOUT = (
    "type_as",
    "view_as",
    "expand_as",
    "reshape_as",
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
)
_ABOUT_OTHERS = ("rand_like", "randn_like", "randint_like", "new_zeros", "new_ones", "new_empty", "new_full")


class Network(Protocol):
    """What the modules of one network share."""

    @property
    def running(self) -> bool:
        """Whether the network is in a pass."""


class Participant(nn.Module):
    """A module that is to take part in every forward pass of the network it is in.

    It has a ``name``, and in ``passes`` what all modules of one network share.
    """

    name: str
    passes: Network

    def verify(self) -> None:
        """Raise ``ValueError``, naming the module and the value, if what it holds cannot be computed with."""


def verify(model: nn.Module) -> None:
    """Have every :class:`Participant` of ``model`` verify itself. Raises ``ValueError`` as they do."""
    for module in model.modules():
        if isinstance(module, Participant):
            module.verify()


class _Readers(TorchFunctionMode):
    """Notes whose parameters a pass computes with outside the modules that have them."""

    def __init__(self, modules: list[Participant]) -> None:
        super().__init__()
        names = ("weight", "conductance")
        self.owner = {id(m._parameters[name]): m for m in modules for name in names if name in m._parameters}
        self.inside = 0
        self.around = set[str]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if self.inside == 0 and isinstance(result, Tensor) and name not in (*_ABOUT, *_ABOUT_OTHERS):
            values = args[:1] if name == "to" else pytree.tree_leaves((args, kwargs))
            owners = (self.owner.get(id(value)) for value in values)
            self.around |= {m.name for m in owners if m is not None and m.passes.running}
        return result


@contextmanager
def none_left_out(model: nn.Module) -> Iterator[nn.Module]:
    """Within the context every :class:`Participant` of ``model`` must be called at least once, and in a pass
    nothing else may compute with its weights.

    Of several networks side by side, those of which no module is called may rest, but not all. A compiled
    network runs uncompiled here, so that it can be seen. Raises ``RuntimeError`` at the end, naming the
    modules that were gone round.
    """
    watched = [module for module in model.modules() if isinstance(module, Participant)]
    seen, readers = set[nn.Module](), _Readers(watched)

    def called(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.add(module)
        readers.inside += 1

    def left(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        readers.inside -= 1

    with ExitStack() as hooks:
        if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
            hooks.enter_context(torch.compiler.set_stance("force_eager"))
        for module in watched:
            hooks.enter_context(module.register_forward_pre_hook(called, prepend=True))
            hooks.enter_context(module.register_forward_hook(left, always_call=True))
        hooks.enter_context(readers)
        yield model
    awake = {id(module.passes) for module in watched if module in seen}
    left_out = [m.name for m in watched if m not in seen and (id(m.passes) in awake or not awake)]
    if left_out or readers.around:
        around = f"did not call: {sorted(left_out)}" if left_out else f"goes round: {sorted(readers.around)}"
        raise RuntimeError(
            f"layers on hardware that the forward pass {around}. What they compute was taken from elsewhere, "
            "say from layer.weight, or is not used. Rewrite the module that goes round them (torch's own: "
            "unfused(model)), or leave them digital: program(..., layers=...)"
        )
