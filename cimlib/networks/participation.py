"""Modules that a network's forward pass must not go round, and the check that it did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


class Participant(nn.Module):
    """A module that is to take part in every forward pass of the network it is in; it has a ``name``."""

    name: str

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

    A compiled network runs uncompiled here, so that it can be seen. Raises ``RuntimeError`` at the end,
    naming the modules that were not called.
    """
    waiting = {module: module.name for module in model.modules() if isinstance(module, Participant)}
    watched = dict(waiting)

    def called(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        waiting.pop(module, None)  # type: ignore[call-overload]

    with ExitStack() as hooks:
        if watched:
            hooks.enter_context(torch.compiler.set_stance("force_eager"))
        for module in watched:
            hooks.enter_context(module.register_forward_pre_hook(called))
        yield model
    if waiting:
        raise RuntimeError(
            f"layers on hardware that the forward pass did not call: {sorted(waiting.values())}. What "
            "they compute was taken from elsewhere, say from layer.weight, or is not used. Rewrite the "
            "module that goes round them (torch's own: unfused(model)), or leave them digital: "
            "program(..., layers=...)"
        )
