r"""Bias rows alone: what is off in a neuron, mended by one cell of its column.

Off the rails a neuron behind amplifiers is an affine function of its inputs, :math:`u = \sum_i w_i\bar x_i +
u_0`, whatever its offsets are. So all of its error that no weight shares in is one number, and where the bias
is a row of the array there is a cell for it. A neuron with all other rows at :math:`V_0` shows :math:`u_0`,
and software knows what the same neuron would show with amplifiers as they are designed. Then (derived)

.. math:: w_b \leftarrow w_b - \frac{u_0 - u_0^\text{designed}}{\text{span}} .

The bias is a conductance as well: to write it moves the noise gain n, and with it :math:`u_0`, by the offset
times the change. Reading again mends that, each time to about :math:`o/\text{span} + n/A` of what was left.
Not mended are what the rails hide, and the comparators and followers of the ReLUs. :func:`trim` does this;
:class:`BiasRows` trains the same cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.fabrication import using
from cimlib.chip.hardware import Hardware
from cimlib.circuits.opamp import OpAmp
from cimlib.devices.draws import seeded
from cimlib.devices.effects import Device, require, require_whole
from cimlib.networks.plain import BiasRow
from cimlib.training.objectives import Batch, Objective


class Trim(NamedTuple):
    """What a trim took: ``readings`` of single neurons, and ``writes`` of single cells."""

    readings: int
    writes: int


def bias_rows(model: nn.Module) -> list[Crossbar]:
    """The layers of ``model`` on hardware, each with its bias in the last row of its array.

    Raises ``ValueError`` if one has none, which is told by the :class:`~.BiasRow` right before it in its
    ``nn.Sequential``, or is trained in its array.
    """
    chains = [list(module) for module in model.modules() if isinstance(module, nn.Sequential)]
    behind = {after for chain in chains for before, after in pairwise(chain) if isinstance(before, BiasRow)}
    layers = crossbars(model)
    without = [layer.name for layer in layers if layer not in behind]
    require(not without, "model", f"no bias row in layers {without}", "one in each: mlp(..., bias='row')")
    in_array = [layer.name for layer in layers if layer.in_array]
    require(not in_array, "model", f"conductances in layers {in_array}", "program(..., train='weight')")
    return layers


def require_trim(error: float, readings: int, seed: int) -> None:
    """Raise ``ValueError`` unless these are arguments of :func:`trim`."""
    require(0 <= error < float("inf"), "error", error, "0 ≤ error < ∞ (V)")
    require_whole("readings", readings, 1)
    require_whole("seed", seed, 0)


def trimmable(model: nn.Module) -> list[tuple[Crossbar, OpAmp]]:
    """The layers of ``model`` with their amplifiers, whether or not they hold a chip.

    Raises ``ValueError`` for what :func:`trim` cannot be done with, a held chip apart.
    """
    found = []
    for layer in bias_rows(model):
        where, circuit = f"layer {layer.name!r}", layer.hardware.circuit
        require(isinstance(circuit, OpAmp), f"circuit of {where}", circuit, "OpAmp()")
        assert isinstance(circuit, OpAmp)
        fixed = layer.hardware.array.w_max is not None
        require(fixed, f"w_max of {where}", None, "a number, or one cell would move the scale of all")
        found.append((layer, circuit))
    return found


@torch.no_grad()
def at_rest(model: nn.Module) -> dict[str, Tensor]:
    """What each neuron of ``model`` shows with all rows of its array but the bias at V_0: V above it, (out,).

    By layer, each array by itself: what lies before it counts for nothing, and a ReLU behind it is not read.
    Raises ``ValueError`` as :func:`trimmable` does and for fresh errors, ``RuntimeError`` without draws.
    """
    found = {}
    for layer, circuit in trimmable(model):
        require(layer.generator is None, "model", "a network with fresh errors", "a held chip")
        x = layer.like().new_zeros(1, layer.weight_shape[1])
        x[:, -1] = 1
        found[layer.name] = circuit.span * layer.compute(x)[0]
    return found


@torch.no_grad()
def trim(model: nn.Module, error: float = 0.0, readings: int = 1, seed: int = 0) -> Trim:
    """Read each neuron at rest, and write what it shows too much or too little into its bias, in place.

    A neuron that shows exactly what was designed keeps its bias, to the last bit. A bias ends where the
    range of its cell does, and a cell of a zero state that is asked for less than its range is open. Once,
    for weights that know nothing of the chip: those of a training in its emulator, and of an earlier trim,
    would be taken for designed ones.

    Args:
        model: a network behind :class:`~.OpAmp` that holds a chip, with its biases in the arrays.
        error: standard deviation of each reading, V, ≥ 0.
        readings: of each neuron, one after the other, with a writing after each, ≥ 1.
        seed: of the errors, ≥ 0; they are each chip's, layer's and reading's own.

    Raises ``ValueError`` for arguments out of range, and as :func:`at_rest` does.
    """
    require_trim(error, readings, seed)
    layers = trimmable(model)
    with using(model, {layer.name: _designed(layer, circuit) for layer, circuit in layers}):
        wanted = at_rest(model)
    neurons = writes = 0
    for number in range(readings):
        shown = at_rest(model)
        for layer, circuit in layers:
            wrong = shown[layer.name] - wanted[layer.name]
            if error:
                generator = seeded("trim", seed, layer.chip, layer.name, number)
                wrong = wrong + error * torch.randn(wrong.shape, generator=generator).to(wrong)
            neurons += len(wrong)
            writes += _write(layer, circuit, wrong)
    return Trim(neurons, writes)


def _designed(layer: Crossbar, circuit: OpAmp) -> Hardware:
    """The hardware of ``layer`` as software knows it without having seen the chip."""
    return replace(layer.hardware, device=Device(), circuit=replace(circuit, offset=0.0, gain_spread=0.0))


def _write(layer: Crossbar, circuit: OpAmp, wrong: Tensor) -> int:
    """Take ``wrong`` (out,), V, from the biases of ``layer``; how many cells are written."""
    array, weight = layer.hardware.array, layer.weight
    before = array.target(weight)
    load = 1.0 if circuit.g_load is None else before.scale / circuit.g_load  # the output of a weight of 1
    held = array.represent(weight)[:, -1]
    changed = array.represent((held - wrong / circuit.span / load)[:, None])[:, 0]
    weight[:, -1] = torch.where(wrong == 0, weight[:, -1], changed)
    return int((array.target(weight).cells != before.cells).sum())


class BiasRows(Objective):
    """Another objective, by which bias rows alone are trained: all other weights get a gradient of 0.

    So they stay as they are, to the last bit, with every optimiser that does not move them by itself.

    Args:
        objective: what is minimised.

    Raises ``ValueError``, before training, as :func:`bias_rows` does.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def setup(self, model: nn.Module) -> None:
        layers = bias_rows(model)
        self.objective.setup(model)
        hooked = (layer.get_parameter("weight") for layer in layers)
        self._hooks = [weight.register_hook(_last_row) for weight in hooked]  # type: ignore[no-untyped-call]

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return [layer.get_parameter("weight") for layer in bias_rows(model)]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.objective(model, batch)

    def teardown(self, model: nn.Module) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        self.objective.teardown(model)


def _last_row(gradient: Tensor) -> Tensor:
    """``gradient`` (out, in) of the last row of the array, 0 elsewhere."""
    return torch.cat((torch.zeros_like(gradient[:, :-1]), gradient[:, -1:]), 1)
