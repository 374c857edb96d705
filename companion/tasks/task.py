"""The task that several experiments share: a network, its images, and one way to train and to read it.

An MLP sees images as they are, in [0, 1]; a convolutional network sees them as the code of negative feedback
training feeds them. A :class:`Task` is the budget of every remedy that an experiment tries, and the key under
which networks are kept: all that their weights depend on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import torch
from pydantic.dataclasses import dataclass as declared
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.datasets import crop_and_flip, load, load_tiny_imagenet
from cimlib.devices import require, seeded
from cimlib.networks import mlp, resnet18, scaled, vgg8
from cimlib.remedies import Budget
from cimlib.training import Batch, Objective, OptimizerFactory
from companion.fields import STRICT, Count, Natural, Positive, Scale, TorchDevice

# what the paper's code subtracts from and divides images by
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
ENDS = {"vgg8": ("conv1", "fc2"), "resnet18": ("conv", "fc")}
CHECK = 1000  # most validation images


@dataclass(frozen=True)
class Task(Budget):
    """All that the weights of a digital network depend on, as in the ``Params`` of an experiment.

    ``network``: ``"mlp"``, ``"vgg8"`` or ``"resnet18"``. ``hidden``: units of each of ``layers`` hidden
    layers of an MLP, the last of several half as many; of convolutional networks ``width`` counts.
    ``precision`` of all that is trained end to end, and of readings. ``n_train`` 0: all images.
    ``last_init`` and ``last_lr`` are factors of the last layer's initial weights and learning rate.
    """

    network: str
    dataset: str
    epochs: int
    n_train: int
    lr: float
    batch: int
    seed: int
    precision: str
    device: str
    width: float = 1.0
    layers: int = 1
    hidden: int = 32
    last_init: float = 1.0
    last_lr: float = 1.0

    @classmethod
    def of(cls, params: Any) -> Self:
        """The task of an experiment with these ``params``."""
        given = (field.name for field in fields(cls) if hasattr(params, field.name))
        return cls(**{name: getattr(params, name) for name in given})

    @property
    def classes(self) -> int:
        return CLASSES.get(self.dataset, 10)

    def blank(self) -> nn.Module:
        """The network before training."""
        channels = 3 if self.dataset in COLOUR else 1
        if self.network == "mlp":
            widths = [self.hidden] * self.layers
            if self.layers > 1:
                widths[-1] = max(1, self.hidden // 2)
            x, _ = self.split("train", 1)
            return mlp(x.numel(), *widths, 10, seed=self.seed)
        if self.network == "resnet18":
            model = resnet18(self.classes, channels=channels, width=self.width, seed=self.seed)
        else:
            side = {"digits": 8, "tiny-imagenet": 64}.get(self.dataset, 32)
            model = vgg8(self.classes, channels=channels, side=side, width=self.width, seed=self.seed)
        with torch.no_grad():
            model[-1].weight.mul_(self.last_init)  # type: ignore[operator]
        return model

    def started(self) -> nn.Module:
        """The network before training, on its device and as convolutions like it."""
        return self.blank().to(self.device).to(memory_format=torch.channels_last)

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that the paper's code takes for the images, (channels, 1, 1)."""
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in NORMALISATION[self.dataset])
        return mean, std

    def split(self, split: str, n: int | None = None) -> Batch:
        """``n`` images (n, channels, height, width) of a split with their labels; default all.

        For convolutional networks MNIST's are resized to 32 × 32, and all of them normalised.
        """
        x, y = (
            load_tiny_imagenet(split, n) if self.dataset == "tiny-imagenet" else load(self.dataset, split, n)
        )
        if self.network == "mlp":
            return x.to(self.device), y.to(self.device)
        if x.shape[-1] == 28:
            x = F.interpolate(x, size=32, mode="bilinear", antialias=True)
        mean, std = self.normalisation()
        x = ((x - mean) / std).to(self.device, memory_format=torch.channels_last)
        return x, y.to(self.device)

    def images(self, n: int = 0) -> Batch:
        return self.split("train", n or None)

    def validation(self, n: int = 0) -> Batch:
        return self.split("val", n or None)

    def autocast(self) -> torch.autocast:
        """Layers in bfloat16 if asked for; weights, their errors and the loss stay in single precision.

        Without autocast's cache, which would keep the parameters of the first batch for the whole training.
        """
        kind, wanted = torch.device(self.device).type, self.precision == "bfloat16"
        return torch.autocast(kind, torch.bfloat16, enabled=wanted, cache_enabled=False)

    def objective(self, wanted: Objective) -> Objective:
        """Colour images are augmented."""
        if self.dataset not in COLOUR:
            return wanted
        mean, std = self.normalisation()
        return Augmented(wanted, -mean / std, self.seed)

    def optimizer(self, model: nn.Module, lr: float) -> OptimizerFactory | None:
        """Adam whose rate in the last layer is ``last_lr`` times that of the others."""
        if self.last_lr == 1:
            return None
        last = list(model.get_submodule(ENDS[self.network][1]).parameters())

        def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            others = [p for p in parameters if all(p is not own for own in last)]
            groups: list[dict[str, object]] = [{"params": others}, {"params": last, "lr": self.last_lr * lr}]
            return torch.optim.Adam(groups, lr)

        return adam

    def shown(self, chip: int) -> Shown:
        """The same task, as ``chip`` is shown images of its own."""
        return Shown(**vars(self), chip=chip)


@dataclass(frozen=True)
class Shown(Task):
    """A task whose images are drawn for one chip from those that the network was trained on, so that what is
    found on several chips does not hang on a handful of images."""

    chip: int = 0

    def images(self, n: int = 0) -> Batch:
        x, y = super().images(self.n_train)
        chosen = torch.randperm(len(y), generator=seeded("images", self.chip))[: n or None]
        return x[chosen], y[chosen]


@declared(frozen=True, config=STRICT)
class TaskParams:
    """Parameters of experiments that put a digital network on chips; of the names, see :class:`Task`.

    ``images`` are read on ``chips`` from ``first_chip`` on."""

    scale: Scale = "quick"
    network: str = "mlp"
    dataset: str = "digits"
    layers: Natural = 1
    hidden: Count = 32
    width: float = 0.125
    epochs: Count = 40
    n_train: Count = 1077
    lr: Positive = 0.005
    batch: Count = 32
    images: Count = 360
    chips: Count = 5
    first_chip: Natural = 0
    seed: Natural = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: TorchDevice = "cpu"

    @property
    def task(self) -> Task:
        """The network, its images, and how it is trained and read."""
        return Task.of(self)

    @property
    def numbers(self) -> range:
        """The chips, by their numbers."""
        return range(self.first_chip, self.first_chip + self.chips)

    def check(self, datasets: Mapping[str, tuple[str, ...]]) -> None:
        """Raise ``ValueError`` unless the network is one of ``datasets``, and has this data set there."""
        require(self.network in datasets, "network", self.network, ", ".join(map(repr, datasets)))
        known = datasets[self.network]
        require(self.dataset in known, "dataset", self.dataset, ", ".join(map(repr, known)))
        scaled(1, self.width)


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
