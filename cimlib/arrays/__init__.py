"""Weights and conductances: how signed weights sit in arrays of positive ones, and what these consist of."""

from cimlib.arrays.base import Array, Conductances, Structure
from cimlib.arrays.inventory import Inventory, power
from cimlib.arrays.multilevel import RATIOS, LevelSpread, SignedArray
from cimlib.arrays.pairs import DoubleArray, pair
from cimlib.arrays.single import SingleArray
from cimlib.arrays.sliced import BitSliced

__all__ = [
    "RATIOS",
    "Array",
    "BitSliced",
    "Conductances",
    "DoubleArray",
    "Inventory",
    "LevelSpread",
    "SignedArray",
    "SingleArray",
    "Structure",
    "pair",
    "power",
]
