"""Amplifiers that are off, on a network small enough to print: Iris, many chips at once.

Used by *Offsets on Iris* and *One array instead of two*. Every seed has a split, initial weights and a
chip of its own; see :mod:`companion.experiments.offsets` for what is compared.
"""

from __future__ import annotations

from dataclasses import dataclass as plain
from math import inf
from typing import Annotated, Any, Literal

from pydantic.dataclasses import dataclass
from torch import nn

from cimlib import Hardware, fit
from cimlib.bench import measured
from cimlib.chip import crossbars
from cimlib.circuits import OpAmp
from cimlib.methods import Redrawn, posterior, shrink, trim
from cimlib.training import Batch, CrossEntropy, Replicas, accuracy
from companion.experiments.offsets import AT_ZERO, RAILS, SPAN, STRUCTURES, design, in_range, largest
from companion.fields import STRICT, Count, NonNegative, Positive, Scale, one_of
from companion.tasks.iris import SIZES, Iris
from companion.tasks.iris import data as data
from companion.tasks.results import rounded


@dataclass(frozen=True, config=STRICT)
class Params:
    """``offset``: σ(V_os), V, one draw an amplifier. ``g_load``: of every converter, µS.
    ``g_constant``: of the constant term, µS; 0 for ``g_load``. ``rails``: whether outputs are held between
    0.05 and 0.95 V. ``expected``: σ(V_os), V, of the offsets drawn anew at every batch offline. ``error``:
    std of a reading, V, of an amplifier that is measured or a neuron that is trimmed. ``update``: of all
    ``"weights"`` in the emulator, or a ``"trim"`` of the biases with ``update_epochs`` readings of each
    neuron. ``lr``: fraction of the largest weight, halved for the update. ``sharpness``: of the softmax.
    Chips are the seeds."""

    scale: Scale = "quick"
    structure: Annotated[str, one_of(STRUCTURES)] = "double"
    offset: NonNegative = 0.01
    gain: float = 1369.0
    g_load: Positive = 1000.0
    g_constant: NonNegative = 0.0
    rails: bool = True
    expected: NonNegative = 0.0
    error: NonNegative = 0.0
    update: Literal["weights", "trim"] = "weights"
    epochs: Count = 300
    update_epochs: Count = 100
    lr: Positive = 0.02
    sharpness: Positive = 10.0
    hidden: Count = 8
    seeds: Count = 20

    def __post_init__(self) -> None:
        self.hardware(self.offset)

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


@plain(frozen=True)
class Networks:
    """What one run makes: networks (seeds,) as each holds its chip, and the splits (size, seeds, ...)."""

    software: Replicas
    offline: list[nn.Module]
    deployed: list[nn.Module]
    updated: list[nn.Module]
    validation: Batch
    test: Batch


def networks(params: Params) -> Networks:
    """Train every seed's network offline, deploy it, and update it in an emulator of its chip, or trim it."""
    iris = Iris.of(params.seeds, params.hidden)
    software = iris.software(epochs=200, lr=0.05)
    perfect, real = iris.chips(params.hardware(0.0)), iris.chips(params.hardware(params.offset))
    alike = iris.chips(params.hardware(params.expected)) if params.expected else perfect
    weights = _trained(alike, iris.train, params, params.epochs, params.lr, blind=True)
    deployed = _filled(real, weights)
    if params.update == "trim":
        updated = _filled(real, weights)
        for seed, chip in enumerate(updated):
            trim(chip, params.error, params.update_epochs, seed)
    else:
        emulators = [measured(chip, params.error, seed=seed) for seed, chip in enumerate(deployed)]
        updated = _filled(real, _trained(emulators, iris.train, params, params.update_epochs, params.lr / 2))
    return Networks(software, _filled(perfect, weights), deployed, updated, iris.validation, iris.test)


def _trained(
    networks: list[nn.Module], data: Batch, params: Params, epochs: int, lr: float, blind: bool = False
) -> Replicas:
    """The networks trained side by side, full batch; ``blind``: they know of offsets what is expected."""
    together = Replicas(networks)
    known = posterior(inf if blind else 0.0)
    shrink(together, known.mean)
    bound = largest(crossbars(networks[0])[0])
    fit(
        together,
        Redrawn(CrossEntropy(params.sharpness), known.spread if params.expected else 0.0),
        data,
        epochs=epochs,
        lr=lr,
        seed=0,
        batch_size=SIZES[0],
        optimizer=in_range([(weight, bound) for weight in together.parameters()], lr),
        cosine=True,
    )
    return together


def _filled(chips: list[nn.Module], weights: Replicas) -> list[nn.Module]:
    """The chips with the weights of their seeds."""
    return [weights.member(seed, chip) for seed, chip in enumerate(chips)]


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
