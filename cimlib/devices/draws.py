"""Standard draws: what is random of a chip, from generators that follow from its parts' names."""

from __future__ import annotations

import hashlib
from math import prod
from typing import Literal

import torch
from torch import Tensor

Draw = tuple[Literal["normal", "uniform"], tuple[int, ...]]


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator seeded by the parts, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def sample(draw: Draw, generator: torch.Generator, like: Tensor) -> Tensor:
    """``draw`` from a CPU ``generator``, in float32 always, then in the dtype and on the device of ``like``;
    in inference mode too it is an ordinary tensor."""
    kind, shape = draw
    sampler = {"normal": torch.randn, "uniform": torch.rand}[kind]
    with torch.inference_mode(False):
        drawn = sampler(shape, generator=generator, dtype=torch.float32, device="cpu")
        return drawn.to(device=like.device, dtype=like.dtype)


class Stream:
    """The numbers of one draw, piece by piece in their order: together bit for bit those of :func:`sample`.

    torch makes normal numbers of the CPU in blocks of 16, and the last block of a tensor anew; so pieces are
    drawn in whole blocks, and the end of the draw with the block before it.

    Args:
        draw: kind and shape of the whole.
        generator: where they come from; a CPU generator.
    """

    _BLOCK = 16

    def __init__(self, draw: Draw, generator: torch.Generator) -> None:
        self.kind, shape = draw
        self.generator = generator
        self.left = prod(shape)  # not yet drawn
        self.ready = torch.empty(0, dtype=torch.float32)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """The next numbers, float32, in ``shape``. Raises ``ValueError`` if there are not as many."""
        count = prod(shape)
        if count > len(self.ready) + self.left:
            raise ValueError(
                f"shape = {shape} is not allowed; allowed: {len(self.ready) + self.left} numbers"
            )
        if (missing := count - len(self.ready)) > 0:
            more = -(-missing // self._BLOCK) * self._BLOCK
            more = self.left if self.left - more < self._BLOCK else more
            fresh = sample((self.kind, (more,)), self.generator, self.ready)
            self.ready, self.left = torch.cat((self.ready, fresh)), self.left - more
        taken, self.ready = self.ready[:count], self.ready[count:]
        return taken.reshape(shape)
