"""Multi-head attention whose every weight is in a linear layer, and transformer layers that call them.

``nn.MultiheadAttention`` keeps three weights in one parameter and hands them to a function; in evaluation
``nn.TransformerEncoderLayer`` hands all its weights to one fused kernel. Neither calls its layers, so what
is put in place of a layer is never asked. The modules here are called layer by layer, in every mode. They
are made by :func:`~cimlib.networks.unfused.unfused`. Source: Vaswani et al., *Attention is all you need*
(arXiv 1706.03762), Section 3.2, with the options of torch.
"""

from __future__ import annotations

import math
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimlib.networks.plain import linear


class Attention(nn.Module):
    r"""``nn.MultiheadAttention`` as four linear layers: ``query``, ``key``, ``value``, ``out``.

    Each head attends by :math:`\mathrm{softmax}(Q K^T / \sqrt{d} + M)\,V`, with the mask :math:`M`; dropout
    acts on the softmax. What ``add_bias_kv`` and ``add_zero_attn`` add to the keys and values is added behind
    the layers.

    Args:
        attention: the module to rewrite; its ``in_proj_weight`` (3 · embed_dim, embed_dim) is cut into three.
    """

    bias_k: nn.Parameter | None
    bias_v: nn.Parameter | None

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.kdim, self.vdim = attention.embed_dim, attention.kdim, attention.vdim
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.batch_first, self.dropout = attention.batch_first, attention.dropout
        self.add_zero_attn = attention.add_zero_attn
        if attention.in_proj_weight is None:
            weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        else:
            weights = _thirds(attention.in_proj_weight)
        biases = repeat(None) if attention.in_proj_bias is None else _thirds(attention.in_proj_bias)
        self.query, self.key, self.value = map(linear, weights, biases)
        self.out = linear(*attention.out_proj.parameters())
        self.register_parameter("bias_k", attention._parameters.get("bias_k"))
        self.register_parameter("bias_v", attention._parameters.get("bias_v"))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, batch_first={self.batch_first}, dropout={self.dropout}"

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and, if asked for, the weights, as ``nn.MultiheadAttention`` returns them.

        Args:
            query, key, value: (batch, length, features) with ``batch_first``, else (length, batch, features);
                without a batch (length, features).
            key_padding_mask: (batch, keys); ``True`` keeps a key out, a float is added.
            need_weights: also return the weights, (batch, queries, keys).
            attn_mask: (queries, keys) or (batch · heads, queries, keys); as ``key_padding_mask``.
            average_attn_weights: the mean over heads; else (batch, heads, queries, keys).
            is_causal: a hint that ``attn_mask`` is causal.

        Raises ``ValueError`` for nested tensors, and for shapes and masks that torch refuses as well.
        """
        for name, given in {"query": query, "key": key, "value": value}.items():
            if given.is_nested or given.dim() not in (2, 3) or given.dim() != query.dim():
                what = "a nested tensor" if given.is_nested else f"{given.dim()}-dimensional"
                allowed = "padded tensors with key_padding_mask, all three of 3 dimensions, or all of 2"
                raise ValueError(f"{name} = {what} is not allowed; allowed: {allowed}")
        batched = query.dim() == 3
        if not batched and key_padding_mask is not None:
            key_padding_mask = key_padding_mask[None]

        def batch_first(x: Tensor) -> Tensor:
            return x[None] if not batched else x if self.batch_first else x.transpose(0, 1)

        sizes = [tuple(batch_first(x).shape[:2]) for x in (query, key, value)]
        (batch, queries), (_, keys), _ = sizes
        if sizes[1:] != [(batch, keys)] * 2:
            allowed = "one batch, and as many keys as values"
            raise ValueError(f"(batch, length) of the three = {sizes} is not allowed; allowed: {allowed}")
        if is_causal and attn_mask is None:
            raise ValueError("attn_mask = None is not allowed; allowed: the causal mask, with is_causal")
        causal = is_causal and key_padding_mask is None and not need_weights
        masks = {"attn_mask": None if causal else attn_mask, "key_padding_mask": key_padding_mask}
        mask = self._mask(masks, (batch, queries, keys), query.dtype)

        q, k, v = map(batch_first, (self.query(query), self.key(key), self.value(value)))
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat((k, self.bias_k.expand(len(k), 1, -1)), 1)
            v = torch.cat((v, self.bias_v.expand(len(v), 1, -1)), 1)
        heads = (self.num_heads, self.head_dim)
        q, k, v = (x.view(*x.shape[:2], *heads).transpose(1, 2) for x in (q, k, v))
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))

        weights = None
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            logits = (q / math.sqrt(self.head_dim)) @ k.transpose(-2, -1)
            weights = (logits if mask is None else logits + mask).softmax(-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
        # (batch, heads, queries, features) → (queries, batch, features), as torch has it in memory: a dropout
        # behind it draws in that order
        y = self.out(y.permute(2, 0, 1, 3).flatten(-2).contiguous())
        if not batched:
            return y[:, 0], weights
        return (y.transpose(0, 1) if self.batch_first else y), weights

    def _mask(
        self, masks: dict[str, Tensor | None], sizes: tuple[int, int, int], dtype: torch.dtype
    ) -> Tensor | None:
        """Both masks as one to add to (batch, heads, queries, keys). Raises ``ValueError`` as ``forward``."""
        batch, queries, keys = sizes
        shapes = {
            "attn_mask": ((queries, keys), (batch * self.num_heads, queries, keys)),
            "key_padding_mask": ((batch, keys),),
        }
        added: list[Tensor] = []
        for name, mask in masks.items():
            if mask is None:
                continue
            found, allowed = tuple(mask.shape), shapes[name]
            if found not in allowed:
                raise ValueError(f"shape of {name} = {found} is not allowed; allowed: one of {allowed}")
            if mask.dtype == torch.bool:
                mask = torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
            if not mask.is_floating_point():
                raise ValueError(f"dtype of {name} = {mask.dtype} is not allowed; allowed: bool, or a float")
            if name == "key_padding_mask":
                mask = mask[:, None, None]
            added.append(mask.reshape(batch, -1, queries, keys) if mask.dim() == 3 else mask)
        if not added:
            return None
        more = (self.bias_k is not None) + self.add_zero_attn
        return F.pad(sum(added[1:], added[0]), (0, more))


def _thirds(packed: nn.Parameter) -> list[nn.Parameter]:
    """The parts of a parameter for queries, keys and values."""
    return [nn.Parameter(part.clone(), packed.requires_grad) for part in packed.detach().chunk(3)]


class EncoderLayer(nn.TransformerEncoderLayer):
    """``nn.TransformerEncoderLayer`` that calls its layers in evaluation as it does in training."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(batch, length, features) → same, or in another layout of ``nn.TransformerEncoderLayer``."""

        def attended(x: Tensor) -> Tensor:
            y, _ = self.self_attn(
                *(x, x, x),
                attn_mask=src_mask,
                key_padding_mask=src_key_padding_mask,
                need_weights=False,
                is_causal=is_causal,
            )
            dropped: Tensor = self.dropout1(y)
            return dropped

        def fed(x: Tensor) -> Tensor:
            y: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))
            return y

        if self.norm_first:
            x = src + attended(self.norm1(src))
            return x + fed(self.norm2(x))
        x = self.norm1(src + attended(src))
        y: Tensor = self.norm2(x + fed(x))
        return y


class Encoder(nn.TransformerEncoder):
    """``nn.TransformerEncoder`` without nested tensors, which only fused kernels can read.

    Where torch would have used one (in evaluation, without gradients, with padding at the end), it returns
    zeros at the padded positions; so does this.
    """

    padding_to_zero: bool

    def rewritten(self) -> None:
        """Give up nested tensors; called once, when torch's module becomes this one."""
        vars(self)["padding_to_zero"] = self.use_nested_tensor
        self.use_nested_tensor = False

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """(batch, length, features) → same, or in another layout of ``nn.TransformerEncoder``."""
        padding = self._padding(src, mask, src_key_padding_mask)
        if padding is None:
            plain: Tensor = super().forward(src, mask, src_key_padding_mask, is_causal)
            return plain
        y = src
        for layer in self.layers:
            y = layer(y, src_key_padding_mask=padding)
        y = y.masked_fill(padding[..., None], 0.0)
        return y if self.norm is None else self.norm(y)

    def _padding(self, src: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Where (batch, length) torch would return zeros; ``None`` if it would use no nested tensor."""
        if padding is None or mask is not None or src.is_nested or src.dim() != 3:
            return None
        first = self.layers[0]
        learning = torch.is_grad_enabled() and any(x.requires_grad for x in (src, *first.parameters()))
        fast = torch.backends.mha.get_fastpath_enabled() and not torch.is_autocast_enabled()
        if not (self.padding_to_zero and fast) or first.training or learning:
            return None
        padded = padding if padding.dtype == torch.bool else padding == -math.inf
        hard = bool((padded | (padding == 0)).all())  # a float that is neither 0 nor -∞ pads nothing
        at_the_end = not bool((padded[:, :-1] & ~padded[:, 1:]).any())
        return padded if hard and at_the_end else None
