"""What a memory cell does to a conductance: spread, stuck cells, and drift over time."""

from cimlib.devices.drift import PCM, CMOReRAM, Drift, RelativeDrift, WanReRAM, seconds
from cimlib.devices.effects import (
    Device,
    Draw,
    Effect,
    Gaussian,
    Lognormal,
    StuckAt,
    require,
    straight_through,
)

__all__ = [
    "PCM",
    "CMOReRAM",
    "Device",
    "Draw",
    "Drift",
    "Effect",
    "Gaussian",
    "Lognormal",
    "RelativeDrift",
    "StuckAt",
    "WanReRAM",
    "require",
    "seconds",
    "straight_through",
]
