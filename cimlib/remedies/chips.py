"""Chips as remedies see them: their kind, what a test shows of them, and their age."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from cimlib.chip.admission import named_layers, warn_of_digital
from cimlib.chip.attachment import detach
from cimlib.chip.crossbar import crossbars, fabricated
from cimlib.chip.fabrication import fabricate
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.devices.drift import seconds
from cimlib.devices.effects import require, require_kind, require_whole

Designs = Hardware | Mapping[str, Hardware]


class _ByLayer(dict[str, Hardware]):
    """Designs by layer, which do not change, so that a kind can be a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


@dataclass(frozen=True)
class Kind:
    """What is known of all chips of a kind: how they are designed, and how they are tested.

    Subclasses describe kinds that are laid out otherwise, or whose test shows less than everything.

    Args:
        hardware: of every layer, or of each by its name.
        digital: names of the modules that are to stay digital. Of weights in others :meth:`program` warns.

    Raises ``TypeError`` for hardware that is none, ``ValueError`` for layers that are to be both.
    """

    hardware: Designs = field(default_factory=Hardware)
    digital: tuple[str, ...] = field(default=(), kw_only=True)

    #: Whether a test shows the cells, and not the amplifiers alone.
    cells_tested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        such = "Hardware(device, array, circuit), or one for each layer by its name"
        if isinstance(self.hardware, Mapping):
            for name, own in self.hardware.items():
                require_kind(f"hardware[{name!r}]", own, Hardware, such)
            object.__setattr__(self, "hardware", _ByLayer(self.hardware))
        else:
            require_kind("hardware", self.hardware, Hardware, such)
        require(
            not isinstance(self.digital, str), "digital", self.digital, "a tuple of names, not one string"
        )
        object.__setattr__(self, "digital", tuple(self.digital))

    def designs(self, t: str = "") -> Designs:
        """The hardware at a time since programming, such as ``"10 years"``; ``""``: just programmed."""
        if not t:
            return self.hardware
        if isinstance(self.hardware, Hardware):
            return self.hardware.at(t)
        return {name: own.at(t) for name, own in self.hardware.items()}

    def program(self, network: nn.Module, t: str = "") -> nn.Module:
        """A copy of the digital ``network`` on arrays of this kind, without a chip.

        Warns, with a list, of weights that stay digital though they are not named in ``digital``; raises as
        :func:`~.program` does, and ``ValueError`` for names in ``digital`` of no modules.
        """
        designs = self.designs(t)
        if not self.digital and isinstance(designs, Hardware):
            return program(network, designs)  # which warns
        known = [name for name, _ in network.named_modules() if name]
        require(set(self.digital) <= set(known), "digital", self.digital, f"modules among {known}")
        layers = [name for name in named_layers(network) if not self._stays(name)]
        both = sorted(name for name in designs if self._stays(name)) if isinstance(designs, Mapping) else []
        require(not both, "digital", both, "layers without hardware of their own")
        wanted = layers if isinstance(designs, Hardware) else list(designs)
        model = program(network, designs, layers=wanted)
        warn_of_digital(network, {*wanted, *(name for name in known if self._stays(name))})
        return model

    def _stays(self, name: str) -> bool:
        """Whether a module, or what it is in, is named in ``digital``."""
        return any(name == own or name.startswith(f"{own}.") for own in self.digital)

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

    Raises ``TypeError`` for a kind that is none, ``ValueError`` for what is no number or no time.
    """

    kind: Kind = field(default_factory=Kind)
    number: int = 0
    t: str = ""

    def __post_init__(self) -> None:
        require_kind("kind", self.kind, Kind, "Kind(hardware)")
        require_whole("number", self.number, 0)
        if self.t:
            seconds(self.t)

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
