"""Plain torch networks; they know nothing of chips."""

from cimlib.networks.convolutional import SNAPSHOTS, resnet18, scaled, snapshot_places, vgg8
from cimlib.networks.plain import BiasRow, evaluating, mlp

__all__ = ["SNAPSHOTS", "BiasRow", "evaluating", "mlp", "resnet18", "scaled", "snapshot_places", "vgg8"]
