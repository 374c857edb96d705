"""A figure for a phone: its panels one below another, in letters that can be read there."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from companion.pictures.ends import lay_out, overlapping

WIDTH = 3.6  # inches
SHOWN = 340  # CSS pixels that this width takes on a phone, at least
DPI = 176  # nearly two pixels of the image to each of those
LEAST = 8  # CSS pixels: no letters are smaller
TALL = 0.7  # height of a panel over the figure's width, at most
ROW = 0.16  # of a label that stands on its own line, inches
LABEL = 17  # letters of a label of the y axis in one line
LETTERS = 46  # of a legend in one line


@contextmanager
def narrow(fig: Figure) -> Iterator[None]:
    """``fig`` at :data:`WIDTH`, its panels stacked, for as long as the context lasts."""
    panels = [ax for ax in fig.axes if ax.get_subplotspec() is not None]
    with ExitStack() as back:
        size, dpi = tuple(fig.get_size_inches()), fig.dpi
        back.callback(fig.set_size_inches, size)
        back.callback(fig.set_dpi, dpi)
        for ax in panels:
            _say_what_is_shared(ax, panels[0], back)
            _break_labels(ax.yaxis, back)
        heights = [_height(ax, float(size[1])) for ax in panels]
        fig.set_size_inches(WIDTH, sum(heights))
        fig.set_dpi(DPI)
        grid = GridSpec(len(panels), 1, figure=fig, height_ratios=heights)
        for place, ax in enumerate(panels):
            was: Any = ax.get_subplotspec()
            back.callback(ax.set_subplotspec, was)
            ax.set_subplotspec(grid[place, 0])
        texts: list[Any] = fig.findobj(Text)
        for text in texts:
            back.callback(text.set_fontsize, text.get_fontsize())
            text.set_fontsize(max(text.get_fontsize(), LEAST * WIDTH * 72 / SHOWN))
        for legend in list(fig.legends):
            above(fig, legend, back)
        lay_out(fig)
        for ax in panels:
            _turn_labels(ax, back)
            _break_titles(fig, ax, back)
        yield


def above(fig: Figure, legend: Legend, back: ExitStack) -> None:
    """``legend`` above the panels, in as many columns as fit, until ``back`` is closed.

    ``fig`` grows by its height, so that the panels keep theirs.
    """
    handles = {
        name: handle for ax in fig.axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    names = [text.get_text() for text in legend.get_texts()]
    shown: Any = [handles.get(name, own) for name, own in zip(names, legend.legend_handles, strict=True)]
    hide(legend, back)
    most = max(1, min(3, LETTERS // (5 + max(map(len, names)))))  # a handle takes as much as five letters
    rows = ceil(len(names) / most)
    width, height = map(float, fig.get_size_inches())
    back.callback(fig.set_size_inches, width, height)
    fig.set_size_inches(width, height + ROW * rows)
    columns = ceil(len(names) / rows)
    raised = fig.legend(shown, names, loc="outside upper center", ncols=columns, fontsize=8)
    back.callback(raised.remove)


def hide(legend: Legend, back: ExitStack) -> None:
    """Neither show ``legend`` nor keep room for it until ``back`` is closed."""
    back.callback(legend.set_visible, legend.get_visible())
    back.callback(legend.set_in_layout, legend.get_in_layout())
    legend.set_visible(False)
    legend.set_in_layout(False)


def _height(ax: Axes, height: float) -> float:
    """Of a panel that was ``height`` high: less if it was tall, but a line for each of its labels."""
    names = _names(ax.yaxis)
    lines = sum(1.5 + name.count("\n") for name in names)
    return max(min(height, TALL * WIDTH), ROW * lines + 0.6)


def _names(axis: Axis) -> list[str]:
    """The labels of ``axis`` that somebody wrote; none where they are numbers that follow its ticks."""
    if not isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
        return []
    return [text.get_text() for text in axis.get_ticklabels()]


def _break_labels(axis: Axis, back: ExitStack) -> None:
    names = _names(axis)
    broken = [name if "\n" in name else textwrap.fill(name, LABEL) for name in names]
    if broken != names:
        back.callback(axis.set_major_formatter, axis.get_major_formatter())
        axis.set_major_formatter(FixedFormatter(broken))


def _say_what_is_shared(ax: Axes, first: Axes, back: ExitStack) -> None:
    """Beside one another panels share what stands at the left of the first; one below another they do not."""
    if ax is first:
        return
    if not ax.yaxis.get_tick_params()["labelleft"]:
        back.callback(ax.tick_params, axis="y", labelleft=False)
        ax.tick_params(axis="y", labelleft=True)
        for own, text in zip(ax.get_yticklabels(), first.get_yticklabels(), strict=False):
            back.callback(own.set_rotation, own.get_rotation())
            own.set_rotation(text.get_rotation())
    if not ax.get_ylabel():
        back.callback(ax.set_ylabel, "")
        ax.set_ylabel(first.get_ylabel())


def _turn_labels(ax: Axes, back: ExitStack) -> None:
    if overlapping(ax):
        for text in ax.get_xticklabels():
            back.callback(
                text.set,
                rotation=text.get_rotation(),
                ha=text.get_horizontalalignment(),
                va=text.get_verticalalignment(),
            )
            text.set(rotation=90, ha="center", va="top")


def _break_titles(fig: Figure, ax: Axes, back: ExitStack) -> None:
    """Titles and labels of axes in two lines, where one would be cut."""
    box, whole = ax.get_window_extent(), fig.bbox
    middle, centre = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    across = 2 * min(middle - whole.x0, whole.x1 - middle)
    upwards = min(1.1 * box.height, 2 * (centre - whole.y0), 2 * (whole.y1 - centre))
    for text, room in ((ax.title, across), (ax.xaxis.label, across), (ax.yaxis.label, upwards)):
        extent = text.get_window_extent()
        long = extent.height if text is ax.yaxis.label else extent.width
        said = text.get_text()
        if long > room and "\n" not in said:
            back.callback(text.set_text, said)
            text.set_text(textwrap.fill(said, max(8, int(0.85 * len(said) * room / long))))
