"""From conductances to the output of a layer: what the read-out circuit does."""

from cimlib.circuits.base import Circuit, Ideal, Operation
from cimlib.circuits.converters import Converters
from cimlib.circuits.opamp import OpAmp
from cimlib.circuits.wires import Wires

__all__ = ["Circuit", "Converters", "Ideal", "OpAmp", "Operation", "Wires"]
