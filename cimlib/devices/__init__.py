"""What a cell does to the conductance it was asked to hold: spread, defects, drift, and their draws.

- :mod:`~cimlib.devices.effects`: what every device is; normal and lognormal errors, stuck cells.
- :mod:`~cimlib.devices.defects`: broken cells in clusters and dead lines, and what a test finds of them.
- :mod:`~cimlib.devices.drift`: cells with a clock; :mod:`~cimlib.devices.pcm` and
  :mod:`~cimlib.devices.reram` are two technologies as they were measured.
- :mod:`~cimlib.devices.levels`: cells with a finite table of measured levels;
  :mod:`~cimlib.devices.measured`: cells that hold what was measured of them;
  :mod:`~cimlib.devices.measurements`: such tables in files, with their units.
- :mod:`~cimlib.devices.draws`: the random numbers of a chip, each from the name of its part.
"""

from cimlib.devices.defects import READINGS, Clusters, DeadLines, FaultMap, detected, stuck_rates
from cimlib.devices.draws import Draw, seeded
from cimlib.devices.drift import Drift, RelativeDrift, seconds
from cimlib.devices.effects import Device, Effect, Gaussian, Lognormal, StuckAt, require, straight_through
from cimlib.devices.levels import Levels
from cimlib.devices.measured import Measured
from cimlib.devices.measurements import UNITS
from cimlib.devices.pcm import PCM
from cimlib.devices.reram import CMOReRAM, WanReRAM

__all__ = [
    "PCM",
    "READINGS",
    "UNITS",
    "CMOReRAM",
    "Clusters",
    "DeadLines",
    "Device",
    "Draw",
    "Drift",
    "Effect",
    "FaultMap",
    "Gaussian",
    "Levels",
    "Lognormal",
    "Measured",
    "RelativeDrift",
    "StuckAt",
    "WanReRAM",
    "detected",
    "require",
    "seconds",
    "seeded",
    "straight_through",
    "stuck_rates",
]
