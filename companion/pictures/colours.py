"""Colours on a page: contrast, and what a figure looks like on the dark one.

A grey turns round, black on white into white on black; a colour keeps its hue, since it means a method, and
becomes lighter where the dark page would swallow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

RGB = tuple[float, float, float]
RGBA = tuple[float, float, float, float]

LIGHT = "#ffffff"
DARK = "#121212"  # the page of the theme in dark mode
INK = {LIGHT: "#000000", DARK: "#e6e9ee"}
TEXT, GRAPHICS = 4.5, 4.0  # least contrasts; WCAG 2.2 AA asks for 4.5 and 3
GREY = 0.06  # largest difference between the channels of a grey


def contrast(first: Any, second: Any) -> float:
    """The ratio of contrast of two colours after WCAG, 1 to 21."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


@cache
def readable(colour: RGB | str, page: str, least: float) -> RGB:
    """``colour``, moved towards the ink of ``page`` until its contrast with it is ``least``."""
    rgb, ink = np.array(to_rgba(colour)[:3]), np.array(to_rgba(INK[page])[:3])
    mixed = (rgb + share * (ink - rgb) for share in np.linspace(0, 1, 51))
    found = next((mix for mix in mixed if contrast(mix, page) >= least), ink)
    return (float(found[0]), float(found[1]), float(found[2]))


@cache
def in_the_dark(colour: RGB, least: float = 0.0) -> RGB:
    """``colour`` of a light page as it is on the dark one; never below the contrast ``least``."""
    if max(colour) - min(colour) > GREY:
        return readable(colour, DARK, max(least, GRAPHICS))
    ink, page = np.array(to_rgba(INK[DARK])[:3]), np.array(to_rgba(DARK)[:3])
    turned = ink + sum(colour) / 3 * (page - ink)
    return readable((float(turned[0]), float(turned[1]), float(turned[2])), DARK, max(least, 1.0))


class Tinted(Text):
    """A text in the colour of something drawn, made readable on either page."""

    def __init__(self, x: float, y: float, text: str, tint: Any, **options: Any) -> None:
        self.tint = to_rgba(tint)
        super().__init__(x, y, text, color=readable(self.tint[:3], LIGHT, TEXT), clip_on=False, **options)


@contextmanager
def dark(fig: Figure) -> Iterator[None]:
    """``fig`` in the colours of the dark page, for as long as the context lasts.

    What a colour map has coloured stays, and so do the numbers written on it.
    """
    with ExitStack() as back:
        kept = {text for ax in fig.axes if _mapped(ax) for text in ax.texts}
        for artist in dict.fromkeys(fig.findobj()):
            if artist not in kept:
                _repaint(artist, back)
        yield


def _luminance(colour: Any) -> float:
    channels = np.array(to_rgba(colour)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _mapped(ax: Axes) -> bool:
    """Whether colours of a map fill the panel ``ax``."""
    return bool(ax.images) or any(isinstance(drawn, QuadMesh) for drawn in ax.collections)


def _repaint(artist: Artist, back: ExitStack) -> None:
    if isinstance(artist, Text):
        back.callback(artist.set_color, artist.get_color())
        tint = artist.tint if isinstance(artist, Tinted) else to_rgba(artist.get_color())
        artist.set_color(_turned(tint, TEXT))
    elif isinstance(artist, Line2D):
        for get, put in (
            (artist.get_markerfacecolor, artist.set_markerfacecolor),
            (artist.get_markeredgecolor, artist.set_markeredgecolor),
            (artist.get_color, artist.set_color),
        ):
            _swap(get(), put, back)
    elif isinstance(artist, Patch):
        _swap(artist.get_facecolor(), artist.set_facecolor, back)
        _swap(artist.get_edgecolor(), artist.set_edgecolor, back)
    elif isinstance(artist, Collection) and artist.get_array() is None:
        for colours, paint in (
            (artist.get_facecolor(), artist.set_facecolor),
            (artist.get_edgecolor(), artist.set_edgecolor),
        ):
            rows = [to_rgba(row) for row in np.atleast_2d(colours).tolist() if len(row)]
            if rows:
                paint([_turned(row) for row in rows])
                back.callback(paint, rows)


def _swap(colour: Any, put: Callable[[Any], None], back: ExitStack) -> None:
    """Put the dark form of ``colour`` in its place; one that is not seen stays as it is."""
    rgba = to_rgba(colour)
    if rgba[3] > 0:
        put(_turned(rgba))
        back.callback(put, colour)


def _turned(rgba: RGBA, least: float = 0.0) -> RGBA:
    red, green, blue, alpha = map(float, rgba)
    return (*in_the_dark((red, green, blue), least), alpha)
