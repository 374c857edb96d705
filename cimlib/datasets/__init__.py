"""Data sets with pinned digests and fixed splits.

- :mod:`~cimlib.datasets.loading`: six data sets by name; says what to do where one is missing.
- :mod:`~cimlib.datasets.tiny_imagenet`: Tiny ImageNet, for those who have it.
- :mod:`~cimlib.datasets.augmentation`: random crops and flips.
"""

from cimlib.datasets.augmentation import crop_and_flip
from cimlib.datasets.loading import IMAGES, DataError, digest, load
from cimlib.datasets.tiny_imagenet import load_tiny_imagenet

__all__ = ["IMAGES", "DataError", "crop_and_flip", "digest", "load", "load_tiny_imagenet"]
