"""A network whose cells drift, and what is done about it, chip by chip.

Used by the chapters on DoRA calibration and on VeRA+. A network is trained for perfect cells, programmed, and
read a time later, on the same chip as it has become. What each remedy knows of that:

- ``"none"``: nothing; with a ``compensation`` it is drift compensation alone.
- ``"batchnorm"``: its statistics are found anew on the chip.
- ``"lora"``, ``"dora"``, ``"vera"``: digital stages beside the arrays, calibrated on the chip,
  ``"distilled"`` layer by layer or ``"end to end"``, or ``"offline"``: one set of numbers for all chips,
  trained on instances of the drift that are not among those read.
- ``"common"``: what each weight lacks in the mean over instances of the drift, behind a compensation if there
  is one, is added digitally on every chip. It stores as much as the network: a bound for all that is made
  ahead of the chips.
- ``"retraining"``: every weight, off the chip, through what this chip will have made of it. No device can do
  that, for the weights are written with the drift to come in mind: a bound, not a remedy.

The network itself may have been trained on for chips in general before any of this (``noise_epochs``).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cimlib.arrays.pairs import DoubleArray
from cimlib.chip.attachment import attach, cost, state
from cimlib.chip.crossbar import Crossbar, crossbars
from cimlib.chip.fabrication import fabricate, fresh
from cimlib.chip.hardware import Hardware
from cimlib.chip.montecarlo import evaluate
from cimlib.chip.programming import program
from cimlib.chip.stages import Adapter, DoRA, FullRank, LoRA
from cimlib.chip.vera import Projections, VeRA, projections
from cimlib.circuits.base import Ideal
from cimlib.circuits.converters import Converters
from cimlib.devices.draws import seeded
from cimlib.devices.drift import Drift, RelativeDrift, seconds
from cimlib.devices.effects import require
from cimlib.devices.pcm import PCM
from cimlib.devices.reram import CMOReRAM, WanReRAM
from cimlib.methods.compensation import compensate, recalibrate_batchnorm
from cimlib.methods.distillation import AdapterTraining, distil
from cimlib.methods.retraining import Retraining
from cimlib.methods.schedule import Schedule, greedy
from cimlib.networks.convolutional import scaled
from cimlib.training.objectives import Batch, CrossEntropy, Objective
from companion.experiments._digital import Network, digital, images, on_arrays, precision, refit

REMEDIES = ("none", "batchnorm", "lora", "dora", "vera", "common", "retraining")


STAGES = ("lora", "dora", "vera")


DATASETS = {"mlp": ("digits", "mnist"), "resnet18": ("mnist", "cifar10")}


# images to train on and to test on; to validate there are as many as CHECK or as to test on, if that is less
SIZES = {"digits": (1077, 360), "mnist": (50_000, 10_000), "cifar10": (45_000, 10_000)}


# each cell as it is right after programming, in an array of the range for which it was measured, µS
CELLS: dict[str, tuple[Drift, DoubleArray]] = {
    "pcm": (PCM(), DoubleArray(0.0, 25.0)),
    "cmo": (CMOReRAM(), DoubleArray(*CMOReRAM.RANGE)),
    "cmo, 2 %": (CMOReRAM(acceptance="2 %"), DoubleArray(*CMOReRAM.RANGE)),
    "wan": (WanReRAM(), DoubleArray(0.0, 40.0)),
    "relative": (RelativeDrift(), DoubleArray(0.0, 100.0)),
}


TIMES = ("1 s", "1 minute", "1 hour", "1 day", "1 week", "1 month", "1 year", "10 years")


READ = 250  # images per forward pass of an evaluation


CHECK = 1000  # most validation images


TRAINING, SCORING = 100_000, 200_000  # numbers of the first instance to train on, and to judge a set by


@dataclass(frozen=True)
class Params:
    """``cell``: see :data:`CELLS`. ``t``: time since programming, such as ``"10 years"``; in its place
    ``"relative"`` has ``rho``, std of a conductance relative to its target. ``adc_bits`` of every read-out, 0
    for none: full scale is the largest output that inputs of at most 1 could cause with the weights that the
    layer holds at that time, so that it and the steps shrink as cells fade.

    ``compensation``: none, or one factor for each layer (``"global"``) or ``"column"``, from a ``readout`` by
    ``"images"``, those of the calibration, or by ``"rows"``, one after the other. It belongs to a reading and
    is made anew for each.

    ``noise_epochs``: the network goes on at ``noise_lr``, with errors of fresh chips just programmed, before
    it is itself programmed.

    A remedy is trained on ``samples`` training images, ``calibration_epochs`` (of each layer if distilled) at
    ``calibration_lr``. ``rank`` of the stages; ``inputs`` from which a layer is distilled; ``shared``: the
    projections of VeRA are the same for all layers. Offline there are ``instances`` of the drift, and
    ``threshold``: τ of the greedy schedule over :data:`TIMES`, or 0 for one set.

    ``calibrated_at``: time at which a remedy is trained, of a schedule what the clock says; ``""``: ``t``.
    ``trained_on``: cell on which it is trained ahead of all chips; ``""``: ``cell``. A remedy made for chip c
    is read on chip c + ``other_chip``.

    ``hidden``: units of each of ``layers`` hidden layers, the last of several half as many; of ResNet-18
    ``width`` counts. ``precision``: of a ResNet's training, of what is trained end to end, and of readings;
    layers are distilled, factors and statistics found in single precision. Chips 0 … ``chips - 1``."""

    scale: str = "quick"
    network: str = "mlp"
    dataset: str = "digits"
    cell: str = "pcm"
    t: str = "10 years"
    rho: float = 0.2
    adc_bits: int = 0
    noise_epochs: int = 0
    noise_lr: float = 0.003
    compensation: Literal["none", "global", "column"] = "none"
    readout: str = "rows"
    remedy: str = "dora"
    training: str = "distilled"
    rank: int = 2
    samples: int = 10
    calibration_epochs: int = 100
    calibration_lr: float = 0.01
    inputs: Literal["student", "teacher"] = "student"
    shared: bool = True
    instances: int = 4
    threshold: float = 0.0
    calibrated_at: str = ""
    trained_on: str = ""
    other_chip: int = 0
    layers: int = 1
    hidden: int = 32
    width: float = 0.125
    epochs: int = 40
    n_train: int = 1077
    lr: float = 0.005
    batch: int = 32
    images: int = 360
    chips: int = 5
    seed: int = 0
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in (
            ("scale", tuple(SCALES)),
            ("network", tuple(DATASETS)),
            ("dataset", DATASETS.get(self.network, ())),
            ("cell", tuple(CELLS)),
            ("compensation", ("none", "global", "column")),
            ("readout", ("images", "rows")),
            ("remedy", REMEDIES),
            ("training", ("distilled", "end to end", "offline")),
            ("inputs", ("student", "teacher")),
            ("shared", (False, True)),
            ("trained_on", ("", *CELLS)),
            ("precision", ("float32", "bfloat16")),
            ("device", ("cpu", "cuda")),
        ):
            require(getattr(self, name) in choices, name, getattr(self, name), ", ".join(map(repr, choices)))
        train, test = SIZES[self.dataset]
        limits = {"samples": train, "n_train": train, "images": test, "other_chip": TRAINING - self.chips}
        counts = "rank samples calibration_epochs instances epochs batch images chips hidden n_train"
        for least, names in ((1, counts), (0, "other_chip layers seed adc_bits noise_epochs")):
            for name in names.split():
                value, most = getattr(self, name), limits.get(name, float("inf"))
                allowed = f"an integer ≥ {least}" + f" and ≤ {most}" * (name in limits)
                require(type(value) is int and least <= value <= most, name, value, allowed)
        bits = self.adc_bits == 0 or 2 <= self.adc_bits <= 16
        require(bits, "adc_bits", self.adc_bits, "0 for none, or an integer, 2 … 16")
        for name in ("lr", "noise_lr", "calibration_lr"):
            require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), f"0 < {name} < ∞")
        require(0 <= self.threshold <= 1, "threshold", self.threshold, "0 ≤ threshold ≤ 1, 0 for one set")
        normalised = self.network != "mlp" or self.remedy != "batchnorm"
        require(normalised, "remedy", self.remedy, "'batchnorm' for 'resnet18'")
        ahead = self.trained_on == "" or (self.for_all and self.noise_epochs == 0)
        require(ahead, "trained_on", self.trained_on, "'' unless trained offline, without noise_epochs")
        require(self.on_chip or self.other_chip == 0, "other_chip", self.other_chip, "0 for this remedy")
        timed = self.threshold == 0 or (self.for_all and bool(self.times))
        require(timed, "threshold", self.threshold, "0 unless trained offline, on a cell with a clock")
        seconds(self.t), RelativeDrift(self.rho), scaled(1, self.width)
        self.hardware(self.t)
        try:
            seconds(self.when)
            if not self.threshold:
                self.effect(self.when, self.trained_on)
        except ValueError as error:
            name, allowed = "trained_on", f"a cell that is known at {self.t!r}"
            if self.calibrated_at:
                name = "calibrated_at"
                allowed = f"'', or a time at which {self.trained_on or self.cell!r} is known"
            require(False, name, getattr(self, name), f"{allowed} ({error})")

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

    def effect(self, t: str = "", cell: str = "") -> Drift:
        """The cell at a time; just programmed if there is none."""
        start, _ = CELLS[cell or self.cell]
        if not t:
            return start
        return replace(start, rho=self.rho) if isinstance(start, RelativeDrift) else start.at(t)

    def hardware(self, t: str = "") -> Hardware:
        """The cells in their array at a time; just programmed if there is none."""
        circuit = Converters(adc_bits=self.adc_bits) if self.adc_bits else Ideal()
        return Hardware(self.effect(t), CELLS[self.cell][1], circuit)


_RESNET = {"network": "resnet18", "dataset": "cifar10", "precision": "bfloat16"}


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {
        **_RESNET,
        "width": 0.25,
        "epochs": 15,
        "n_train": 20_000,
        "lr": 0.01,
        "batch": 64,
        "images": 1000,
        "chips": 10,
    },
    "paper": {
        **_RESNET,
        "width": 1.0,
        "epochs": 200,
        "n_train": 45_000,
        "lr": 0.01,
        "batch": 128,
        "images": 10_000,
        "chips": 100,
    },
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples."""
    return {params.dataset: params.n_train}


def _check(params: Params) -> Batch:
    """As many validation images as test images, at most :data:`CHECK`."""
    return images(Network.of(params), "val", min(params.images, CHECK))


def _samples(params: Params) -> Batch:
    """The training images that a remedy has."""
    return images(Network.of(params), "train", params.samples)


def _train(model: nn.Module, objective: Objective, batch: Batch, params: Params) -> None:
    """Train ``model`` for its remedy end to end."""
    epochs, lr = params.calibration_epochs, params.calibration_lr
    refit(model, objective, batch, Network.of(params), epochs=epochs, lr=lr)


def _programmed(network: nn.Module, params: Params, t: str = "") -> nn.Module:
    """``network`` on arrays at a time; just programmed if there is none."""
    return on_arrays(network, params.hardware(t), Network.of(params))


def drifted(network: nn.Module, params: Params, chip: int, t: str = "") -> nn.Module:
    """``network`` on a chip at a time, with the compensation for what it has lost since it was programmed."""
    model = fabricate(_programmed(network, params, t), chip)
    if params.compensation != "none":
        programmed = fabricate(_programmed(network, params), chip)
        x = _samples(params)[0] if params.readout == "images" else None
        compensate(model, programmed, x, per="column" if params.compensation == "column" else "layer")
    return model


def _attach(params: Params, *models: nn.Module) -> None:
    """Give all ``models`` one and the same set of stages, not yet trained, if stages are the remedy."""
    if params.remedy not in (*STAGES, "common"):
        return
    common = projections(models[0], params.rank, params.seed)
    stages = {layer.name: _stage(layer, params, common) for layer in crossbars(models[0])}
    for model in models:
        attach(model, lambda layer: stages[layer.name])


def _stage(layer: Crossbar, params: Params, common: Projections) -> Adapter:
    if params.remedy == "common":
        stage = FullRank(layer)
        with torch.no_grad():
            stage.change.copy_(_lacking(_ahead(params))[layer.name])
        return stage
    if params.remedy != "vera":
        kind = DoRA if params.remedy == "dora" else LoRA
        return kind(layer, params.rank, seed=params.seed)
    if params.shared:
        return VeRA(layer, common)
    outputs, inputs = layer.weight_shape[:2]
    seed = seeded("projections", params.seed, layer.name).initial_seed()
    return VeRA(layer, Projections(inputs, outputs, params.rank, seed))


def _carried(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``entries`` of a ``state_dict`` without the factors of a compensation, which belong to one reading."""
    return {name: value for name, value in entries.items() if not name.endswith(".factor")}


class Instances(AdapterTraining):
    """Stages that several networks have in common, trained on one of them a batch, at random."""

    def __init__(self, teacher: nn.Module, seed: int) -> None:
        super().__init__(teacher)
        self.generator = seeded("instances", seed)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        instances = list(model.children())
        chosen = int(torch.randint(len(instances), (), generator=self.generator))
        return super().__call__(instances[chosen], batch)


def _ahead(params: Params) -> Params:
    """What depends on no chip that is read depends on these alone."""
    t = params.times[-1] if params.threshold else params.when
    cell = params.trained_on or params.cell
    return replace(params, cell=cell, trained_on="", t=t, calibrated_at="", chips=1)


def prepared(params: Params) -> nn.Module:
    """The network that is programmed."""
    return _prepared(params)[0]


def _prepared(params: Params) -> tuple[nn.Module, float]:
    """The network that is programmed, and the seconds that going on for fresh chips took."""
    network = Network.of(params)
    if params.noise_epochs == 0:
        return digital(network), 0.0
    return _noise(network, params.cell, params.noise_epochs, params.noise_lr)


@lru_cache(maxsize=1)
def _noise(network: Network, cell: str, epochs: int, lr: float) -> tuple[nn.Module, float]:
    trained, batch = copy.deepcopy(digital(network)), images(network, "train", network.n_train)
    start = time.perf_counter()
    model = fresh(on_arrays(trained, Hardware(*CELLS[cell]), network), network.seed)
    refit(model, CrossEntropy(), batch, network, epochs=epochs, lr=lr)
    trained.load_state_dict(model.state_dict())
    with torch.no_grad():  # as the range has them
        for layer in crossbars(model):
            trained.get_parameter(f"{layer.name}.weight").copy_(layer.hardware.array.represent(layer.weight))
    return trained, time.perf_counter() - start


@lru_cache(maxsize=1)
@torch.no_grad()
def _lacking(params: Params) -> dict[str, Tensor]:
    """What the weights of each layer lack in the mean over instances of the drift, compensation included."""
    found = list[dict[str, Tensor]]()
    for chip in range(TRAINING, TRAINING + params.instances):
        layers = crossbars(drifted(prepared(params), params, chip, params.t))
        held = {layer.name: layer.read()[0] for layer in layers}
        stages = {layer.name: layer.digital for layer in layers if isinstance(layer.digital, Adapter)}
        held |= {name: stage.merged(held[name]) for name, stage in stages.items()}
        found.append({layer.name: layer.weight - held[layer.name] for layer in layers})
    return {name: torch.stack([lack[name] for lack in found]).mean(0) for name in found[0]}


@lru_cache(maxsize=1)
def _offline(params: Params) -> tuple[Schedule, float]:
    """The sets trained offline, and the seconds that took; a schedule begins with stages that do nothing."""
    teacher, batch, check = prepared(params), _samples(params), _check(params)
    start = time.perf_counter()

    def train(t: str) -> dict[str, Tensor]:
        models = [drifted(teacher, params, TRAINING + n, t) for n in range(params.instances)]
        _attach(params, *models)
        _train(nn.ModuleList(models), Instances(teacher, params.seed), batch, params)
        return _carried(state(models[0]))

    def score(stored: Mapping[str, Tensor], t: str) -> list[float]:
        found = []
        for chip in range(SCORING, SCORING + params.instances):
            model = drifted(teacher, params, chip, t)
            if stored:
                _attach(params, model)
                model.load_state_dict({**model.state_dict(), **stored})
            found.append(_read(model, params, check, chip))
        return found

    if not params.threshold:
        schedule = Schedule(((0.0, train(params.t)),))
    else:
        text = {seconds(t): t for t in params.times}
        untrained = drifted(teacher, params, SCORING)
        _attach(params, untrained)
        schedule = greedy(
            list(text),
            lambda stored, t: score(stored, text[t]),
            lambda t: train(text[t]),
            initial=_carried(state(untrained)),
            reference=sum(score({}, "")) / params.instances,
            threshold=params.threshold,
        )
    return schedule, time.perf_counter() - start


def _calibrated(params: Params, chip: int) -> tuple[dict[str, Tensor], float]:
    """What the remedy changes of the network on ``chip``, and the seconds that took."""
    teacher, batch = prepared(params), _samples(params)
    model = drifted(teacher, params, chip, params.when)
    _attach(params, model)
    start = time.perf_counter()
    if params.remedy == "batchnorm":
        recalibrate_batchnorm(model, batch[0], batch_size=READ)
    elif params.remedy == "retraining":
        _train(model, Retraining(), batch, params)
    elif params.training == "end to end":
        _train(model, AdapterTraining(teacher), batch, params)
    else:
        distil(
            model,
            teacher,
            batch[0],
            inputs=params.inputs,
            epochs=params.calibration_epochs,
            lr=params.calibration_lr,
            seed=params.seed,
            batch_size=params.batch,
            cosine=True,
        )
    return _carried(model.state_dict()), time.perf_counter() - start


def _repaired(params: Params, chip: int) -> tuple[nn.Module, float]:
    """The network on the chip that is read, at ``params.t`` after its remedy, and the seconds that a remedy
    made for ``chip`` took."""
    model = drifted(prepared(params), params, chip + params.other_chip, params.t)
    _attach(params, model)
    carried, taken = dict[str, Tensor](), 0.0
    if params.on_chip:
        carried, taken = _calibrated(params, chip)
    elif params.for_all:
        carried = dict(_offline(_ahead(params))[0].at(seconds(params.when)))
    model.load_state_dict({**model.state_dict(), **carried})
    return model, taken


def _read(model: nn.Module, params: Params, batch: Batch, chip: int) -> float:
    """Accuracy of ``model`` on a chip, %."""
    with precision(Network.of(params)):
        return float(evaluate(model, *batch, [chip], READ).accuracy[0])


def _counted(model: nn.Module, params: Params) -> dict[str, float]:
    """What the remedy of ``model`` stores and computes; see :func:`run`."""
    x, _ = images(Network.of(params), "train", 1)
    sets = int(params.remedy in (*STAGES, "common"))
    if params.for_all:  # the first set of a schedule is none
        sets = len(_offline(_ahead(params))[0]) - (params.threshold > 0)
    one = cost(model, x, sets=sets)
    stored = one.stored
    if params.remedy == "batchnorm":
        norms = [norm for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)]
        stored += sum(2 * norm.num_features for norm in norms)
    random = [(stage.down.numel(), stage.up.numel()) for stage in model.modules() if isinstance(stage, VeRA)]
    total = max if params.shared else sum
    by_images = params.compensation != "none" and params.readout == "images"
    seen = params.samples if by_images or (params.on_chip and params.remedy != "retraining") else 0
    return {
        "sets": sets,
        "stored": stored,
        "bytes": 4 * stored,
        "fraction": 100 * stored / one.network,
        "operations": 100 * one.overhead,
        "projections": sum(total(sizes) for sizes in zip(*random, strict=True)),
        "sample_bytes": seen * x.numel(),
    }


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
    into use, s.
    """
    test = images(Network.of(params), "test", params.images)
    check = _check(params)
    found: dict[str, list[float]] = {}

    def note(**values: float) -> None:
        for name, value in values.items():
            found.setdefault(name, []).append(float(f"{value:.5g}"))

    for chip in range(params.chips):
        model, taken = _repaired(params, chip)
        number = chip + params.other_chip
        just_programmed = fabricate(_programmed(prepared(params), params), number)
        note(
            accuracy=_read(model, params, test, number),
            undrifted=_read(just_programmed, params, test, number),
        )
        note(validation_error=100 - _read(model, params, check, number), calibration_seconds=taken)
    note(clean=_read(program(prepared(params), Hardware()), params, test, 0))
    note(**_counted(model, params))
    schedule, taken = _offline(_ahead(params)) if params.for_all else (None, 0.0)
    note(training_seconds=taken + _prepared(params)[1])
    return {**found, "set_times": [t for t, _ in schedule.sets][1:] if schedule else []}
