"""What Sphinx does for this book besides what its extensions do: an extension of its own.

Named in ``_config.yml``. Each module has a ``setup`` of its own, which this one calls.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from companion.rendering import (
    claims,
    drawings,
    figures,
    folding,
    footer,
    moving,
    notebooks,
    provenance,
    search,
    weight,
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Set up every part."""
    parts = (claims, drawings, figures, folding, footer, moving, notebooks, provenance, search, weight)
    for part in parts:
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
