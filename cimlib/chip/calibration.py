r"""Ranges of converters: found from data, layer by layer, and whether those of a network clip what it sees.

:class:`~.Converters` have one full scale for all inputs of a layer, ``x_max``, and one for its outputs. The
default, 1, is that of an image; what hidden layers give is often larger, and is clipped without a word.
:func:`calibrated` sets the ranges from inputs of the network; :func:`clipped_shares` counts what the present
ones clip, and :func:`warn_if_clipped` says so, or :func:`watching_converters` of passes made anyway.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, isfinite
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.chip.crossbar import Crossbar, crossbars, fabricated
from cimlib.circuits.base import Circuit, Operation
from cimlib.circuits.converters import Converted, Converters, quantise
from cimlib.circuits.wires import Wires
from cimlib.devices.effects import Device, require
from cimlib.networks.plain import evaluating

_ROUNDING = 1e-6  # an output at full scale may be off by the last digit

_Counts = dict[str, Tensor]  # (Clipped, 2): how many are clipped, and of how many
_See = Callable[[Crossbar, Converters, Operation, Conductances, Tensor], Converters]


class Clipped(NamedTuple):
    """Shares of a layer's signals that lie beyond the range of their converters.

    ``inputs``: of those that are not zero, which no range clips. ``outputs``: of all. ``largest``: of the
    outputs that are the largest in magnitude of their sample, or of their position in it; the class is often
    theirs, and of many outputs they are a small share.
    """

    inputs: float
    outputs: float
    largest: float = 0.0


def calibrated(
    model: nn.Module, x: Tensor, *, percentile: float = 100.0, cells: Literal["ideal", "held"] = "ideal"
) -> nn.Module:
    r"""A copy of ``model`` whose converters have the ranges of the signals that ``x`` causes.

    One forward pass, each layer behind layers that already have their ranges. ``x_max`` of a layer becomes
    the magnitude that ``percentile`` percent of its inputs do not exceed, zeros included;
    ``full_scale`` of its ADCs likewise that of its outputs, relative to the largest that inputs of at most
    ``x_max`` could cause, and at most 1. A layer that is called several times is given one range for all
    calls, which may be short of a later one by the steps of its own converters. Bits, tiles, devices, arrays
    and the held chip stay. A layer without converters of few bits, one that the pass does not reach, and one
    that sees only zeros stay as they are.

    Args:
        model: a network on hardware; it is not changed.
        x: (n, ...), inputs of the network, n ≥ 1; a few hundred of those it was trained on, not of the test.
        percentile: 0 < percentile ≤ 100; 100 clips nothing of ``x``, less clips the largest signals for
            smaller steps.
        cells: whose signals count. ``"ideal"``: of cells without errors, so that the ranges belong to the
            design and are the same on every chip. ``"held"``: of the chip that ``model`` holds. Amplifiers of
            other layers have the errors of the held chip in both.

    Ranges are part of each layer's ``hardware``: :func:`~.using` with one design for all replaces them.

    Raises ``ValueError`` for arguments out of range, a network that is not on hardware or has no converters
    of few bits, ``"held"`` without a held chip, and signals that are not finite.
    """
    require(0 < percentile <= 100, "percentile", percentile, "0 < percentile ≤ 100")
    require(cells in ("ideal", "held"), "cells", cells, "'ideal', 'held'")
    require(len(x) > 0, "len(x)", len(x), "≥ 1")
    few = bool(_converting(model))
    require(few, "model", type(model).__name__, "a network with Converters(dac_bits=...) or (adc_bits=...)")
    holds = all(module.chip is not None for module in fabricated(model))
    require(holds or cells == "ideal", "cells", cells, "'ideal', or a network after fabricate(model, chip)")
    model = copy.deepcopy(model)
    for layer in crossbars(model):
        layer.reading = None
    inputs: dict[Crossbar, list[Tensor]] = {}
    outputs: dict[Crossbar, list[Tensor]] = {}
    found: dict[Crossbar, Converters] = {}

    def see(layer: Crossbar, own: Converters, op: Operation, g: Conductances, weight: Tensor) -> Converters:
        x_max = _reach(inputs.setdefault(layer, []), op.x, percentile, f"inputs of layer {layer.name!r}")
        own = replace(own, full_scale=1.0, x_max=x_max or own.x_max)
        if own.adc_bits is not None:
            converted = quantise(op.x, own.dac_bits, op.x.new_tensor(own.x_max))
            given = [(y / full).flatten() for y, full in own.before_adc(op, converted, g, weight)]
            seen, what = outputs.setdefault(layer, []), f"outputs of layer {layer.name!r}"
            largest = _reach(seen, own.x_max * torch.cat(given), percentile, what) / own.x_max
            own = replace(own, full_scale=min(largest, 1.0) or 1.0)
        found[layer] = own
        return own

    with _drawing_nothing(model), _seeing(model, see, ideal=cells == "ideal"):
        model(x)
    for layer, own in found.items():
        layer.hardware = replace(layer.hardware, circuit=_around(layer.hardware.circuit, own))
    return model


def clipped_shares(model: nn.Module, x: Tensor) -> dict[str, Clipped]:
    """What the converters of ``model`` clip when it is given ``x``, layer by layer.

    Args:
        model: a network on hardware, with the chip it holds or fresh errors; nothing of it is changed, not
            even what it draws next.
        x: (n, ...), inputs of the network.

    One forward pass; none at all if no layer has converters of few bits, and then nothing is returned.
    ``inputs`` are those beyond ±``x_max`` of a layer's DACs, ``outputs`` and ``largest`` those beyond the
    full scale of its ADCs, tile by tile; each is 0 where the converter is perfect. Layers that the pass does
    not reach are left out. Raises ``ValueError`` for a model that is not on hardware, ``RuntimeError`` as a
    forward pass does if no chip is held.
    """
    counts: _Counts = {}
    if _converting(model):
        with _drawing_nothing(model), _seeing(model, partial(_counting, counts)):
            model(x)
    return _shares(counts)


def warn_if_clipped(model: nn.Module, x: Tensor, share: float = 0.01) -> None:
    """One ``UserWarning`` that names the layers whose converters clip more than a share of their signals.

    Args:
        model, x: those of :func:`clipped_shares`.
        share: of any of the three in :class:`Clipped`, 0 ≤ share ≤ 1; 1 never warns. What is below it can
            cost hardly a sample. More is often harmless, in hidden layers above all, as a percentile chosen
            on purpose is; compare with ``calibrated(model, x)``.

    Raises ``ValueError`` for another ``share``, and as :func:`clipped_shares` does.
    """
    require(0 <= share <= 1, "share", share, "0 ≤ share ≤ 1")
    _warn(clipped_shares(model, x), share, 3)


@contextmanager
def watching_converters(model: nn.Module, share: float = 0.01, stacklevel: int = 1) -> Iterator[nn.Module]:
    """As :func:`warn_if_clipped`, of all that ``model`` is given within the context.

    Args:
        model: a network on hardware; within the context without gradients and in evaluation mode. Where it
            has converters of few bits, a compiled network runs uncompiled.
        share: that of :func:`warn_if_clipped`.
        stacklevel: whose line the warning is about: 1 is the ``with`` statement, 2 its caller.

    Outputs are the same, bit for bit; nothing is computed twice. The one warning comes at the end, and not
    after an exception. Raises ``ValueError`` for another ``share`` and a model that is not on hardware.
    """
    require(0 <= share <= 1, "share", share, "0 ≤ share ≤ 1")
    if not _converting(model):
        yield model
        return
    counts: _Counts = {}
    with ExitStack() as contexts:
        if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
            contexts.enter_context(torch.compiler.set_stance("force_eager"))
        contexts.enter_context(_seeing(model, partial(_counting, counts)))
        yield model
    _warn(_shares(counts), share, stacklevel + 3)


def _warn(shares: Mapping[str, Clipped], share: float, stacklevel: int) -> None:
    """Warn of the layers of which more than ``share`` is clipped."""
    said = [
        f"{100 * part:.1f} % of the {what} of layer {name!r}"
        for name, clipped in shares.items()
        for what, part in zip(("inputs", "outputs", "largest outputs"), clipped, strict=True)
        if part > share
    ]
    if said:
        remedy = "calibrated(model, x) of cimlib.chip sets the ranges from data"
        warnings.warn(f"converters clip {', '.join(said)}; {remedy}", UserWarning, stacklevel=stacklevel)


def _counting(
    counts: _Counts, layer: Crossbar, own: Converters, op: Operation, g: Conductances, weight: Tensor
) -> Converters:
    """``own``, which adds to the counts of ``layer`` what it clips, and of how many."""
    found = counts.setdefault(layer.name, torch.zeros(len(Clipped._fields), 2, dtype=torch.long))

    def add(row: int, beyond: Tensor) -> None:
        found[row] += torch.tensor([int(beyond.sum()), beyond.numel()])

    def before_adc(op: Operation, x: Tensor, g: Conductances, weight: Tensor) -> list[Converted]:
        given = own.before_adc(op, x, g, weight)
        for y, full in given:
            magnitude, columns = y.abs(), 1 - weight.dim()
            over = magnitude > full * (1 + _ROUNDING)
            add(1, over)
            add(2, over.gather(columns, magnitude.argmax(columns, keepdim=True)))
        return given

    if own.dac_bits is not None:
        add(0, op.x[op.x != 0].abs() > op.x.new_tensor(own.x_max))
    watched = copy.copy(own)
    object.__setattr__(watched, "before_adc", before_adc)
    return watched


def _shares(counts: _Counts) -> dict[str, Clipped]:
    return {
        name: Clipped(*(part / max(n, 1) for part, n in found.tolist())) for name, found in counts.items()
    }


def _reach(seen: list[Tensor], more: Tensor, percentile: float, what: str) -> float:
    """The magnitude that ``percentile`` of ``seen`` and ``more`` do not exceed; 0 if all are 0."""
    magnitudes = more.abs().flatten()
    seen.append(magnitudes.amax().reshape(1) if percentile == 100 else magnitudes)
    every = torch.cat(seen)
    largest = float(every.amax())
    require(isfinite(largest), what, largest, "finite")
    reach = float(every.kthvalue(max(1, ceil(percentile / 100 * len(every) - 1e-9))).values)
    require(reach > 0 or largest == 0, "percentile", percentile, f"more: so many {what} are 0")
    return reach


@dataclass(frozen=True)
class _Seen(Circuit):
    """``own`` seen by ``see``, which returns the converters that do the work."""

    own: Converters
    see: Callable[[Converters, Operation, Conductances, Tensor], Converters]

    def check(self, array: Array, layer: nn.Module | None = None) -> None:
        self.own.check(array, layer)

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        return self.see(self.own, op, g, weight)(op, array, g, weight, bias, z)


@contextmanager
def _seeing(model: nn.Module, see: _See, *, ideal: bool = False) -> Iterator[None]:
    """Within the context ``see`` is called at every call of converters of few bits; without gradients and in
    evaluation mode, with ``ideal`` on devices without errors."""
    before = [(module, module.hardware) for module in fabricated(model)]
    converting = _converting(model)
    try:
        for module, hardware in before:
            if ideal:
                hardware = replace(hardware, device=Device())
            if isinstance(module, Crossbar) and module in converting:
                seen = _Seen(converting[module], partial(see, module))
                hardware = replace(hardware, circuit=_around(hardware.circuit, seen))
            module.hardware = hardware
        with evaluating(model), torch.no_grad():
            yield
    finally:
        for module, hardware in before:
            module.hardware = hardware


@contextmanager
def _drawing_nothing(model: nn.Module) -> Iterator[None]:
    """What is drawn within the context is drawn again after it."""
    generators = [module.generator for module in fabricated(model) if module.generator is not None]
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _converting(model: nn.Module) -> dict[Crossbar, Converters]:
    """The layers of ``model`` behind converters of few bits, inside wires too."""
    found = {layer: _inside(layer.hardware.circuit) for layer in crossbars(model)}
    return {
        layer: own
        for layer, own in found.items()
        if isinstance(own, Converters) and (own.dac_bits is not None or own.adc_bits is not None)
    }


def _inside(circuit: Circuit) -> Circuit:
    return _inside(circuit.inner) if isinstance(circuit, Wires) else circuit


def _around(circuit: Circuit, inner: Circuit) -> Circuit:
    """``circuit`` with ``inner`` for what its wires are read by."""
    return replace(circuit, inner=_around(circuit.inner, inner)) if isinstance(circuit, Wires) else inner
