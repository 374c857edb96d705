"""Names at the ends of curves, instead of a legend, where there is room for them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from companion.pictures.colours import Tinted

SIZE = 8.0  # of the names, points
PITCH = 1.25  # of two lines of text, in sizes of the letters
STRAY = 1.0  # how far a name may stand from the height of its curve's end, in pitches
LAST = 0.85  # where a curve must end at the earliest, share of the panel's width
WIDEST = 0.3  # of the figure's width
GAP = 4.0  # between panel and name, points


class End(NamedTuple):
    """The end of a curve as shares of its panel, and its name."""

    x: float
    y: float
    name: str
    line: Line2D


def ends(ax: Axes, wrap: int) -> list[End] | None:
    """Where the named curves of ``ax`` end; ``None`` if not all are curves that reach its right side."""
    found = []
    for line, name in zip(*ax.get_legend_handles_labels(), strict=True):
        if not isinstance(line, Line2D) or line.get_linestyle() in ("None", "none", " ", ""):
            return None
        points = np.asarray(line.get_xydata(), dtype=float)
        points = points[np.isfinite(points).all(1)]
        if not len(points):
            return None
        inside = ax.transAxes.inverted().transform(line.get_transform().transform(points))
        x, y = inside[inside[:, 0].argmax()]
        if not (LAST <= x <= 1.001 and -0.02 <= y <= 1.02):
            return None
        found.append(End(float(x), float(y), broken(str(name), wrap), line))
    return found or None


def broken(name: str, wrap: int) -> str:
    """``name`` in lines of ``wrap`` letters, a word broken at its hyphen only where it is longer."""
    long = any(len(word) > wrap for word in name.split())
    return textwrap.fill(name, wrap, break_long_words=False, break_on_hyphens=long)


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Places of labels of these ``heights`` as near to those ``wanted`` as they go without overlap.

    Neighbours that overlap become one block around the mean of what they want.
    """
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    blocks: list[tuple[list[int], float]] = []
    for k in order:
        members, centre = [k], wanted[k]
        while blocks:
            before, at = blocks[-1]
            if at + _tall(before, heights) / 2 <= centre - _tall(members, heights) / 2 + 1e-9:
                break
            blocks.pop()
            members = [*before, *members]
            centre = float(np.mean([w - o for w, o in _offsets(members, wanted, heights)]))
        blocks.append((members, centre))
    placed = [0.0] * len(wanted)
    for members, centre in blocks:
        for member, (_, offset) in zip(members, _offsets(members, wanted, heights), strict=True):
            placed[member] = centre + offset
    return placed


def lay_out(fig: Figure) -> None:
    """Give every panel of ``fig`` its place, drawing nothing."""
    engine = fig.get_layout_engine()
    if engine is not None:
        engine.execute(fig)


@contextmanager
def named(fig: Figure, ax: Axes, wrap: int) -> Iterator[bool]:
    """The names at the ends of the curves of ``ax``, for as long as the context lasts, if they fit.

    Gives whether they do: near their curves, not over one another, not cut, and with the labels of the
    axis still apart in the panel that they make smaller. ``fig`` must have been laid out.
    """
    with ExitStack() as back:
        curves = ends(ax, wrap)
        places = _places(fig, ax, curves) if curves else None
        if curves is None or places is None:
            yield False
            return
        crowded = overlapping(ax)
        drawn = [artist for end, y in zip(curves, places, strict=True) for artist in _draw(fig, ax, end, y)]
        for artist in drawn:
            back.callback(artist.remove)
        lay_out(fig)
        boxes = [text.get_window_extent() for text in drawn if not isinstance(text, Line2D)]
        fits = all(box.x1 <= fig.bbox.x1 and box.width <= WIDEST * fig.bbox.width for box in boxes)
        if fits and overlapping(ax) <= crowded:
            yield True
            return
        back.close()
        yield False


def overlapping(ax: Axes) -> bool:
    """Whether two labels of the x axis touch."""
    texts = [text for text in ax.get_xticklabels() if text.get_visible() and text.get_text()]
    boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.x0)
    return any(left.x1 > right.x0 for left, right in pairwise(boxes))


def _places(fig: Figure, ax: Axes, curves: Sequence[End]) -> list[float] | None:
    """Heights of the names, shares of the panel; ``None`` if one would stand too far from its curve."""
    pitch = SIZE * PITCH / 72 * fig.dpi / ax.get_window_extent().height
    places = spread([end.y for end in curves], [pitch * (1 + end.name.count("\n")) for end in curves])
    far = max(abs(place - end.y) for place, end in zip(places, curves, strict=True))
    return places if far <= STRAY * pitch else None


def _draw(fig: Figure, ax: Axes, end: End, y: float) -> list[Any]:
    """The name of a curve, and a line that leads to it where it stands apart."""
    beside = offset_copy(ax.transAxes, fig=fig, x=GAP, units="points")
    colour = to_rgba(end.line.get_color())
    text = Tinted(1, y, end.name, colour, transform=beside, va="center", fontsize=SIZE, linespacing=1.0)
    lead = Line2D([end.x, 1], [end.y, y], transform=ax.transAxes, clip_on=False, lw=0.6, color=colour)
    lead.set_linestyle(end.line.get_linestyle())
    lead.set_in_layout(False)
    return [ax.add_artist(text), ax.add_artist(lead)]


def _tall(members: Sequence[int], heights: Sequence[float]) -> float:
    return sum(heights[member] for member in members)


def _offsets(
    members: Sequence[int], wanted: Sequence[float], heights: Sequence[float]
) -> Iterator[tuple[float, float]]:
    """What each member of a block wants, and where it stands from the block's centre."""
    at = -_tall(members, heights) / 2
    for member in members:
        yield wanted[member], at + heights[member] / 2
        at += heights[member]
