"""The four versions of a figure as PNGs, and how a notebook carries them."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from io import BytesIO
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from companion.pictures.colours import DARK, LIGHT, dark
from companion.pictures.ends import lay_out, named
from companion.pictures.narrow import above, hide, narrow

#: The first is what a notebook shows; it carries the others.
VERSIONS = ("wide", "wide-dark", "narrow", "narrow-dark")
#: For the printed edition a notebook is run with ``FIGURES=vector``; then it carries this version, too.
VECTOR = "vector"
#: Of colours that a version has: a plot needs few, and a notebook carries four versions.
SHADES = 112
#: Those of them that are the most frequent colours of the figure, as they are.
AREAS = 48
#: Letters of a name at the end of a curve, in one line.
WRAP = {"wide": 22, "narrow": 13}


class Picture(Figure):
    """A figure that is shown in :data:`VERSIONS`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: The panels that have a legend, and whether names at the ends of its curves may replace it.
        self.asked: dict[Axes, bool] = {}
        #: What moves it on a page, and with which data: see :mod:`companion.moving`.
        self.moving: dict[str, Any] | None = None


def versions(fig: Picture) -> dict[str, bytes]:
    """Each of :data:`VERSIONS` of ``fig`` as a PNG; ``fig`` is left as it was."""
    found = {}
    for shape in ("wide", "narrow"):
        with narrow(fig) if shape == "narrow" else nullcontext(), labelled(fig, shape), _laid_out(fig):
            found[shape] = _png(fig, LIGHT)
            with dark(fig):
                found[f"{shape}-dark"] = _png(fig, DARK)
    return found


def vector(fig: Picture) -> bytes:
    """The wide, light version of ``fig`` as an SVG; ``fig`` is left as it was."""
    drawn = BytesIO()
    with labelled(fig, VERSIONS[0]), _laid_out(fig):
        fig.savefig(drawn, format="svg", facecolor=LIGHT, metadata={"Date": None})
    return drawn.getvalue()


def bundle(fig: Picture) -> tuple[str, dict[str, Any]]:
    """The version that a notebook shows, and as its metadata the others by name, all in base64; beside them
    what moves the figure, if something does."""
    images = versions(fig) | ({VECTOR: vector(fig)} if os.environ.get("FIGURES") == VECTOR else {})
    drawn = {name: b64encode(image).decode("ascii") for name, image in images.items()}
    moving = {} if fig.moving is None else {"moving": fig.moving}
    return drawn.pop(VERSIONS[0]), {**drawn, **moving}


@contextmanager
def labelled(fig: Picture, shape: str) -> Iterator[None]:
    """Names at the ends of curves in the place of each legend that they make needless."""
    with ExitStack() as back:
        if fig.asked:
            lay_out(fig)
        for asked, nameable in fig.asked.items():
            legend = asked.get_legend()
            if legend is None:
                continue
            here = ExitStack()
            hide(legend, here)
            panels = _alike(fig, asked, shape) if nameable else []
            if any(here.enter_context(named(fig, ax, WRAP[shape])) for ax in panels):
                back.push(here)
                continue
            here.close()
            if shape == "narrow" and len(fig.asked) == 1:
                above(fig, legend, back)
        yield


@contextmanager
def _laid_out(fig: Figure) -> Iterator[None]:
    """The layout of ``fig`` as it is now, however its colours change."""
    lay_out(fig)
    engine = fig.get_layout_engine()
    fig.set_layout_engine("none")
    try:
        yield
    finally:
        fig.set_layout_engine(engine)


def _alike(fig: Figure, asked: Axes, shape: str) -> list[Axes]:
    """The panels whose curves may be named for a legend of ``asked``.

    Beside one another only the last has room at its right; one below another the first is read first.
    """
    names = asked.get_legend_handles_labels()[1]
    same = [ax for ax in fig.axes if ax.get_legend_handles_labels()[1] == names]
    return same[-1:] if shape == "wide" else same


def _png(fig: Figure, page: str) -> bytes:
    drawn, stored = BytesIO(), BytesIO()
    fig.savefig(drawn, format="raw", dpi=fig.dpi, facecolor=page, bbox_inches=None)
    size = (int(fig.bbox.width), int(fig.bbox.height))
    image = Image.frombytes("RGBA", size, drawn.getvalue()).convert("RGB")
    few(image).save(stored, format="png", optimize=True)
    return stored.getvalue()


def few(image: Image.Image) -> Image.Image:
    """``image`` in :data:`SHADES`: what fills areas keeps its colour, and edges have the nearest."""
    edges = image.quantize(SHADES - AREAS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    counted: list[Any] = sorted(image.getcolors(image.width * image.height) or [], key=itemgetter(1))
    colours = np.array([colour for _, colour in counted])
    frequent = np.argsort([-count for count, _ in counted], kind="stable")[:AREAS]
    palette = np.concatenate([colours[frequent], np.reshape(edges.getpalette() or [], (-1, 3))])
    nearest = np.square(colours[:, None] - palette).sum(-1).argmin(1).astype(np.uint8)
    number = (1 << 16, 1 << 8, 1)  # of a colour: they are sorted by it
    places = np.searchsorted(colours @ number, np.asarray(image, dtype=np.int32) @ number)
    drawn = Image.fromarray(nearest[places])
    drawn.putpalette(palette.astype(np.uint8).tobytes())
    return drawn
