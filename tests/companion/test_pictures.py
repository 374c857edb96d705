"""A figure must be readable on a phone and on a dark page, and be the same figure afterwards."""

import colorsys
from base64 import b64decode
from io import BytesIO
from itertools import combinations, pairwise

import matplotlib as mpl
import numpy as np
import pytest
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from companion.pictures import VERSIONS, bundle, colours, ends, versions
from companion.pictures import narrow as phone
from companion.pictures.versions import SHADES, few, labelled
from companion.plots import COLOURS, band, figure, legend

HUES = sorted({colour for colour in COLOURS.values() if np.ptp(to_rgb(colour)) > 0})


@pytest.fixture(autouse=True)
def no_screen():
    with mpl.rc_context({"backend": "agg"}):
        yield
        mpl.pyplot.close("all")


def curves(*last: float, columns: int = 1, **options):
    """A figure whose curves end at these values in every panel, with a legend."""
    fig, panels = figure("x", "y", columns=columns)
    for ax in panels:
        for value, name in zip(last, COLOURS, strict=False):
            band(ax, [0, 1, 2], [[0.0, 0.1], [value / 2, value / 2 + 0.1], [value, value + 0.1]], name)
        ax.set_ylim(-1, 101)
    legend(panels[0], **options)
    return fig, panels


def shown(fig, shape="wide"):
    """Names at ends and legends that are seen in one version of ``fig``."""
    with labelled(fig, shape):
        names = [text for ax in fig.axes for text in ax.texts if isinstance(text, colours.Tinted)]
        legends = [ax.get_legend() for ax in fig.axes if ax.get_legend() and ax.get_legend().get_visible()]
        return [text.get_text() for text in names], [text.axes for text in names], legends


def image(png: bytes) -> Image.Image:
    return Image.open(BytesIO(png)).convert("RGB")


def test_each_version_is_an_image_on_its_own_page():
    fig, _ = curves(10, 50, 90, columns=2)
    drawn = versions(fig)
    assert sorted(drawn) == sorted(VERSIONS)
    for name, png in drawn.items():
        ground = colours.DARK if name.endswith("-dark") else colours.LIGHT
        assert image(png).getpixel((0, 0)) == tuple(round(255 * c) for c in to_rgb(ground)), name
    for shape in ("wide", "narrow"):
        assert image(drawn[shape]).size == image(drawn[f"{shape}-dark"]).size


@pytest.mark.parametrize("ends_at", [(10, 50, 90), (50, 50, 50, 50)], ids=["names", "a legend"])
def test_drawing_leaves_the_figure_as_it_was(ends_at):
    fig, panels = curves(*ends_at, columns=2)
    panels[0].set_yticks([0, 100], ["a label of more than one line", "b"])

    def state():
        texts = [(text.get_text(), text.get_color(), text.get_fontsize()) for text in fig.findobj(Text)]
        cells = [ax.get_subplotspec().get_geometry() for ax in panels]
        seen = panels[0].get_legend().get_visible(), panels[0].get_legend().get_in_layout()
        lines = [line.get_color() for ax in panels for line in ax.lines]
        return texts, cells, seen, lines, tuple(fig.get_size_inches()), fig.dpi, len(fig.legends)

    first = versions(fig)
    before = state()
    assert versions(fig) == first and state() == before


def test_a_notebook_shows_the_first_and_carries_the_others():
    fig, _ = curves(10, 90)
    first, others = bundle(fig)
    assert set(others) == set(VERSIONS[1:])
    assert {VERSIONS[0]: b64decode(first), **{n: b64decode(text) for n, text in others.items()}} == versions(
        fig
    )


def test_areas_keep_their_colours_in_few_shades():
    rows = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 64, 3))
    rows[:, :, 1] = np.arange(64)  # more colours than a version has
    drawn = Image.fromarray(np.vstack([rows, np.full((64, 64, 3), (253, 231, 37), np.uint8)]))
    stored = few(drawn)
    assert len(stored.getcolors()) <= SHADES and stored.convert("RGB").getpixel((0, 319)) == (253, 231, 37)
    far = np.abs(np.asarray(stored.convert("RGB"), float) - np.asarray(drawn, float))
    assert far.max() < 48


def test_panels_stand_one_below_another_on_a_phone():
    fig, panels = figure("x", "y", columns=4)
    with phone.narrow(fig):
        fig.draw_without_rendering()
        boxes = [ax.get_position() for ax in panels]
        assert fig.get_size_inches()[0] == phone.WIDTH
        assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
        assert np.ptp([box.x0 for box in boxes]) < 0.01 and min(box.width for box in boxes) > 0.7
        assert [ax.get_ylabel() for ax in panels] == ["y"] * 4
        assert all(ax.yaxis.get_tick_params()["labelleft"] for ax in panels)
    assert [ax.get_ylabel() for ax in panels] == ["y", "", "", ""]


def test_letters_are_eight_pixels_high_on_a_phone():
    fig, (ax,) = figure("x", "y")
    ax.set_xticks([0, 1], ["a", "b"], fontsize=4)
    with phone.narrow(fig):
        sizes = [text.get_fontsize() / 72 / phone.WIDTH * phone.SHOWN for text in fig.findobj(Text)]
    assert min(sizes) >= 8


def test_long_labels_are_broken_and_have_their_rows_on_a_phone():
    fig, (ax,) = figure("x", "")
    ax.set_yticks(range(12), ["a name that takes two lines"] * 12)
    with phone.narrow(fig):
        fig.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
        assert all(low.y1 < high.y0 for low, high in pairwise(boxes))
        assert ax.get_position().width > 0.5


def test_labels_that_touch_are_turned_on_a_phone():
    fig, (ax,) = figure("x", "y")
    ax.set_xticks(range(9), ["some words"] * 9)
    with phone.narrow(fig):
        fig.draw_without_rendering()
        assert not ends.overlapping(ax)
    assert ax.get_xticklabels()[0].get_rotation() == 0


def test_nothing_is_cut_on_a_phone():
    fig, panels = figure("a label of the axis that is far wider than a phone is, in its unit", "y", columns=2)
    panels[1].set_title("a title that is far wider than a phone is, and has more words yet")
    panels[0].set_ylabel("an upright label that is longer than its panel is high, and longer")
    with phone.narrow(fig):
        fig.draw_without_rendering()
        for ax in panels:
            for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
                box = text.get_window_extent()
                assert box.x0 >= -1 and box.x1 <= fig.bbox.x1 + 1, text
                assert box.y0 >= -1 and box.y1 <= fig.bbox.y1 + 1, text


def test_a_legend_stands_above_the_panels_of_a_phone():
    fig, (ax,) = curves(50, 50, 50, 50)
    _, _, legends = shown(fig, "narrow")
    assert legends == []
    fig.legend(loc="outside upper center", ncols=4)
    with phone.narrow(fig):
        fig.draw_without_rendering()
        (box,) = [one.get_window_extent() for one in fig.legends if one.get_visible()]
        assert box.y0 > ax.get_window_extent().y1 and box.x0 > 0 and box.x1 < fig.bbox.x1


@pytest.mark.parametrize("page", [colours.LIGHT, colours.DARK])
@pytest.mark.parametrize("colour", sorted(set(COLOURS.values())))
def test_a_text_in_the_colour_of_a_method_is_readable(colour, page):
    assert colours.contrast(colours.readable(to_rgb(colour), page, colours.TEXT), page) >= 4.5


@pytest.mark.parametrize("colour", HUES)
def test_a_method_keeps_its_hue_in_the_dark(colour):
    dark = colours.in_the_dark(to_rgb(colour))
    assert colours.contrast(dark, colours.DARK) >= 3
    turned = abs(colorsys.rgb_to_hsv(*dark)[0] - colorsys.rgb_to_hsv(*to_rgb(colour))[0])
    assert min(turned, 1 - turned) < 0.02


def test_methods_differ_in_the_dark_as_in_the_light():
    for one, other in combinations(sorted(set(COLOURS.values())), 2):
        apart = np.abs(np.subtract(to_rgb(one), to_rgb(other))).max()
        dark = np.subtract(colours.in_the_dark(to_rgb(one)), colours.in_the_dark(to_rgb(other)))
        assert np.abs(dark).max() > 0.4 * apart, (one, other)


def test_black_becomes_light_and_white_the_page():
    assert colours.contrast(colours.in_the_dark((0.0, 0.0, 0.0)), colours.DARK) > 12
    assert colours.in_the_dark((1.0, 1.0, 1.0)) == pytest.approx(to_rgb(colours.DARK))


def test_every_text_is_readable_in_the_dark():
    fig, (left, right) = curves(10, 50, 90, columns=2)
    left.bar([0, 1], [20, 30], color="0.3", label="bar")
    right.barh([0, 1], [20, 30], color="0.9")
    right.errorbar([0, 1], [1, 2], 1, fmt="o", color="0.2", label="dots")
    left.annotate(" a note", (1, 20), color="0.5")
    right.axhspan(0, 10, color="0.85")
    left.set_title("a title")
    fig.draw_without_rendering()
    with colours.dark(fig):
        texts = [text for text in fig.findobj(Text) if text.get_text()]
        assert min(colours.contrast(text.get_color(), colours.DARK) for text in texts) >= 4.5
        seen = [line for ax in fig.axes for line in ax.lines]
        assert min(colours.contrast(line.get_color(), colours.DARK) for line in seen) >= 3
    assert left.title.get_color() == "black"


def test_numbers_on_a_map_stay_as_its_colours_do():
    fig, (ax,) = figure("x", "y")
    ax.pcolormesh(np.eye(2))
    number = ax.text(0.5, 0.5, "1", color="black")
    with colours.dark(fig):
        assert number.get_color() == "black" and ax.title.get_color() != "black"


def test_curves_are_named_at_their_ends_where_they_end_apart():
    fig, panels = curves(10, 50, 90, columns=2)
    names, where, legends = shown(fig)
    assert names == list(COLOURS)[:3] and set(where) == {panels[1]} and legends == []
    assert not [text for ax in panels for text in ax.texts] and panels[0].get_legend().get_visible()


@pytest.mark.parametrize("shape", ["wide", "narrow"])
def test_names_are_whole_apart_and_beside_their_curves(shape):
    fig, (ax,) = curves(0, 1, 50, 60, 100)
    with phone.narrow(fig) if shape == "narrow" else mpl.rc_context(), labelled(fig, shape):
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) == 5
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(box.x0 > ax.bbox.x1 and box.x1 <= fig.bbox.x1 and box.y0 >= 0 for box in boxes)


def dots(ax):
    ax.plot([0, 2], [20, 20], "o", label="dots")


def early(ax):
    ax.plot([0, 1], [20, 20], label="a curve that ends early")


def outside(ax):
    ax.plot([0, 2], [20, 200], label="a curve that leaves the frame")


def wordy(ax):
    ax.plot([0, 2], [20, 20], label="anamethatisfarwiderthanwhatafigurehasroomforatitsrightsideandwider")


@pytest.mark.parametrize("other", [dots, early, outside, wordy])
def test_the_legend_stays_where_a_name_would_not_fit(other):
    fig, (ax,) = curves(50, 90)
    other(ax)
    legend(ax)
    names, _, legends = shown(fig)
    assert names == [] and legends == [ax.get_legend()]


def test_the_legend_stays_where_curves_end_together():
    fig, (ax,) = curves(50, 50, 50, 50, 50)
    assert shown(fig)[0] == [] and shown(fig)[2] == [ax.get_legend()]


def test_a_legend_of_chosen_entries_stays():
    fig, (ax,) = curves(10, 90)
    legend(ax, handles=ax.lines[:1])
    assert shown(fig)[0] == [] and shown(fig)[2] == [ax.get_legend()]


def test_a_name_is_broken_between_words_and_at_a_hyphen_if_it_must():
    assert ends.broken("double, two-sided", 13) == "double,\ntwo-sided"
    assert ends.broken("hardware-conscious", 13) == "hardware-\nconscious"
    assert ends.broken("single", 13) == "single"


def test_a_name_keeps_its_place_unless_another_is_there():
    assert ends.spread([0.1, 0.9], [0.1, 0.1]) == [0.1, 0.9]
    assert ends.spread([0.5, 0.5], [0.1, 0.1]) == pytest.approx([0.45, 0.55])


@pytest.mark.parametrize("seed", range(5))
def test_spread_labels_do_not_overlap_and_keep_their_order(seed):
    generator = np.random.default_rng(seed)
    wanted, heights = generator.uniform(size=6), generator.uniform(0.05, 0.2, size=6)
    placed = np.array(ends.spread(list(wanted), list(heights)))
    order = wanted.argsort()
    gaps = np.diff(placed[order]) - (heights[order][1:] + heights[order][:-1]) / 2
    assert gaps.min() > -1e-9


def bars(fig, panels):
    panels[0].bar([0, 1, 2], [1, -2, 3], 0.25, color="0.45", label="bars")
    panels[1].barh([0, 1], [2, 4], left=-2, color="0.9", height=1)
    legend(panels[0])


def maps(fig, panels):
    drawn = [ax.imshow(np.eye(3), cmap="Reds", aspect="auto") for ax in panels]
    fig.colorbar(drawn[0], ax=panels, label="error")


def a_map_with_its_own_bar(fig, panels):
    sns.heatmap(np.eye(3), ax=panels[0], annot=True, cbar=False)
    sns.heatmap(np.eye(3), ax=panels[1], cbar_kws={"label": "conductance, µS"})


def more_axes(fig, panels):
    band(panels[0], [0.1, 0.2], [[1.0, 2.0], [2.0, 4.0]], "plain")
    for place in (1, 1.25):
        panels[0].secondary_xaxis(place, functions=(lambda x: 2 * x, lambda x: x / 2)).set_xlabel(
            "σ of another"
        )
    legend(panels[0])


def one_legend_for_all(fig, panels):
    for ax in panels:
        ax.errorbar([1, 10], [1, 2], [0.1, 0.2], fmt="o", color=COLOURS["double"], label="double")
        ax.set(xscale="log", yscale="symlog")
        ax.annotate("  1", (1, 1), fontsize=7)
    fig.legend(loc="outside upper center", ncols=4, fontsize=7)


@pytest.mark.parametrize("draw", [bars, maps, a_map_with_its_own_bar, more_axes, one_legend_for_all])
def test_whatever_a_chapter_draws_comes_in_four_versions(draw):
    fig, panels = figure("x", "y", columns=2)
    draw(fig, panels)
    drawn = versions(fig)
    assert set(drawn) == set(VERSIONS) and len(set(drawn.values())) == len(VERSIONS)
    for ax in panels:
        assert ax.get_subplotspec().get_geometry()[:2] == (1, 2)
