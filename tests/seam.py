"""What the tests of the seam and of methods try: arrays, layers with inputs, small networks."""

import torch
from torch import nn

from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.networks import mlp

ARRAYS = [
    DoubleArray(),
    DoubleArray(mapping="two-sided"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    DoubleArray(w_max=10.0),
    SingleArray(reference="column"),
    SingleArray(reference="column", reference_device="cell"),
    SingleArray(reference="constant-term"),
    BitSliced(quantise=False),
]


LAYERS = {
    "linear": lambda: (nn.Linear(784, 256), (128, 784)),
    "linear without bias": lambda: (nn.Linear(784, 256, bias=False), (128, 784)),
    "linear on a sequence": lambda: (nn.Linear(32, 16), (4, 7, 32)),
    "conv": lambda: (nn.Conv2d(64, 128, 3, padding=1), (4, 64, 14, 14)),
    "conv without bias": lambda: (nn.Conv2d(64, 128, 3, bias=False), (4, 64, 14, 14)),
    "conv with groups": lambda: (nn.Conv2d(64, 128, 3, groups=4), (4, 64, 14, 14)),
    "conv with stride and dilation": lambda: (
        nn.Conv2d(8, 16, 3, stride=2, dilation=2),
        (4, 8, 28, 28),
    ),
    "conv with reflected padding": lambda: (
        nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect"),
        (4, 8, 14, 14),
    ),
}


def made(name):
    torch.manual_seed(0)
    layer, shape = LAYERS[name]()
    return layer, torch.randn(shape)


def perceptron():
    """Biases are rows of the arrays: amplifiers allow no digital ones."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)
    return mlp(6, 16, 3, bias="row", seed=0), x, y


def convolutional():
    """Convolutions, one of them with groups, a stride and no bias, BatchNorm whose running statistics are not
    the initial ones, and a linear layer; for inputs (n, 2, 6, 6)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3, stride=2, groups=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
        model(torch.randn(50, 2, 6, 6))
    return model.eval()


def images():
    """What it is shown: (30, 2, 6, 6)."""
    return torch.randn(30, 2, 6, 6, generator=torch.Generator().manual_seed(1))
