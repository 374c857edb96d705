"""Attention and transformers, layer by layer, against torch's own."""

import math

import pytest
import torch
from fused import agree, drawn, linears, moved
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.backends import mha

from cimlib.networks import Attention, Encoder, EncoderLayer, unfused

MASKS = st.sampled_from([None, "bool", "float"])


@pytest.fixture(params=["fast path", "no fast path"])
def fast_path(request):
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(request.param == "fast path")
    yield
    mha.set_fastpath_enabled(before)


def masked(kind, *shape, seed=0):
    """A mask that leaves the first key to every query."""
    if kind is None:
        return None
    found = drawn(*shape, seed=seed)
    found[..., 0] = -1.0
    return found > 0 if kind == "bool" else found


@settings(max_examples=60)
@given(
    made=st.fixed_dictionaries(
        {
            "num_heads": st.sampled_from([1, 2, 4]),
            "dropout": st.sampled_from([0.0, 0.4]),
            "bias": st.booleans(),
            "add_bias_kv": st.booleans(),
            "add_zero_attn": st.booleans(),
            "kdim": st.sampled_from([None, 5]),
            "vdim": st.sampled_from([None, 3]),
            "batch_first": st.booleans(),
        }
    ),
    training=st.booleans(),
    batch=st.sampled_from([None, 1, 3]),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    mask=MASKS,
    each=st.booleans(),
    attn=st.booleans(),
    padding=st.booleans(),
    need=st.sampled_from([False, True, "heads"]),
)
def test_attention_is_torchs_in_every_option_with_its_gradients_and_its_dropout(
    made, training, batch, sizes, mask, each, attn, padding, need
):
    plain = moved(nn.MultiheadAttention(8, dtype=torch.float64, **made)).train(training)
    queries, keys = sizes
    widths = (8, made["kdim"] or 8, made["vdim"] or 8)
    inputs = [
        drawn(batch or 1, length, width, seed=n)
        for n, (length, width) in enumerate(zip((queries, keys, keys), widths, strict=True))
    ]
    if batch is None:
        inputs = [x[0] for x in inputs]
    elif not made["batch_first"]:
        inputs = [x.transpose(0, 1) for x in inputs]
    own = ((batch or 1) * made["num_heads"],) if each else ()
    options = {
        "attn_mask": masked(mask if attn else None, *own, queries, keys),
        "key_padding_mask": masked(mask if padding else None, *((batch,) if batch else ()), keys, seed=1),
        "need_weights": bool(need),
        "average_attn_weights": need != "heads",
    }
    agree(plain, *inputs, options=options)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padding", [None, "bool"])
def test_a_causal_mask_with_its_hint_is_causal(need_weights, padding):
    plain = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
    options = {
        "attn_mask": causal,
        "key_padding_mask": masked(padding, 2, 4),
        "is_causal": True,
        "need_weights": need_weights,
    }
    x = drawn(2, 4, 8)
    made = agree(plain, x, x, x, options=options)
    later = x.clone()
    later[:, -1] += 1.0
    assert torch.equal(made(later, later, later, **options)[0][:, :-1], made(x, x, x, **options)[0][:, :-1])


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_attention_in_evaluation_without_gradients_is_torchs_to_the_stated_tolerance(dtype, rtol, fast_path):
    plain = moved(nn.MultiheadAttention(32, 4, batch_first=True, dtype=dtype)).eval()
    x = drawn(3, 10, 32, dtype=dtype)
    with torch.no_grad():
        for expected, found in zip(plain(x, x, x), unfused(plain)(x, x, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=rtol * float(expected.abs().max()))


def test_queries_that_may_attend_to_nothing_get_what_torch_gives_them():
    plain = nn.MultiheadAttention(8, 2, dtype=torch.float64).eval()
    x, nothing = drawn(3, 1, 8), torch.ones(3, 3, dtype=torch.bool)
    for need_weights in (True, False):
        options = {"attn_mask": nothing, "need_weights": need_weights}
        expected, found = plain(x, x, x, **options)[0], unfused(plain)(x, x, x, **options)[0]
        torch.testing.assert_close(found, expected, equal_nan=True)


def test_attention_is_four_linear_layers_that_are_called_in_every_mode():
    made = unfused(nn.MultiheadAttention(8, 2, batch_first=True))
    assert type(made) is Attention and linears(made) == {"query", "key", "value", "out"}
    x, called = drawn(1, 3, 8, dtype=torch.float32), []
    for name in linears(made):
        made.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    for training in (True, False):
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                made.train(training)(x, x, x, need_weights=False)
            assert sorted(called) == ["key", "out", "query", "value"]
            called.clear()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attn_mask": torch.zeros(3, 4)}, r"shape of attn_mask = \(3, 4\)"),
        ({"attn_mask": torch.zeros(1, 3)}, r"shape of attn_mask = \(1, 3\)"),
        ({"attn_mask": torch.zeros(2, 3, 3)}, r"shape of attn_mask = \(2, 3, 3\) .* \(4, 3, 3\)"),
        ({"attn_mask": torch.zeros(3, 3).int()}, "dtype of attn_mask = torch.int32"),
        ({"key_padding_mask": torch.zeros(3, 2)}, r"shape of key_padding_mask = \(3, 2\)"),
        ({"is_causal": True}, "attn_mask = None"),
    ],
)
def test_what_torch_refuses_of_masks_is_refused_by_name(options, says):
    plain = nn.MultiheadAttention(8, 2, batch_first=True).train()
    x = torch.randn(2, 3, 8)
    with pytest.raises((AssertionError, RuntimeError)):
        plain(x, x, x, **options)
    with pytest.raises(ValueError, match=says):
        unfused(plain)(x, x, x, **options)


def test_inputs_that_do_not_fit_are_refused_by_name():
    made = unfused(nn.MultiheadAttention(8, 2, batch_first=True))
    x = torch.randn(2, 3, 8)
    with pytest.raises(ValueError, match="key = 2-dimensional"):
        made(x, x[0], x)
    with pytest.raises(ValueError, match="query = 4-dimensional"):
        made(x[None], x[None], x[None])
    with pytest.raises(ValueError, match="one batch, and as many keys as values"):
        made(x, x, x[:, :2])
    with pytest.raises(ValueError, match="one batch"):
        made(x, x[:1], x[:1])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused_with_what_to_do_instead():
    nested = torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(3, 8)])
    with pytest.raises(ValueError, match=r"query = a nested tensor .* key_padding_mask"):
        unfused(nn.MultiheadAttention(8, 2, batch_first=True)).eval()(nested, nested, nested)
    with pytest.raises(ValueError, match="query = a nested tensor"):
        unfused(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()(nested)


def layer(kind, **options):
    made = kind(8, 2, 16, dtype=torch.float64, **{"dropout": 0.0, "batch_first": True, **options})
    return moved(made)


LAYERS = [
    {},
    {"dropout": 0.3},
    {"norm_first": True, "activation": "gelu"},
    {"norm_first": True, "dropout": 0.3, "batch_first": False},
    {"activation": nn.GELU(), "bias": False},
    {"activation": torch.tanh},
]


@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_an_encoder_layer_is_torchs_with_gradients_and_dropout(options, training, mask):
    plain = layer(nn.TransformerEncoderLayer, **options).train(training)
    batch = (2, 5) if options.get("batch_first", True) else (5, 2)
    masks = {"src_mask": masked(mask, 5, 5), "src_key_padding_mask": masked(mask, 2, 5, seed=1)}
    assert type(agree(plain, drawn(*batch, 8), options=masks)) is EncoderLayer
    agree(plain, drawn(5, 8), options={"src_mask": masks["src_mask"]})


@pytest.mark.parametrize("options", LAYERS)
def test_a_decoder_layer_and_a_decoder_are_torchs_with_gradients_and_dropout(options):
    plain = layer(nn.TransformerDecoderLayer, **options)
    batch = (2, 5) if options.get("batch_first", True) else (5, 2)
    both = {"tgt_mask": masked("bool", 5, 5), "memory_key_padding_mask": masked("bool", 2, 5, seed=1)}
    agree(plain, drawn(*batch, 8), drawn(*batch, 8, seed=1), options=both)
    stack = moved(nn.TransformerDecoder(plain, 2, nn.LayerNorm(8, dtype=torch.float64)))
    made = agree(stack, drawn(*batch, 8), drawn(*batch, 8, seed=1), options=both)
    assert type(made) is nn.TransformerDecoder


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
def test_a_transformer_is_torchs_with_gradients_and_dropout(batch_first):
    plain = moved(nn.Transformer(8, 2, 2, 1, 16, dropout=0.2, batch_first=batch_first, dtype=torch.float64))
    causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
    shapes = ((2, 5, 8), (2, 4, 8)) if batch_first else ((5, 2, 8), (4, 2, 8))
    inputs = [drawn(*shape, seed=n) for n, shape in enumerate(shapes)]
    padding = {"src_key_padding_mask": masked("bool", 2, 5), "memory_key_padding_mask": masked("bool", 2, 5)}
    for training in (True, False):
        made = agree(plain.train(training), *inputs, options={"tgt_mask": causal, **padding})
    assert {type(m) for m in made.modules()}.isdisjoint({nn.MultiheadAttention, nn.TransformerEncoderLayer})


def encoder(norm=True, seed=0, **options):
    torch.manual_seed(seed)
    inner = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    return moved(
        nn.TransformerEncoder(inner, 2, nn.LayerNorm(8, dtype=torch.float64) if norm else None, **options)
    )


AT_THE_END = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
IN_BETWEEN = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("mask", [None, "bool"])
@pytest.mark.parametrize(
    "padding", [None, AT_THE_END, IN_BETWEEN, AT_THE_END.double().masked_fill(AT_THE_END, -math.inf)]
)
def test_an_encoder_is_torchs_at_padded_positions_too(
    fast_path, gradients, training, norm, nested, mask, padding
):
    if mask is not None and padding is not None and padding.is_floating_point():
        mask = "float"  # torch wants both masks of one type
    plain = encoder(norm, enable_nested_tensor=nested).train(training)
    made = unfused(plain)
    assert type(made) is Encoder
    options = {"mask": None if mask is None else masked("bool", 5, 5), "src_key_padding_mask": padding}
    if mask == "float":
        options["mask"] = torch.zeros(5, 5, dtype=torch.float64).masked_fill(options["mask"], -math.inf)
    with torch.set_grad_enabled(gradients):
        expected, found = plain(drawn(2, 5, 8), **options), made(drawn(2, 5, 8), **options)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_network_that_needs_no_gradient_gets_zeros_at_padded_positions_as_from_torch():
    plain = encoder(norm=False).eval().requires_grad_(False)
    found = unfused(plain)(drawn(2, 5, 8), src_key_padding_mask=AT_THE_END)
    torch.testing.assert_close(found, plain(drawn(2, 5, 8), src_key_padding_mask=AT_THE_END))
    assert not found[AT_THE_END].any() and found[~AT_THE_END].all()


def test_finite_floats_are_added_in_evaluation_as_in_training():
    """torch's fast path takes each of them for ``True``."""
    plain, x = encoder().eval(), drawn(2, 5, 8)
    masks = {"mask": drawn(5, 5, seed=1), "src_key_padding_mask": drawn(2, 5, seed=2)}
    expected = plain.train()(x, **masks)
    with torch.no_grad():
        torch.testing.assert_close(unfused(plain.eval())(x, **masks), expected, rtol=1e-9, atol=1e-11)
        only = {"src_key_padding_mask": masks["src_key_padding_mask"]}
        torch.testing.assert_close(unfused(plain)(x, **only), plain.train()(x, **only), rtol=1e-9, atol=1e-11)


def test_a_causal_mask_is_found_by_an_encoder_as_by_torch():
    causal = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    for hint in (None, True, False):
        agree(encoder().eval(), drawn(2, 5, 8), options={"mask": causal, "is_causal": hint})


def test_every_layer_of_an_encoder_is_called_in_evaluation_without_gradients():
    made, called = unfused(encoder().eval()), set()
    for name in linears(made):
        made.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    with torch.no_grad():
        made(drawn(2, 5, 8), src_key_padding_mask=AT_THE_END)
    assert called == linears(made) and len(called) == 2 * 6
