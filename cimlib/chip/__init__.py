"""The seam: a network on hardware, chip by chip.

- :mod:`~cimlib.chip.hardware`: one design, made of device, array and circuit;
  :mod:`~cimlib.chip.presets`: published designs by name.
- :mod:`~cimlib.chip.programming`: the verb ``program``; :mod:`~cimlib.chip.admission`: which layers can go on
  hardware; :mod:`~cimlib.chip.summary`: which did.
- :mod:`~cimlib.chip.fabrication`: the verbs ``fabricate``, ``fresh``, ``using`` and ``at``;
  :mod:`~cimlib.chip.passes`: what one pass is; :mod:`~cimlib.chip.checkpoint`: what is saved besides weights.
- :mod:`~cimlib.chip.layers`: linear maps that an array can compute; :mod:`~cimlib.chip.crossbar`: a layer on
  hardware, with :mod:`~cimlib.chip.fabricated`, what differs from chip to chip;
  :mod:`~cimlib.chip.blocks`: reading a large one in little memory.
- :mod:`~cimlib.chip.placement`, :mod:`~cimlib.chip.mapped`: weights that lie in any order, and a layer that
  reads them.
- :mod:`~cimlib.chip.stages`, :mod:`~cimlib.chip.vera`: digital stages behind a layer;
  :mod:`~cimlib.chip.attachment`: giving them to a network, and what they cost.
- :mod:`~cimlib.chip.montecarlo`: accuracy on many chips, with intervals; :mod:`~cimlib.chip.scores`: what
  outputs are worth; :mod:`~cimlib.chip.calibration`: the ranges of converters, found from data.
- :mod:`~cimlib.chip.table`: the cells of a chip as a table, out and in.
"""

from cimlib.chip.attachment import Chain, Cost, adapters, attach, cost, detach, load, parameters, state
from cimlib.chip.calibration import Clipped, calibrated, clipped_shares, warn_if_clipped, watching_converters
from cimlib.chip.checkpoint import Remembering, decoded, plain_state
from cimlib.chip.crossbar import AnalogReLU, Crossbar, Reading, crossbars, fabricated
from cimlib.chip.fabricated import Fabricated
from cimlib.chip.fabrication import at, fabricate, fresh, reading_chip, reading_once, using
from cimlib.chip.hardware import Hardware
from cimlib.chip.layers import LAYERS, Layer, LinearMap, as_stored, by_column
from cimlib.chip.mapped import Mapped, Parts, Written
from cimlib.chip.montecarlo import Difference, Evaluation, PerChip, Values, evaluate, interval
from cimlib.chip.placement import Placement
from cimlib.chip.presets import presets
from cimlib.chip.programming import program
from cimlib.chip.scores import Metric, classes_last
from cimlib.chip.stages import Adapter, Affine, DoRA, FullRank, LoRA, Scale
from cimlib.chip.summary import Row, Summary, summary
from cimlib.chip.table import conductances, with_conductances
from cimlib.chip.vera import Projections, VeRA, projections

__all__ = [
    "LAYERS",
    "Adapter",
    "Affine",
    "AnalogReLU",
    "Chain",
    "Clipped",
    "Cost",
    "Crossbar",
    "Difference",
    "DoRA",
    "Evaluation",
    "Fabricated",
    "FullRank",
    "Hardware",
    "Layer",
    "LinearMap",
    "LoRA",
    "Mapped",
    "Metric",
    "Parts",
    "PerChip",
    "Placement",
    "Projections",
    "Reading",
    "Remembering",
    "Row",
    "Scale",
    "Summary",
    "Values",
    "VeRA",
    "Written",
    "adapters",
    "as_stored",
    "at",
    "attach",
    "by_column",
    "calibrated",
    "classes_last",
    "clipped_shares",
    "conductances",
    "cost",
    "crossbars",
    "decoded",
    "detach",
    "evaluate",
    "fabricate",
    "fabricated",
    "fresh",
    "interval",
    "load",
    "parameters",
    "plain_state",
    "presets",
    "program",
    "projections",
    "reading_chip",
    "reading_once",
    "state",
    "summary",
    "using",
    "warn_if_clipped",
    "watching_converters",
    "with_conductances",
]
