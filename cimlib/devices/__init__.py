"""What a cell does to the conductance it was asked to hold: spread, defects, drift, and their draws."""

from cimlib.devices.defects import READINGS, Clusters, DeadLines, FaultMap, detected, stuck_rates
from cimlib.devices.draws import Draw, seeded
from cimlib.devices.drift import Drift, RelativeDrift, seconds
from cimlib.devices.effects import Device, Effect, Gaussian, Lognormal, StuckAt, require, straight_through
from cimlib.devices.pcm import PCM
from cimlib.devices.reram import CMOReRAM, WanReRAM

__all__ = [
    "PCM",
    "READINGS",
    "CMOReRAM",
    "Clusters",
    "DeadLines",
    "Device",
    "Draw",
    "Drift",
    "Effect",
    "FaultMap",
    "Gaussian",
    "Lognormal",
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
