"""What is done about the cells and amplifiers of one tested chip: the network moved, retrained, pulsed.

All but pulses act off the chip, on what a test shows of it; what is read afterwards is the chip as it is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from torch import nn

from cimlib.chip.crossbar import crossbars
from cimlib.devices.effects import Device, require
from cimlib.methods.device_updates import on_device
from cimlib.methods.freezing import frozen
from cimlib.methods.mapping import mapped, mapped_jointly
from cimlib.methods.placement_costs import Weighting, sensitivity
from cimlib.methods.retraining import Retraining, adjusted
from cimlib.remedies.base import Case, Knowledge, Remedy, Step
from cimlib.training.objectives import Objective
from cimlib.training.pulses import Pulses

_WEIGHTINGS = ("uniform", "magnitude", "gradient", "fisher")
_CHIP: frozenset[Knowledge] = frozenset({"this chip"})
_TRAINED: frozenset[Knowledge] = frozenset({"this chip", "images", "labels"})


class _Tested(Remedy):
    """A remedy that knows of the chip what a test shows."""

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        known = case.chip.tested(model)
        case.costs.tests += 1
        with case.costs.timed(self.steps[0]):
            known = self.change(known, case)
        return case.chip.truly(known, model)

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        """``known``, the network on the chip as it is known, after the remedy (in place or a copy)."""
        raise NotImplementedError


@dataclass(frozen=True)
class FaultMapping(_Tested):
    """Weights moved to where they suffer least: :func:`~.mapped` or :func:`~.mapped_jointly`.

    Args:
        routing: ``"rows"``, which needs a router, or ``"joint"``, of hidden units, which does not.
        weighting: what a weight counts; the last two are a :func:`~.sensitivity` on ``images`` images.
        power: of the cost of an error, > 0.
        images: ≥ 1.
    """

    routing: Literal["rows", "joint"] = "rows"
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform"
    power: float = 2.0
    images: int = 1000

    steps = ("map",)
    knows = _CHIP

    def __post_init__(self) -> None:
        for name, known in (("routing", ("rows", "joint")), ("weighting", _WEIGHTINGS)):
            require(getattr(self, name) in known, name, getattr(self, name), ", ".join(map(repr, known)))
        require(0 < self.power < float("inf"), "power", self.power, "0 < power < ∞")
        require(self.images >= 1, "images", self.images, "an integer ≥ 1")

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        move = mapped if self.routing == "rows" else mapped_jointly
        return move(known, weighting=self._weighting(known, case), power=self.power)

    def _weighting(self, known: nn.Module, case: Case) -> Weighting:
        """The cost of a placement; sensitivities are those of perfect cells."""
        if self.weighting == "uniform" or self.weighting == "magnitude":
            return self.weighting
        perfect = copy.deepcopy(known)
        for layer in crossbars(perfect):
            layer.hardware = replace(layer.hardware, device=Device())
        return sensitivity(perfect, case.budget.images(self.images), self.weighting)


@dataclass(frozen=True)
class Retrained(_Tested):
    """Every weight trained on, through what this chip makes of it; then programmed.

    With :class:`~.Retraining`, the default, errors of cells are trained around; with
    :class:`~.CrossEntropy` behind amplifiers this is hardware-conscious training.

    Args:
        epochs, lr: ≥ 0; > 0, of Adam.
        images: how many are trained on; 0: all.
        objective: what is minimised.
    """

    epochs: int = 10
    lr: float = 1e-3
    images: int = 0
    objective: Objective = field(default_factory=Retraining)

    steps: ClassVar[tuple[Step, ...]] = ("retrain",)
    knows = _TRAINED

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        batch = case.budget.images(self.images)
        history = case.budget.train(known, self.objective, batch, epochs=self.epochs, lr=self.lr)
        case.costs.histories.append(history)
        case.costs.passes += self.epochs * len(batch[1])
        return known


@dataclass(frozen=True)
class Adjusted(_Tested):
    """Mapped and retrained layer by layer from the input: :func:`~.adjusted`.

    Args:
        epochs: of all layers together, ≥ 1. Other arguments: see :func:`~.adjusted`.
    """

    epochs: int = 10
    lr: float = 1e-3
    images: int = 0
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform"
    power: float = 2.0
    penalty: float = 0.0

    steps = ("map", "retrain")
    knows = _TRAINED

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        batch, stages = case.budget.images(self.images), len(crossbars(known))
        each = -(-self.epochs // stages)
        case.costs.passes += each * stages * len(batch[1])
        return adjusted(
            known,
            batch,
            epochs=each,
            lr=self.lr,
            seed=case.budget.seed,
            weighting=self.weighting,
            power=self.power,
            penalty=self.penalty,
            batch_size=case.budget.batch,
        )


@dataclass(frozen=True)
class Freezing(_Tested):
    """Iterative freezing, the baseline of DATE 2017: :func:`~.frozen`, a batch after every step.

    Args:
        per_step: weights frozen at each step, ≥ 1. lr, images: as in :class:`Retrained`.
    """

    per_step: int = 10
    lr: float = 1e-3
    images: int = 0

    steps = ("retrain",)
    knows = _TRAINED

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        found = frozen(
            known,
            case.budget.images(self.images),
            per_step=self.per_step,
            batches=1,
            lr=self.lr,
            seed=case.budget.seed,
            batch_size=case.budget.batch,
        )
        case.costs.passes += found.steps * case.budget.batch
        return found.model


@dataclass(frozen=True)
class DeviceUpdates(Remedy):
    """A few updates written into the array itself, which need no test: :func:`~.on_device`.

    Args:
        iterations: ≥ 0; at 0 nothing is touched.
        pulses: the cells' answer to a pulse. lr, batch_size: of the updates. images: drawn from; 0: all.
    """

    iterations: int = 20
    pulses: Pulses = field(default_factory=Pulses)
    lr: float = 0.05
    batch_size: int = 128
    images: int = 0

    steps = ("pulse",)
    knows = frozenset({"images", "labels"})

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        if not self.iterations:
            return model
        with case.budget.autocast(), case.costs.timed("pulse"):
            done = on_device(
                model,
                case.budget.images(self.images),
                self.pulses,
                iterations=self.iterations,
                lr=self.lr,
                seed=case.chip.number,
                batch_size=self.batch_size,
            )
        cells = sum(layer.conductance.numel() for layer in crossbars(done.model))
        case.costs.pulses += done.pulses / cells
        case.costs.writes += done.writes / cells
        case.costs.passes += self.iterations * self.batch_size
        return done.model
