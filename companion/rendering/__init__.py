"""What Sphinx does for this book besides what its extensions do: an extension of its own.

Named in ``_config.yml``. Each module has a ``setup`` of its own, which this one calls.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from companion.rendering import (
    claims,
    drawings,
    ebook,
    figures,
    folding,
    footer,
    launching,
    mathml,
    moving,
    notebooks,
    provenance,
    search,
    weight,
)

PARTS = (
    *(claims, drawings, figures, folding, footer, moving, notebooks, provenance, search, weight),
    *(ebook, launching, mathml),
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Set up every part."""
    for part in PARTS:
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
