"""The seam: a network on hardware, chip by chip.

- :mod:`~cimlib.chip.hardware`: one design, made of device, array and circuit;
  :mod:`~cimlib.chip.presets`: published designs by name.
- :mod:`~cimlib.chip.programming`, :mod:`~cimlib.chip.fabrication`: the verbs ``program``, ``fabricate``,
  ``fresh`` and ``using``.
- :mod:`~cimlib.chip.crossbar`: a layer on hardware.
- :mod:`~cimlib.chip.placement`, :mod:`~cimlib.chip.mapped`: weights that lie in any order, and a layer that
  reads them.
- :mod:`~cimlib.chip.stages`, :mod:`~cimlib.chip.vera`: digital stages behind a layer;
  :mod:`~cimlib.chip.attachment`: giving them to a network, and what they cost.
- :mod:`~cimlib.chip.montecarlo`: accuracy on many chips, with intervals.
- :mod:`~cimlib.chip.table`: the cells of a chip as a table, out and in.
"""

from cimlib.chip.attachment import Chain, Cost, adapters, attach, cost, detach, load, parameters, state
from cimlib.chip.crossbar import AnalogReLU, Crossbar, Fabricated, Reading, crossbars, fabricated
from cimlib.chip.fabrication import fabricate, fresh, reading_once, using
from cimlib.chip.hardware import Hardware
from cimlib.chip.mapped import Mapped, Parts, Written
from cimlib.chip.montecarlo import Difference, Evaluation, Values, evaluate, interval
from cimlib.chip.placement import Placement
from cimlib.chip.presets import presets
from cimlib.chip.programming import program
from cimlib.chip.stages import Adapter, DoRA, FullRank, LoRA, Scale
from cimlib.chip.table import conductances, with_conductances
from cimlib.chip.vera import Projections, VeRA, projections

__all__ = [
    "Adapter",
    "AnalogReLU",
    "Chain",
    "Cost",
    "Crossbar",
    "Difference",
    "DoRA",
    "Evaluation",
    "Fabricated",
    "FullRank",
    "Hardware",
    "LoRA",
    "Mapped",
    "Parts",
    "Placement",
    "Projections",
    "Reading",
    "Scale",
    "Values",
    "VeRA",
    "Written",
    "adapters",
    "attach",
    "conductances",
    "cost",
    "crossbars",
    "detach",
    "evaluate",
    "fabricate",
    "fabricated",
    "fresh",
    "interval",
    "load",
    "parameters",
    "presets",
    "program",
    "projections",
    "reading_once",
    "state",
    "using",
    "with_conductances",
]
