"""Amplifiers that are off: networks deployed on chips, and trained inside an emulator of each chip.

Used by *Hardware-conscious training* and, on Iris, by *Offsets on Iris*. Three accuracies a chip:
*offline*, trained and read without offsets; *deployed*, the same weights on the chip; *updated*, trained
on in an emulator of that chip, then programmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from cimlib.arrays.base import Array
from cimlib.arrays.pairs import DoubleArray
from cimlib.arrays.single import SingleArray
from cimlib.bench.measurement import measured
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.fabrication import fabricate
from cimlib.chip.hardware import Hardware
from cimlib.chip.montecarlo import evaluate
from cimlib.chip.programming import program
from cimlib.circuits.opamp import OpAmp
from cimlib.datasets.loading import load
from cimlib.devices.effects import Lognormal, require
from cimlib.networks.plain import mlp
from cimlib.training.fit import OptimizerFactory, fit
from cimlib.training.objectives import Batch, CrossEntropy

WIDTHS = {"digits": (64, 32, 10), "mnist": (784, 256, 128, 10)}


# µS, V: the range (and V_0, a supply of 1 V) of JJAP 2024 as quoted by its author's repository; AT_ZERO and
# the gain of 1369 read in a configuration of its code, SPAN in another one, none of them known from the
# paper; RAILS are ours
G_MIN, G_MAX, SPAN, AT_ZERO, RAILS = 10.0, 1000.0, 0.35, 0.4859, (0.05, 0.95)


STRUCTURES: dict[str, Array] = {
    "double": DoubleArray(G_MIN, G_MAX, zero_state=True),
    "single, column": SingleArray(G_MIN, G_MAX),
    "single, constant term": SingleArray(G_MIN, G_MAX, reference="constant-term"),
}


def design(structure: str, circuit: OpAmp, g_load: float, fluctuation: float = 0.0) -> Hardware:
    """Hardware whose converters have feedback ``g_load``, µS: a weight of 1 is that conductance."""
    array = STRUCTURES[structure]
    largest = G_MAX if array.sides == 2 else (G_MAX - G_MIN) / 2
    array = replace(array, w_max=largest / g_load)
    return Hardware(Lognormal(fluctuation), array, circuit)


def in_range(weights: Iterable[tuple[torch.Tensor, float]], lr: float) -> OptimizerFactory:
    """Adam whose steps end inside the largest weight of each parameter; ``lr`` is a fraction of that."""
    bounds = list(weights)

    def optimizer(_: object) -> torch.optim.Optimizer:
        adam = torch.optim.Adam([{"params": [weight], "lr": lr * bound} for weight, bound in bounds])

        @torch.no_grad()
        def project(*_: object) -> None:
            for weight, bound in bounds:
                weight.clamp_(-bound, bound)

        project()
        adam.register_step_post_hook(project)
        return adam

    return optimizer


@dataclass(frozen=True)
class Params:
    """``offset``: σ(V_os), V, one draw an amplifier. ``g_load``: of the first layer, µS; ``loads``:
    ``"equal"`` in all layers, or in proportion to ``"rows"``. ``g_constant``: of the constant term in the
    first layer, µS, in proportion to rows in the others; 0 for ``g_load``. ``fluctuation``: σ of ln g of
    every cell once programmed, which the emulator does not know. ``error``: std of a reading when the
    amplifiers are measured, V. ``start``: of the update, ``"offline"`` weights or from ``"scratch"``.
    ``n_update``: images of the update. ``lr``: fraction of the largest weight, halved for the update.
    ``sharpness``: of the softmax. Chips are 0 … ``chips - 1``."""

    scale: str = "quick"
    dataset: str = "digits"
    structure: str = "double"
    offset: float = 0.01
    gain: float = 1369.0
    g_load: float = 1000.0
    loads: str = "equal"
    g_constant: float = 0.0
    fluctuation: float = 0.0
    error: float = 0.0
    start: str = "offline"
    epochs: int = 30
    update_epochs: int = 10
    n_train: int = 1000
    n_update: int = 1000
    images: int = 300
    lr: float = 0.005
    batch: int = 64
    sharpness: float = 10.0
    leak: float = 0.02
    chips: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.dataset in WIDTHS, "dataset", self.dataset, str(list(WIDTHS)))
        require(self.structure in STRUCTURES, "structure", self.structure, str(list(STRUCTURES)))
        require(self.loads in ("equal", "rows"), "loads", self.loads, "'equal', 'rows'")
        require(self.start in ("offline", "scratch"), "start", self.start, "'offline', 'scratch'")
        for name in ("epochs", "update_epochs", "n_train", "n_update", "images", "batch", "chips"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        require(self.n_update <= self.n_train, "n_update", self.n_update, f"≤ n_train = {self.n_train}")
        require(0 <= self.g_constant < float("inf"), "g_constant", self.g_constant, "0 ≤ g_constant < ∞ (µS)")
        for name in ("lr", "g_load"):
            require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), f"0 < {name} < ∞")
        require(0 <= self.error < float("inf"), "error", self.error, "0 ≤ error < ∞ (V)")
        self.circuit(self.offset), Lognormal(self.fluctuation), CrossEntropy(self.sharpness)

    def circuit(self, offset: float) -> OpAmp:
        """The amplifiers at a spread ``offset`` of their offsets, V."""
        return OpAmp(gain=self.gain, at_zero=AT_ZERO, offset=offset, rails=RAILS, span=SPAN, leak=self.leak)

    def on_hardware(self, offset: float, fluctuation: float = 0.0) -> nn.Module:
        """The untrained network on chips of that spread."""
        model = mlp(*WIDTHS[self.dataset], bias="row", seed=self.seed)
        rows = {name: m.in_features for name, m in model.named_modules() if isinstance(m, nn.Linear)}
        designs = {}
        for name, n in rows.items():
            share = n / max(rows.values())
            g_load = self.g_load * (share if self.loads == "rows" else 1)
            circuit = replace(self.circuit(offset), g_constant=self.g_constant * share or None)
            designs[name] = design(self.structure, circuit, g_load, fluctuation)
        return program(model, designs)


_MNIST = {"dataset": "mnist", "n_train": 50_000, "images": 10_000, "lr": 0.002, "batch": 128}


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {**_MNIST, "epochs": 8, "update_epochs": 1, "n_update": 20_000, "chips": 10},
    "paper": {**_MNIST, "epochs": 12, "update_epochs": 10, "n_update": 50_000, "chips": 10},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {params.dataset: params.n_train}


def largest(layer: Crossbar) -> float:
    """The weight that the full range of the layer's cells holds."""
    assert layer.hardware.array.w_max is not None
    return layer.hardware.array.w_max


def _trained(
    model: nn.Module, params: Params, data: Batch, epochs: int, lr: float, check: Batch | None
) -> Any:
    return fit(
        model,
        CrossEntropy(params.sharpness),
        data,
        epochs=epochs,
        lr=lr,
        seed=params.seed,
        batch_size=params.batch,
        validation=check,
        optimizer=in_range(((layer.weight, largest(layer)) for layer in crossbars(model)), lr),
        cosine=True,
    )


# what the offline network does not depend on, so that one is trained for many points of a sweep
NOT_OFFLINE: dict[str, Any] = {
    name: getattr(Params(), name)
    for name in ("offset", "fluctuation", "error", "start", "update_epochs", "images", "chips")
} | {"n_update": 1}


@cache
def _offline(params: Params) -> nn.Module:
    """The network trained without offsets, on the hardware without offsets."""
    model = fabricate(params.on_hardware(0.0), 0)
    _trained(model, params, load(params.dataset, "train", params.n_train), params.epochs, params.lr, None)
    return model


def run(params: Params) -> dict[str, Any]:
    """Deploy and update one network on every chip.

    Returns test accuracies, %: ``offline`` (1,), ``deployed`` and ``updated`` (chips,), and ``lost``
    (chips,): offline minus updated, points; ``validation_error`` (chips,) of the updated networks as
    their emulators see them, %, and ``offline_validation_error`` (1,); ``curve`` (update_epochs, chips):
    the emulators' validation accuracy after each epoch, %.
    """
    offline = _offline(replace(params, **NOT_OFFLINE))
    x, y = load(params.dataset, "train", params.n_update)
    check, test = load(params.dataset, "val"), load(params.dataset, "test", params.images)
    before = evaluate(offline, *test, [0]).accuracy
    deployed, updated, curves = [], [], []
    for chip in range(params.chips):
        true = params.on_hardware(params.offset, params.fluctuation)
        true.load_state_dict(offline.state_dict())
        deployed.append(evaluate(true, *test, [chip]).accuracy[0])
        emulator = measured(
            fabricate(params.on_hardware(params.offset), chip), params.error, seed=params.seed
        )
        if params.start == "offline":
            emulator.load_state_dict(offline.state_dict())
        history = _trained(emulator, params, (x, y), params.update_epochs, params.lr / 2, check)
        curves.append([accuracy for (accuracy,) in history.validation])
        true.load_state_dict(emulator.state_dict())
        updated.append(evaluate(true, *test, [chip]).accuracy[0])
    return {
        "offline": before.round(3).tolist(),
        "deployed": [round(float(value), 3) for value in deployed],
        "updated": [round(float(value), 3) for value in updated],
        "lost": [round(float(before[0] - value), 3) for value in updated],
        "validation_error": [round(100 - curve[-1], 3) for curve in curves],
        "offline_validation_error": (100 - evaluate(offline, *check, [0]).accuracy).round(3).tolist(),
        "curve": [[round(value, 2) for value in epoch] for epoch in zip(*curves, strict=True)],
    }
