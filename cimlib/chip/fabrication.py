"""Holding a chip, drawing fresh ones, swapping the hardware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import nn

from cimlib.chip.admission import require_hardware
from cimlib.chip.blocks import read_in_blocks
from cimlib.chip.crossbar import AnalogReLU, crossbars, fabricated, to_fabricate
from cimlib.chip.hardware import Hardware
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require


def fabricate(model: nn.Module, chip: int | None = 0) -> nn.Module:
    """Hold one chip in every layer of ``model`` (in place; returned for chaining).

    Args:
        chip: the seed that *is* the chip, ≥ 0; ``None`` holds no chip.

    Raises ``ValueError`` for a negative or non-integer chip or a model that is not on hardware.
    """
    if chip is not None:
        require_chip(chip)
    for module in to_fabricate(model):
        module.hold(None if chip is None else int(chip))
    return model


def require_chip(chip: object) -> None:
    """Raise ``ValueError`` unless ``chip`` is a seed."""
    valid = isinstance(chip, Integral) and not isinstance(chip, bool) and chip >= 0  # type: ignore[operator]
    require(valid, "chip", chip, "an integer ≥ 0, or None for no chip")


def fresh(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw new errors at every forward pass, from generators of ``model``'s own (in place).

    One outermost call of the network is one pass: a layer called several times in it, at every step of a
    sequence, say, has the same errors each time, and so have the parts of it that gradient checkpointing
    computes again. Where the generators have got to is in the ``state_dict``.

    Raises ``ValueError`` for a negative or non-integer seed or a model that is not on hardware.
    """
    valid = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(valid, "seed", seed, "an integer ≥ 0")
    for module in to_fabricate(model):
        module.hold(None)
        module.generator = seeded("fresh", seed, module.name)
    return model


@contextmanager
def using(model: nn.Module, hardware: Hardware | Mapping[str, Hardware]) -> Iterator[nn.Module]:
    """Within the context every layer is on ``hardware``: same parameters, same chip.

    Args:
        model: a network on hardware.
        hardware: of every layer, or of some layers by name; the others keep theirs.

    Raises ``ValueError`` for names of no layers, if a layer trained in its array would change arrays (its
    conductances mean weights in that array only), and if a network programmed without amplifiers would get
    them (its ReLUs are digital).
    """
    require_hardware(hardware)
    layers = {layer.name: layer for layer in crossbars(model)}
    every = dict.fromkeys(layers, hardware) if isinstance(hardware, Hardware) else dict(hardware)
    require(set(every) <= set(layers), "hardware", sorted(every), f"designs of some of {sorted(layers)}")
    for name, own in every.items():
        layer = layers[name]
        same = not layer.in_array or own.array == layer.hardware.array
        require(same, "hardware.array", own.array, "the array in which the layer was trained")
        own.circuit.check(own.array, layer.plain)
        analog = layer.hardware.circuit.has_activation or not own.circuit.has_activation
        said = "one without amplifiers: the ReLUs are digital"
        require(analog, "hardware.circuit", own.circuit, said)
    modules = {module: module.hardware for module in fabricated(model)}
    try:
        for module, before in modules.items():
            if isinstance(module, AnalogReLU):
                module.hardware = every.get(module.layer, before)
            elif module.name in every:
                module.hardware = every[module.name]
        yield model
    finally:
        for module, before in modules.items():
            module.hardware = before


@contextmanager
def at(model: nn.Module, t: float | str) -> Iterator[nn.Module]:
    """Within the context every layer is at ``t`` since programming, on its own design, if that has a clock.

    Args:
        model: a network on hardware.
        t: s, or text as in :func:`~.seconds`.

    Raises ``ValueError`` if no layer has a clock, or for a time that is no time.
    """
    clocks = {layer.name: layer.hardware for layer in crossbars(model) if layer.hardware.has_clock}
    require(
        bool(clocks), "model", "hardware without a clock", "a device that drifts, such as PCM, in a layer"
    )
    with using(model, {name: hardware.at(t) for name, hardware in clocks.items()}):
        yield model


@contextmanager
def reading_once(model: nn.Module) -> Iterator[nn.Module]:
    """Within the context each layer's array is read once, not at every forward pass (no gradient).

    For evaluating many batches on a held chip; parameters must not change meanwhile.
    """
    layers = crossbars(model)
    try:
        with torch.no_grad():
            for layer in layers:
                layer.reading = layer.read()
            yield model
    finally:
        for layer in layers:
            layer.reading = None


@contextmanager
def reading_chip(model: nn.Module, chip: int) -> Iterator[nn.Module]:
    """Within the context the arrays of ``chip`` are read once. A layer's draws go when it has been read, so
    that memory is that of one layer; afterwards the network holds the chip, without its draws.

    Raises ``ValueError`` as :func:`fabricate` does.
    """
    require_chip(chip)
    for module in to_fabricate(model):
        module.hold(int(chip), draw=False)
    layers = crossbars(model)
    try:
        with torch.no_grad():
            for layer in layers:
                if not layer._forward_pre_hooks:  # which might change its weights at every call
                    layer.reading = read_in_blocks(layer)
                    layer.forget()
            yield model
    finally:
        for layer in layers:
            layer.reading = None
