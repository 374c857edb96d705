"""Updates on the device: pulses that mend what a test of the chip has missed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.programming import program
from cimlib.circuits.base import Ideal
from cimlib.devices.effects import Device, require, require_whole
from cimlib.networks.plain import evaluating
from cimlib.training.objectives import Batch, classified, labelled
from cimlib.training.pulse_optimizer import PulseOptimizer
from cimlib.training.pulses import Pulses


@dataclass(frozen=True)
class Updated:
    """A network after updates on the device.

    ``model``: its layers hold ``conductance``, what their cells now have. ``pulses``, ``writes``: sent to all
    cells together. ``losses``: of each iteration's batch, before it is written; ``images``: in all batches.
    """

    model: nn.Module
    pulses: int
    writes: int
    losses: tuple[float, ...] = ()
    images: int = 0


def on_device(
    model: nn.Module,
    data: Batch,
    pulses: Pulses,
    *,
    iterations: int,
    lr: float,
    seed: int,
    batch_size: int = 128,
) -> Updated:
    r"""A few updates of the weights, written into the array of the held chip.

    Pulses move a cell from where programming has left it, wherever it was meant to be. Each iteration finds
    the gradient of one batch on the chip and writes every cell once, as
    :class:`~.PulseOptimizer` does, fractions of a pulse by chance. A stuck cell gets no pulse.
    Digital parameters stay as they are.

    Args:
        model: a network on hardware that holds a chip, its weights programmed; it is not changed. Its arrays
            need what training in the array needs, ``w_max`` set and no slices, a spread that is clipped, and
            a reference of resistors, if any.
        data: x (n, ...), y (n,); batches are drawn from it without repetition until it is used up.
        pulses: how a cell answers to a pulse.
        iterations: T ≥ 0, updates written.
        lr: η > 0 of gradient descent on the weights. Both cells of a pair move, so that it counts twice.
        seed: of batches and writing, ≥ 0.
        batch_size: ≥ 1.

    Raises ``ValueError`` for arguments out of range and hardware on which this cannot be done,
    ``FloatingPointError`` for a loss that is not finite, of which nothing is written.
    """
    require_whole("iterations", iterations, 0)
    require(0 < lr < float("inf"), "lr", lr, "0 < lr < ∞")
    require_whole("batch_size", batch_size, 1)
    x, y = labelled(data)
    model = copy.deepcopy(model)
    works = [_written(layer) for layer in crossbars(model)]
    groups = [_group(layer, lr) for layer in crossbars(model)]
    chip = crossbars(model)[0].chip or 0  # whose cells they are, where they differ in their steps
    optimizer = PulseOptimizer(
        groups, pulses, g_min=0.0, g_max=1.0, rounding="stochastic", seed=seed, chip=chip
    )
    conductances = [layer.conductance for layer in crossbars(model)]
    generator, batches = torch.Generator().manual_seed(seed), list[Tensor]()
    losses, images = list[float](), 0
    with evaluating(model):
        for iteration in range(iterations):
            batches = batches or list(torch.split(torch.randperm(len(x), generator=generator), batch_size))
            index = batches.pop(0)
            loss = F.cross_entropy(*classified(model(x[index]), y[index]))
            losses.append(loss.item())
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss = {losses[-1]} at iteration {iteration}")
            images += len(index)
            gradients = torch.autograd.grad(loss, conductances)
            for g, gradient, working in zip(conductances, gradients, works, strict=True):
                g.grad = gradient * working
            optimizer.step()
            optimizer.zero_grad()
    return Updated(model, int(optimizer.pulses()), int(optimizer.writes()), tuple(losses), images)


def _written(layer: Crossbar) -> Tensor:
    """Give ``layer`` the conductances that its cells have in place of its weights, on a device without
    errors, and return which cells are not stuck: those in which what is asked for makes a difference."""
    hardware = layer.hardware
    shared = hardware.array.reference_is_cells
    require(not shared, "reference_device", "cell", "'resistor', for updates on the device")
    if not layer.in_array:
        in_array = program(layer.plain, hardware, train="conductance")
        del layer.weight
        layer.conductance = nn.Parameter(in_array.get_parameter("conductance").detach())
    layer.hardware = replace(hardware, circuit=Ideal())
    obtained = layer.read()[1].cells
    (gain,) = torch.autograd.grad(obtained.sum(), layer.conductance)
    layer.hardware = replace(hardware, device=Device())
    layer.conductance = nn.Parameter(obtained.detach())
    return gain != 0


def _group(layer: Crossbar, lr: float) -> dict[str, Any]:
    """Options of the pulses for ``layer``; the rate is that of its weights in terms of its conductances."""
    array = layer.hardware.array
    scale = float(array.target(torch.zeros_like(layer.conductance[0, 0])).scale)
    options = {"g_min": array.g_min, "g_max": array.g_max, "lr": lr * scale**2}
    return {"params": [layer.conductance], "weight_dim": len(layer.weight_shape), **options}
