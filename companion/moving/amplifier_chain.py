"""The amplifier chain: a neuron behind one converter for each column and a subtractor, on many chips."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from cimlib import fabricate, program
from cimlib.chip import crossbars
from cimlib.circuits import OpAmp
from companion.experiments.offsets import AT_ZERO, RAILS, SPAN, design
from companion.moving.carried import packed

CHIPS = 100
G_LOAD = 1000.0  # µS: a weight of 1
V_0 = OpAmp().v_0
STEP = 1 / 6000  # of a standard draw
#: Rows to choose from. The networks of the book have 5, 65 and 785, with that of the bias.
ROWS = [1, 3, 5, 9, 17, 33, 65, 129, 257, 513, 785]
GAINS = [10, 30, 100, 300, 1369, 10_000]


def neuron(rows: int, weight: float, circuit: OpAmp) -> nn.Module:
    """A neuron whose first row has a weight of 1, and the others ∓``weight`` in turn, on hardware."""
    layer = nn.Linear(rows, 1, bias=False)
    with torch.no_grad():
        layer.weight[0] = torch.tensor([1.0] + [(-weight, weight)[at % 2] for at in range(rows - 1)])
    return program(nn.Sequential(layer), design("double", circuit, G_LOAD))


@cache
def draws(chip: int) -> list[float]:
    """Standard draws of a chip's offsets: plus and minus converter, subtractor, whatever the rows."""
    (layer,) = crossbars(fabricate(neuron(1, 0.0, OpAmp(offset=0.01)), chip))
    found = layer.draws()
    return [*found["circuit/converter"].flatten().tolist(), *found["circuit/subtractor"].tolist()]


def data() -> dict[str, Any]:
    """Draws (chips, 3), and the circuit of the book: span, rails and output at zero input, mV from V_0, which
    is ``ground``."""
    return {
        "rows": ROWS,
        "gains": GAINS,
        "chips": CHIPS,
        "step": STEP,
        "draws": packed([draws(chip) for chip in range(CHIPS)], STEP),
        "span": round(1000 * SPAN),
        "rails": [round(1000 * (rail - V_0)) for rail in RAILS],
        "ground": round(1000 * V_0),
        "at_zero": round(1000 * (AT_ZERO - V_0), 3),
        "load": G_LOAD,
    }
