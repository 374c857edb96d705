"""From conductances to the output of a layer: what the read-out circuit does."""

from cimlib.circuits.base import Circuit, Ideal, Operation
from cimlib.circuits.opamp import OpAmp

__all__ = ["Circuit", "Ideal", "OpAmp", "Operation"]
