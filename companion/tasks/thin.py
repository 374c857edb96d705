"""The task of a ResNet-20, the network of He et al. for CIFAR, beside those that :class:`.Task` knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from cimlib.networks import thin_resnet
from companion import definitions
from companion.tasks.task import COLOUR, Shown, Task

_CODE = definitions.digest(__name__, "thin_resnet")


@dataclass(frozen=True)
class ThinTask(Task):
    """A task whose network is ``"resnet20"``. ``code``, what makes it, belongs to the key of what is kept."""

    NETWORK: ClassVar[str] = "resnet20"

    code: str = _CODE

    def blank(self) -> nn.Module:
        channels = 3 if self.dataset in COLOUR else 1
        return thin_resnet(20, self.classes, channels=channels, width=self.width, seed=self.seed)

    def shown(self, chip: int) -> Shown:
        return ThinShown(**vars(self), chip=chip)


@dataclass(frozen=True)
class ThinShown(Shown, ThinTask):
    """The same with images of a chip's own."""
