"""Claims in the rendered book: their style, and beside the scoreboard what it says, in files of its own.

The scoreboard's page has its claims in it as JSON. Once it is written, ``claims.csv`` and ``claims.json``
stand beside it, and a badge for each paper in ``badges/``: they say what the page says.
"""

from __future__ import annotations

from sphinx.application import Sphinx


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.add_css_file("../claims.css")
