"""The seam: a network on hardware, chip by chip: designs, placements, digital stages, Monte Carlo."""

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
]
