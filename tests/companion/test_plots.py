"""A figure must carry its labels, its bands and its colours."""

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from cimlib.chip import interval
from companion import notation, plots
from companion.pictures import VERSIONS
from companion.plots import COLOURS, band, figure, legend


@pytest.fixture(autouse=True)
def no_screen():
    with mpl.rc_context({"backend": "agg"}):
        yield
        mpl.pyplot.close("all")


def test_axes_carry_their_labels():
    _, axes = figure("spread, 1", "error, %", columns=2)
    assert [ax.get_xlabel() for ax in axes] == ["spread, 1"] * 2 and axes[0].get_ylabel() == "error, %"


def test_a_band_is_the_interval_of_the_mean():
    _, (ax,) = figure("x", "y")
    values = np.random.default_rng(0).normal(size=(3, 20))
    band(ax, [0, 1, 2], values, "double")
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), values.mean(1))
    assert line.get_color() == COLOURS["double"]
    corners = ax.collections[0].get_paths()[0].vertices
    low, high = interval(values[0])
    assert corners[:, 1][corners[:, 0] == 0].min() == pytest.approx(low)
    assert corners[:, 1][corners[:, 0] == 0].max() == pytest.approx(high)


def test_colour_means_method_or_is_refused():
    _, (ax,) = figure("x", "y")
    with pytest.raises(KeyError):
        band(ax, [0], [[1.0, 2.0]], "a method without a colour")


def test_a_notebook_is_given_every_version_of_a_figure(monkeypatch):
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    monkeypatch.setattr(plots, "get_ipython", lambda: shell)
    fig, (ax,) = figure("x", "y")
    band(ax, [0, 1], [[1.0, 2.0]] * 2, "double")
    data, metadata = shell.display_formatter.format(fig, include={"image/png"})
    assert list(data) == ["image/png"] and set(metadata["image/png"]) == set(VERSIONS[1:])


def test_a_legend_is_there_where_nothing_replaces_it(tmp_path):
    fig, (ax,) = figure("x", "y")
    band(ax, [0, 1], [[1.0, 2.0]] * 2, "double")
    assert legend(ax, fontsize=7) is None
    fig.savefig(tmp_path / "figure.png")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["double"]
    assert ax.get_legend().get_visible() and ax.get_legend().get_texts()[0].get_fontsize() == 7


def test_symbols_become_a_table_and_terms_and_acronyms_a_glossary():
    symbols, glossary = notation.symbols_table(), notation.glossary()
    assert all(f"${symbol.tex}$" in symbols for symbol in notation.SYMBOLS)
    assert all(f"\n{name}\n  " in glossary for name in notation.TERMS | notation.ACRONYMS)
