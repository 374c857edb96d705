"""What is done about a chip whose cells have changed, without writing a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Literal

from torch import Tensor, nn

from cimlib.chip.attachment import attach
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.layers import require_untransposed
from cimlib.chip.stages import Adapter, Affine, DoRA, LoRA
from cimlib.chip.vera import Projections, VeRA, projections
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require, require_kind, require_whole
from cimlib.methods.compensation import compensate, mix_batchnorm, tracking
from cimlib.methods.distillation import AdapterTraining, distil
from cimlib.methods.least_squares import regress_columns
from cimlib.remedies.base import Case, Knowledge, Remedy, Step
from cimlib.remedies.budget import READ, Budget, require_training
from cimlib.remedies.cells import Retrained
from cimlib.remedies.chips import Chip

Stage = Literal["lora", "dora", "vera", "affine"]
#: The kinds of digital stages.
STAGES: tuple[Stage, ...] = ("lora", "dora", "vera", "affine")


@dataclass(frozen=True)
class Compensation(Remedy):
    """Drift compensation: each layer's outputs times how much they have faded; see :func:`~.compensate`.

    It belongs to a reading of the chip and is made anew for each.

    Args:
        per: one factor for a ``"layer"``, or for each ``"column"``.
        images: read-out by so many images, which are kept; 0: by one row after the other.

    Raises ``ValueError`` for arguments out of range, and on cells that have no clock: there is nothing that
    it could compensate.
    """

    per: Literal["layer", "column"] = "layer"
    images: int = 0

    steps = ("compensate",)

    def __post_init__(self) -> None:
        require(self.per in ("layer", "column"), "per", self.per, "'layer', 'column'")
        require_whole("images", self.images, 0)

    @property
    def knows(self) -> frozenset[Knowledge]:  # type: ignore[override]
        """This chip, and images if it is read out by them."""
        return frozenset({"this chip", "images"} if self.images else {"this chip"})

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        for layer in crossbars(model):
            require_untransposed(layer.plain, layer.name, "Compensation")
        _require_clock(model)

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        _require_clock(model)
        x = case.budget.images(self.images)[0] if self.images else None
        case.costs.readings += self.images or max(prod(layer.weight_shape[1:]) for layer in crossbars(model))
        case.costs.images = max(case.costs.images, self.images)
        return compensate(model, case.chip.just_programmed(model), x, per=self.per)


@dataclass(frozen=True)
class BatchNormStatistics(Remedy):
    """Running statistics of every BatchNorm found anew on the chip; see :func:`~.recalibrate_batchnorm`.

    Against drift after Joshi et al. (Nature Communications 11, 2473, 2020).

    Args:
        images: how many are read, without labels; 0: all.
        mix: share of what is found in the statistics, 0 < mix ≤ 1; see :func:`~.mix_batchnorm`.

    Raises ``ValueError`` for arguments out of range, and for a network without BatchNorm.
    """

    images: int = 10
    mix: float = 1.0

    steps = ("adapt",)
    knows = frozenset({"this chip", "images"})

    def __post_init__(self) -> None:
        require_whole("images", self.images, 0)
        require(0 < self.mix <= 1, "mix", self.mix, "0 < mix ≤ 1")

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        tracking(model)

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        x, _ = case.budget.images(self.images)
        with case.costs.timed("adapt"):
            case.costs.stored += mix_batchnorm(model, x, self.mix, batch_size=READ)
        case.costs.images = max(case.costs.images, len(x))
        case.costs.readings += len(x)
        return model


@dataclass(frozen=True)
class RetrainedForLater(Retrained):
    """Every weight retrained through what this chip will have made of it, compensation included.

    No device can do that, for the weights are written with the drift to come in mind: a bound, no remedy.
    """

    steps: ClassVar[tuple[Step, ...]] = ("adapt",)
    knows: ClassVar[frozenset[Knowledge]] = frozenset({*Retrained.knows, "the drift to come"})


@dataclass(frozen=True)
class Stages:
    """Digital stages of a network, one a layer: :class:`~.LoRA`, :class:`~.DoRA`, :class:`~.VeRA` or
    :class:`~.Affine`.

    Args:
        kind: which; rank: of those that have one, ≥ 1; seed: of what is random in them, ≥ 0.
        shared: whether the projections of VeRA are the same for all layers.

    Raises ``ValueError`` for arguments out of range.
    """

    kind: Stage = "dora"
    rank: int = 2
    seed: int = 0
    shared: bool = True

    def __post_init__(self) -> None:
        require(self.kind in STAGES, "kind", self.kind, ", ".join(map(repr, STAGES)))
        require_whole("rank", self.rank, 1)
        require_whole("seed", self.seed, 0)

    def verify(self, model: nn.Module) -> None:
        """Raise ``ValueError`` for a network, on hardware, with layers that can have no stage."""
        for layer in crossbars(model):
            require_untransposed(layer.plain, layer.name, f"stage {self.kind!r}")

    def attach(self, *models: nn.Module) -> None:
        """Give all ``models``, the same network on several chips, one and the same set, not yet trained."""
        common = projections(models[0], self.rank, self.seed)
        stages = {layer.name: self._stage(layer, common) for layer in crossbars(models[0])}
        for model in models:
            attach(model, lambda layer: stages[layer.name])

    def _stage(self, layer: Crossbar, common: Projections) -> Adapter:
        if self.kind == "affine":
            return Affine(layer)
        if self.kind != "vera":
            return (DoRA if self.kind == "dora" else LoRA)(layer, self.rank, seed=self.seed)
        if self.shared:
            return VeRA(layer, common)
        outputs, inputs = layer.weight_shape[:2]
        seed = seeded("projections", self.seed, layer.name).initial_seed()
        return VeRA(layer, Projections(inputs, outputs, self.rank, seed))


@dataclass(frozen=True)
class CalibratedStages(Remedy):
    """Digital stages calibrated on the chip to give what the network gives that was programmed.

    Args:
        stages: which.
        images: for calibration, without labels, which are kept; 0: all.
        epochs, lr: of each layer if distilled, of all otherwise; ≥ 0, > 0.
        training: ``"distilled"`` layer by layer (:func:`~.distil`), or ``"end to end"``
            (:class:`~.AdapterTraining`).
        inputs: from which a layer is distilled.

    Raises ``ValueError`` for arguments out of range, ``TypeError`` for stages that are none.
    """

    stages: Stages = field(default_factory=Stages)
    images: int = 10
    epochs: int = 100
    lr: float = 0.01
    training: Literal["distilled", "end to end"] = "distilled"
    inputs: Literal["student", "teacher"] = "student"

    steps = ("adapt",)
    knows = frozenset({"this chip", "images"})

    def __post_init__(self) -> None:
        known = ("distilled", "end to end")
        require(self.training in known, "training", self.training, ", ".join(map(repr, known)))
        require(self.inputs in ("student", "teacher"), "inputs", self.inputs, "'student', 'teacher'")
        require_training(self.epochs, self.lr, self.images)
        require_kind("stages", self.stages, Stages, "Stages('dora', rank=2)")

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        self.stages.verify(model)

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        self.stages.attach(model)
        return model

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        model, budget, batch = self.equip(model, case), case.budget, case.budget.images(self.images)
        with case.costs.timed("adapt"):
            if self.training == "end to end":
                objective = AdapterTraining(case.network)
                histories = [budget.train(model, objective, batch, epochs=self.epochs, lr=self.lr)]
            else:
                found = distil(
                    model,
                    case.network,
                    batch[0],
                    inputs=self.inputs,
                    epochs=self.epochs,
                    lr=self.lr,
                    seed=budget.seed,
                    batch_size=budget.batch,
                    cosine=True,
                )
                histories = list(found.values())
        case.costs.histories += histories
        # distilled, each array is given each image once, and what it answers is kept
        case.costs.readings += len(batch[0]) * (self.epochs if self.training == "end to end" else 1)
        case.costs.sets += 1
        case.costs.images = max(case.costs.images, len(batch[0]))
        case.costs.passes += self.epochs * len(batch[0])
        return model


@dataclass(frozen=True)
class ColumnLeastSquares(Remedy):
    """A gain and an offset for each column, to give what the network gives that was programmed: in closed
    form, nothing is trained; see :func:`~.regress_columns`.

    Args:
        images: for calibration, without labels, which are kept; 0: all.
        inputs: from which a layer is fitted, as in :class:`CalibratedStages`.

    Raises ``ValueError`` for arguments out of range, and for transposed convolutions.
    """

    images: int = 10
    inputs: Literal["student", "teacher"] = "student"

    steps = ("adapt",)
    knows = frozenset({"this chip", "images"})

    def __post_init__(self) -> None:
        require_whole("images", self.images, 0)
        require(self.inputs in ("student", "teacher"), "inputs", self.inputs, "'student', 'teacher'")

    def verify(self, model: nn.Module, chip: Chip, budget: Budget) -> None:
        super().verify(model, chip, budget)
        Stages("affine").verify(model)

    def equip(self, model: nn.Module, case: Case) -> nn.Module:
        return attach(model, Affine)

    def act(self, model: nn.Module, case: Case) -> nn.Module:
        model, (x, _) = self.equip(model, case), case.budget.images(self.images)
        with case.costs.timed("adapt"):
            regress_columns(model, case.network, x, inputs=self.inputs)
        case.costs.readings += len(x)
        case.costs.sets += 1
        case.costs.images = max(case.costs.images, len(x))
        return model


def _require_clock(model: nn.Module) -> None:
    devices = {layer.hardware.cell for layer in crossbars(model)}
    clock = any(layer.hardware.has_clock for layer in crossbars(model))
    require(clock, "device", sorted(map(str, devices)), "cells that drift, such as PCM(), for a Compensation")


def carried(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a remedy has made, to be loaded on another reading of a chip: ``entries`` of a ``state_dict``
    without the factors of a compensation, which belong to one reading."""
    return {name: value for name, value in entries.items() if not name.endswith(".factor")}
