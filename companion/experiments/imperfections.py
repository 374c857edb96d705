"""Networks on arrays with broken or scattered cells, and what is done about them, chip by chip.

Used by *Broken cells, mapped around and trained around*. Each chip is tested, then the network is mapped or
retrained for it, off the device, on what the test reports; what is read is the chip itself.

- ``"none"``: the network as trained for perfect cells. ``"noise"``: trained on for fresh chips, one network
  for all.
- ``"mapping"``, ``"retraining"``, ``"both"``: in that order. ``"adjusted"``: both, layer by layer.
- ``"freezing"``: mapping, then DATE 2017's iterative freezing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from cimlib.arrays import Array, DoubleArray, SingleArray
from cimlib.chip import Hardware
from cimlib.devices import Clusters, DeadLines, Device, Effect, Lognormal, StuckAt, require, stuck_rates
from cimlib.methods import Retraining
from cimlib.remedies import (
    Adjusted,
    BatchNormStatistics,
    Case,
    Chip,
    Composed,
    DeviceUpdates,
    FaultMapping,
    ForgivingMapping,
    Freezing,
    NoiseTraining,
    Remedy,
    Retrained,
)
from cimlib.remedies.budget import READ, Costs
from cimlib.remedies.inspection import Inspected
from cimlib.training import Pulses, right
from companion.fields import STRICT, Count, Fraction, Natural, NonNegative, Positive, one_of
from companion.tasks.kept import digital, ranged
from companion.tasks.results import RIGHT, stacked
from companion.tasks.task import TaskParams

REMEDIES = ("none", "noise", "mapping", "retraining", "both", "adjusted", "freezing")
DATASETS = {"mlp": ("digits", "mnist"), "vgg8": ("mnist",), "resnet18": ("cifar10",)}
SENSITIVE = 1000  # images for the sensitivity of the weights


@dataclass(frozen=True, config=STRICT)
class Params(TaskParams):
    """The cell: ``sigma``, std of ln g of each cell, ``clip`` keeps it in its range; ``stuck``, fraction of
    cells, ``reading`` says whether mostly on or off, ``cluster`` the edge of a block of them; ``dead``,
    fraction of rows and of columns that are open. ``g_min``: µS, of 100. ``w_range``: weight of the full
    range over the largest one of a layer.

    The test: ``missed`` stuck cells and ``false_alarms``, fractions; ``mismeasured``, std of ln g.

    The remedy: ``routing`` of ``"rows"``, which needs a router, or ``"joint"``, of hidden units, which does
    not; ``weighting`` and ``power`` of the cost of a placement, ``spares``, rows of each tile of ``tile`` ×
    ``tile`` cells (0: no limit); ``forgive`` a factor that a ``"column"`` or a ``"layer"`` has in common;
    ``penalty`` on weights where the chip is imperfect; ``retrain_epochs`` over ``n_retrain`` images; freezing
    fixes ``per_step`` weights and trains for a batch; last of all the statistics of every BatchNorm are found
    anew on ``batchnorm_images``, 0: not at all. Or ``iterations`` on
    the device, of ``pulse_batch`` images at the rate ``pulse_lr``, in cells of ``levels`` pulses that scatter
    by ``cycle_to_cycle``, fraction of the range."""

    remedy: Annotated[str, one_of(REMEDIES)] = "both"
    array: Literal["double", "single"] = "double"
    sigma: float = 0.0
    clip: bool = False
    stuck: Fraction = 0.2
    reading: Literal["mostly off", "mostly on"] = "mostly off"
    cluster: Count = 1
    dead: Fraction = 0.0
    g_min: float = 10.0
    w_range: Annotated[float, Field(gt=0, le=1)] = 0.3
    missed: Fraction = 0.0
    false_alarms: Fraction = 0.0
    mismeasured: NonNegative = 0.0
    routing: Literal["rows", "joint"] = "rows"
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform"
    power: Positive = 2.0
    spares: Natural = 0
    tile: Natural = 0
    penalty: float = 0.0
    per_step: Count = 10
    iterations: Natural = 0
    pulse_batch: Count = 128
    pulse_lr: Positive = 0.05
    levels: Count = 1000
    cycle_to_cycle: float = 0.001
    retrain_epochs: Count = 10
    n_retrain: Count = 1077
    retrain_lr: Positive = 0.005
    batchnorm_images: Natural = 0
    forgive: Literal["nothing", "column", "layer"] = "nothing"

    def __post_init__(self) -> None:
        self.check(DATASETS)
        joint = self.routing == "rows" or (
            self.network != "resnet18" and self.remedy != "adjusted" and self.spares == 0
        )
        require(joint, "routing", self.routing, "'rows' for 'resnet18', 'adjusted' and spares")
        apart = not (self.missed or self.false_alarms) or (self.stuck > 0 and self.cluster == 1)
        wrong = (self.missed, self.false_alarms)
        require(apart, "(missed, false_alarms)", wrong, "(0, 0) unless stuck > 0 and cluster = 1")
        alone = self.remedy not in ("adjusted", "freezing") or self.dataset != "cifar10"
        require(alone, "remedy", self.remedy, "another for 'cifar10', whose training is augmented")
        told = self.mismeasured == 0 or self.sigma > 0
        require(told, "mismeasured", self.mismeasured, "0 if sigma is (std of ln g)")
        written = not self.iterations or self.clip or self.sigma == 0
        require(written, "clip", self.clip, "True for iterations on the device at sigma > 0")
        normed = not self.batchnorm_images or (self.network != "mlp" and not self.iterations)
        require(normed, "batchnorm_images", self.batchnorm_images, "0 for 'mlp', and with iterations > 0")
        enough, most = self.batchnorm_images <= self.n_train, f"≤ n_train = {self.n_train}"
        require(enough, "batchnorm_images", self.batchnorm_images, most)
        placed = self.forgive == "nothing" or self.remedy in ("mapping", "both", "freezing")
        require(
            placed, "forgive", self.forgive, "'nothing' for a remedy that maps no rows, or layer by layer"
        )
        self.hardware(), self.treatment(), self.updates()

    def hardware(self) -> Hardware:
        """The cells in their array."""
        rates, effects = stuck_rates(self.stuck, self.reading), list[Effect]()
        if self.sigma:
            effects.append(Lognormal(self.sigma, clip=self.clip))
        if self.stuck:
            effects.append(StuckAt(**rates) if self.cluster == 1 else Clusters(**rates, size=self.cluster))
        if self.dead:
            effects.append(DeadLines(rows=self.dead, columns=self.dead))
        array: Array = (DoubleArray if self.array == "double" else SingleArray)(g_min=self.g_min)
        return Hardware(Device(*effects), array)

    @property
    def perfect(self) -> Params:
        """The same, treated and read alike, on cells that are perfect and known to be: the no-fault twin."""
        tested = replace(self, missed=0.0, false_alarms=0.0, mismeasured=0.0)
        return replace(tested, sigma=0.0, clip=False, stuck=0.0, cluster=1, dead=0.0)

    def kind(self) -> Inspected:
        """The chips, each range fixed by the digital network, and how they are tested."""
        return Inspected(
            ranged(self.task, self.hardware(), self.w_range),
            missed=self.missed,
            false_alarms=self.false_alarms,
            mismeasured=self.mismeasured,
            spares=self.spares,
            tile=(self.tile, self.tile) if self.tile else None,
        )

    def treatment(self) -> Composed:
        """The remedy, of which updates on the device are no part."""
        epochs, lr, images = self.retrain_epochs, self.retrain_lr, self.n_retrain
        placing = (self.routing, self.weighting, self.power, min(SENSITIVE, self.n_train))
        mapping = FaultMapping(*placing)
        if self.forgive != "nothing":
            mapping = ForgivingMapping(*placing, self.forgive)
        retrained = Retrained(epochs, lr, images, Retraining(self.penalty))
        parts: dict[str, list[Remedy]] = {
            "none": [],
            "noise": [NoiseTraining(epochs, lr, images)],
            "mapping": [mapping],
            "retraining": [retrained],
            "both": [mapping, retrained],
            "adjusted": [Adjusted(epochs, lr, images, self.weighting, self.power, self.penalty)],
            "freezing": [mapping, Freezing(self.per_step, lr, images)],
        }
        normed = [BatchNormStatistics(self.batchnorm_images)] if self.batchnorm_images else []
        return Composed(*parts[self.remedy], *normed)

    def updates(self) -> DeviceUpdates:
        """What is written on the device after the treatment."""
        cell = Pulses(self.levels, cycle_to_cycle=self.cycle_to_cycle)
        return DeviceUpdates(self.iterations, cell, self.pulse_lr, self.pulse_batch, self.n_retrain)


_MLP = {"dataset": "mnist", "layers": 2, "hidden": 128, "batch": 128, "images": 1000}


_SCHEDULE = {"epochs": 10, "n_train": 50_000, "lr": 0.002, "n_retrain": 20_000, "retrain_lr": 0.002}


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {**_MLP, **_SCHEDULE, "retrain_epochs": 4, "chips": 10},
    "paper": {**_MLP, **_SCHEDULE, "n_retrain": 50_000, "retrain_epochs": 10, "images": 10_000, "chips": 100},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {params.dataset: params.n_train}


def programmed(params: Params) -> nn.Module:
    """The digital network on the arrays of ``params``, without a chip yet."""
    return params.kind().program(digital(params.task))


@lru_cache(maxsize=1)
def _prepared(params: Params) -> nn.Module:
    """The network that is programmed."""
    return params.treatment().prepare(digital(params.task), params.kind(), params.task, Costs())


@lru_cache(maxsize=10)
def repaired(params: Params, chip: int) -> tuple[nn.Module, Case]:
    """The network on its chip after the remedy; kept, for updates on the device change a copy."""
    case = Case(_prepared(params), Chip(params.kind(), chip), params.task)
    return params.treatment().act(case.model(), case), case


def _unread(params: Params) -> Params:
    """What repaired networks depend on, the rest as by default: all but reading and updates on the device."""
    kept = Params()
    later = "iterations pulse_batch pulse_lr levels cycle_to_cycle images chips first_chip"
    return replace(params, **{name: getattr(kept, name) for name in later.split()})


def _finished(params: Params, chip: int) -> tuple[nn.Module, Case, Case]:
    """The network on its chip after remedy and updates, and what each of them was done to, with its costs."""
    before, case = repaired(_unread(params), chip)
    written = replace(case, costs=Costs())
    return params.updates().act(before, written), case, written


def run(params: Params) -> dict[str, Any]:
    """Repair each chip, and read it.

    Returns, a value per chip: ``accuracy`` on the test images, ``validation_error`` on as many validation
    images at most, %; ``mapping_seconds``; ``pulses`` and ``writes`` on the device, per cell. On the same
    test images, (1,): ``clean``, accuracy with perfect cells before any remedy, and ``twin``, after the same
    remedy on a chip of perfect cells, %. ``right``: which images all these are right about, (values, images).
    """
    task = params.task
    test = task.split("test", params.images)
    check = task.validation(min(params.images, len(task.validation()[1])))
    found, readings = dict[str, list[float]](), []

    def note(**values: float) -> None:
        for name, value in values.items():
            found.setdefault(name, []).append(float(f"{value:.5g}"))

    for chip in params.numbers:
        model, case, written = _finished(params, chip)
        read, checked = (task.read(model, batch, [chip]) for batch in (test, check))
        readings.append(read)
        note(accuracy=read.accuracy[0], validation_error=100 - checked.accuracy[0])
        note(mapping_seconds=case.costs.seconds.get("map", 0.0))
        note(pulses=written.costs.pulses, writes=written.costs.writes)
    twin = task.read(_finished(params.perfect, 0)[0], test, [0])
    note(twin=twin.accuracy[0])
    trained = digital(task)
    batches = zip(*(torch.split(part, READ) for part in test), strict=True)
    with task.autocast():
        hits = torch.cat([right(trained, x, y) for x, y in batches])
    note(clean=100 * float(hits.double().mean()))
    return {
        **found,
        RIGHT: {"accuracy": stacked(readings), "twin": stacked([twin]), "clean": hits[None].cpu().numpy()},
    }
