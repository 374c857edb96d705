"""A network whose cells drift, and what is done about it, chip by chip.

Used by the chapters on DoRA calibration and on VeRA+. A network is trained for perfect cells, for chips in
general if asked, programmed, and read a time later, on the same chip. What each remedy knows of that:

- ``"none"``: nothing; with a ``compensation`` it is drift compensation alone.
- ``"batchnorm"``: its statistics are found anew on the chip, or moved there by a share.
- ``"lora"``, ``"dora"``, ``"vera"``, ``"affine"``: digital stages beside the arrays, calibrated on the chip,
  ``"distilled"`` layer by layer or ``"end to end"``, or ``"offline"``: one set of numbers for all chips,
  trained on instances of the drift that are not among those read. Distilled, ``"affine"``, a gain and an
  offset for each column, has a closed form, and nothing is trained.
- ``"common"``: what each weight lacks in the mean over instances of the drift, behind a compensation if there
  is one, is added digitally on every chip. It stores as much as the network: a bound for all that is made
  ahead of the chips.
- ``"retraining"``: every weight, off the chip, through what this chip will have made of it. No device can do
  that, for the weights are written with the drift to come in mind: a bound, not a remedy.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic.dataclasses import dataclass
from torch import nn

from cimlib.chip import Evaluation, Hardware, program
from cimlib.devices import RelativeDrift, WanReRAM, require, seconds
from cimlib.remedies import Case, Chip, Composed, Costs, NoiseTraining, carried
from cimlib.remedies.before_drift import TRAINING
from cimlib.remedies.drift import STAGES
from companion.fields import STRICT, Count, Fraction, Natural, NonNegative, Positive, one_of
from companion.tasks.against_drift import REMEDIES, adapting, compensation
from companion.tasks.aging import CELLS, TIMES, Aging
from companion.tasks.kept import digital, just_programmed
from companion.tasks.results import RIGHT, Right, counted, stacked
from companion.tasks.task import CHECK, Task, TaskParams
from companion.tasks.thin import ThinTask

TRAINED_ON = ("", *CELLS)
DATASETS = {"mlp": ("digits", "mnist"), "resnet18": ("mnist", "cifar10"), "resnet20": ("mnist", "cifar10")}
# images to train on and to test on; to validate there are as many as CHECK or as to test on, if that is less
SIZES = {"digits": (1077, 360), "mnist": (50_000, 10_000), "cifar10": (45_000, 10_000)}


@dataclass(frozen=True, config=STRICT)
class Params(TaskParams):
    """``cell``: see :data:`CELLS`. ``t``: time since programming, such as ``"10 years"``; in its place
    ``"relative"`` has ``rho``, std of a conductance relative to its target. ``adc_bits`` of every read-out, 0
    for none: full scale is the largest output that inputs of at most 1 could cause with the weights that the
    layer holds at that time, so that it and the steps shrink as cells fade.

    ``compensation``: none, or one factor for each layer (``"global"``) or ``"column"``, from a ``readout`` by
    ``"images"``, those of the calibration, or by ``"rows"``, one after the other. It belongs to a reading and
    is made anew for each.

    ``noise_epochs``: the network goes on at ``noise_lr``, with errors of fresh chips just programmed, before
    it is itself programmed.

    A remedy is trained on ``samples`` training images, the first of them or, on a chip, ``own_images`` drawn
    for it, ``calibration_epochs`` (of each layer if distilled) at ``calibration_lr``. ``rank`` of the stages;
    ``inputs`` from which a layer is distilled; ``shared``: the projections of VeRA are the same for all
    layers. ``mix``: share of what is found in the statistics of BatchNorm. Offline there are ``instances`` of
    the drift, and ``threshold``: τ of the greedy schedule over :data:`TIMES`, or 0 for one set.

    ``calibrated_at``: time at which a remedy is trained, of a schedule what the clock says; ``""``: ``t``.
    ``trained_on``: cell on which it is trained ahead of all chips; ``""``: ``cell``. A remedy made for chip c
    is read on chip c + ``other_chip``.

    ``hidden``: units of each of ``layers`` hidden layers, the last of several half as many; of a ResNet
    ``width`` counts. ``precision``: of a ResNet's training, of what is trained end to end, and of readings;
    layers are distilled, factors and statistics found in single precision."""

    cell: Annotated[str, one_of(CELLS)] = "pcm"
    t: str = "10 years"
    rho: NonNegative = 0.2
    adc_bits: Natural = 0
    noise_epochs: Natural = 0
    noise_lr: Positive = 0.003
    compensation: Literal["none", "global", "column"] = "none"
    readout: Literal["images", "rows"] = "rows"
    remedy: Annotated[str, one_of(REMEDIES)] = "dora"
    training: Literal["distilled", "end to end", "offline"] = "distilled"
    rank: Count = 2
    samples: Count = 10
    own_images: bool = False
    calibration_epochs: Count = 100
    calibration_lr: Positive = 0.01
    inputs: Literal["student", "teacher"] = "student"
    shared: bool = True
    instances: Count = 4
    threshold: Fraction = 0.0
    calibrated_at: str = ""
    trained_on: Annotated[str, one_of(TRAINED_ON)] = ""
    other_chip: Natural = 0
    mix: Fraction = 1.0

    def __post_init__(self) -> None:
        self.check(DATASETS)
        train, test = SIZES[self.dataset]
        limits = {
            "samples": train,
            "n_train": train,
            "images": test,
            "other_chip": TRAINING - self.numbers.stop,
        }
        for name, most in limits.items():
            require(getattr(self, name) <= most, name, getattr(self, name), f"an integer ≤ {most}")
        bits = self.adc_bits == 0 or 2 <= self.adc_bits <= 16
        require(bits, "adc_bits", self.adc_bits, "0 for none, or an integer, 2 … 16")
        normalised = self.network != "mlp" or self.remedy != "batchnorm"
        require(normalised, "remedy", self.remedy, "'batchnorm' for a ResNet")
        mixed = self.mix > 0 and (self.mix == 1 or self.remedy == "batchnorm")
        require(mixed, "mix", self.mix, "0 < mix ≤ 1 for 'batchnorm', 1 for other remedies")
        ahead = self.trained_on == "" or (self.for_all and self.noise_epochs == 0)
        require(ahead, "trained_on", self.trained_on, "'' unless trained offline, without noise_epochs")
        require(self.on_chip or self.other_chip == 0, "other_chip", self.other_chip, "0 for this remedy")
        timed = self.threshold == 0 or (self.for_all and bool(self.times))
        require(timed, "threshold", self.threshold, "0 unless trained offline, on a cell with a clock")
        seconds(self.t), self.kind().effect(self.t), self.treatment()
        try:
            seconds(self.when)
            if not self.threshold:
                self.kind(self.trained_on).effect(self.when)
        except ValueError as error:
            name, allowed = "trained_on", f"a cell that is known at {self.t!r}"
            if self.calibrated_at:
                name = "calibrated_at"
                allowed = f"'', or a time at which {self.trained_on or self.cell!r} is known"
            require(False, name, getattr(self, name), f"{allowed} ({error})")

    @property
    def task(self) -> Task:
        """The network, its images, and how it is trained and read."""
        return (ThinTask if self.network == ThinTask.NETWORK else Task).of(self)

    @property
    def for_all(self) -> bool:
        """Whether stages are trained offline, one set for all chips."""
        return self.remedy in STAGES and self.training == "offline"

    @property
    def on_chip(self) -> bool:
        """Whether a remedy is made for one chip."""
        return self.remedy not in ("none", "common") and not self.for_all

    @property
    def when(self) -> str:
        """The time for which a remedy is trained, or a set of a schedule chosen."""
        return self.calibrated_at or self.t

    @property
    def times(self) -> tuple[str, ...]:
        """Those of :data:`TIMES` at which the cell that a schedule is trained on is known."""
        cell, _ = CELLS[self.trained_on or self.cell]
        if isinstance(cell, RelativeDrift):
            return ()
        return ("1 s", "1 day") if isinstance(cell, WanReRAM) else TIMES

    def kind(self, cell: str = "", adc_bits: int | None = None) -> Aging:
        """Chips of these cells; of the experiment's own, behind its own converters, unless told otherwise."""
        bits = self.adc_bits if adc_bits is None else adc_bits
        return Aging(cell=cell or self.cell, rho=self.rho, adc_bits=bits, task=self.task)

    def hardware(self, t: str = "") -> Hardware:
        """The cells in their array at a time; just programmed if there is none."""
        return self.kind().cells(t)

    def treatment(self) -> Composed:
        """The remedies, in their order."""
        ahead = NoiseTraining(self.noise_epochs, self.noise_lr, self.n_train, kind=self.kind(adc_bits=0))
        first = [ahead] if self.noise_epochs else []
        return Composed(*first, compensation(self), *adapting(self))


_RESNET = {"network": "resnet18", "dataset": "cifar10", "precision": "bfloat16", "lr": 0.01}
_DESK = {"width": 0.25, "epochs": 15, "n_train": 20_000, "batch": 64, "images": 1000, "chips": 10}
_PAPER = {"width": 1.0, "epochs": 200, "n_train": 45_000, "batch": 128, "images": 10_000, "chips": 100}
SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {**_RESNET, **_DESK},
    "paper": {**_RESNET, **_PAPER},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {params.dataset: params.n_train}


def prepared(params: Params) -> nn.Module:
    """The network that is programmed."""
    return params.treatment().prepare(digital(params.task), params.kind(), params.task, Costs())


def drifted(network: nn.Module, params: Params, chip: int, t: str = "") -> nn.Module:
    """``network`` on a chip at a time, with the compensation for what it has lost since it was programmed."""
    case = Case(network, Chip(params.kind(), chip, t), params.task)
    return compensation(params).act(case.model(), case)


def repaired(network: nn.Module, params: Params, number: int) -> tuple[nn.Module, Costs]:
    """``network`` on the chip that is read, at ``params.t`` after its remedy, and what that has cost.

    The remedy is made for chip ``number`` at ``params.when``, and carried to the reading.
    """
    treatment, kind = params.treatment(), params.kind()
    task = params.task.shown(number) if params.own_images and not params.for_all else params.task
    made = Case(network, Chip(kind, number, params.when), task)
    read = Case(network, Chip(kind, number + params.other_chip, params.t), task)
    done = carried(treatment.act(made.model(), made).state_dict())
    model = treatment.equip(read.model(), read)
    model.load_state_dict({**model.state_dict(), **done})
    return model, made.costs


def run(params: Params) -> dict[str, Any]:
    """Repair each chip, and read it.

    Returns, a value per chip: ``accuracy`` on the test images at ``t`` and ``validation_error`` on as many
    validation images, at most :data:`CHECK`, %; ``undrifted``: test accuracy of the same chip just programmed
    with the same network, without any remedy on the chip, %; ``calibration_seconds`` on the chip.

    And (1,): ``clean``, test accuracy of the digital network, %; ``training_seconds`` ahead of all chips;
    ``sets`` of stages; ``stored``, numbers of all of them and of a compensation, or of BatchNorm's
    statistics, as ``bytes`` (32 bits each) and as a ``fraction`` of the network's parameters, %;
    ``operations`` of the stages, also before a first set is in use, over those of the arrays, %;
    ``projections``, numbers of VeRA's that follow from a seed; ``sample_bytes`` of the images that must be
    kept beside the chip, a byte for each number. ``set_times``: those at which a set of a schedule comes
    into use, s. ``right``: which test images the three accuracies are right about, (values, images).
    """
    task, kind, ahead = params.task, params.kind(), Costs()
    network = params.treatment().prepare(digital(task), kind, task, ahead)
    test, check = task.split("test", params.images), task.validation(min(params.images, CHECK))
    ahead_of_chips = (params.noise_epochs, params.noise_lr)
    found, readings, before = dict[str, list[float]](), list[Evaluation](), list[Right]()

    def note(**values: float) -> None:
        for name, value in values.items():
            found.setdefault(name, []).append(float(f"{value:.5g}"))

    for chip in params.numbers:
        model, costs = repaired(network, params, chip)
        number = chip + params.other_chip
        readings.append(task.read(model, test, [number]))
        before.append(just_programmed(task, kind, network, number, params.images, ahead_of_chips))
        checked = task.read(model, check, [number])
        note(accuracy=readings[-1].accuracy[0], undrifted=100 * before[-1].mean())
        note(validation_error=100 - checked.accuracy[0])
        note(calibration_seconds=costs.seconds.get("adapt", 0.0))
    clean = task.read(program(network, Hardware()), test, [0])
    note(clean=float(clean.accuracy[0]))
    note(**counted(model, task, costs, params.shared))
    note(training_seconds=ahead.seconds.get("train", 0.0) + costs.seconds.get("ahead", 0.0))
    seen = {
        "accuracy": stacked(readings),
        "undrifted": np.concatenate(before),
        "clean": stacked([clean]),
    }
    return {**found, "set_times": costs.set_times, RIGHT: seen}
