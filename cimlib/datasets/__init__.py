"""Data sets with pinned digests and fixed splits; augmentation."""

from cimlib.datasets.augmentation import crop_and_flip
from cimlib.datasets.loading import IMAGES, DataError, digest, load
from cimlib.datasets.tiny_imagenet import load_tiny_imagenet

__all__ = ["IMAGES", "DataError", "crop_and_flip", "digest", "load", "load_tiny_imagenet"]
