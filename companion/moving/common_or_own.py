"""What chips have lost in common, and each of its own: some weights of a layer as twenty chips hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from companion.moving.carried import packed

Floats = NDArray[np.floating[Any]]
Layers = dict[str, dict[str, list[tuple[Tensor, Tensor]]]]
#: A weight is shown of each of so many sizes, from nothing to the largest, in units of the rms weight.
WEIGHTS, LARGEST = 48, 3.5
STEP = 1 / 1000  # of the rms weight


def chosen(asked: Floats) -> NDArray[np.intp]:
    """Places of the weights that are shown: of each of :data:`WEIGHTS` sizes the next larger one."""
    sizes = np.abs(asked).ravel()
    order = np.argsort(sizes, kind="stable")
    wanted = np.linspace(0, LARGEST, WEIGHTS) * unit(asked)
    places = np.unique(np.searchsorted(sizes[order], wanted).clip(max=sizes.size - 1))
    return np.asarray(order[places], dtype=np.intp)


def unit(asked: Floats) -> float:
    """Root mean square of the weights asked for: what all that is carried is counted in."""
    return float(np.sqrt(np.square(asked).mean()))


def data(layers: Layers, parts: dict[str, dict[str, list[list[float]]]], times: list[str]) -> dict[str, Any]:
    """What the figure is given.

    Args:
        layers: by cell and compensation, ``"none"`` and ``"global"``, for each time, the weights that chips
            hold, (chips, …), and those that were asked for.
        parts: likewise, the errors of the whole layer that are common and own, root mean square, % of that
            of the weights.
        times: in words.
    """
    held = {
        cell: {way: [now.numpy() for now, _ in series] for way, series in ways.items()}
        for cell, ways in layers.items()
    }
    bare, asked = next(iter(layers.values()))["none"][0]
    weights = asked.numpy()
    at, size = chosen(weights), unit(weights)
    sign = np.sign(weights.ravel()[at])

    def errors(chips: Floats) -> Floats:
        lost = (chips.reshape(len(chips), -1) - weights.ravel())[:, at]
        return np.asarray(sign * lost / size)

    return {
        "times": times,
        "chips": len(bare),
        "weights": weights.size,
        "step": STEP,
        "sizes": packed(np.abs(weights.ravel()[at]) / size, STEP),
        "cells": {
            cell: {
                "errors": packed([errors(chips) for chips in ways["none"]], STEP),
                "factors": [factors(*both) for both in zip(ways["none"], ways["global"], strict=True)],
                "parts": {way: np.round(series, 2).tolist() for way, series in parts[cell].items()},
            }
            for cell, ways in held.items()
        },
    }


def factors(bare: Floats, compensated: Floats) -> list[float]:
    """The factor of each chip, by which it holds ``compensated`` in the place of ``bare``."""
    rows, after = bare.reshape(len(bare), -1), compensated.reshape(len(bare), -1)
    found = (rows * after).sum(1) / np.square(rows).sum(1)
    return [round(float(each), 4) for each in found]
