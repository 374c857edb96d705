"""One pass of the network, one set of errors.

Where a chip is drawn anew at every pass (:func:`~.fresh`), a pass is one outermost ``forward`` of the
network that was programmed: a layer that is called at every time step, or in two places, has the same errors
in all of its calls. Gradient checkpointing computes parts of a pass again during the backward pass; those
parts get the errors of the pass that they belong to. A layer called by itself, outside its network, is a pass
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Draws = dict[str, Tensor]

Setting = TypeVar("Setting")


def _in_backward() -> bool:
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def transformed() -> bool:
    """Whether torch.func or torch.compile is at work, where tensors are not what they seem."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


class Pass:
    """What belongs to one pass, by layer: its setting, its draws, the state of its generator before them."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.draws: dict[str, Draws] = {}
        self.states: dict[str, Tensor] = {}


class Passes:
    """The passes of one network, which its layers share."""

    def __init__(self) -> None:
        self._now: Pass | None = None
        self._again: Pass | None = None  # the one whose parts a backward pass is computing again

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy is not in the middle of a pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        Passes.__init__(self)

    def watch(self, network: nn.Module) -> None:
        """Let every call of ``network`` be one pass."""
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end, always_call=True)

    def setting(self, name: str, present: Setting) -> Setting:
        """How layer ``name`` is set in the present pass: ``present``, or as it was then in one that is computed
        again."""
        if _in_backward():
            past: Setting = present if self._again is None else self._again.settings.get(name, present)
            return past
        if self._now is not None:
            self._now.settings[name] = present
        return present

    def drawn(self, name: str, generator: torch.Generator, draw: Callable[[torch.Generator], Draws]) -> Draws:
        """The draws of layer ``name`` in the present pass: by ``draw`` from ``generator`` if it has none yet.

        Raises ``RuntimeError`` in a backward pass that computes again what it cannot be told of which pass.
        """
        now = self._now
        if now is None and _in_backward():
            now = self._again
            if now is None:
                raise RuntimeError(
                    f"layer {name!r} with fresh errors is computed again in a backward pass, and which "
                    "errors it had is not known. Call the whole network, and checkpoint its parts with "
                    "use_reentrant=False"
                )
        if now is None:
            return draw(generator)
        if name not in now.draws:
            if name in now.states:
                generator = torch.Generator()
                generator.set_state(now.states[name])
            else:
                now.states[name] = generator.get_state()
            now.draws[name] = draw(generator)
        return now.draws[name]

    def _begin(self, network: nn.Module, inputs: tuple[Any, ...]) -> None:
        if _in_backward():
            self._now = self._again
        else:
            self._now, self._again = Pass(), None

    def _end(self, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        done, self._now = self._now, None
        if done is None:
            return
        done.draws = {}
        if torch.is_grad_enabled() and not (transformed() or _in_backward()):
            # the backward pass reaches the output before all that it is made of
            for value in pytree.tree_leaves(output):
                if isinstance(value, Tensor) and value.requires_grad:
                    value.register_hook(partial(self._recall, done))  # type: ignore[no-untyped-call]

    def _recall(self, past: Pass, gradient: Tensor) -> None:
        self._again = past
