"""The window attention of torchvision's Swin transformers, calling its linear layers.

torchvision hands ``qkv.weight`` and ``proj.weight`` to a function; here ``qkv`` and ``proj`` are called, so
that what is put in their place is asked. Made by
:func:`~cimlib.networks.unfused.unfused`. Sources: Liu et al., *Swin transformer* (arXiv 2103.14030),
Section 3.2, and *Swin transformer V2* (arXiv 2111.09883), Section 3.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from cimlib.networks.plain import linear

#: What is added to the logits of two positions that the shift alone has brought into one window.
APART = -100.0


class WindowAttention(ShiftedWindowAttention):  # type: ignore[misc]
    r"""Attention within windows, shifted or not: logits :math:`Q K^T / \sqrt{d} + B`."""

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """(windows, heads, positions, features) twice → (windows, heads, positions, positions)."""
        return (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)

    def projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(windows, positions, channels) → three of (windows, heads, positions, features)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        """(batch, height, width, channels) → same."""
        height, width, channels = x.shape[1:]
        rows, columns = self.window_size
        x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        size = (x.shape[1], x.shape[2])
        # a map no larger than one window is not shifted
        down, right = (
            0 if window >= side else shift
            for shift, window, side in zip(self.shift_size, self.window_size, size, strict=True)
        )
        x = _split(x.roll((-down, -right), (1, 2)), (rows, columns))
        q, k, v = self.projections(x.flatten(3, 4).flatten(0, 2))
        logits = self.logits(q, k) + self.get_relative_position_bias()
        if down or right:
            apart = _apart(size, (rows, columns), (down, right), logits)
            logits = (logits.view(-1, len(apart), *logits.shape[1:]) + apart[:, None]).flatten(0, 1)
        weights = F.dropout(logits.softmax(-1), self.attention_dropout, self.training)
        y = self.proj((weights @ v).transpose(1, 2).flatten(2))
        y = F.dropout(y, self.dropout, self.training)
        y = y.view(*x.shape[:-1], channels).transpose(2, 3).reshape(-1, *size, channels)
        back: Tensor = y.roll((down, right), (1, 2))[:, :height, :width].contiguous()
        return back


def _split(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(batch, height, width, ...) → (batch, windows down, windows across, rows, columns, ...)."""
    batch, height, width = x.shape[:3]
    rows, columns = window
    shape = (batch, height // rows, rows, width // columns, columns, *x.shape[3:])
    return x.reshape(shape).transpose(2, 3)


def _apart(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], like: Tensor) -> Tensor:
    """(windows, positions, positions): :data:`APART` where only one of the two was rolled round."""
    down, across = (
        torch.arange(side, device=like.device) >= side - by for side, by in zip(size, shift, strict=True)
    )
    region = _split((2 * down[:, None].int() + across.int())[None], window)
    region = region.flatten(3, 4).flatten(0, 2)
    return torch.where(region[:, None] == region[:, :, None], 0.0, APART).to(like.dtype)


class CosineWindowAttention(ShiftedWindowAttentionV2):  # type: ignore[misc]
    r"""Attention within windows by cosines: logits :math:`\tau \cos(Q, K) + B`.

    The factor :math:`\tau` ≤ 100 is learnt. Keys have no bias, so the bias is not one of the layer ``qkv``:
    it is ``qkv_bias`` (3 · channels,), of which the middle third is neither used nor learnt.
    """

    qkv: nn.Linear
    qkv_bias: nn.Parameter | None

    def rewritten(self) -> None:
        """Take the bias from the layer; called once, when torchvision's module becomes this one."""
        weight, *bias = self.qkv.parameters()
        self.qkv = linear(weight).train(self.qkv.training)
        self.register_parameter("qkv_bias", bias[0] if bias else None)

    forward = WindowAttention.forward

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        """(windows, heads, positions, features) twice → (windows, heads, positions, positions)."""
        scale: Tensor = self.logit_scale.clamp(max=math.log(100.0)).exp()
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return cosines * scale

    def projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(windows, positions, channels) → three of (windows, heads, positions, features)."""
        q, k, v = WindowAttention.projections(self, x)
        if self.qkv_bias is None:
            return q, k, v
        of_q, _, of_v = self.qkv_bias.view(3, self.num_heads, 1, -1)
        return q + of_q, k, v + of_v
