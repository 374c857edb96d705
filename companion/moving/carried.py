"""How data reach the script of a figure that moves."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from companion.pictures import Picture


def packed(values: ArrayLike, step: float) -> str:
    """``values`` in steps of ``step``, as 16 bits each, in base64. Raises ``ValueError`` beyond ±32,767."""
    steps = np.rint(np.asarray(values, dtype=float) / step)
    most = float(np.abs(steps).max(initial=0))
    if not most <= np.iinfo(np.int16).max:
        raise ValueError(f"values of {most:.0f} steps are not allowed; allowed: at most 32,767 steps")
    return b64encode(steps.astype("<i2").tobytes()).decode("ascii")


def moves(fig: Figure, name: str, data: dict[str, Any]) -> None:
    """Say that ``fig`` moves on a page: by the script ``name``, with these ``data``, which JSON can hold.

    Raises ``TypeError`` unless :func:`companion.plots.figure` made ``fig``.
    """
    if not isinstance(fig, Picture):
        raise TypeError(f"fig = {fig!r} is not allowed; allowed: one of companion.plots.figure")
    fig.moving = {"name": name, "data": data}
