"""Negative feedback training and what it is compared with: one network, one method, one spread.

Used by *Negative feedback training*. The network is trained with the errors of the chips that it will meet
(but for ``"plain"``, trained without), and read on chips that training never saw.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic.dataclasses import dataclass
from torch import nn

from cimlib.arrays import RATIOS, LevelSpread, SignedArray
from cimlib.chip import Hardware, using
from cimlib.datasets import load
from cimlib.devices import require
from cimlib.methods import IRS, OVF, CorrectNet, NoiseAveraging, Temperature, snapshot_heads
from cimlib.networks import SNAPSHOTS, linear_by_fan_in, scaled, snapshot_places
from cimlib.remedies import Costs, Kind, NoiseTraining
from cimlib.training import CrossEntropy, History, Objective
from companion.fields import STRICT, Count, Natural, NonNegative, Positive, Scale, Sign, TorchDevice, one_of
from companion.tasks.results import RIGHT, stacked
from companion.tasks.task import CHECK, ENDS, NORMALISATION, Task

METHODS = ("plain", "noise", "temperature", "averaging", "correctnet", "ovf", "irs")
# β of the paper for OVF and IRS
BETA = {
    ("vgg8", "mnist"): (1e-3, 1e-2),
    ("vgg8", "cifar10"): (1e-3, 1e-1),
    ("resnet18", "mnist"): (1e-4, 1e-1),
    ("resnet18", "cifar10"): (1e-1, 1e-3),
    ("resnet18", "cifar100"): (1e-1, 1e-3),
    ("resnet18", "tiny-imagenet"): (1e-2, 1e-2),
}
LEARNING_RATE = {"vgg8": 1e-3, "resnet18": 1e-2}


@dataclass(frozen=True, config=STRICT)
class Params:
    """``sigma``: of one 2-bit cell, fraction of its range; a weight of 8 bits has 0.77763 times that,
    fraction of the largest weight, one draw. ``bits``: of a quantised weight, 0 for real ones. ``beta`` −1,
    ``feedbacks`` 0, ``temperature`` 0 and ``lr`` 0 take the paper's: :data:`BETA` (digits: MNIST's), N = 3
    (IRS on ResNet-18: 4), T = N + 1, and :data:`LEARNING_RATE`; ``n_train`` 0 takes all images.
    ``temperature`` is that of ``"temperature"`` and ``"averaging"``, whose forward passes are N + 1.
    ``raised``: layers in which OVF raises σ, ``"all"`` or the first and the last (``"ends"``).
    ``linear_start``: initial weights of the linear layers by ``"fan-out"`` (released code), variance
    2 / outputs, or by ``"fan-in"``, 2 / inputs, from the same draws; heads of IRS stay as they are.
    ``last_init`` and ``last_lr`` are factors of the last layer's initial weights and learning rate.
    ``start``: ``"scratch"``, or ``"pretrained"`` for as many epochs without errors. The test images are read
    on chips 0 … ``chips - 1``."""

    scale: Scale = "quick"
    network: Annotated[str, one_of(SNAPSHOTS)] = "vgg8"
    dataset: Annotated[str, one_of(NORMALISATION)] = "digits"
    width: float = 0.125
    method: Annotated[str, one_of(METHODS)] = "ovf"
    sigma: float = 0.1
    cell: Annotated[str, one_of(RATIOS)] = "rram1"
    bits: int = 0
    beta: float = -1.0
    feedbacks: Natural = 0
    step: float = 0.05
    decay: Literal["paper", "reversed"] = "paper"
    sign: Sign = -1
    heads: Literal["noisy", "clean"] = "noisy"
    bn: Literal["every", "first"] = "every"
    raised: Literal["all", "ends"] = "all"
    temperature: NonNegative = 0.0
    linear_start: Literal["fan-out", "fan-in"] = "fan-out"
    last_init: Positive = 1.0
    last_lr: Positive = 1.0
    start: Literal["scratch", "pretrained"] = "scratch"
    epochs: Count = 8
    n_train: Natural = 1000
    batch: Count = 32
    lr: NonNegative = 0.0
    images: Count = 300
    chips: Count = 20
    seed: Natural = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: TorchDevice = "cpu"

    def __post_init__(self) -> None:
        most = len(SNAPSHOTS[self.network])
        fits = self.method != "irs" or self.feedbacks <= most
        require(fits, "feedbacks", self.feedbacks, f"an integer ≥ 0; for 'irs' on {self.network} ≤ {most}")
        require(self.beta == -1 or self.beta >= 0, "beta", self.beta, "beta ≥ 0, or −1 for the paper's")
        digits = self.network == "vgg8" or self.dataset != "digits"
        require(digits, "network", self.network, "'vgg8' for dataset='digits'")
        least = self.sigma + (self.count * self.step if self.method == "ovf" else 0)
        require(least >= 0, "step", self.step, f"sigma + {self.count} step ≥ 0 (sigma = {self.sigma:g})")
        self.hardware(), snapshot_places(self.network, self.width), self.objective()

    @property
    def count(self) -> int:
        """N."""
        most = len(SNAPSHOTS[self.network])
        return self.feedbacks or (most if self.method == "irs" else 3)

    @property
    def task(self) -> Task:
        """The network, its images, and how it is trained and read."""
        return Task.of(self)

    def hardware(self, cell: str | None = None) -> Hardware:
        """The chips to train for and to test on, of another ``cell`` if that is given: the heads of IRS have
        ``"rram1"`` whatever the network has (released code)."""
        effect = LevelSpread(self.sigma, RATIOS[cell or self.cell], slices=4)
        return Hardware(effect, SignedArray(bits=self.bits))

    def objective(self) -> Objective:
        """The method."""
        beta = self.beta
        if beta == -1:
            beta = BETA.get((self.network, self.dataset), BETA["vgg8", "mnist"])[self.method == "irs"]
        if self.method == "ovf":
            return OVF(
                beta=beta,
                feedbacks=self.count,
                step=self.step,
                decay="rising" if self.decay == "paper" else "falling",
                sign=self.sign,
                layers=None if self.raised == "all" else ENDS[self.network],
                bn=self.bn,
            )
        if self.method == "irs":
            places = dict(list(snapshot_places(self.network, self.width).items())[: self.count])
            return IRS(
                snapshot_heads(places, self.task.classes, scaled(512, self.width), self.seed),
                beta=beta,
                hardware=self.hardware("rram1") if self.heads == "noisy" else None,
                seed=self.seed,
                decay="falling" if self.decay == "paper" else "rising",
                sign=self.sign,
            )
        temperature = self.temperature or self.count + 1.0
        if self.method == "averaging":
            return NoiseAveraging(self.count + 1, temperature, self.bn)
        if self.method == "temperature":
            return Temperature(temperature)
        return CorrectNet() if self.method == "correctnet" else CrossEntropy()


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {
        "dataset": "mnist",
        "width": 0.25,
        "epochs": 6,
        "n_train": 20_000,
        "batch": 32,
        "images": 1000,
        "chips": 100,
        "precision": "bfloat16",
    },
    "paper": {
        "dataset": "mnist",
        "width": 1.0,
        "epochs": 200,
        "n_train": 0,
        "batch": 128,
        "images": 10_000,
        "chips": 200,
    },
}


def data(params: Params) -> dict[str, int]:
    """Data sets used, with the number of training samples; without Tiny ImageNet, which has no digest."""
    if params.dataset == "tiny-imagenet":
        return {}
    return {params.dataset: params.n_train or len(load(params.dataset)[1])}


@lru_cache(maxsize=1)
def trained(params: Params) -> tuple[nn.Module, History, float]:
    """The network on hardware, the history of its training, and the seconds that took."""
    task, kind, costs = params.task, Kind(params.hardware()), Costs()
    lr = params.lr or LEARNING_RATE[params.network]
    network = task.started()
    if params.linear_start == "fan-in":
        linear_by_fan_in(network)
    if params.start == "pretrained":
        task.train(network, CrossEntropy(), task.images(params.n_train), epochs=params.epochs, lr=lr)
    method = NoiseTraining(params.epochs, lr, params.n_train, params.objective())
    model = kind.program(method.prepare(network, kind, task, costs))
    return model, costs.histories[-1], costs.seconds["train"]


def run(params: Params) -> dict[str, Any]:
    """Train one network and read it on every chip.

    Returns, a value per chip: ``accuracy`` on the test images, %, and ``ekl``, nats; ``validation_error`` (at
    most 20 chips), % of at most 1,000 validation images; ``clean`` (1,): test accuracy without errors, %;
    ``loss`` (epochs,); ``training_seconds`` (1,). ``right``: which test images both accuracies are right
    about, (values, images).
    """
    # the network does not depend on how it is read, so that one may be read several times
    unread = replace(params, images=1, chips=1, sigma=0.0 if params.method == "plain" else params.sigma)
    task = params.task
    test, check = task.split("test", params.images), task.validation(min(params.images, CHECK))
    model, history, seconds = trained(unread)
    with using(model, params.hardware()):
        read = task.read(model, test, range(params.chips))
        error = 100 - task.read(model, check, range(params.chips)[:20]).accuracy
    with using(model, params.hardware().with_sigma(0.0)):
        clean = task.read(model, test, [0])
    return {
        "accuracy": read.accuracy.round(3).tolist(),
        "ekl": [float(f"{value:.4g}") for value in read.ekl],
        "validation_error": error.round(3).tolist(),
        "clean": clean.accuracy.round(3).tolist(),
        "loss": [round(value, 4) for value in history.loss],
        "training_seconds": [round(seconds, 1)],
        RIGHT: {"accuracy": stacked([read]), "clean": stacked([clean])},
    }
