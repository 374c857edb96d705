"""Standard draws: what is random of a chip, from generators that follow from its parts' names."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from torch import Tensor

Draw = tuple[Literal["normal", "uniform"], tuple[int, ...]]


def seeded(*parts: object) -> torch.Generator:
    """A CPU generator seeded by the parts, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def sample(draw: Draw, generator: torch.Generator, like: Tensor) -> Tensor:
    kind, shape = draw
    sampler = {"normal": torch.randn, "uniform": torch.rand}[kind]
    return sampler(shape, generator=generator).to(device=like.device, dtype=like.dtype)
