"""Figures: one palette in which colour means method everywhere, bands, and units on axes.

A figure drawn here is shown in four versions, wide and narrow, light and dark: :mod:`companion.pictures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cimlib.chip.montecarlo import interval
from companion.pictures import Picture, bundle

# Okabe–Ito, one colour per method or structure throughout the book
COLOURS = {
    "digital": "#000000",
    "software": "#000000",
    "double": "#0072B2",
    "double, two-sided": "#56B4E9",
    "single": "#D55E00",
    "single, column": "#D55E00",
    "single, column of cells": "#CC79A7",
    "single, constant term": "#E69F00",
    "double, one draw": "#56B4E9",
    "bit-sliced": "#009E73",
    "proportional": "#009E73",
    "manhattan": "#E69F00",
    "every batch": "#0072B2",
    "every flower": "#D55E00",
    "stochastic": "#009E73",
    "nearest": "#E69F00",
    "ideal cell": "#0072B2",
    "this cell": "#D55E00",
    "offline": "#56B4E9",
    "in-situ": "#E69F00",
    "on-chip": "#CC79A7",
    "hardware-conscious": "#009E73",
    "updated": "#009E73",  # the same method, where it is compared with offline weights on a chip
    "deployed": "#D55E00",
    "from scratch": "#CC79A7",
    "plain": "#000000",
    "noise": "#D55E00",
    "noise, small last layer": "#6A3D9A",
    "noise, fan-in": "#882255",
    "temperature": "#E69F00",
    "averaging": "#56B4E9",
    "correctnet": "#CC79A7",
    "ovf": "#0072B2",
    "irs": "#009E73",
    "none": "#000000",
    "mapping": "#E69F00",
    "retraining": "#56B4E9",
    "both": "#0072B2",
    "global": "#E69F00",
    "column": "#6A3D9A",
    "batchnorm": "#CC79A7",
    "affine": "#882255",
    "lora": "#999999",
    "dora": "#0072B2",
    "vera": "#D55E00",
    "vera, offline": "#009E73",
}


COLUMN = 8.6 / 2.54  # a journal column, inches


STYLE: Any = {
    "figure.dpi": 192,
    "savefig.dpi": 192,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def figure(
    x: str, y: str, columns: int = 1, width: float = 1.6, height: float = 0.8
) -> tuple[Figure, list[Axes]]:
    """A figure in the book's style; ``x`` and ``y`` are the axis labels with units.

    On a phone its panels, here beside one another, stand one below another. ``width`` and
    ``height`` are of one panel, in journal columns (8.6 cm).
    """
    plt.rcParams.update(STYLE)  # rc_context would undo what the notebook's backend sets meanwhile
    size = (COLUMN * width * columns, COLUMN * height)
    fig, axes = plt.subplots(1, columns, figsize=size, squeeze=False, sharey=True, FigureClass=Picture)
    shell = get_ipython()
    if shell is not None and shell.display_formatter is not None:
        shell.display_formatter.formatters["image/png"].for_type(Picture, bundle)
    panels = list(axes[0])
    for panel in panels:
        panel.set_xlabel(x)
    panels[0].set_ylabel(y)
    return fig, panels


def band(
    ax: Axes,
    x: Sequence[float],
    values: Sequence[Sequence[float]],
    label: str,
    method: str | None = None,
    **line: Any,
) -> None:
    """Mean of each row of ``values`` (len(x), n) against ``x`` with its 95 % interval as a band.

    ``method`` names the colour in :data:`COLOURS` (default ``label``); raises ``KeyError`` for none
    of them, so that colour always means method.
    """
    rows = [np.asarray(row, dtype=float) for row in values]
    mean = [row.mean() for row in rows]
    low, high = zip(*(interval(row) for row in rows), strict=True)
    colour = COLOURS[label if method is None else method]
    ax.plot(x, mean, marker="o", markersize=3, linewidth=1.4, color=colour, label=label, **line)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def legend(ax: Axes, **options: Any) -> None:
    """The legend of ``ax``, with the ``options`` of :meth:`matplotlib.axes.Axes.legend`.

    Where the curves end far enough apart, their names stand at their ends instead, in the last panel that
    shows the same curves. Returns nothing, so that a cell may end with it.
    """
    ax.legend(**options)
    if isinstance(ax.figure, Picture):
        ax.figure.asked[ax] = "handles" not in options
