"""Modules that a network's forward pass must not go round, and the check that it did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


class Participant(nn.Module):
    """A module that is to take part in every forward pass of the network it is in.

    It has a ``name``, and in ``passes`` something that all modules of one network share.
    """

    name: str
    passes: object

    def verify(self) -> None:
        """Raise ``ValueError``, naming the module and the value, if what it holds cannot be computed with."""


def verify(model: nn.Module) -> None:
    """Have every :class:`Participant` of ``model`` verify itself. Raises ``ValueError`` as they do."""
    for module in model.modules():
        if isinstance(module, Participant):
            module.verify()


@contextmanager
def none_left_out(model: nn.Module) -> Iterator[nn.Module]:
    """Within the context every :class:`Participant` of ``model`` must be called at least once.

    Of several networks side by side, those of which no module is called may rest, but not all. A compiled
    network runs uncompiled here, so that it can be seen. Raises ``RuntimeError`` at the end, naming the
    modules that were not called.
    """
    watched = [module for module in model.modules() if isinstance(module, Participant)]
    seen = set[nn.Module]()

    def called(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.add(module)

    with ExitStack() as hooks:
        if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
            hooks.enter_context(torch.compiler.set_stance("force_eager"))
        for module in watched:
            hooks.enter_context(module.register_forward_pre_hook(called))
        yield model
    awake = {id(module.passes) for module in watched if module in seen}
    left_out = [m.name for m in watched if m not in seen and (id(m.passes) in awake or not awake)]
    if left_out:
        raise RuntimeError(
            f"layers on hardware that the forward pass did not call: {sorted(left_out)}. What "
            "they compute was taken from elsewhere, say from layer.weight, or is not used. Rewrite the "
            "module that goes round them (torch's own: unfused(model)), or leave them digital: "
            "program(..., layers=...)"
        )
