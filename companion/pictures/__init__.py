"""One figure in four versions: wide or narrow, on a light or a dark page.

:mod:`~companion.plots` draws it once. A notebook shows the wide, light one, and carries the other three in
the metadata of its output, from where the rendered book takes what suits the reader's screen.
"""

from companion.pictures.versions import VECTOR, VERSIONS, Picture, bundle, versions

__all__ = ["VECTOR", "VERSIONS", "Picture", "bundle", "versions"]
