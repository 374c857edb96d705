"""The book's own part of the rendering: light pages, texts to search, a line with version and date."""

import re
from importlib.metadata import version
from types import SimpleNamespace
from typing import cast

from sphinx.application import Sphinx
from sphinx.config import Config

from companion.rendering import footer, search, weight

ICONS = '<script defer src="_static/scripts/fontawesome.js?digest=1"></script>'
MATHS = (
    "<script>window.MathJax = {}</script>" + '<script defer="defer" src="_static/../mathjax/tex.js"></script>'
)


def test_no_page_loads_the_icons_twice() -> None:
    assert weight.lightened(f"<head>{ICONS}</head>") == "<head></head>"


def test_a_page_without_mathematics_loads_no_mathjax() -> None:
    assert weight.lightened(f"{MATHS}<p>words</p>") == "<p>words</p>"


def test_a_page_with_mathematics_keeps_it() -> None:
    page = f'{MATHS}<span class="math">x</span>'
    assert weight.lightened(page) == page


def test_text_of_a_page_is_what_a_reader_sees_of_it() -> None:
    code = "<div class=cell_input>x = 1</div><details class=hide>y = 2</details>"
    words = "<p>A word,\nand <em>another</em>.</p> <p>Let <span class=math>\\(x\\)</span> be one.</p>"
    page = f"<nav>Contents</nav><article><h1>Title<a class=headerlink>#</a></h1> {code}{words}</article>"
    assert search.text(page) == "Title A word, and another. Let … be one."


def test_line_below_a_page_has_the_version_and_the_day_of_the_commit() -> None:
    config = SimpleNamespace(html_theme_options={})
    footer.line(cast(Sphinx, None), cast(Config, config))
    told = config.html_theme_options["extra_footer"]
    assert f"Version {version('cimlib')}" in told
    assert re.search(r"last checked \d{4}-\d\d-\d\d", told) or not footer.checked()
