"""Amplifiers that are off, on a network small enough to print: Iris, many chips at once.

Used by *Offsets on Iris* and *One array instead of two*. Every seed has a split, initial weights and a
chip of its own; see :mod:`companion.experiments.offsets` for what is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from cimlib.bench.measurement import measured
from cimlib.chip.crossbar import crossbars
from cimlib.chip.fabrication import fabricate
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.circuits.opamp import OpAmp
from cimlib.datasets.loading import load
from cimlib.devices.effects import require
from cimlib.networks.plain import mlp
from cimlib.training.fit import accuracy, fit
from cimlib.training.objectives import Batch, CrossEntropy
from cimlib.training.replicas import Replicas, resample
from companion.experiments.deployed import SIZES, rounded
from companion.experiments.offsets import AT_ZERO, RAILS, SPAN, STRUCTURES, design, in_range, largest


@dataclass(frozen=True)
class Params:
    """``offset``: σ(V_os), V, one draw an amplifier. ``g_load``: of every converter, µS.
    ``g_constant``: of the constant term, µS; 0 for ``g_load``. ``rails``: whether outputs are held between
    0.05 and 0.95 V. ``error``: std of a reading when the amplifiers are measured, V. ``lr``: fraction of
    the largest weight, halved for the update. ``sharpness``: of the softmax. Chips are the seeds."""

    scale: str = "quick"
    structure: str = "double"
    offset: float = 0.01
    gain: float = 1369.0
    g_load: float = 1000.0
    g_constant: float = 0.0
    rails: bool = True
    error: float = 0.0
    epochs: int = 300
    update_epochs: int = 100
    lr: float = 0.02
    sharpness: float = 10.0
    hidden: int = 8
    seeds: int = 20

    def __post_init__(self) -> None:
        require(self.structure in STRUCTURES, "structure", self.structure, str(list(STRUCTURES)))
        for name in ("epochs", "update_epochs", "hidden", "seeds"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        for name in ("lr", "g_load"):
            require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), f"0 < {name} < ∞")
        require(0 <= self.error < float("inf"), "error", self.error, "0 ≤ error < ∞ (V)")
        require(0 <= self.g_constant < float("inf"), "g_constant", self.g_constant, "0 ≤ g_constant < ∞ (µS)")
        self.hardware(self.offset), CrossEntropy(self.sharpness)

    def hardware(self, offset: float) -> Hardware:
        """The design at a spread ``offset`` of the amplifiers' offsets, V."""
        circuit = OpAmp(
            gain=self.gain,
            at_zero=AT_ZERO,
            offset=offset,
            rails=RAILS if self.rails else None,
            span=SPAN,
            g_constant=self.g_constant or None,
        )
        return design(self.structure, circuit, self.g_load)


SCALES: dict[str, dict[str, Any]] = {"quick": {}, "desk": {"seeds": 100}, "paper": {"seeds": 1000}}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {"iris": SIZES[0]}


def _trained(networks: list[nn.Module], data: Batch, params: Params, epochs: int, lr: float) -> Replicas:
    """The networks trained side by side, full batch."""
    together = Replicas(networks)
    bound = largest(crossbars(networks[0])[0])
    fit(
        together,
        CrossEntropy(params.sharpness),
        data,
        epochs=epochs,
        lr=lr,
        seed=0,
        batch_size=SIZES[0],
        optimizer=in_range([(weight, bound) for weight in together.parameters()], lr),
        cosine=True,
    )
    return together


@dataclass(frozen=True)
class Networks:
    """What one run makes: networks (seeds,) as each holds its chip, and the splits (size, seeds, ...)."""

    software: Replicas
    offline: list[nn.Module]
    deployed: list[nn.Module]
    updated: list[nn.Module]
    validation: Batch
    test: Batch


def networks(params: Params) -> Networks:
    """Train every seed's network offline, deploy it, and update it in an emulator of its chip."""
    seeds = range(params.seeds)
    train, validation, test = resample(*load("iris", "all"), seeds, SIZES)
    blank = [mlp(4, params.hidden, 3, bias="row", seed=seed) for seed in seeds]

    def chips(offset: float) -> list[nn.Module]:
        hardware = params.hardware(offset)
        return [fabricate(program(network, hardware), seed) for seed, network in enumerate(blank)]

    def filled(chips: list[nn.Module], weights: Replicas) -> list[nn.Module]:
        return [weights.member(seed, chip) for seed, chip in enumerate(chips)]

    software = Replicas(blank)
    fit(software, CrossEntropy(), train, epochs=200, lr=0.05, seed=0, batch_size=SIZES[0])
    perfect, real = chips(0.0), chips(params.offset)
    weights = _trained(perfect, train, params, params.epochs, params.lr)
    deployed = filled(real, weights)
    emulators = [measured(chip, params.error, seed=seed) for seed, chip in enumerate(deployed)]
    updated = _trained(emulators, train, params, params.update_epochs, params.lr / 2)
    return Networks(software, filled(perfect, weights), deployed, filled(real, updated), validation, test)


def run(params: Params) -> dict[str, Any]:
    """Deploy and update every seed's network on its chip.

    Returns test accuracies (seeds,), %: ``software`` (the same network without hardware), ``offline``,
    ``deployed``, ``updated``; ``lost`` and ``recovered`` (seeds,): offline minus updated and updated minus
    deployed, points; ``validation_error`` (seeds,): of the offline network, %.
    """
    made = networks(params)
    offline = Replicas(made.offline)
    before, after = accuracy(offline, *made.test), accuracy(Replicas(made.updated), *made.test)
    between = accuracy(Replicas(made.deployed), *made.test)
    return {
        "software": rounded(accuracy(made.software, *made.test)),
        "offline": rounded(before),
        "deployed": rounded(between),
        "updated": rounded(after),
        "lost": rounded(before - after),
        "recovered": rounded(after - between),
        "validation_error": rounded(100 - accuracy(offline, *made.validation)),
    }
