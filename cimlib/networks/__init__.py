"""Plain torch networks; they know nothing of chips.

- :mod:`~cimlib.networks.plain`: multilayer perceptrons.
- :mod:`~cimlib.networks.convolutional`: VGG-8 and ResNet-18, as wide as a paper's or narrower, and thin
  ResNets for CIFAR.
- :mod:`~cimlib.networks.unfused`: the verb ``unfused``: networks of others, with every weight of attention
  and recurrence in a linear layer.
- :mod:`~cimlib.networks.attention`, :mod:`~cimlib.networks.windows`, :mod:`~cimlib.networks.recurrent`: what
  they are made of then.
"""

from cimlib.networks.attention import Attention, Encoder, EncoderLayer
from cimlib.networks.convolutional import (
    SNAPSHOTS,
    linear_by_fan_in,
    resnet18,
    scaled,
    snapshot_places,
    thin_resnet,
    vgg8,
)
from cimlib.networks.plain import BiasRow, evaluating, linear, mlp
from cimlib.networks.recurrent import Cell, Recurrent
from cimlib.networks.unfused import unfused
from cimlib.networks.windows import CosineWindowAttention, WindowAttention

__all__ = [
    "SNAPSHOTS",
    "Attention",
    "BiasRow",
    "Cell",
    "CosineWindowAttention",
    "Encoder",
    "EncoderLayer",
    "Recurrent",
    "WindowAttention",
    "evaluating",
    "linear",
    "linear_by_fan_in",
    "mlp",
    "resnet18",
    "scaled",
    "snapshot_places",
    "thin_resnet",
    "unfused",
    "vgg8",
]
