"""Convolutional networks for small images: those of negative feedback training, and thin residual ones.

VGG-8 and ResNet-18 as read in the released code of NFT (arXiv 2305.14561), for images of 32 × 32. ``width``
multiplies every number of channels and of hidden units; 1 is the paper's. The thin ones as in He et al.
(arXiv 1512.03385). Plain torch; they know nothing of chips.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

#: Where the released code takes snapshots: module → (channels at width 1, side of the pooled square).
SNAPSHOTS = {
    "vgg8": {"relu1": (64, 6), "pool2": (128, 4), "pool4": (256, 3)},
    "resnet18": {"relu": (64, 6), "layer1": (64, 6), "layer2": (128, 4), "layer3": (256, 3)},
}


def scaled(size: int, width: float) -> int:
    """``size`` at that width, at least 1. Raises ``ValueError`` for a width that is not in (0, 4]."""
    if not 0 < width <= 4:
        raise ValueError(f"width = {width!r} is not allowed; allowed: 0 < width ≤ 4")
    return max(1, round(size * width))


def _initialised(model: nn.Sequential) -> nn.Sequential:
    """Weights Kaiming normal by fan-out, biases 0 (released code)."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def linear_by_fan_in(model: nn.Module) -> None:
    """Initial weights of the linear layers by fan-in instead of fan-out, in place and from the same draws.

    Kaiming normal weights have the variance 2 / outputs by fan-out and 2 / inputs by fan-in (He et al.,
    arXiv 1502.01852), so each layer's are multiplied by √(outputs / inputs). For networks of this module that
    have not been trained.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_((module.out_features / module.in_features) ** 0.5)


def vgg8(
    classes: int = 10, *, channels: int = 3, side: int = 32, width: float = 1.0, seed: int = 0
) -> nn.Sequential:
    """VGG-8: six 3 × 3 convolutions with BatchNorm and ReLU, pooled by twos, and two linear layers.

    At width 1: 64, 128, 256, 256, 512, 512 channels, 1024 hidden units; 12.9 million weights.

    Args:
        classes: outputs.
        channels, side: of the images, (batch, channels, side, side); side a multiple of 8, 32 in the paper.
        width: 0 < width ≤ 4.
        seed: of the initial weights; torch's global generator is left alone.

    Raises ``ValueError`` for sizes out of range.
    """
    if classes < 1 or channels < 1:
        raise ValueError(f"(classes, channels) = {(classes, channels)} is not allowed; allowed: integers ≥ 1")
    if side < 8 or side % 8:
        raise ValueError(f"side = {side!r} is not allowed; allowed: multiples of 8")
    widths = [scaled(size, width) for size in (64, 128, 256, 256, 512, 512)]
    hidden = scaled(1024, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for n, (fan_in, fan_out) in enumerate(zip([channels, *widths], widths, strict=False), 1):
            layers[f"conv{n}"] = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False)
            layers[f"bn{n}"] = nn.BatchNorm2d(fan_out)
            layers[f"relu{n}"] = nn.ReLU()
            if n % 2 == 0:
                layers[f"pool{n}"] = nn.MaxPool2d(2)
        layers["flatten"] = nn.Flatten()
        layers["fc1"] = nn.Linear(widths[-1] * (side // 8) ** 2, hidden)
        layers["relu7"] = nn.ReLU()
        layers["fc2"] = nn.Linear(hidden, classes)
        return _initialised(nn.Sequential(layers))


def resnet18(classes: int = 10, *, channels: int = 3, width: float = 1.0, seed: int = 0) -> nn.Sequential:
    """ResNet-18 for small images: a 3 × 3 stem without pooling, then torchvision's basic blocks.

    At width 1: four stages of two blocks with 64, 128, 256, 512 channels, strides 1, 2, 2, 2; 11.2 million
    weights. Every block has one ReLU module for both its activations.

    Args:
        classes: outputs.
        channels: of the images, (batch, channels, height, width).
        width: 0 < width ≤ 4.
        seed: of the initial weights; torch's global generator is left alone.

    Raises ``ValueError`` for sizes out of range.
    """
    if classes < 1 or channels < 1:
        raise ValueError(f"(classes, channels) = {(classes, channels)} is not allowed; allowed: integers ≥ 1")
    stem, *widths = (scaled(size, width) for size in (64, 64, 128, 256, 512))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(channels, stem, 3, padding=1, bias=False), bn=nn.BatchNorm2d(stem), relu=nn.ReLU()
        )
        for n, (fan_in, fan_out) in enumerate(zip([stem, *widths], widths, strict=False), 1):
            layers[f"layer{n}"] = _stage(fan_in, fan_out, stride=1 if n == 1 else 2)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(widths[-1], classes)
        return _initialised(nn.Sequential(layers))


class _Narrowed(nn.Module):
    """A shortcut without weights: every second pixel, and channels of zeros, ``more`` in all."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) → (batch, channels + more, ⌈height / 2⌉, ⌈width / 2⌉)."""
        before = self.more // 2
        return nn.functional.pad(x[..., ::2, ::2], (0, 0, 0, 0, before, self.more - before))


def thin_resnet(
    depth: int = 20, classes: int = 10, *, channels: int = 3, width: float = 1.0, seed: int = 0
) -> nn.Sequential:
    """The ResNets for CIFAR of He et al. (Section 4.2): 16, 32 and 64 channels at width 1, shortcuts without
    weights (their option A).

    A 3 × 3 stem, three stages of (depth − 2) / 6 basic blocks with strides 1, 2, 2, and one linear layer;
    0.27 million weights at depth 20.

    Args:
        depth: layers with weights, 6 n + 2 with n ≥ 1.
        classes: outputs.
        channels: of the images, (batch, channels, height, width).
        width: 0 < width ≤ 4.
        seed: of the initial weights; torch's global generator is left alone.

    Raises ``ValueError`` for sizes out of range.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth = {depth!r} is not allowed; allowed: 6 n + 2, n ≥ 1")
    if classes < 1 or channels < 1:
        raise ValueError(f"(classes, channels) = {(classes, channels)} is not allowed; allowed: integers ≥ 1")
    stem, *widths = (scaled(size, width) for size in (16, 16, 32, 64))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(channels, stem, 3, padding=1, bias=False), bn=nn.BatchNorm2d(stem), relu=nn.ReLU()
        )
        for n, (fan_in, fan_out) in enumerate(zip([stem, *widths], widths, strict=False), 1):
            first = BasicBlock(fan_in, fan_out) if n == 1 else _narrowing(fan_in, fan_out)
            others = (BasicBlock(fan_out, fan_out) for _ in range((depth - 2) // 6 - 1))
            layers[f"layer{n}"] = nn.Sequential(first, *others)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(widths[-1], classes)
        return _initialised(nn.Sequential(layers))


def _narrowing(fan_in: int, fan_out: int) -> BasicBlock:
    return BasicBlock(fan_in, fan_out, 2, _Narrowed(fan_out - fan_in))


def _stage(fan_in: int, fan_out: int, stride: int) -> nn.Sequential:
    """Two basic blocks; the first one's shortcut is a convolution where its shape changes."""
    shortcut = None
    if stride != 1 or fan_in != fan_out:
        shortcut = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out)
        )
    return nn.Sequential(BasicBlock(fan_in, fan_out, stride, shortcut), BasicBlock(fan_out, fan_out))


def snapshot_places(network: str, width: float) -> dict[str, tuple[int, int]]:
    """Module → (channels, side), for :func:`~.snapshot_heads`.

    Raises ``ValueError`` for an unknown network or a width out of range.
    """
    if network not in SNAPSHOTS:
        raise ValueError(f"network = {network!r} is unknown; allowed: {', '.join(SNAPSHOTS)}")
    return {name: (scaled(channels, width), side) for name, (channels, side) in SNAPSHOTS[network].items()}
