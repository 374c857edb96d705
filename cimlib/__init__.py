"""Neural networks computed inside non-volatile memory crossbars: the library behind the book."""

from cimlib.crossbar import fabricate, fresh, program, using
from cimlib.data import load
from cimlib.designs import presets
from cimlib.hardware import Hardware
from cimlib.montecarlo import evaluate
from cimlib.train import fit

__all__ = [
    "Hardware",
    "evaluate",
    "fabricate",
    "fit",
    "fresh",
    "load",
    "presets",
    "program",
    "using",
]
