"""Reading a large layer block by block, so that its draws are never in memory all at once.

The chip is that of :meth:`~.Crossbar.read`: a slot's numbers are drawn in the same order from the same
generator, bit for bit. What a device makes of them may differ in the last digit, because torch rounds an
exponential at the end of a tensor otherwise than in its middle. Possible where each cell is for itself
(:attr:`~.Effect.local`) and the circuit behind the array sees weights, not cells.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from cimlib.arrays.base import Conductances
from cimlib.chip.crossbar import Crossbar, Reading
from cimlib.devices.draws import Stream

#: Weights of a layer that are read at once, and from how many on blocks are worth it.
BLOCK = 2**18
LARGE = 2**22


def read_in_blocks(layer: Crossbar, large: int = LARGE, block: int = BLOCK) -> Reading:
    """What ``layer`` reads on the chip that it holds, without gradient, in little memory if it is ``large``.

    Args:
        large: weights from which on it is read in blocks.
        block: weights of a block, about.

    The conductances of a reading in blocks are empty: no circuit for which it is done looks at them.
    """
    shape = layer.weight_shape
    if prod(shape) < large or not _possible(layer):
        return layer.read(cells=not layer.weights_suffice)
    asked, device = layer.asked.detach(), layer.like().device
    array, cell = layer.hardware.array, layer.hardware.cell
    fixed = array
    if array.scale == "layer":  # that of the whole layer, in every block
        fixed = replace(array, w_max=float(array.full_scale(asked)))
    drawn = array.draw_shape(shape)
    streams = {
        slot: Stream(draw, layer.generator_of(f"cells/{slot}")) for slot, draw in cell.draws(drawn).items()
    }
    off = asked.new_empty(array.cell_shape(shape))  # G − T, then G
    step = max(1, block * shape[0] // asked.numel())
    for s in range(drawn[0]):
        for side in range(drawn[1]):
            sides = slice(None) if drawn[1] == 1 else slice(side, side + 1)
            for start in range(0, shape[0], step):
                columns = slice(start, start + step)
                target = fixed.target(asked[columns])
                wanted = target.cells[s : s + 1, sides]
                part = (1, 1, *target.cells.shape[2:])
                z = {slot: stream.take(part).to(device, asked.dtype) for slot, stream in streams.items()}
                off[s : s + 1, sides, columns] = cell(wanted, z, array.g_min, array.g_max) - wanted
    weight, scales = torch.empty_like(asked), list[Tensor]()
    for start in range(0, shape[0], step):
        columns = slice(start, start + step)
        target = fixed.target(asked[columns])
        reference = None if target.reference is None else torch.zeros_like(target.reference)
        scales.append(target.scale)
        difference = Conductances(off[:, :, columns], reference, target.scale, target.connected)
        weight[columns] = fixed.represent(asked[columns]) + fixed.decode(difference)
    scale = torch.cat(scales, -1) if scales[0].dim() == 2 else scales[0]
    none = Conductances(off[:, :, :0], None, scale)
    return weight, none, {}


def _possible(layer: Crossbar) -> bool:
    array, cell, circuit = layer.hardware.array, layer.hardware.cell, layer.hardware.circuit
    shape = array.draw_shape(layer.weight_shape)
    alike = all(draw[1] == shape for draw in cell.draws(shape).values())
    return (
        type(layer) is Crossbar
        and not layer.in_array
        and layer.chip is not None
        and all(effect.local for effect in cell.effects)
        and alike
        and not array.reference_is_cells
        and not circuit.draws(array, layer.weight_shape)
        and layer.weights_suffice
    )
