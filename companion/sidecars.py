"""Which images were predicted right: a file beside a record, a bit an image.

A record names the accuracies of which it has the images, with a digest each; what is read is checked against
it. Tables of records do not open these files.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from companion.tasks.results import Right

_COUNT = "images"
_AGAIN = "restore it and its record (`git restore`), or delete both and run `make sweep`"


def beside(record: Path) -> Path:
    """Where the images of the record at that path are."""
    return record.with_suffix(".npz")


def digest(right: Right) -> str:
    """Sixteen hexadecimal digits of ``right`` (values, images)."""
    shape = "x".join(map(str, right.shape)).encode()
    return hashlib.sha256(shape + np.packbits(right, axis=1).tobytes()).hexdigest()[:16]


def write(record: Path, right: Mapping[str, Right]) -> dict[str, str]:
    """Store ``right``, by accuracy (values, images) of the same images, beside ``record``, whole or not.

    Returns the digest of each.
    """
    (images,) = {each.shape[1] for each in right.values()}
    partial = record.with_suffix(".partial.npz")
    packed: dict[str, Any] = {name: np.packbits(each, axis=1) for name, each in right.items()}
    packed[_COUNT] = np.int64(images)
    np.savez_compressed(partial, **packed)
    os.replace(partial, beside(record))
    return {name: digest(each) for name, each in right.items()}


def read(record: Path, name: str, expected: str) -> Right:
    """Which images the accuracy ``name`` of ``record`` is right about, (values, images).

    Raises ``ValueError`` if the file is missing or damaged, or not what was written with the record.
    """
    path = beside(record)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            right = np.unpackbits(stored[name], axis=1, count=int(stored[_COUNT])).astype(bool)
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}): {_AGAIN}") from error
    if digest(right) != expected:
        raise ValueError(f"{path} does not belong to its record: {_AGAIN}")
    return right
