"""What is made of the book: pages for a browser, one page for the printed edition, an e-book."""

from __future__ import annotations

from sphinx.application import Sphinx

#: Sphinx's builder of each.
SITE, PRINT, EBOOK = "html", "singlehtml", "epub"


def makes(app: Sphinx, *kinds: str) -> bool:
    """Whether it is one of these ``kinds`` that is made now."""
    return app.builder.name in kinds
