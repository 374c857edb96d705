"""What measures a chip: the outside oracle (SPICE), and the amplifiers of a chip read from their outputs."""

from cimlib.bench.measurement import measured, offsets
from cimlib.bench.netlist import COMMON, OPTIONS, STRUCTURES, Amplifier, Layer, Netlist, crossbar
from cimlib.bench.spice import DRAWS, FAILED, PARTS, layers, netlist, simulate

__all__ = [
    "COMMON",
    "DRAWS",
    "FAILED",
    "OPTIONS",
    "PARTS",
    "STRUCTURES",
    "Amplifier",
    "Layer",
    "Netlist",
    "crossbar",
    "layers",
    "measured",
    "netlist",
    "offsets",
    "simulate",
]
