"""Neural networks computed inside non-volatile memory crossbars: the library behind the book."""

from cimlib.chip import Hardware, evaluate, fabricate, fresh, presets, program, using
from cimlib.datasets import load
from cimlib.training import fit

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
