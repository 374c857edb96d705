"""From weights to conductances and back: how signed weights sit in cells that are never negative.

- :mod:`~cimlib.arrays.base`: what every array is.
- :mod:`~cimlib.arrays.pairs`: two arrays, one subtracted from the other.
- :mod:`~cimlib.arrays.single`: one array and a fixed reference; :mod:`~cimlib.arrays.parallel`: the same
  with several cells side by side for each weight.
- :mod:`~cimlib.arrays.sliced`: the bits of a weight in several cells.
- :mod:`~cimlib.arrays.multilevel`: weights with errors of their own, spreads that depend on the level.
- :mod:`~cimlib.arrays.inventory`: the parts of an array, and its power.
- :mod:`~cimlib.arrays.spread`: how far weights spread, in closed form.
"""

from cimlib.arrays.base import Array, Conductances, Structure
from cimlib.arrays.inventory import Inventory, power
from cimlib.arrays.multilevel import RATIOS, LevelSpread, SignedArray
from cimlib.arrays.pairs import DoubleArray
from cimlib.arrays.parallel import ParallelArray
from cimlib.arrays.single import SingleArray
from cimlib.arrays.sliced import BitSliced
from cimlib.arrays.spread import Spread, clipped_moments, weight_spread

__all__ = [
    "RATIOS",
    "Array",
    "BitSliced",
    "Conductances",
    "DoubleArray",
    "Inventory",
    "LevelSpread",
    "ParallelArray",
    "SignedArray",
    "SingleArray",
    "Spread",
    "Structure",
    "clipped_moments",
    "power",
    "weight_spread",
]
