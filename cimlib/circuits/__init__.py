"""From conductances to outputs: amplifiers, wires, converters."""

from cimlib.circuits.base import Circuit, Ideal, Operation
from cimlib.circuits.converters import Converters, quantise
from cimlib.circuits.opamp import OpAmp, Signal
from cimlib.circuits.parasitics import THREADS, crossbar_currents, effective_conductance
from cimlib.circuits.wires import Wires

__all__ = [
    "THREADS",
    "Circuit",
    "Converters",
    "Ideal",
    "OpAmp",
    "Operation",
    "Signal",
    "Wires",
    "crossbar_currents",
    "effective_conductance",
    "quantise",
]
