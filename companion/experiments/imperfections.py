"""A network on arrays with broken or scattered cells, and what is done about them, chip by chip.

Used by *Broken cells, mapped around and trained around*. Each chip is tested, then the network is mapped or
retrained for it, off the device, on what the test reports; what is read is the chip itself.

- ``"none"``: the network as trained for perfect cells. ``"noise"``: trained on for fresh chips, one network
  for all.
- ``"mapping"``, ``"retraining"``, ``"both"``: in that order. ``"adjusted"``: both, layer by layer.
- ``"freezing"``: mapping, then DATE 2017's iterative freezing.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn

from cimlib.arrays.base import Array
from cimlib.arrays.pairs import DoubleArray
from cimlib.arrays.single import SingleArray
from cimlib.chip.crossbar import crossbars
from cimlib.chip.fabrication import fabricate, fresh
from cimlib.chip.hardware import Hardware
from cimlib.chip.montecarlo import evaluate
from cimlib.devices.defects import Clusters, DeadLines, stuck_rates
from cimlib.devices.draws import seeded
from cimlib.devices.effects import Device, Effect, Lognormal, StuckAt, require
from cimlib.methods.device_updates import on_device
from cimlib.methods.freezing import frozen
from cimlib.methods.mapping import mapped, mapped_jointly
from cimlib.methods.placement_costs import Weighting, sensitivity
from cimlib.methods.retraining import Retraining, adjusted
from cimlib.training.fit import accuracy
from cimlib.training.objectives import Batch, CrossEntropy, Objective
from cimlib.training.pulses import Pulses
from companion.experiments._digital import Network, digital, images, on_arrays, precision, refit

REMEDIES = ("none", "noise", "mapping", "retraining", "both", "adjusted", "freezing")


DATASETS = {"mlp": ("digits", "mnist"), "vgg8": ("mnist",), "resnet18": ("cifar10",)}


READ = 250  # images per forward pass of an evaluation


SENSITIVE = 1000  # images for the sensitivity of the weights


@dataclass(frozen=True)
class Params:
    """The cell: ``sigma``, std of ln g of each cell, ``clip`` keeps it in its range; ``stuck``, fraction of
    cells, ``reading`` says whether mostly on or off, ``cluster`` the edge of a block of them; ``dead``,
    fraction of rows and of columns that are open. ``g_min``: µS, of 100. ``w_range``: weight of the full
    range over the largest one of a layer.

    The test: ``missed`` stuck cells and ``false_alarms``, fractions; ``mismeasured``, std of ln g.

    The remedy: ``routing`` of ``"rows"``, which needs a router, or ``"joint"``, of hidden units, which does
    not; ``weighting`` and ``power`` of the cost of a placement, ``spares``, rows of each tile of ``tile`` ×
    ``tile`` cells (0: no limit); ``penalty`` on weights where the chip is imperfect; ``retrain_epochs`` over
    ``n_retrain`` images; freezing fixes ``per_step`` weights and trains for a batch. Then ``iterations`` on
    the device, of ``pulse_batch`` images at the rate ``pulse_lr``, in cells of ``levels`` pulses that scatter
    by ``cycle_to_cycle``, fraction of the range.

    ``hidden``: units of each of ``layers`` hidden layers, the last of several half as many; of convolutional
    networks ``width`` counts. Chips 0 … ``chips - 1``."""

    scale: str = "quick"
    network: str = "mlp"
    dataset: str = "digits"
    remedy: str = "both"
    array: str = "double"
    sigma: float = 0.0
    clip: bool = False
    stuck: float = 0.2
    reading: Literal["mostly off", "mostly on"] = "mostly off"
    cluster: int = 1
    dead: float = 0.0
    g_min: float = 10.0
    w_range: float = 0.3
    missed: float = 0.0
    false_alarms: float = 0.0
    mismeasured: float = 0.0
    routing: str = "rows"
    weighting: Literal["uniform", "magnitude", "gradient", "fisher"] = "uniform"
    power: float = 2.0
    spares: int = 0
    tile: int = 0
    penalty: float = 0.0
    per_step: int = 10
    iterations: int = 0
    pulse_batch: int = 128
    pulse_lr: float = 0.05
    levels: int = 1000
    cycle_to_cycle: float = 0.001
    layers: int = 1
    hidden: int = 32
    width: float = 0.125
    epochs: int = 40
    n_train: int = 1077
    lr: float = 0.005
    retrain_epochs: int = 10
    n_retrain: int = 1077
    retrain_lr: float = 0.005
    batch: int = 32
    images: int = 360
    chips: int = 5
    seed: int = 0
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("network", tuple(DATASETS)),
            ("dataset", DATASETS.get(self.network, ())),
            ("remedy", REMEDIES),
            ("array", ("double", "single")),
            ("routing", ("rows", "joint")),
            ("weighting", ("uniform", "magnitude", "gradient", "fisher")),
            ("precision", ("float32", "bfloat16")),
            ("device", ("cpu", "cuda")),
        ):
            require(getattr(self, name) in allowed, name, getattr(self, name), ", ".join(map(repr, allowed)))
        counts = "epochs retrain_epochs per_step cluster batch pulse_batch images chips hidden levels"
        for name in (*counts.split(), "n_train", "n_retrain"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        for name in ("layers", "tile", "spares", "iterations", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "an integer ≥ 0")
        for name in ("lr", "retrain_lr", "pulse_lr", "power"):
            require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), f"0 < {name} < ∞")
        for name in ("missed", "false_alarms", "dead", "stuck"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), f"0 ≤ {name} ≤ 1")
        joint = self.routing == "rows" or (
            self.network != "resnet18" and self.remedy != "adjusted" and self.spares == 0
        )
        require(joint, "routing", self.routing, "'rows' for 'resnet18', 'adjusted' and spares")
        require(0 < self.w_range <= 1, "w_range", self.w_range, "0 < w_range ≤ 1")
        apart = not (self.missed or self.false_alarms) or (self.stuck > 0 and self.cluster == 1)
        wrong = (self.missed, self.false_alarms)
        require(apart, "(missed, false_alarms)", wrong, "(0, 0) unless stuck > 0 and cluster = 1")
        alone = self.remedy not in ("adjusted", "freezing") or self.dataset != "cifar10"
        require(alone, "remedy", self.remedy, "another for 'cifar10', whose training is augmented")
        told = 0 <= self.mismeasured < float("inf") and (self.mismeasured == 0 or self.sigma > 0)
        require(told, "mismeasured", self.mismeasured, "0 ≤ mismeasured < ∞ (std of ln g), 0 if sigma is")
        written = not self.iterations or self.clip or self.sigma == 0
        require(written, "clip", self.clip, "True for iterations on the device at sigma > 0")
        self.hardware(), self.pulses(), Retraining(self.penalty)
        if self.network != "mlp":
            Network.of(self).plain()

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

    def pulses(self) -> Pulses:
        """The cells' answer to pulses."""
        return Pulses(self.levels, cycle_to_cycle=self.cycle_to_cycle)


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
    network = Network.of(params)
    return on_arrays(digital(network), params.hardware(), network, params.w_range)


@torch.no_grad()
def report(model: nn.Module, params: Params, chip: int) -> None:
    """Let ``model`` hold, in place of the chip's own draws, what a test of the chip reports of them."""
    on, off = stuck_rates(params.stuck, params.reading).values()
    for layer in crossbars(model):
        for name, z in layer.named_buffers(recurse=False):
            generator = seeded("test", chip, layer.name, name)
            if name.endswith("/programming") and params.mismeasured:
                wrong = torch.randn(z.shape, generator=generator).to(z)
                z.add_(wrong, alpha=params.mismeasured / params.sigma)
            if name.endswith("/stuck") and (params.missed or params.false_alarms):
                u = torch.rand(z.shape, generator=generator).to(z)
                stuck = (z < on) | (z >= 1 - off)
                z[stuck & (u < params.missed)] = (on + 1 - off) / 2  # a draw of a cell that works
                z[~stuck & (u < params.false_alarms / 2)] = 0.0
                z[~stuck & (u >= 1 - params.false_alarms / 2)] = 1.0


def _cost(model: nn.Module, params: Params) -> Weighting:
    """The weighting of a placement; sensitivities are those of perfect cells."""
    if params.weighting in ("uniform", "magnitude"):
        return "uniform" if params.weighting == "uniform" else "magnitude"
    perfect = copy.deepcopy(model)
    for layer in crossbars(perfect):
        layer.hardware = replace(layer.hardware, device=Device())
    kind: Literal["gradient", "fisher"] = "gradient" if params.weighting == "gradient" else "fisher"
    samples = images(Network.of(params), "train", min(SENSITIVE, params.n_train))
    return sensitivity(perfect, samples, kind)


def _retrain(model: nn.Module, objective: Objective, params: Params) -> nn.Module:
    epochs, lr = params.retrain_epochs, params.retrain_lr
    refit(model, objective, _samples(params), Network.of(params), epochs=epochs, lr=lr)
    return model


def _samples(params: Params) -> Batch:
    """The training images that a remedy has."""
    return images(Network.of(params), "train", params.n_retrain)


@lru_cache(maxsize=1)
def _noise(params: Params) -> nn.Module:
    return _retrain(fresh(programmed(params), params.seed), CrossEntropy(), params)


@lru_cache(maxsize=10)
def repaired(params: Params, chip: int) -> tuple[nn.Module, float]:
    """The network on its chip after the remedy, and the seconds that mapping took; kept, for updates on the
    device change a copy."""
    if params.remedy == "noise":
        return fabricate(copy.deepcopy(_noise(params)), chip), 0.0
    model = fabricate(programmed(params), chip)
    tile = (params.tile, params.tile) if params.tile else None
    errs = params.missed or params.false_alarms or params.mismeasured
    if params.spares or tile or errs:  # what a test reports is of the cells where they lie
        model = mapped(model, rows=False, spares=params.spares, tile=tile)
    report(model, params, chip)
    start = time.perf_counter()
    if params.remedy in ("mapping", "both", "freezing"):
        move = mapped if params.routing == "rows" else mapped_jointly
        model = move(model, weighting=_cost(model, params), power=params.power)
    seconds = time.perf_counter() - start
    if params.remedy in ("retraining", "both"):
        _retrain(model, Retraining(params.penalty), params)
    if params.remedy == "freezing":
        model = frozen(
            model,
            _samples(params),
            per_step=params.per_step,
            batches=1,
            lr=params.retrain_lr,
            seed=params.seed,
            batch_size=params.batch,
        ).model
    if params.remedy == "adjusted":
        stages = len(crossbars(model))
        model = adjusted(
            model,
            _samples(params),
            epochs=-(-params.retrain_epochs // stages),
            lr=params.retrain_lr,
            seed=params.seed,
            weighting=params.weighting,
            power=params.power,
            penalty=params.penalty,
            batch_size=params.batch,
        )
    return fabricate(model, chip), seconds


def _unread(params: Params) -> Params:
    """What repaired networks depend on, the rest as by default: all but reading and updates on the device."""
    kept = Params()
    later = "iterations pulse_batch pulse_lr levels cycle_to_cycle images chips"
    return replace(params, **{name: getattr(kept, name) for name in later.split()})


def _iterated(model: nn.Module, params: Params, chip: int) -> tuple[nn.Module, float, float]:
    """The network after updates on the device, and the pulses and writes that a cell got in the mean."""
    if not params.iterations:
        return model, 0.0, 0.0
    done = on_device(
        model,
        _samples(params),
        params.pulses(),
        iterations=params.iterations,
        lr=params.pulse_lr,
        seed=chip,
        batch_size=params.pulse_batch,
    )
    cells = sum(layer.conductance.numel() for layer in crossbars(done.model))
    return done.model, done.pulses / cells, done.writes / cells


def run(params: Params) -> dict[str, Any]:
    """Repair each chip, and read it.

    Returns, a value per chip: ``accuracy`` on the test images, ``validation_error`` on as many validation
    images at most, %; ``mapping_seconds``; ``pulses`` and ``writes`` on the device, per cell. ``clean`` (1,):
    accuracy on the same test images with perfect cells, before any remedy, %.
    """
    network = Network.of(params)
    test = images(network, "test", params.images)
    check = images(network, "val", min(params.images, len(images(network, "val")[1])))
    found: dict[str, list[float]] = {
        name: [] for name in ("accuracy", "validation_error", "mapping_seconds", "pulses", "writes")
    }

    def note(**values: float) -> None:
        for name, value in values.items():
            found[name].append(float(f"{value:.5g}"))

    for chip in range(params.chips):
        model, seconds = repaired(_unread(params), chip)
        with precision(network):
            model, pulses, writes = _iterated(model, params, chip)
            read, error = (evaluate(model, *batch, [chip], READ).accuracy[0] for batch in (test, check))
        note(accuracy=read, validation_error=100 - error, mapping_seconds=seconds)
        note(pulses=pulses, writes=writes)
    trained = digital(network)
    batches = zip(*(torch.split(part, READ) for part in test), strict=True)
    with precision(network):
        hits = sum(float(accuracy(trained, x, y)) * len(y) for x, y in batches)
    return {**found, "clean": [float(f"{hits / len(test[1]):.5g}")]}
