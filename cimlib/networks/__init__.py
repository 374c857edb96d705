"""Plain torch networks; they know nothing of chips.

- :mod:`~cimlib.networks.plain`: multilayer perceptrons.
- :mod:`~cimlib.networks.convolutional`: VGG-8 and ResNet-18, as wide as a paper's or narrower.
"""

from cimlib.networks.convolutional import SNAPSHOTS, resnet18, scaled, snapshot_places, vgg8
from cimlib.networks.plain import BiasRow, evaluating, mlp

__all__ = ["SNAPSHOTS", "BiasRow", "evaluating", "mlp", "resnet18", "scaled", "snapshot_places", "vgg8"]
