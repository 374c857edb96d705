"""One pass of the network, one set of errors.

Where a chip is drawn anew at every pass (:func:`~.fresh`), a pass is one outermost ``forward`` of the
network that was programmed: a layer that is called at every time step, or in two places, has the same errors
in all of its calls. Gradient checkpointing computes parts of a pass again during the backward pass; those
parts get the errors, and the hardware, of the pass that they belong to, or are refused where that cannot be
told. A layer called by itself, or by another method of its network than ``forward``, is a pass of its own.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import _CheckpointFrame

from cimlib.chip.hardware import Hardware
from cimlib.devices.effects import transformed

Draws = dict[str, Tensor]


def _in_backward() -> bool:
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _checkpointed() -> _CheckpointFrame | None:
    """What torch knows the innermost checkpointed part by, in which this is called for the first time or
    again; ``None`` outside, and inside those with ``use_reentrant=True``."""
    hooks = (
        None if torch.compiler.is_compiling() else torch._C._autograd._top_saved_tensors_default_hooks(True)
    )
    pack = None if hooks is None else inspect.unwrap(hooks[0])
    for cell in getattr(pack, "__closure__", None) or ():
        value = cell.cell_contents
        value = value() if isinstance(value, weakref.ref) else value
        if isinstance(value, _CheckpointFrame):
            return value
    return None


class Setting(NamedTuple):
    """What a layer computes with besides its parameters. ``chip`` is ``None`` for fresh errors."""

    hardware: Hardware
    reading: Any
    chip: int | None
    fresh: bool

    def alike(self, other: Setting) -> bool:
        """Whether both give the same."""
        return self.reading is other.reading and (self.hardware, self.chip, self.fresh) == (
            other.hardware,
            other.chip,
            other.fresh,
        )


class Pass:
    """What belongs to one pass, by layer: its setting, its draws, the state of its generator before them."""

    def __init__(self) -> None:
        self.settings: dict[str, Setting] = {}
        self.draws: dict[str, Draws] = {}
        self.states: dict[str, Tensor] = {}


class Passes:
    """The passes of one network, which its layers share."""

    def __init__(self) -> None:
        self._now: Pass | None = None
        self._depth = 0  # calls of the network within one another
        self._again = 0  # the same, in a backward pass
        self._parts: weakref.WeakKeyDictionary[_CheckpointFrame, Pass] = weakref.WeakKeyDictionary()
        self._alive: weakref.WeakSet[Pass] = weakref.WeakSet()  # of which a graph is left

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy is not in the middle of a pass

    def __setstate__(self, state: dict[str, Any]) -> None:
        Passes.__init__(self)

    @property
    def running(self) -> bool:
        """Whether the network is in a pass."""
        return self._now is not None

    def watch(self, network: nn.Module) -> None:
        """Let every outermost call of ``network`` be one pass."""
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end, always_call=True)

    def setting(self, name: str, present: Setting) -> Setting:
        """``present``, or how layer ``name`` was set in the pass that is being computed again.

        Raises ``RuntimeError`` if passes differ in it and which of them that is cannot be told.
        """
        if not _in_backward():
            if self._now is not None:
                self._now.settings[name] = present
            return present
        past = self._past()
        if past is not None:
            return past.settings.get(name, present)
        if any(not present.alike(one.settings.get(name, present)) for one in self._alive):
            self._refuse(name)
        return present

    def drawn(self, name: str, generator: torch.Generator, draw: Callable[[torch.Generator], Draws]) -> Draws:
        """The draws of layer ``name`` in the present pass: by ``draw`` from ``generator`` if it has none yet.

        Raises ``RuntimeError`` in a backward pass that computes again what it cannot be told of which pass.
        """
        now = self._now
        if _in_backward():
            now = self._past()
            if now is None:
                self._refuse(name)
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

    def part(self, output: Any) -> None:
        """Note that ``output`` was computed in the present pass."""
        now = self._now
        if now is None or _in_backward() or transformed() or not torch.is_grad_enabled():
            return
        frame = _checkpointed()
        if frame is not None:
            self._parts[frame] = now
        for value in pytree.tree_leaves(output):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                value.grad_fn.metadata[self] = now  # type: ignore[index]  # lives as long as the graph
                self._alive.add(now)

    def _past(self) -> Pass | None:
        """The pass of which a part is being computed again, if it can be told."""
        frame = _checkpointed()
        past = None if frame is None else self._parts.get(frame)
        if past is None and not self._again and len(self._alive) == 1:
            (past,) = self._alive
            if frame is not None:
                self._parts[frame] = past
        return past

    @staticmethod
    def _refuse(name: str) -> NoReturn:
        raise RuntimeError(
            f"layer {name!r} is computed again in a backward pass, and of which pass, with which errors, is "
            "not known. Call the whole network, and checkpoint its parts with use_reentrant=False"
        )

    def _begin(self, network: nn.Module, inputs: tuple[Any, ...]) -> None:
        if _in_backward():
            self._again += 1
        elif self._now is None or not _is_running(network, sys._getframe(1)):
            self._now, self._depth = Pass(), 1
        else:
            self._depth += 1

    def _end(self, network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if _in_backward():
            self._again -= 1
            return
        self._depth -= 1
        if self._depth == 0 and self._now is not None:
            self.part(output)
            self._now.draws = {}
            self._now = None


def _is_running(network: nn.Module, frame: FrameType | None) -> bool:
    """Whether a ``forward`` of ``network`` calls ``frame``, or one was interrupted and left its pass open."""
    while frame is not None:
        if frame.f_code.co_name == "forward" and frame.f_locals.get("self") is network:
            return True
        frame = frame.f_back
    return False
