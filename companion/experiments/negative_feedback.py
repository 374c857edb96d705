"""Negative feedback training and what it is compared with: one network, one method, one spread.

Used by *Negative feedback training*. The network is trained with the errors of the chips that it will meet
(but for ``"plain"``, trained without), and read on chips that training never saw.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.arrays.multilevel import RATIOS, LevelSpread, SignedArray
from cimlib.chip.fabrication import fresh, using
from cimlib.chip.hardware import Hardware
from cimlib.chip.montecarlo import evaluate
from cimlib.chip.programming import program
from cimlib.datasets.augmentation import crop_and_flip
from cimlib.datasets.loading import load
from cimlib.datasets.tiny_imagenet import load_tiny_imagenet
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require
from cimlib.methods.correctnet import CorrectNet
from cimlib.methods.negative_feedback import OVF, NoiseAveraging, Temperature
from cimlib.methods.snapshots import IRS, snapshot_heads
from cimlib.networks.convolutional import SNAPSHOTS, resnet18, scaled, snapshot_places, vgg8
from cimlib.training.fit import History, fit
from cimlib.training.objectives import Batch, CrossEntropy, Objective

METHODS = ("plain", "noise", "temperature", "averaging", "correctnet", "ovf", "irs")


# β of the paper for OVF and IRS, and what its code subtracts from and divides images by
BETA = {
    ("vgg8", "mnist"): (1e-3, 1e-2),
    ("vgg8", "cifar10"): (1e-3, 1e-1),
    ("resnet18", "mnist"): (1e-4, 1e-1),
    ("resnet18", "cifar10"): (1e-1, 1e-3),
    ("resnet18", "cifar100"): (1e-1, 1e-3),
    ("resnet18", "tiny-imagenet"): (1e-2, 1e-2),
}


NORMALISATION = {
    "digits": ((0.5,), (0.5,)),
    "mnist": ((0.5,), (0.5,)),
    "fashion-mnist": ((0.5,), (0.5,)),
    "cifar10": ((0.491, 0.482, 0.446), (0.247, 0.243, 0.261)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tiny-imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


CLASSES = {"cifar100": 100, "tiny-imagenet": 200}  # the others have 10


COLOUR = ("cifar10", "cifar100", "tiny-imagenet")


LEARNING_RATE = {"vgg8": 1e-3, "resnet18": 1e-2}


BATCH = 250  # images per forward pass of an evaluation


ENDS = {"vgg8": ("conv1", "fc2"), "resnet18": ("conv", "fc")}


@dataclass(frozen=True)
class Params:
    """``sigma``: of one 2-bit cell, fraction of its range; a weight of 8 bits has 0.77763 times that,
    fraction of the largest weight, one draw. ``bits``: of a quantised weight, 0 for real ones. ``beta`` −1,
    ``feedbacks`` 0, ``temperature`` 0 and ``lr`` 0 take the paper's: :data:`BETA` (digits: MNIST's), N = 3
    (IRS on ResNet-18: 4), T = N + 1, and :data:`LEARNING_RATE`; ``n_train`` 0 takes all images.
    ``temperature`` is that of ``"temperature"`` and ``"averaging"``, whose forward passes are N + 1.
    ``raised``: layers in which OVF raises σ, ``"all"`` or the first and the last (``"ends"``).
    ``last_init`` and ``last_lr`` are factors of the last layer's initial weights and learning rate.
    ``start``: ``"scratch"``, or ``"pretrained"`` for as many epochs without errors. The test images are read
    on chips 0 … ``chips - 1``."""

    scale: str = "quick"
    network: str = "vgg8"
    dataset: str = "digits"
    width: float = 0.125
    method: str = "ovf"
    sigma: float = 0.1
    cell: str = "rram1"
    bits: int = 0
    beta: float = -1.0
    feedbacks: int = 0
    step: float = 0.05
    decay: str = "paper"
    sign: Literal[-1, 1] = -1
    heads: str = "noisy"
    bn: Literal["every", "first"] = "every"
    raised: str = "all"
    temperature: float = 0.0
    last_init: float = 1.0
    last_lr: float = 1.0
    start: str = "scratch"
    epochs: int = 8
    n_train: int = 1000
    batch: int = 32
    lr: float = 0.0
    images: int = 300
    chips: int = 20
    seed: int = 0
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("network", tuple(SNAPSHOTS)),
            ("dataset", tuple(NORMALISATION)),
            ("method", METHODS),
            ("cell", tuple(RATIOS)),
            ("decay", ("paper", "reversed")),
            ("heads", ("noisy", "clean")),
            ("raised", ("all", "ends")),
            ("start", ("scratch", "pretrained")),
            ("precision", ("float32", "bfloat16")),
            ("bn", ("every", "first")),
            ("sign", (-1, 1)),
            ("device", ("cpu", "cuda")),
        ):
            require(getattr(self, name) in allowed, name, getattr(self, name), ", ".join(map(repr, allowed)))
        for name in ("last_init", "last_lr"):
            require(0 < getattr(self, name) < float("inf"), name, getattr(self, name), f"0 < {name} < ∞")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")
        for name in ("epochs", "batch", "images", "chips"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer ≥ 1")
        require(self.n_train >= 0, "n_train", self.n_train, "an integer ≥ 0; 0 for all")
        most = len(SNAPSHOTS[self.network])
        fits = self.feedbacks >= 0 and (self.method != "irs" or self.feedbacks <= most)
        require(fits, "feedbacks", self.feedbacks, f"an integer ≥ 0; for 'irs' on {self.network} ≤ {most}")
        require(self.beta == -1 or self.beta >= 0, "beta", self.beta, "beta ≥ 0, or −1 for the paper's")
        digits = self.network == "vgg8" or self.dataset != "digits"
        require(digits, "network", self.network, "'vgg8' for dataset='digits'")
        require(0 <= self.temperature < float("inf"), "temperature", self.temperature, "≥ 0; 0 for N + 1")
        require(0 <= self.lr < float("inf"), "lr", self.lr, "≥ 0; 0 for the paper's")
        least = self.sigma + (self.count * self.step if self.method == "ovf" else 0)
        require(least >= 0, "step", self.step, f"sigma + {self.count} step ≥ 0 (sigma = {self.sigma:g})")
        self.hardware(), snapshot_places(self.network, self.width), self.objective()

    @property
    def count(self) -> int:
        """N."""
        most = len(SNAPSHOTS[self.network])
        return self.feedbacks or (most if self.method == "irs" else 3)

    @property
    def classes(self) -> int:
        return CLASSES.get(self.dataset, 10)

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
                snapshot_heads(places, self.classes, scaled(512, self.width), self.seed),
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

    def blank(self) -> nn.Module:
        """The network before training."""
        channels = 3 if self.dataset in COLOUR else 1
        if self.network == "resnet18":
            model = resnet18(self.classes, channels=channels, width=self.width, seed=self.seed)
        else:
            side = {"digits": 8, "tiny-imagenet": 64}.get(self.dataset, 32)
            model = vgg8(self.classes, channels=channels, side=side, width=self.width, seed=self.seed)
        with torch.no_grad():
            model[-1].weight.mul_(self.last_init)  # type: ignore[operator]
        return model


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


def normalisation(params: Params) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that the paper's code takes for the images, (channels, 1, 1)."""
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in NORMALISATION[params.dataset])
    return mean, std


def images(params: Params, split: str, n: int | None = None) -> Batch:
    """Images as the paper's code feeds them: MNIST's resized to 32 × 32, all of them normalised."""
    tiny = params.dataset == "tiny-imagenet"
    x, y = load_tiny_imagenet(split, n) if tiny else load(params.dataset, split, n)
    if x.shape[-1] == 28:
        x = F.interpolate(x, size=32, mode="bilinear", antialias=True)
    mean, std = normalisation(params)
    x = ((x - mean) / std).to(params.device, memory_format=torch.channels_last)
    return x, y.to(params.device)


class Augmented(Objective):
    """An objective whose batches are cropped and mirrored at random, with draws of their own.

    Args:
        black: what a black pixel is in the images, (channels, 1, 1): crops reach beyond the edge into black.
    """

    def __init__(self, objective: Objective, black: Tensor, seed: int) -> None:
        self.objective = objective
        self.black = black
        self.generator = seeded("augmentation", seed)

    def setup(self, model: nn.Module) -> None:
        self.objective.setup(model)

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return self.objective.parameters(model)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        black = self.black.to(x.device)
        return self.objective(model, (crop_and_flip(x - black, self.generator) + black, y))

    def teardown(self, model: nn.Module) -> None:
        self.objective.teardown(model)


def precision(params: Params) -> torch.autocast:
    """Layers in bfloat16 if asked for; weights, their errors and the loss stay in single precision.

    Without autocast's cache, which would keep the parameters of the first batch for the whole training.
    """
    kind, wanted = torch.device(params.device).type, params.precision == "bfloat16"
    return torch.autocast(kind, torch.bfloat16, enabled=wanted, cache_enabled=False)


def _fit(model: nn.Module, objective: Objective, params: Params) -> History:
    if params.dataset in COLOUR:
        mean, std = normalisation(params)
        objective = Augmented(objective, -mean / std, params.seed)
    lr = params.lr or LEARNING_RATE[params.network]
    last = list(model.get_submodule(ENDS[params.network][1]).parameters())

    def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        others = [p for p in parameters if all(p is not own for own in last)]
        groups: list[dict[str, object]] = [{"params": others}, {"params": last, "lr": params.last_lr * lr}]
        return torch.optim.Adam(groups, lr)

    with precision(params):
        return fit(
            model,
            objective,
            images(params, "train", params.n_train or None),
            epochs=params.epochs,
            lr=lr,
            seed=params.seed,
            batch_size=params.batch,
            optimizer=adam,
            cosine=True,
        )


@lru_cache(maxsize=1)
def trained(params: Params) -> tuple[nn.Module, History, float]:
    """The network on hardware, the history of its training, and the seconds that took."""
    model = params.blank().to(params.device).to(memory_format=torch.channels_last)
    if params.start == "pretrained":
        _fit(model, CrossEntropy(), params)
    model = program(model, params.hardware())
    fresh(model, params.seed)
    start = time.perf_counter()
    history = _fit(model, params.objective(), params)
    return model, history, time.perf_counter() - start


def run(params: Params) -> dict[str, Any]:
    """Train one network and read it on every chip.

    Returns, a value per chip: ``accuracy`` on the test images, %, and ``ekl``, nats; ``validation_error`` (at
    most 20 chips), % of at most 1,000 validation images; ``clean`` (1,): test accuracy without errors, %;
    ``loss`` (epochs,); ``training_seconds`` (1,).
    """
    # the network does not depend on how it is read, so that one may be read several times
    unread = replace(params, images=1, chips=1, sigma=0.0 if params.method == "plain" else params.sigma)
    test = images(params, "test", params.images)
    check = images(params, "val", min(params.images, 1000))
    model, history, seconds = trained(unread)
    chips = range(params.chips)
    with precision(params):
        with using(model, params.hardware()):
            read = evaluate(model, *test, chips, BATCH)
            error = 100 - evaluate(model, *check, chips[:20], BATCH).accuracy
        with using(model, params.hardware().with_sigma(0.0)):
            clean = evaluate(model, *test, [0], BATCH)
    return {
        "accuracy": read.accuracy.round(3).tolist(),
        "ekl": [float(f"{value:.4g}") for value in read.ekl],
        "validation_error": error.round(3).tolist(),
        "clean": clean.accuracy.round(3).tolist(),
        "loss": [round(value, 4) for value in history.loss],
        "training_seconds": [round(seconds, 1)],
    }
