"""From conductances to outputs: amplifiers, wires, converters.

- :mod:`~cimlib.circuits.base`: what every circuit is, and the ideal one, Ohm's and Kirchhoff's laws alone.
- :mod:`~cimlib.circuits.opamp`: amplifiers with offset, finite gain and rails.
- :mod:`~cimlib.circuits.auto_zero`: amplifiers that sample their error on a capacitor and subtract it.
- :mod:`~cimlib.circuits.wires`: wires with resistance around any circuit; the currents themselves are
  solved for in :mod:`~cimlib.circuits.parasitics`.
- :mod:`~cimlib.circuits.converters`: inputs and outputs with few bits.
"""

from cimlib.circuits.auto_zero import BOLTZMANN, AtRest, AutoZero
from cimlib.circuits.base import Circuit, Ideal, Operation
from cimlib.circuits.converters import Converters, quantise
from cimlib.circuits.opamp import OpAmp, Signal
from cimlib.circuits.parasitics import THREADS, crossbar_currents, effective_conductance
from cimlib.circuits.wires import Wires

__all__ = [
    "BOLTZMANN",
    "THREADS",
    "AtRest",
    "AutoZero",
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
