"""Holding a chip, drawing fresh ones, swapping the hardware."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import nn

from cimlib.chip.crossbar import crossbars, fabricated
from cimlib.chip.hardware import Hardware
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require


def fabricate(model: nn.Module, chip: int | None = 0) -> nn.Module:
    """Hold one chip in every layer of ``model`` (in place; returned for chaining).

    Args:
        chip: the seed that *is* the chip, ≥ 0; ``None`` holds no chip.

    Raises ``ValueError`` for a negative or non-integer chip or a model that is not on hardware.
    """
    valid = chip is None or (isinstance(chip, Integral) and not isinstance(chip, bool) and chip >= 0)
    require(valid, "chip", chip, "an integer ≥ 0, or None")
    for module in fabricated(model):
        module.hold(None if chip is None else int(chip))
    return model


def fresh(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw new errors at every forward pass, from generators of ``model``'s own (in place).

    Raises ``ValueError`` for a negative or non-integer seed or a model that is not on hardware.
    """
    valid = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(valid, "seed", seed, "an integer ≥ 0")
    for module in fabricated(model):
        module.hold(None)
        module.generator = seeded("fresh", seed, module.name)
    return model


@contextmanager
def using(model: nn.Module, hardware: Hardware) -> Iterator[nn.Module]:
    """Within the context every layer is on ``hardware``: same parameters, same chip.

    Raises ``ValueError`` if a layer trained in its array would change arrays (its conductances mean
    weights in that array only), and if a network programmed without amplifiers would get them (its
    ReLUs are digital).
    """
    for layer in crossbars(model):
        same = not layer.in_array or hardware.array == layer.hardware.array
        require(same, "hardware.array", hardware.array, "the array in which the layer was trained")
        hardware.circuit.check(hardware.array, layer.plain)
    modules = fabricated(model)
    before = [module.hardware for module in modules]
    analog = all(own.circuit.has_activation for own in before) or not hardware.circuit.has_activation
    require(analog, "hardware.circuit", hardware.circuit, "one without amplifiers: the ReLUs are digital")
    try:
        for module in modules:
            module.hardware = hardware
        yield model
    finally:
        for module, own in zip(modules, before, strict=True):
            module.hardware = own


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
