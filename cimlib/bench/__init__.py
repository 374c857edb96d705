"""What measures a chip: a circuit simulator as an outside oracle, and amplifiers read from their outputs.

- :mod:`~cimlib.bench.measurement`: the amplifiers of one chip, measured with an error; noise gains.
- :mod:`~cimlib.bench.spice`: a network on hardware as a SPICE circuit, and ngspice's answer;
  :mod:`~cimlib.bench.layer` is one layer of it, :mod:`~cimlib.bench.netlist` writes its elements.
- :mod:`~cimlib.bench.transient`: the same over time, with capacitors and switches, of layers that are
  auto-zeroed.
"""

from cimlib.bench.layer import COMMON, STRUCTURES, Layer
from cimlib.bench.measurement import measured, noise_gains, offsets
from cimlib.bench.netlist import OPTIONS, Amplifier, Netlist, crossbar
from cimlib.bench.spice import DRAWS, FAILED, PARTS, layers, netlist, simulate
from cimlib.bench.transient import Clocks, Transient, two_phases, values_at, waveforms

__all__ = [
    "COMMON",
    "DRAWS",
    "FAILED",
    "OPTIONS",
    "PARTS",
    "STRUCTURES",
    "Amplifier",
    "Clocks",
    "Layer",
    "Netlist",
    "Transient",
    "crossbar",
    "layers",
    "measured",
    "netlist",
    "noise_gains",
    "offsets",
    "simulate",
    "two_phases",
    "values_at",
    "waveforms",
]
