"""What is done about the cells and amplifiers of one tested chip: the network moved, retrained, pulsed.

All but pulses act off the chip, on what a test shows of it; what is read afterwards is the chip as it is.
The test is of the chip at its time ``t``: on one that has aged they know the drift to come, which nobody does
when the weights are programmed. That is a bound, of which they warn; :class:`~.RetrainedForLater` is meant as
one.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from torch import nn

from cimlib.chip.crossbar import crossbars
from cimlib.chip.layers import require_untransposed
from cimlib.devices.effects import Device, require, require_kind, require_whole
from cimlib.methods.device_updates import on_device
from cimlib.methods.freezing import frozen
from cimlib.methods.mapping import mapped, mapped_jointly
from cimlib.methods.placement_costs import Weighting, sensitivity
from cimlib.methods.retraining import Retraining, adjusted
from cimlib.remedies.base import Case, Knowledge, Remedy, Step
from cimlib.remedies.budget import Budget, require_training
from cimlib.remedies.chips import Chip
from cimlib.training.fit import History
from cimlib.training.objectives import Objective
from cimlib.training.pulses import Pulses

_LEARNT = ("gradient", "fisher")  # found from the loss of images
_WEIGHTINGS = ("uniform", "magnitude", *_LEARNT)
_CHIP: frozenset[Knowledge] = frozenset({"this chip"})
_TRAINED: frozenset[Knowledge] = frozenset({"this chip", "images", "labels"})


class _Tested(Remedy):
    """A remedy that knows of the chip what a test shows."""

    #: Whether it has to know the cells, not the amplifiers alone.
    cells: ClassVar[bool] = True

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        self._require_test(chip)

    def _require_test(self, chip: Chip) -> None:
        name, known = type(self).__name__, chip.kind.cells_tested or not self.cells
        said = f"one whose cells are tested, for {name}: Kind, Inspected; Retrained knows amplifiers alone"
        require(known, "kind", type(chip.kind).__name__, said)

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        self._require_test(case.chip)
        if case.chip.t and "the drift to come" not in self.knows:
            warnings.warn(
                f"{type(self).__name__} on a chip at t = {case.chip.t!r} knows when it programs how cells "
                "will have drifted by then: a bound, no remedy. Chip(kind, number) is just programmed",
                stacklevel=2,
            )
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
        weighting: what a weight counts; the last two are a :func:`~.sensitivity` on ``images`` images, which
            has to know labels.
        power: of the cost of an error, > 0.
        images: ≥ 1.
    """

    routing: Literal["rows", "joint"] = "rows"
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform"
    power: float = 2.0
    images: int = 1000

    steps = ("map",)

    @property
    def knows(self) -> frozenset[Knowledge]:  # type: ignore[override]
        """This chip, and of a :func:`~.sensitivity` images with labels."""
        return _TRAINED if self.weighting in _LEARNT else _CHIP

    def __post_init__(self) -> None:
        for name, known in (("routing", ("rows", "joint")), ("weighting", _WEIGHTINGS)):
            require(getattr(self, name) in known, name, getattr(self, name), ", ".join(map(repr, known)))
        require(0 < self.power < float("inf"), "power", self.power, "0 < power < ∞")
        require_whole("images", self.images, 1)

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        count, allowed = len(crossbars(model)), "'rows' for a network of one layer, which has no hidden units"
        require(self.routing == "rows" or count > 1, "routing", self.routing, allowed)

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
        case.costs.passes += self.images
        return sensitivity(perfect, case.budget.images(self.images), self.weighting)


@dataclass(frozen=True)
class Retrained(_Tested):
    """Every weight trained on, through what this chip makes of it; then programmed.

    With :class:`~.Retraining`, the default, errors of cells are trained around; with
    :class:`~.CrossEntropy` behind amplifiers this is hardware-conscious training. On a chip that has aged it
    is a bound, with a warning.

    Args:
        epochs, lr: ≥ 0; > 0, of Adam.
        images: how many are trained on; 0: all.
        objective: what is minimised.

    Raises ``ValueError`` for arguments out of range, ``TypeError`` for an objective that is none.
    """

    epochs: int = 10
    lr: float = 1e-3
    images: int = 0
    objective: Objective = field(default_factory=Retraining)

    steps: ClassVar[tuple[Step, ...]] = ("retrain",)
    knows: ClassVar[frozenset[Knowledge]] = _TRAINED
    cells = False

    def __post_init__(self) -> None:
        require_training(self.epochs, self.lr, self.images)
        require_kind("objective", self.objective, Objective, "Retraining()")

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
        epochs: of all layers together, ≥ 1; each layer has the same number, rounded up. Other arguments:
            see :func:`~.adjusted`.

    Raises ``ValueError`` for arguments out of range.
    """

    epochs: int = 10
    lr: float = 1e-3
    images: int = 0
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform"
    power: float = 2.0
    penalty: float = 0.0

    steps = ("map", "retrain")
    knows = _TRAINED

    def __post_init__(self) -> None:
        require_training(self.epochs, self.lr, self.images, least=1)
        known = ", ".join(map(repr, _WEIGHTINGS))
        require(self.weighting in _WEIGHTINGS, "weighting", self.weighting, known)
        require(0 < self.power < float("inf"), "power", self.power, "0 < power < ∞")
        require(0 <= self.penalty < float("inf"), "penalty", self.penalty, "0 ≤ penalty < ∞")

    def change(self, known: nn.Module, case: Case) -> nn.Module:
        batch, stages = case.budget.images(self.images), len(crossbars(known))
        each = -(-self.epochs // stages)
        weighed = self.weighting in _LEARNT  # anew for each layer
        case.costs.passes += (each + weighed) * stages * len(batch[1])
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
            histories=case.costs.histories,
        )


@dataclass(frozen=True)
class Freezing(_Tested):
    """Iterative freezing, the baseline of DATE 2017: :func:`~.frozen`, a batch after every step.

    Args:
        per_step: weights frozen at each step, ≥ 1. lr, images: as in :class:`Retrained`.

    Raises ``ValueError`` for arguments out of range.
    """

    per_step: int = 10
    lr: float = 1e-3
    images: int = 0

    steps = ("retrain",)
    knows = _TRAINED

    def __post_init__(self) -> None:
        require_whole("per_step", self.per_step, 1)
        require_training(1, self.lr, self.images)

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        for layer in crossbars(model):
            require_untransposed(layer.plain, layer.name, "Freezing")
            require(layer.hardware.array.w_max is not None, "w_max", None, "set, for weights that stay fixed")

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
        case.costs.passes += 2 * found.images  # their gradients first, to choose what is fixed
        case.costs.histories.append(found.history)
        return found.model


@dataclass(frozen=True)
class DeviceUpdates(Remedy):
    """A few updates written into the array itself, which need no test: :func:`~.on_device`.

    Args:
        iterations: ≥ 0; at 0 nothing is touched.
        pulses: the cells' answer to a pulse. lr, batch_size: of the updates. images: to draw from; 0: all.

    Raises ``ValueError`` for arguments out of range, ``TypeError`` for pulses that are none.
    """

    iterations: int = 20
    pulses: Pulses = field(default_factory=Pulses)
    lr: float = 0.05
    batch_size: int = 128
    images: int = 0

    steps = ("pulse",)
    knows = frozenset({"images", "labels"})

    def __post_init__(self) -> None:
        require_whole("iterations", self.iterations, 0)
        require_kind("pulses", self.pulses, Pulses, "Pulses()")
        require_training(0, self.lr, self.images)
        require_whole("batch_size", self.batch_size, 1)

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        if not self.iterations:
            return model
        batch = case.budget.images(self.images)
        with case.budget.autocast(), case.costs.timed("pulse"):
            done = on_device(
                model,
                batch,
                self.pulses,
                iterations=self.iterations,
                lr=self.lr,
                seed=case.chip.number,
                batch_size=self.batch_size,
            )
        cells = sum(layer.conductance.numel() for layer in crossbars(done.model))
        case.costs.pulses += done.pulses / cells
        case.costs.writes += done.writes / cells
        case.costs.passes += done.images
        case.costs.readings += done.images
        case.costs.images = max(case.costs.images, len(batch[1]))
        case.costs.histories.append(History(list(done.losses)))
        return done.model
