"""What tests of ngspice share: circuits of a netlist read as those of the library."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from cimlib.arrays import DoubleArray, SingleArray

ARRAYS = {
    "pair": DoubleArray(),
    "column": SingleArray(),
    "constant-term": SingleArray(reference="constant-term"),
}
STAGES = {  # name in the netlist: the draws of its amplifiers (a pair's have two rows), its output by name
    "pair": {"bp": ("converter", "positive"), "bn": ("converter", "negative"), "u": ("subtractor", "output")},
    "column": {
        "b": ("converter", "converter"),
        "bref": ("reference", "reference"),
        "u": ("subtractor", "output"),
    },
    "constant-term": {"u": ("converter", "output"), "br": ("reference", "reference")},
}


@dataclass(frozen=True)
class Rows:
    """The linear map of a layer whose rows are at ``x`` (1, m), in units of the span above V0."""

    x: torch.Tensor

    def __call__(self, weight, bias=None, x=None):
        return F.linear(self.x if x is None else x, weight, bias)


def tensor(values):
    """float64 throughout."""
    return torch.tensor(np.asarray(values, dtype=float))


def named(layer, stage):
    """Nodes of a stage, in order: of one amplifier, or one for each column."""
    columns = range(np.shape(layer.conductance)[1])
    return [stage] if stage in layer.amplifiers else [f"{stage}{j}" for j in columns]
