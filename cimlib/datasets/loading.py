"""Data sets with pinned digests and fixed train, validation and test splits.

``load`` is the whole interface; ``digest`` names the data that a record was made from. Inputs are
voltages in units of the read span, so every data set is scaled to [0, 1]. Where each data set
comes from, its licence and how its file was made: ``data/README.md`` in the book's tree.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from platformdirs import user_cache_path
from torch import Tensor

_ABOVE = Path(__file__).resolve().parents[2]


# The book's own data sets; None where the library was installed alone.
FOLDER = _ABOVE / "data" if (_ABOVE / "companion" / "experiments").is_dir() else None


# For locks, and for torchvision's files unless $CIMLIB_DATA is set: ~/.cache/cimlib on Linux.
CACHE = user_cache_path("cimlib", appauthor=False)


SPLITS = ("train", "val", "test", "all")


KEYS = ("x_train", "y_train", "x_test", "y_test")


#: Accepted sha256 of ``<name>.npz``; a file with any other digest is refused.
FILE_DIGESTS: dict[str, tuple[str, ...]] = {
    "mnist": ("06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",),
    "cifar10": ("47c35008cd48628aa6ad1daef759d51e6b9d7bfe434754f5357371fb033212e8",),
}


#: Accepted sha256 of the arrays that a library hands over. torchvision verifies CIFAR files by
#: its own md5 at every reading; unpacked files of the MNIST family it does not verify.
ARRAY_DIGESTS: dict[str, tuple[str, ...]] = {
    "iris": ("c9a2400f2744c466f25fc58b4d20189fc9c0d69af2ff3b5df83fdd06653b7dd1",),
    "digits": ("0b3e4ee14f82503950f2fd8375b2e78056c1dd5ef2cb04e4cd0cc4827c0e6bb6",),
    "mnist": ("52cd6c10ae77107af32269dd9d10ca19c1b749e83235a0c75e2f0729ebeaf141",),
    "fashion-mnist": ("51bad0352284eacba9865b8317af0b9281dae4f52f7f667217f2ee65f7069790",),
}


#: torchvision's class, and how many images at the end of the training set are for validation.
IMAGES = {
    "mnist": ("MNIST", 10_000),
    "fashion-mnist": ("FashionMNIST", 10_000),
    "cifar10": ("CIFAR10", 5_000),
    "cifar100": ("CIFAR100", 5_000),
}


_AGAIN = "Delete a damaged copy. With network access the next call downloads it; without, put "


HOW_TO_GET = {
    "iris": "Install the scikit-learn that the book's requirements.txt pins.",
    "digits": "Install the scikit-learn that the book's requirements.txt pins.",
    "mnist": _AGAIN + "the book's mnist.npz into $CIMLIB_DATA, or the four idx files, unpacked, into "
    "MNIST/raw below it. In the book's tree `git checkout -- data/mnist.npz` restores the file.",
    "fashion-mnist": _AGAIN + "the four idx files, unpacked, into FashionMNIST/raw below "
    "$CIMLIB_DATA (Debian's package dataset-fashion-mnist has them).",
    "cifar10": _AGAIN + "cifar-10-python.tar.gz, as published, into $CIMLIB_DATA.",
    "cifar100": _AGAIN + "cifar-100-python.tar.gz, as published, into $CIMLIB_DATA.",
}


class DataError(RuntimeError):
    """A data set is missing, corrupt or not the pinned one; says where it was looked for."""


class _Raw(NamedTuple):
    """One data set as stored, and how ``load`` scales it: ``(x - offset) / span``."""

    x: NDArray[Any]
    y: NDArray[Any]
    splits: dict[str, NDArray[Any]]
    offset: Tensor | float
    span: Tensor | float
    digest: str


def load(name: str, split: str = "train", n: int | None = None) -> tuple[Tensor, Tensor]:
    """Inputs ``x`` (float32) and class labels ``y`` (int64) of one split, in file order.

    Shapes of ``x``: iris (n, 4); digits (n, 1, 8, 8); mnist and fashion-mnist (n, 1, 28, 28);
    cifar10 and cifar100 (n, 3, 32, 32). Unit: the read span. Pixels are divided by their maximum
    (digits 16, else 255); each iris feature is mapped by the minimum and maximum of the training
    split to [0, 1], which the other splits can leave slightly.

    Args:
        name: "iris", "digits", "mnist", "fashion-mnist", "cifar10" or "cifar100".
        split: "train", "val", "test" or "all" (the whole set, training images before test).
        n: take n examples, classes in turn: the first of class 0, the first of class 1, ..., then
            the second of each; a class that has run out is passed over. So class counts differ
            by at most one until a class runs out, the choice for a smaller n is part of that
            for a larger one, and the order stays that of the file.

    Raises:
        ValueError: unknown name or split, or n outside 1..size of the split.
        DataError: the data cannot be had, or are not those whose digest is pinned.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is not one of {', '.join(SPLITS)}")
    raw = _raw(name)
    index = raw.splits[split]
    if n is not None:
        if not isinstance(n, int) or not 1 <= n <= len(index):
            raise ValueError(f"n: {n!r} is not an integer in 1..{len(index)} ({name} {split})")
        index = index[_in_turn(raw.y[index], n)]
    x = torch.from_numpy(raw.x[index]).to(torch.float32)
    return x.sub_(raw.offset).div_(raw.span), torch.from_numpy(raw.y[index].astype(np.int64))


def digest(name: str) -> str:
    """sha256 of the npz file behind ``load(name)``, else of scikit-learn's or torchvision's arrays.

    Raises as ``load`` does.
    """
    return _raw(name).digest


def _raw(name: str) -> _Raw:
    if name not in HOW_TO_GET:
        raise ValueError(f"name: {name!r} is not one of {', '.join(HOW_TO_GET)}")
    return _read(name, os.environ.get("CIMLIB_DATA") or None)


def _in_turn(y: NDArray[Any], n: int) -> NDArray[Any]:
    """Sorted positions of the first n labels of y (m,), classes taken in turn."""
    turn = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        turn[y == label] = np.arange((y == label).sum())
    return np.sort(np.lexsort((y, turn))[:n])


@cache
def _read(name: str, root: str | None) -> _Raw:
    """Read and verify a data set, once per process; ``root`` is $CIMLIB_DATA."""
    below = Path(root).expanduser() if root else CACHE
    folders = [folder for folder in (below if root else None, FOLDER) if folder]
    places = [folder / f"{name}.npz" for folder in folders]
    try:
        if name not in IMAGES:
            return _from_sklearn(name)
        file = next(filter(Path.exists, places), None)
        return _from_npz(name, file) if file else _from_torchvision(name, below)
    except Exception as error:  # whatever the libraries, the network or the file system raise
        lines = [f"{name} cannot be loaded", f"{type(error).__name__}: {error}"]
        if name in IMAGES:
            lines += ["looked in, in this order", *(f"  {place}" for place in places)]
            lines += [f"  {below} ({IMAGES[name][0]} files of torchvision)"]
            lines += [] if root else ["  ($CIMLIB_DATA is not set)"]
        raise DataError("\n".join([*lines, HOW_TO_GET[name]])) from error


def _from_sklearn(name: str) -> _Raw:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x, y = bunch.data, bunch.target
    sha256 = _verified(name, f"scikit-learn's {name}", [x, y])
    stored = json.loads(files("cimlib.datasets").joinpath("splits.json").read_text("utf-8"))[name]
    splits = {split: np.array(index) for split, index in stored.items()}
    splits["all"] = np.arange(len(y))
    if name == "digits":
        return _Raw(x.reshape(-1, 1, 8, 8), y, splits, 0.0, 16.0, sha256)
    train = torch.from_numpy(x[splits["train"]]).to(torch.float32)
    return _Raw(x, y, splits, train.amin(0), train.amax(0) - train.amin(0), sha256)


def _from_npz(name: str, path: Path) -> _Raw:
    """Parse a file, if its digest is a pinned one."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    sha256 = _required(str(path), actual, FILE_DIGESTS.get(name, ()))
    with np.load(path) as arrays:
        return _images(name, [arrays[key] for key in KEYS], sha256)


def _from_torchvision(name: str, root: Path) -> _Raw:
    """Download on first use, one process at a time."""
    from torchvision import datasets

    class_name, lock = IMAGES[name][0], CACHE / f"{name}.lock"
    dataset = getattr(datasets, class_name)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        parts = [dataset(root, train=train, download=True) for train in (True, False)]
    arrays = [np.asarray(a, dtype=np.uint8) for part in parts for a in (part.data, part.targets)]
    return _images(name, arrays, _verified(name, f"{class_name} below {root}", arrays))


def _images(name: str, arrays: Sequence[NDArray[Any]], sha256: str) -> _Raw:
    """Join the arrays of ``KEYS``, channels first: x (n, channels, height, width)."""
    x_train, y_train, x_test, y_test = arrays
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    x = x[:, None] if x.ndim == 3 else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    everything, size = np.arange(len(y)), len(y_train)
    train, val, test = np.split(everything, [size - IMAGES[name][1], size])
    splits = {"train": train, "val": val, "test": test, "all": everything}
    return _Raw(x, y, splits, 0.0, 255.0, sha256)


def _verified(name: str, what: str, arrays: Sequence[NDArray[Any]]) -> str:
    """sha256 of types, shapes and values, required to be the pinned one where there is one."""
    content = b"".join(f"{a.dtype.str}{a.shape}".encode() + a.tobytes() for a in arrays)
    actual = hashlib.sha256(content).hexdigest()
    return _required(what, actual, ARRAY_DIGESTS.get(name, (actual,)))


def _required(what: str, actual: str, accepted: Sequence[str]) -> str:
    if actual in accepted:
        return actual
    wanted = " or ".join(accepted) or "none: no such file is known"
    problem = f"{what} is corrupt, cut short or another version"
    raise DataError(f"{problem}\n  sha256   {actual}\n  expected {wanted}")
