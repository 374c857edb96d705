r"""Ranges of converters: found from data, layer by layer, and whether those of a network clip what it sees.

:class:`~.Converters` have one full scale for all inputs of a layer, ``x_max``, and one for its outputs. The
default, 1, is that of an image; what hidden layers give is often larger, and is clipped without a word.
:func:`calibrated` sets the ranges from inputs of the network; :func:`clipped_shares` counts what the present
ones clip, and :func:`warn_if_clipped` says so.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, isfinite
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.chip.crossbar import Crossbar, crossbars, fabricated
from cimlib.circuits.base import Circuit, Operation
from cimlib.circuits.converters import Converters, quantise
from cimlib.circuits.wires import Wires
from cimlib.devices.effects import Device, require
from cimlib.networks.plain import evaluating

_ROUNDING = 1e-6  # an output at full scale may be off by the last digit

_See = Callable[[Crossbar, Converters, Operation, Conductances, Tensor], Converters]


class Clipped(NamedTuple):
    """Shares of a layer's ``inputs`` and ``outputs`` that lie beyond the range of their converters."""

    inputs: float
    outputs: float


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

    with _seeing(model, see, ideal=cells == "ideal"):
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
    ``inputs`` are those beyond ±``x_max`` of a layer's DACs, ``outputs`` those beyond the full scale of its
    ADCs, tile by tile; each is 0 where the converter is perfect. Layers that the pass does not reach are
    left out. Raises ``ValueError`` for a model that is not on hardware, ``RuntimeError`` as a forward pass
    does if no chip is held.
    """
    counts: dict[str, list[tuple[int, int, int, int]]] = {}

    def see(layer: Crossbar, own: Converters, op: Operation, g: Conductances, weight: Tensor) -> Converters:
        limit = op.x.new_tensor(own.x_max)
        beyond = 0 if own.dac_bits is None else int((op.x.abs() > limit).sum())
        given: list[tuple[Tensor, Tensor]] = []
        if own.adc_bits is not None:
            given = own.before_adc(op, quantise(op.x, own.dac_bits, limit), g, weight)
        over = sum(int((y.abs() > full * (1 + _ROUNDING)).sum()) for y, full in given)
        all_outputs = sum(y.numel() for y, _ in given)
        counts.setdefault(layer.name, []).append((beyond, op.x.numel(), over, all_outputs))
        return own

    if _converting(model):
        with _seeing(model, see):
            model(x)
    totals = {name: [sum(column) for column in zip(*calls, strict=True)] for name, calls in counts.items()}
    return {name: Clipped(a / max(n, 1), b / max(m, 1)) for name, (a, n, b, m) in totals.items()}


def warn_if_clipped(model: nn.Module, x: Tensor, share: float = 0.01) -> None:
    """One ``UserWarning`` that names the layers whose converters clip more than a share of their signals.

    Args:
        model, x: those of :func:`clipped_shares`.
        share: of a layer's inputs, or of its outputs, 0 ≤ share ≤ 1; 1 never warns. The default is what a
            range of percentile 99, a common choice on purpose, clips. A network of two layers on the digits
            loses nothing until a fifth of its hidden signals is clipped; ranges of 1 clip more than half.

    Raises ``ValueError`` for another ``share``, and as :func:`clipped_shares` does.
    """
    require(0 <= share <= 1, "share", share, "0 ≤ share ≤ 1")
    said = [
        f"{100 * part:.1f} % of the {what} of layer {name!r}"
        for name, clipped in clipped_shares(model, x).items()
        for what, part in zip(Clipped._fields, clipped, strict=True)
        if part > share
    ]
    if said:
        remedy = "calibrated(model, x) of cimlib.chip sets the ranges from data"
        warnings.warn(f"converters clip {', '.join(said)}; {remedy}", UserWarning, stacklevel=3)


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
    generators = [module.generator for module, _ in before if module.generator is not None]
    states = [generator.get_state() for generator in generators]
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
