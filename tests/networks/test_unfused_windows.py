"""Window attention, layer by layer, against torchvision's."""

import copy

import pytest
import torch
from fused import agree, drawn, moved
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import swin_t, swin_v2_t
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from cimlib.networks import CosineWindowAttention, WindowAttention, unfused

KINDS = {ShiftedWindowAttention: WindowAttention, ShiftedWindowAttentionV2: CosineWindowAttention}


@settings(max_examples=60)
@given(
    kind=st.sampled_from(list(KINDS)),
    window=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    shifted=st.tuples(st.booleans(), st.booleans()),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    biases=st.tuples(st.booleans(), st.booleans()),
    dropouts=st.sampled_from([(0.0, 0.0), (0.3, 0.2)]),
    training=st.booleans(),
)
def test_window_attention_is_torchvisions_at_every_size_with_gradients_and_dropout(
    kind, window, shifted, size, biases, dropouts, training
):
    """``moved`` gives keys a bias, which the second version must not use and must not learn."""
    shift = [side // 2 * on for side, on in zip(window, shifted, strict=True)]
    plain = kind(
        *(8, list(window), shift, 2),
        qkv_bias=biases[0],
        proj_bias=biases[1],
        attention_dropout=dropouts[0],
        dropout=dropouts[1],
    )
    plain = moved(plain.double()).train(training)
    assert type(agree(plain, drawn(2, *size, 8))) is KINDS[kind]


@pytest.mark.parametrize("make", [swin_t, swin_v2_t])
@pytest.mark.parametrize("side", [32, 72])
def test_a_swin_transformer_without_gradients_is_torchvisions_to_the_stated_tolerance(make, side):
    torch.manual_seed(0)
    plain = make(weights=None, num_classes=10).eval()
    made, x = unfused(plain), drawn(2, 3, side, side, dtype=torch.float32)
    with torch.no_grad():
        expected, found = plain(x), made(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not any(type(module) in KINDS for module in made.modules())
    named = {name.replace("qkv_bias", "qkv.bias") for name in made.state_dict()}
    assert named == plain.state_dict().keys()


@pytest.mark.parametrize("kind", list(KINDS))
def test_queries_keys_values_and_the_projection_come_from_the_layers(kind):
    plain = kind(8, [2, 2], [0, 0], 2)
    made, x = unfused(plain).eval(), drawn(1, 4, 4, 8, dtype=torch.float32)
    for name in ("qkv", "proj"):
        other = copy.deepcopy(made)
        setattr(other, name, nn.Sequential(getattr(made, name), nn.Dropout(1.0)).train())
        assert not torch.allclose(other(x), made(x))
