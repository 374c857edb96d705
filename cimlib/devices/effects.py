"""What a memory cell does to the conductance it was asked to hold.

An *effect* is one such thing (programming spread, a stuck cell); a :class:`Device` is several of them
in one declared order. Every effect is a pure function of the conductance and of standard draws
``z``: the draws belong to the chip, so the same chip can be taken to another spread. Taught in the
chapter *A chip is a seed*.

Convention of every spread here: **one standard draw per cell**. A weight held by a pair of cells
therefore sees two of them, and its own spread is √2 larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import hardtanh_

from cimlib.devices.draws import Draw


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` naming the argument, its value and the allowed range."""
    if not condition:
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: {allowed}")


def require_whole(name: str, value: object, least: int) -> None:
    """Raise ``ValueError`` unless ``value`` is an integer ≥ ``least``."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(whole, name, value, f"an integer ≥ {least}")


def require_kind(name: str, value: object, kind: type, such_as: str) -> None:
    """Raise ``TypeError`` naming the argument and what it is, unless ``value`` is a ``kind``, ``such_as``."""
    if not isinstance(value, kind):
        found = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise TypeError(f"{name} = {found} is not allowed; allowed: a {kind.__name__}, such as {such_as}")


def is_finite(values: Tensor) -> bool:
    """Whether all of these real ``values`` are finite. A NaN among them is the least and the largest."""
    return values.numel() == 0 or all(bool(end.isfinite()) for end in values.detach().aminmax())


def transformed() -> bool:
    """Whether torch.func or torch.compile is at work, where tensors are not what they seem."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def overwritable() -> bool:
    """Whether a tensor just computed may be overwritten: no gradient needs it, no transform follows it."""
    return not (torch.is_grad_enabled() or transformed())


def straight_through(value: Tensor, through: Tensor) -> Tensor:
    """``value`` exactly, with the gradient of ``through`` (same shape)."""
    if not torch.is_grad_enabled():
        return value
    return value.detach() + (through - through.detach())


def clipped(g: Tensor, low: float = 0.0, high: float = inf) -> Tensor:
    """``g`` held in ``low`` … ``high``, with the gradient of ``g``, which the caller has just computed: where
    gradients are off it is overwritten."""
    if torch.is_grad_enabled():
        return straight_through(g.clamp(low, high), g)
    return hardtanh_(g, low, high)  # the same as clamp_, which torch.func.vmap has no rule for


@dataclass(frozen=True)
class Effect:
    """One thing a cell does to a conductance; the base class does nothing.

    ``local`` says that the conductance of a cell depends on that cell's target and draws alone, so that a
    large layer can be read in parts. ``unit_gradient`` says that its gradient with respect to the target is
    1, for the error is added, or passed straight through: then errors need no gradient of their own.
    """

    local: ClassVar[bool] = False
    unit_gradient: ClassVar[bool] = False

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        """Standard draws needed for cells of ``shape``: ``{slot: (distribution, shape)}``."""
        return {}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        """Conductance obtained, µS.

        Args:
            g: conductance asked for, µS, any shape.
            z: the draws named by :meth:`draws`, broadcastable to ``g``.
            g_min, g_max: range of the cell, µS.
        """
        return g


@dataclass(frozen=True)
class Gaussian(Effect):
    r"""Programming error that does not depend on the state: :math:`g = g_T + \sigma\,\Delta G\,z`.

    Args:
        sigma: standard deviation **per cell** as a fraction of the range
            :math:`\Delta G = g_{max} - g_{min}`, ≥ 0.
        clip: keep the cell in its range (a saturated cell still passes the gradient of its target,
            because training moves targets). ``False`` lets it leave.

    Source: the additive model of NFT (Eq. 4–5, standard form), with σ relative to the range of one
    device. Raises ``ValueError`` for a negative or non-finite ``sigma``.
    """

    local: ClassVar[bool] = True
    unit_gradient: ClassVar[bool] = True

    sigma: float = 0.0
    clip: bool = True

    def __post_init__(self) -> None:
        require(
            0 <= self.sigma < float("inf"),
            "sigma",
            self.sigma,
            "0 ≤ sigma < ∞ (fraction of g_max - g_min)",
        )

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"programming": ("normal", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        moved = g + self.sigma * (g_max - g_min) * z["programming"]
        return clipped(moved, g_min, g_max) if self.clip else moved


@dataclass(frozen=True)
class Lognormal(Effect):
    r"""Multiplicative programming error: :math:`g = g_T\,e^{\sigma z}`, median :math:`g_T`.

    Args:
        sigma: standard deviation of :math:`\ln g` **per cell**, ≥ 0.
        clip: keep the cell in its range, as in :class:`Gaussian`.

    Source: lognormal resistance variation as used by ITT-RNA and its predecessor (the median, not the
    mean, is preserved). Raises ``ValueError`` for a negative or non-finite ``sigma``.
    """

    local: ClassVar[bool] = True

    sigma: float = 0.0
    clip: bool = True

    def __post_init__(self) -> None:
        require(0 <= self.sigma < float("inf"), "sigma", self.sigma, "0 ≤ sigma < ∞ (std of ln g)")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"programming": ("normal", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        moved = g * torch.exp(self.sigma * z["programming"])
        return clipped(moved, g_min, g_max) if self.clip else moved


@dataclass(frozen=True)
class StuckAt(Effect):
    """Cells that no longer move: stuck **on** (at ``g_max``) or stuck **off** (at ``g_min``).

    Args:
        on: fraction of cells stuck at ``g_max``, the low-resistance state.
        off: fraction of cells stuck at ``g_min``, the high-resistance state; ``on + off ≤ 1``.

    The literature's names SA0 and SA1 are used with both polarities; *on* and *off* are not. One
    uniform draw per cell decides both, so the faults of a chip at 5 % are also its faults at 10 %.
    A stuck cell passes no gradient: nothing that is written reaches it.
    Raises ``ValueError`` for fractions outside [0, 1] or that add to more than 1.
    """

    local: ClassVar[bool] = True

    on: float = 0.0
    off: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.on <= 1, "on", self.on, "0 ≤ on ≤ 1 (fraction of cells)")
        require(0 <= self.off <= 1, "off", self.off, "0 ≤ off ≤ 1 (fraction of cells)")
        require(self.on + self.off <= 1, "on + off", self.on + self.off, "on + off ≤ 1")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        return {"stuck": ("uniform", shape)}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        u = z["stuck"]
        return torch.where(u >= 1 - self.off, g_min, torch.where(u < self.on, g_max, g))


@dataclass(frozen=True, init=False)
class Device:
    """Several effects applied in the order given, e.g. ``Device(Gaussian(0.1), StuckAt(on=0.01))``.

    ``Device()`` is an ideal cell. Raises ``TypeError`` for something that is not an effect, and
    ``ValueError`` if two effects want the same draw (two programming errors, say).
    """

    effects: tuple[Effect, ...]

    def __init__(self, *effects: Effect) -> None:
        for effect in effects:
            if not isinstance(effect, Effect):
                raise TypeError(f"effects must be Effect objects, got {effect!r}")
        object.__setattr__(self, "effects", effects)
        slots = [slot for effect in effects for slot in effect.draws(())]
        require(len(slots) == len(set(slots)), "effects", effects, "each source of spread at most once")

    def draws(self, shape: tuple[int, ...]) -> dict[str, Draw]:
        """All draws of all effects for cells of ``shape``."""
        return {slot: draw for effect in self.effects for slot, draw in effect.draws(shape).items()}

    def __call__(self, g: Tensor, z: Mapping[str, Tensor], g_min: float, g_max: float) -> Tensor:
        """Conductance obtained, µS, same shape as ``g``; see :meth:`Effect.__call__`."""
        for effect in self.effects:
            g = effect(g, z, g_min, g_max)
        return g

    @property
    def unit_gradient(self) -> bool:
        """Whether conductances have the gradient of their targets, whatever the errors: of all effects."""
        return all(effect.unit_gradient for effect in self.effects)

    def with_sigma(self, sigma: float) -> Device:
        """The same device at another programming spread.

        Raises ``ValueError`` if the device has no effect with a ``sigma``.
        """
        has_sigma = [hasattr(effect, "sigma") for effect in self.effects]
        require(any(has_sigma), "device", self, "a device with a Gaussian or Lognormal effect")
        return Device(
            *(
                replace(effect, sigma=sigma) if has else effect  # type: ignore[call-arg]
                for effect, has in zip(self.effects, has_sigma, strict=True)
            )
        )

    def at(self, t: float | str) -> Device:
        """The same device at another time since programming; see :class:`~.Drift`.

        Raises ``ValueError`` if no effect of the device has a clock, or for a time that is no time.
        """
        has_clock = [hasattr(effect, "at") for effect in self.effects]
        require(any(has_clock), "device", self, "a device with an effect that drifts, such as PCM")
        return Device(
            *(
                effect.at(t) if has else effect  # type: ignore[attr-defined]
                for effect, has in zip(self.effects, has_clock, strict=True)
            )
        )
