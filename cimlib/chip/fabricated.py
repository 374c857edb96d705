"""What the modules have in common in which one chip differs from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cimlib.chip.checkpoint import Remembering
from cimlib.chip.hardware import Hardware
from cimlib.chip.passes import Passes, Setting
from cimlib.devices.draws import Draw, sample, seeded
from cimlib.networks.participation import Participant

Held = tuple[int | None, torch.Generator | None, dict[str, Tensor]]


class Fabricated(Remembering, Participant):
    """Base of the modules that chips differ in: they have a name, hardware, and draws.

    The draws of a held chip are buffers outside the ``state_dict``; which chip it is, or where fresh errors
    have got to, is in it. A forward pass that needs draws raises ``RuntimeError`` before :func:`fabricate` or
    :func:`fresh`.
    """

    def __init__(self, name: str, hardware: Hardware) -> None:
        super().__init__()
        self.name = name
        self.hardware = hardware
        self.chip: int | None = None
        self.generator: torch.Generator | None = None
        self.passes: Passes = Passes()
        self.reading: Any = None

    def compute(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        """The module's output, set as it is."""
        raise NotImplementedError

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        """:meth:`compute`; where a part of a pass is computed again, set as it was in that pass."""
        now = Setting(self.hardware, self.reading, self.chip, self.generator is not None)
        then = self.passes.setting(self.name, now)
        if then.alike(now):
            y = self.compute(x, *rest, **named)
            self.passes.part(y)
            return y
        if (then.chip, then.fresh) != (now.chip, now.fresh):
            raise RuntimeError(
                f"layer {self.name!r} is computed again in a backward pass on chip {now.chip} (fresh errors: "
                f"{now.fresh}), but the pass was on chip {then.chip} (fresh errors: {then.fresh}): call "
                "backward before fabricate or fresh, or do without checkpointing"
            )
        try:
            self.hardware, self.reading = then.hardware, then.reading
            return self.compute(x, *rest, **named)
        finally:
            self.hardware, self.reading = now.hardware, now.reading

    def slots(self) -> dict[str, Draw]:
        """Every draw needed on this hardware, as ``{"part/slot": draw}``."""
        raise NotImplementedError

    def like(self) -> Tensor:
        """A tensor with the dtype and device of the draws."""
        raise NotImplementedError

    def hold(self, chip: int | None, *, draw: bool = True) -> None:
        """Hold the draws of ``chip``, at once or, without ``draw``, when they are needed; ``None`` forgets
        them."""
        self.chip, self.generator = chip, None
        self.forget()
        if chip is not None and draw:
            self.draws()

    def forget(self) -> None:
        """Let go of the draws; those of a held chip can be drawn again."""
        for name in [name for name in self._buffers if "/" in name]:
            delattr(self, name)

    def held(self) -> Held:
        """Chip, generator and draws, for :meth:`restore`."""
        draws = {name: z for name, z in self._buffers.items() if "/" in name and z is not None}
        return self.chip, self.generator, draws

    def restore(self, held: Held) -> None:
        """Go back to what :meth:`held` gave."""
        self.forget()
        self.chip, self.generator, draws = held
        for name, z in draws.items():
            self.register_buffer(name, z, persistent=False)

    def draws(self) -> dict[str, Tensor]:
        """The standard draws of this forward pass, by ``part/slot``."""
        slots = self.slots()
        if self.generator is not None:
            if getattr(self, "_is_replica", False):
                raise RuntimeError(
                    "fresh errors in nn.DataParallel would differ from device to device within one pass; "
                    "use DistributedDataParallel, or hold a chip: fabricate(model, chip)"
                )
            return self.passes.drawn(
                self.name,
                self.generator,
                lambda own: {name: sample(draw, own, self.like()) for name, draw in slots.items()},
            )
        for name, draw in slots.items():
            held = self._buffers.get(name)
            if held is None or held.shape != draw[1]:
                if self.chip is None:
                    raise RuntimeError(
                        f"layer {self.name!r} has no chip: call fabricate(model, chip) or fresh(model)"
                    )
                z = sample(draw, self.generator_of(name), self.like())
                self.register_buffer(name, z, persistent=False)
        return {name: self.get_buffer(name) for name in slots}

    def generator_of(self, slot: str) -> torch.Generator:
        """What draws ``slot`` of the held chip; it follows from chip, layer and slot alone."""
        return seeded(self.chip, self.name, slot)

    def remembered(self) -> dict[str, Any]:
        fresh = None if self.generator is None else bytes(self.generator.get_state().tolist()).hex()
        return {"chip": self.chip, "fresh": fresh}

    def recall(self, kept: Mapping[str, Any]) -> None:
        """Go on with the errors that were saved, unless another chip is held, or this is the other kind."""
        chip, fresh = kept["chip"], kept["fresh"]
        blank = self.chip is None and self.generator is None
        if fresh is not None and (blank or self.generator is not None):
            self.generator = torch.Generator()
            self.generator.set_state(torch.tensor(list(bytes.fromhex(fresh)), dtype=torch.uint8))
        elif chip is not None and blank:
            self.hold(chip)
