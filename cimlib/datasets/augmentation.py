"""Random crops and flips, each image with its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(x: Tensor, generator: torch.Generator, margin: int = 4) -> Tensor:
    """Images (n, channels, height, width) with ``margin`` zeros around, cropped anywhere to their size,
    half of them mirrored: torchvision's ``RandomCrop(padding=margin)`` and ``RandomHorizontalFlip``, with
    a generator of its own and an offset for each image of a batch.

    Raises ``ValueError`` for a negative ``margin``.
    """
    if margin < 0:
        raise ValueError(f"margin = {margin!r} is not allowed; allowed: an integer ≥ 0")
    n, _, height, width = x.shape
    top, left = torch.randint(2 * margin + 1, (2, n, 1), generator=generator).to(x.device)
    mirrored = (torch.rand(n, 1, generator=generator) < 0.5).to(x.device)
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=x.device)[:, None, None]
    padded = F.pad(x, (margin,) * 4).permute(0, 2, 3, 1)
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
