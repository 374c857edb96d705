"""Chips as remedies see them: their kind, what a test shows of them, and their age."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from cimlib.chip.attachment import detach
from cimlib.chip.crossbar import crossbars, fabricated
from cimlib.chip.fabrication import fabricate
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program

Designs = Hardware | Mapping[str, Hardware]


@dataclass(frozen=True)
class Kind:
    """What is known of all chips of a kind: how they are designed, and how they are tested.

    Subclasses describe kinds that are laid out otherwise, or whose test shows less than everything.

    Args:
        hardware: of every layer, or of each by its name.
    """

    hardware: Designs = field(default_factory=Hardware)

    def designs(self, t: str = "") -> Designs:
        """The hardware at a time since programming, such as ``"10 years"``; ``""``: just programmed."""
        if not t:
            return self.hardware
        if isinstance(self.hardware, Hardware):
            return self.hardware.at(t)
        return {name: own.at(t) for name, own in self.hardware.items()}

    def program(self, network: nn.Module, t: str = "") -> nn.Module:
        """A copy of the digital ``network`` on arrays of this kind, without a chip."""
        return program(network, self.designs(t))

    def lay(self, model: nn.Module) -> nn.Module:
        """``model``, which holds a chip, with its weights laid out as the design has them."""
        return model

    def test(self, model: nn.Module, number: int) -> nn.Module:
        """``model`` (in place) as a test of chip ``number``, which it holds, shows it: here exactly."""
        return model


@dataclass(frozen=True)
class Chip:
    """A chip of some kind.

    Args:
        kind: of which it is.
        number: which one, ≥ 0: its seed.
        t: time since it was programmed, as in :func:`~.seconds`; ``""``: just now.
    """

    kind: Kind = field(default_factory=Kind)
    number: int = 0
    t: str = ""

    def holds(self, network: nn.Module) -> nn.Module:
        """A copy of the digital ``network`` on this chip."""
        return self.kind.lay(fabricate(self.kind.program(network, self.t), self.number))

    def tested(self, model: nn.Module) -> nn.Module:
        """A copy of ``model``, which is on this chip, as a test of the chip shows it."""
        return self.kind.test(copy.deepcopy(model), self.number)

    def truly(self, model: nn.Module, like: nn.Module) -> nn.Module:
        """``model`` (in place), in which a remedy knew what a test shows, on the chip as it really is.

        Args:
            like: the same network on this chip before the test.
        """
        for module, own in zip(fabricated(model), fabricated(like), strict=True):
            module.hardware = own.hardware
        return fabricate(model, self.number)

    def just_programmed(self, model: nn.Module) -> nn.Module:
        """A copy of ``model``, which is on this chip, as it was when it had just been programmed, without
        digital stages."""
        model, designs = detach(copy.deepcopy(model)), self.kind.designs()
        for layer in crossbars(model):
            layer.hardware = designs if isinstance(designs, Hardware) else designs[layer.name]
        return fabricate(model, self.number)
