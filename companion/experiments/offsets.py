"""Amplifiers that are off: networks deployed on chips, and trained inside an emulator of each chip.

Used by *Hardware-conscious training* and, on Iris, by *Offsets on Iris*. Three accuracies a chip:
*offline*, trained ahead of all chips and read without offsets; *deployed*, the same weights on the chip;
*updated*, with what was done for that chip: trained on in an emulator of it, all weights or the biases alone,
then programmed; or its biases trimmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass as plain
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from cimlib.arrays import Array, DoubleArray, SingleArray
from cimlib.bench import noise_gains
from cimlib.chip import Crossbar, Evaluation, Hardware, crossbars
from cimlib.circuits import OpAmp
from cimlib.datasets import load
from cimlib.devices import Lognormal, require
from cimlib.methods import BiasRows
from cimlib.networks import mlp
from cimlib.remedies import (
    BiasTrim,
    Budget,
    Case,
    Chip,
    Composed,
    Costs,
    Emulated,
    NoiseTraining,
    Remedy,
    Retrained,
)
from cimlib.training import Batch, CrossEntropy, Objective, OptimizerFactory, Penalised
from companion import definitions
from companion.fields import STRICT, Count, Natural, NonNegative, Positive, Scale, one_of
from companion.tasks.kept import weights
from companion.tasks.results import RIGHT, rounded, stacked

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
    first layer, µS, in proportion to rows in the others; 0 for ``g_load``. ``expected``: σ(V_os), V, of the
    offsets drawn anew at every batch offline. ``l1``: penalty λ Σ|w| in every training, a weight of 1 being
    the feedback. ``fluctuation``: σ of ln g of every cell once programmed, which the emulator does not know.
    ``error``: std of a reading, V, of an amplifier that is measured or a neuron that is trimmed. ``update``:
    of all ``"weights"`` or the ``"biases"`` in the emulator, or a ``"trim"``. ``start``: of the update,
    ``"offline"`` weights or from ``"scratch"``. ``update_epochs``: of a trim, readings of each neuron.
    ``n_update``: images of the update. ``lr``: fraction of the largest weight; ``update_lr``: that of the
    update, 0 for half. ``sharpness``: of the softmax. Chips are 0 … ``chips - 1``."""

    scale: Scale = "quick"
    dataset: Annotated[str, one_of(WIDTHS)] = "digits"
    structure: Annotated[str, one_of(STRUCTURES)] = "double"
    offset: float = 0.01
    gain: float = 1369.0
    g_load: Positive = 1000.0
    loads: Literal["equal", "rows"] = "equal"
    g_constant: NonNegative = 0.0
    expected: NonNegative = 0.0
    l1: NonNegative = 0.0
    fluctuation: NonNegative = 0.0
    error: NonNegative = 0.0
    update: Literal["weights", "biases", "trim"] = "weights"
    start: Literal["offline", "scratch"] = "offline"
    epochs: Count = 30
    update_epochs: Count = 10
    n_train: Count = 1000
    n_update: Count = 1000
    images: Count = 300
    lr: Positive = 0.005
    update_lr: NonNegative = 0.0
    batch: Count = 64
    sharpness: Positive = 10.0
    leak: float = 0.02
    chips: Count = 3
    seed: Natural = 0

    def __post_init__(self) -> None:
        require(self.n_update <= self.n_train, "n_update", self.n_update, f"≤ n_train = {self.n_train}")
        whole = self.start == "offline" or self.update == "weights"
        require(whole, "update", self.update, "'weights' from scratch, where biases alone are no network")
        self.circuit(self.offset), Lognormal(self.fluctuation), self.objective()

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

    def objective(self) -> Objective:
        """What every training minimises."""
        plain = CrossEntropy(self.sharpness)
        return Penalised(plain, self.l1) if self.l1 else plain

    def ahead(self) -> Remedy:
        """The offline training, for chips of which nothing is known but what is expected of them all."""
        expected = self.kind(self.expected)
        return NoiseTraining(self.epochs, self.lr, self.n_train, self.objective(), expected)

    def treatments(self) -> dict[str, Remedy]:
        """What is compared: nothing, and what is done for one chip."""
        if self.update == "trim":
            return {"deployed": Composed(), "updated": BiasTrim(self.error, self.update_epochs, self.seed)}
        objective = BiasRows(self.objective()) if self.update == "biases" else self.objective()
        lr = self.update_lr or self.lr / 2
        updated = Retrained(self.update_epochs, lr, self.n_update, objective)
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


def targets(model: nn.Module) -> Tensor:
    """The conductances that the cells of ``model`` are asked for, (cells,)."""
    layers = crossbars(model)
    return torch.cat([layer.hardware.array.target(layer.weight.detach()).cells.flatten() for layer in layers])


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
    for name in ("offset", "fluctuation", "error", "update", "update_lr", "start", "update_epochs", "images")
} | {"n_update": 1, "chips": 1, "scale": "quick"}


@cache
def _offline(params: Params) -> nn.Module:
    """The digital network trained ahead of all chips; kept on disk, for other updates of the same."""
    model = params.blank()
    model.load_state_dict(weights(_trained, params, CODE))
    return model


def _trained(params: Params, code: str, version: str, threads: int) -> dict[str, Tensor]:
    """The weights of the offline network; the rest is what else decides their bits."""
    budget = Emulating(params.dataset, params.batch, params.seed, validated=False)
    return params.ahead().prepare(params.blank(), params.kind(0.0), budget, Costs()).state_dict()


CODE = definitions.digest(__name__, "_trained")


def run(params: Params) -> dict[str, Any]:
    """Deploy and update one network on every chip.

    Returns test accuracies, %: ``offline`` (1,), ``deployed`` and ``updated`` (chips,), and ``lost``
    (chips,): offline minus updated, points; ``validation_error`` (chips,) of the updated networks as
    their emulators see them, trimmed ones as they are, %, and ``offline_validation_error`` (1,); ``curve``
    (update_epochs, chips): the emulators' validation accuracy after each epoch, %, none of a trim;
    ``rewritten`` (chips,): cells that the update asks for another conductance, %; ``noise_gain`` and
    ``most_noise_gain`` (layers, sides): mean and largest of the offline network's converters. ``right``:
    which images the three accuracies are right about, (values, images).
    """
    trained = _offline(replace(params, **NOT_OFFLINE))
    budget = Emulating(params.dataset, params.batch, params.seed)
    check, test = budget.validation(), load(params.dataset, "test", params.images)
    offline = Chip(params.kind(0.0), 0).holds(trained)
    before = budget.read(offline, test, [0])
    gains = noise_gains(offline).values()
    starts = {"deployed": trained, "updated": trained if params.start == "offline" else params.blank()}
    found: dict[str, list[Evaluation]] = {name: [] for name in starts}
    curves, errors, rewritten = [], [], []
    kind = params.kind(params.offset, params.fluctuation)
    for chip in range(params.chips):
        asked = []
        for name, remedy in params.treatments().items():
            case = Case(starts[name], Chip(kind, chip), budget)
            model = remedy.act(case.model(), case)
            found[name].append(budget.read(model, test, [chip]))
            asked.append(targets(model))
        rewritten.append(round(float(100 * (asked[0] != asked[1]).double().mean()), 3))
        curve = [accuracy for history in case.costs.histories for (accuracy,) in history.validation]
        seen_by = [curve[-1]] if curve else budget.read(model, check, [chip]).accuracy.tolist()
        errors += [round(100 - accuracy, 3) for accuracy in seen_by]
        curves.append(curve)
    seen = {name: stacked(readings) for name, readings in {"offline": [before], **found}.items()}
    deployed, updated = (100 * seen[name].mean(1) for name in starts)
    return {
        "offline": before.accuracy.round(3).tolist(),
        "deployed": deployed.round(3).tolist(),
        "updated": updated.round(3).tolist(),
        "lost": (before.accuracy[0] - updated).round(3).tolist(),
        "validation_error": errors,
        "offline_validation_error": (100 - budget.read(offline, check, [0]).accuracy).round(3).tolist(),
        "curve": [[round(value, 2) for value in epoch] for epoch in zip(*curves, strict=True)],
        "rewritten": rewritten,
        "noise_gain": [rounded(n.mean(1)) for n in gains],
        "most_noise_gain": [rounded(n.amax(1)) for n in gains],
        RIGHT: seen,
    }
