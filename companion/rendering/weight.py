"""Pages load what they use, and no more.

The theme sends every icon of Font Awesome twice, as a font with its style sheet and as a script of 1.5 MB,
and the index of the search to every page, where only the page of its results reads it; and Sphinx sends
MathJax to a page if there are equations on it or on any page below it.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from companion.rendering.builders import SITE, makes

ICONS = re.compile(
    r"<script[^>]*scripts/fontawesome\.js[^>]*></script>|<link[^>]*scripts/fontawesome\.js[^>]*>"
)
SEARCH = re.compile(r'<script src="[^"]*(?:searchtools|searchindex)\.js[^"]*"></script>')
EQUATION = re.compile(r'<(?:span|div)\b[^>]*\bclass="math\b')
MATHS = re.compile(r"<script>window\.MathJax = .*?</script>|<script[^>]*mathjax/[^>]*></script>", re.DOTALL)


def lightened(page: str) -> str:
    """The page without the script of icons; without MathJax if nothing on it is typeset, and without the
    index of the search if it has no place for results."""
    page = ICONS.sub("", page)
    page = page if 'id="search-results"' in page else SEARCH.sub("", page)
    return page if EQUATION.search(page) else MATHS.sub("", page)


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Lighten every page that was built."""
    if exception is not None or not makes(app, SITE):
        return
    for path in Path(app.outdir).rglob("*.html"):
        path.write_text(lightened(path.read_text(encoding="utf-8")), encoding="utf-8")
    for left in Path(app.outdir, "_static", "scripts").glob("fontawesome.js*"):
        left.unlink()


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("build-finished", lighten)
