"""Tiny ImageNet, for those who have it: nobody may pass it on, so it neither ships nor downloads."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from cimlib.datasets.loading import CACHE, DataError

FOLDER = "tiny-imagenet-200"


VALIDATION = 50  # images of each class at the end of its training images


def load_tiny_imagenet(split: str = "train", n: int | None = None) -> tuple[Tensor, Tensor]:
    """Images ``x`` (n, 3, 64, 64) in [0, 1] and labels ``y`` (n,), classes in turn.

    Read from ``tiny-imagenet-200`` below ``$CIMLIB_DATA`` as it is published; its digest is not pinned. The
    labelled validation images of the publication are ``"test"`` here; ``"val"`` are the last of the training
    images of each class. ``"test"`` is in the order of its list.

    Raises ``ValueError`` for an unknown split or an ``n`` out of range and ``DataError`` if it is not there.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"split = {split!r} is not allowed; allowed: 'train', 'val', 'test'")
    root = Path(os.environ.get("CIMLIB_DATA") or CACHE).expanduser() / FOLDER
    try:
        found = ImageFolder(str(root / "train"))
        samples = _test(root, found.class_to_idx) if split == "test" else _train(found, split)
    except OSError as error:
        raise DataError(f"no Tiny ImageNet in {root} ({error}): put it there, unpacked") from error
    if n is not None and not (isinstance(n, int) and 1 <= n <= len(samples)):
        raise ValueError(f"n = {n!r} is not allowed; allowed: 1 ≤ n ≤ {len(samples)} (tiny-imagenet {split})")
    chosen = samples[:n]
    x = torch.stack([pil_to_tensor(found.loader(path)) for path, _ in chosen])
    return x.float().div_(255), torch.tensor([label for _, label in chosen])


def _train(found: ImageFolder, split: str) -> list[tuple[str, int]]:
    """Samples of the training folder, the first of every class, then the second, and so on."""
    classes: list[list[tuple[str, int]]] = [[] for _ in found.classes]
    for path, label in found.samples:
        classes[label].append((path, label))
    part = slice(-VALIDATION, None) if split == "val" else slice(None, -VALIDATION)
    return [sample for turn in zip(*(samples[part] for samples in classes), strict=True) for sample in turn]


def _test(root: Path, labels: dict[str, int]) -> list[tuple[str, int]]:
    """Samples of the validation folder, in the order of its list."""
    lines = (root / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    fields = (line.split("\t") for line in lines)
    return [(str(root / "val" / "images" / file), labels[label]) for file, label, *_ in fields]
