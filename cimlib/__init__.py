"""Neural networks computed inside non-volatile memory crossbars: the library behind the book.

What most users need is here; the rest is in the rooms. From top to bottom, a room importing only from those
below it: :mod:`~cimlib.remedies`, :mod:`~cimlib.methods`, :mod:`~cimlib.bench`, :mod:`~cimlib.chip`,
:mod:`~cimlib.circuits`, :mod:`~cimlib.arrays`, :mod:`~cimlib.training`, :mod:`~cimlib.devices`,
:mod:`~cimlib.networks` and :mod:`~cimlib.datasets`.
"""

from cimlib.chip import Hardware, evaluate, fabricate, fresh, presets, program, summary, using
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
    "summary",
    "using",
]
