"""Amplifiers that are off: networks deployed on chips, and trained inside an emulator of each chip.

Used by *Hardware-conscious training* and, on Iris, by *Offsets on Iris*. Three accuracies a chip:
*offline*, trained and read without offsets; *deployed*, the same weights on the chip; *updated*, trained
on in an emulator of that chip, then programmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass as plain
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from cimlib.arrays import Array, DoubleArray, SingleArray
from cimlib.chip import Crossbar, Evaluation, Hardware, crossbars, fabricate, plain_state
from cimlib.circuits import OpAmp
from cimlib.datasets import load
from cimlib.devices import Lognormal, require
from cimlib.networks import mlp
from cimlib.remedies import Budget, Case, Chip, Composed, Remedy, Retrained
from cimlib.remedies.inspection import Emulated
from cimlib.training import Batch, CrossEntropy, OptimizerFactory
from companion.fields import STRICT, Count, Natural, NonNegative, Positive, Scale, one_of
from companion.tasks.results import RIGHT, stacked

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


@dataclass(frozen=True, config=STRICT)
class Params:
    """``offset``: σ(V_os), V, one draw an amplifier. ``g_load``: of the first layer, µS; ``loads``:
    ``"equal"`` in all layers, or in proportion to ``"rows"``. ``g_constant``: of the constant term in the
    first layer, µS, in proportion to rows in the others; 0 for ``g_load``. ``fluctuation``: σ of ln g of
    every cell once programmed, which the emulator does not know. ``error``: std of a reading when the
    amplifiers are measured, V. ``start``: of the update, ``"offline"`` weights or from ``"scratch"``.
    ``n_update``: images of the update. ``lr``: fraction of the largest weight, halved for the update.
    ``sharpness``: of the softmax. Chips are 0 … ``chips - 1``."""

    scale: Scale = "quick"
    dataset: Annotated[str, one_of(WIDTHS)] = "digits"
    structure: Annotated[str, one_of(STRUCTURES)] = "double"
    offset: float = 0.01
    gain: float = 1369.0
    g_load: Positive = 1000.0
    loads: Literal["equal", "rows"] = "equal"
    g_constant: NonNegative = 0.0
    fluctuation: NonNegative = 0.0
    error: NonNegative = 0.0
    start: Literal["offline", "scratch"] = "offline"
    epochs: Count = 30
    update_epochs: Count = 10
    n_train: Count = 1000
    n_update: Count = 1000
    images: Count = 300
    lr: Positive = 0.005
    batch: Count = 64
    sharpness: Positive = 10.0
    leak: float = 0.02
    chips: Count = 3
    seed: Natural = 0

    def __post_init__(self) -> None:
        require(self.n_update <= self.n_train, "n_update", self.n_update, f"≤ n_train = {self.n_train}")
        self.circuit(self.offset), Lognormal(self.fluctuation), CrossEntropy(self.sharpness)

    def circuit(self, offset: float) -> OpAmp:
        """The amplifiers at a spread ``offset`` of their offsets, V."""
        return OpAmp(gain=self.gain, at_zero=AT_ZERO, offset=offset, rails=RAILS, span=SPAN, leak=self.leak)

    def blank(self) -> nn.Module:
        """The network before training."""
        return mlp(*WIDTHS[self.dataset], bias="row", seed=self.seed)

    def kind(self, offset: float, fluctuation: float = 0.0) -> Emulated:
        """Chips of that spread of offsets, V, and of ln g, and how they are measured."""
        rows = {name: m.in_features for name, m in self.blank().named_modules() if isinstance(m, nn.Linear)}
        designs = {}
        for name, n in rows.items():
            share = n / max(rows.values())
            g_load = self.g_load * (share if self.loads == "rows" else 1)
            circuit = replace(self.circuit(offset), g_constant=self.g_constant * share or None)
            designs[name] = design(self.structure, circuit, g_load, fluctuation)
        return Emulated(designs, error=self.error, seed=self.seed)

    def on_hardware(self, offset: float, fluctuation: float = 0.0) -> nn.Module:
        """The untrained network on chips of that spread."""
        return self.kind(offset, fluctuation).program(self.blank())

    def treatments(self) -> dict[str, Remedy]:
        """What is compared: nothing, and training on in an emulator of the chip."""
        objective = CrossEntropy(self.sharpness)
        updated = Retrained(self.update_epochs, self.lr / 2, self.n_update, objective)
        return {"deployed": Composed(), "updated": updated}


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


@plain(frozen=True)
class Emulating(Budget):
    """Images, Adam whose steps end in the range of the cells, and validation after every epoch, if asked."""

    dataset: str
    batch: int
    seed: int
    validated: bool = True

    reading = None

    def images(self, n: int = 0) -> Batch:
        return load(self.dataset, "train", n or None)

    def validation(self, n: int = 0) -> Batch:
        return load(self.dataset, "val", n or None)

    def watched(self) -> Batch | None:
        return self.validation() if self.validated else None

    def optimizer(self, model: nn.Module, lr: float) -> OptimizerFactory:
        return in_range(((layer.weight, largest(layer)) for layer in crossbars(model)), lr)


# what the offline network does not depend on, so that one is trained for many points of a sweep
NOT_OFFLINE: dict[str, Any] = {
    name: getattr(Params(), name)
    for name in ("offset", "fluctuation", "error", "start", "update_epochs", "images", "chips")
} | {"n_update": 1}


@cache
def _offline(params: Params) -> nn.Module:
    """The network trained without offsets, on the hardware without offsets."""
    model = fabricate(params.on_hardware(0.0), 0)
    budget = Emulating(params.dataset, params.batch, params.seed, validated=False)
    objective, batch = CrossEntropy(params.sharpness), budget.images(params.n_train)
    budget.train(model, objective, batch, epochs=params.epochs, lr=params.lr)
    return model


def run(params: Params) -> dict[str, Any]:
    """Deploy and update one network on every chip.

    Returns test accuracies, %: ``offline`` (1,), ``deployed`` and ``updated`` (chips,), and ``lost``
    (chips,): offline minus updated, points; ``validation_error`` (chips,) of the updated networks as
    their emulators see them, %, and ``offline_validation_error`` (1,); ``curve`` (update_epochs, chips):
    the emulators' validation accuracy after each epoch, %. ``right``: which images the three accuracies are
    right about, (values, images).
    """
    offline = _offline(replace(params, **NOT_OFFLINE))
    budget = Emulating(params.dataset, params.batch, params.seed)
    check, test = budget.validation(), load(params.dataset, "test", params.images)
    before = budget.read(offline, test, [0])
    trained = params.blank()
    trained.load_state_dict(plain_state(offline))
    starts = {"deployed": trained, "updated": trained if params.start == "offline" else params.blank()}
    found: dict[str, list[Evaluation]] = {name: [] for name in starts}
    curves = []
    kind = params.kind(params.offset, params.fluctuation)
    for chip in range(params.chips):
        for name, remedy in params.treatments().items():
            case = Case(starts[name], Chip(kind, chip), budget)
            model = remedy.act(case.model(), case)
            found[name].append(budget.read(model, test, [chip]))
        curves.append([accuracy for (accuracy,) in case.costs.histories[-1].validation])
    seen = {name: stacked(readings) for name, readings in {"offline": [before], **found}.items()}
    deployed, updated = (100 * seen[name].mean(1) for name in starts)
    return {
        "offline": before.accuracy.round(3).tolist(),
        "deployed": deployed.round(3).tolist(),
        "updated": updated.round(3).tolist(),
        "lost": (before.accuracy[0] - updated).round(3).tolist(),
        "validation_error": [round(100 - curve[-1], 3) for curve in curves],
        "offline_validation_error": (100 - budget.read(offline, check, [0]).accuracy).round(3).tolist(),
        "curve": [[round(value, 2) for value in epoch] for epoch in zip(*curves, strict=True)],
        RIGHT: seen,
    }
