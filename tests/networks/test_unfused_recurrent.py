"""Recurrent networks, step by step, against torch's own."""

import pytest
import torch
from fused import agree, drawn, linears, moved
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from cimlib.networks import Cell, Recurrent, unfused

pytestmark = pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning")
NETWORKS = {
    "lstm": (nn.LSTM, {}),
    "lstm with projections": (nn.LSTM, {"proj_size": 2}),
    "gru": (nn.GRU, {}),
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
}
CELLS = {
    "lstm": (nn.LSTMCell, {}),
    "gru": (nn.GRUCell, {}),
    "tanh": (nn.RNNCell, {}),
    "relu": (nn.RNNCell, {"nonlinearity": "relu"}),
}
MADE = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "dropout": st.sampled_from([0.0, 0.4]),
        "bidirectional": st.booleans(),
    }
)


def network(kind, **options):
    made, own = NETWORKS[kind]
    return moved(made(3, 4, dtype=torch.float64, **own, **options))


def states(plain, *batch):
    """A state to begin with, as ``hx`` of ``plain``."""
    count = plain.num_layers * (1 + plain.bidirectional)
    h = drawn(count, *batch, plain.proj_size or 4, seed=5)
    return (h, drawn(count, *batch, 4, seed=6)) if isinstance(plain, nn.LSTM) else h


class WithState(nn.Module):
    """Hands a flat list of states on, so that their gradients are compared."""

    def __init__(self, inner, wrap=lambda x: x):
        super().__init__()
        self.inner, self.wrap = inner, wrap

    def forward(self, x, *state):
        hx = {0: None, 1: state[0] if state else None}.get(len(state), state)
        output, last = self.inner(self.wrap(x), hx)
        return (output.data if isinstance(output, PackedSequence) else output), last


def flat(state):
    return state if isinstance(state, tuple) else (state,)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(NETWORKS)),
    made=MADE,
    training=st.booleans(),
    length=st.integers(1, 4),
    batch=st.sampled_from([None, 0, 1, 3]),
    given_state=st.booleans(),
)
def test_a_recurrent_network_is_torchs_in_every_option_with_its_gradients_and_its_dropout(
    kind, made, training, length, batch, given_state
):
    plain = network(kind, **made).train(training)
    inner = () if batch is None else (batch,)
    shape = (*inner, length) if made["batch_first"] else (length, *inner)
    state = flat(states(plain, *inner)) if given_state else ()
    agree(WithState(plain), drawn(*shape, 3), *state)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(NETWORKS)),
    made=MADE,
    training=st.booleans(),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    given_state=st.booleans(),
)
def test_sequences_of_different_lengths_packed_give_what_torch_gives(
    kind, made, training, lengths, given_state
):
    plain = network(kind, **made).train(training)
    state = flat(states(plain, len(lengths))) if given_state else ()

    def packed(x):
        x = x.transpose(0, 1) if made["batch_first"] else x
        return pack_padded_sequence(x, torch.tensor(lengths), made["batch_first"], enforce_sorted=False)

    agree(WithState(plain, packed), drawn(max(lengths), len(lengths), 3), *state)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_a_packed_sequence_comes_back_packed_and_in_order(kind):
    plain = network(kind, bidirectional=True)
    batch = pack_sequence([drawn(n, 3, seed=n) for n in (2, 4, 1)], enforce_sorted=False)
    expected, found = plain(batch)[0], unfused(plain)(batch)[0]
    for ours, theirs in zip(pad_packed_sequence(found), pad_packed_sequence(expected), strict=True):
        torch.testing.assert_close(ours, theirs)
    alone = unfused(plain)(drawn(4, 3, seed=4))[0]
    torch.testing.assert_close(pad_packed_sequence(found)[0][:, 1], alone)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(CELLS)),
    bias=st.booleans(),
    batch=st.sampled_from([None, 1, 3]),
    given_state=st.booleans(),
)
def test_a_cell_is_torchs_with_its_gradients(kind, bias, batch, given_state):
    made, own = CELLS[kind]
    plain = moved(made(3, 4, bias=bias, dtype=torch.float64, **own))
    shape = () if batch is None else (batch,)
    count = given_state * (2 if kind == "lstm" else 1)
    state = [drawn(*shape, 4, seed=n) for n in range(count)]

    class Stepped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain

        def forward(self, x, *state):
            return self.inner(x, state if len(state) == 2 else (*state, None)[0])

    assert type(agree(Stepped(), drawn(*shape, 3), *state).inner) is Cell


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh", "relu"])
def test_a_hundred_steps_without_gradients_are_torchs_to_the_stated_tolerance(kind, dtype, rtol):
    torch.manual_seed(0)
    made, own = NETWORKS[kind]
    plain, x = made(16, 32, 2, bidirectional=True, dtype=dtype, **own).eval(), drawn(100, 4, 16, dtype=dtype)
    with torch.no_grad():
        expected, found = plain(x)[0], unfused(plain)(x)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=rtol * float(expected.abs().max()))


def test_each_layer_and_direction_is_a_cell_of_linear_layers():
    made = unfused(nn.LSTM(3, 8, 2, bidirectional=True, proj_size=2))
    assert type(made) is Recurrent and len(made.cells) == 4
    shapes = {name: tuple(p.shape) for name, p in made.cells[2].named_parameters() if p.dim() == 2}
    assert shapes == {"input.weight": (32, 4), "recurrent.weight": (32, 2), "projection.weight": (2, 8)}
    assert linears(unfused(nn.GRUCell(3, 4))) == {"input", "recurrent"}


def test_what_callers_read_of_a_recurrent_network_is_still_there():
    plain = nn.LSTM(3, 8, 2, batch_first=True, dropout=0.1, bidirectional=True, proj_size=2, bias=False)
    made = unfused(plain)
    made.flatten_parameters()
    names = ["input_size", "hidden_size", "proj_size", "num_layers", "batch_first", "dropout"]
    for name in [*names, "bidirectional", "bias", "mode"]:
        assert getattr(made, name) == getattr(plain, name)
    cell, plain_cell = unfused(nn.RNNCell(3, 8)), nn.RNNCell(3, 8)
    for name in ("input_size", "hidden_size", "bias"):
        assert getattr(cell, name) == getattr(plain_cell, name)


@pytest.mark.parametrize(
    ("shape", "hx", "says"),
    [
        ((4, 2, 5), None, r"shape of input = \(4, 2, 5\).* in = 3"),
        ((1, 4, 2, 3), None, r"shape of input = \(1, 4, 2, 3\)"),
        ((0, 2, 3), None, "length of input = 0"),
        ((4, 2, 3), ((1, 3, 4), (1, 2, 4)), r"shapes of hx = \[\(1, 3, 4\), \(1, 2, 4\)\] .* \[\(1, 2, 4\)"),
        ((4, 2, 3), ((1, 4), (1, 4)), "shapes of hx"),
        ((4, 3), ((1, 2, 4), (1, 2, 4)), "shapes of hx"),
        ((4, 2, 3), ((2, 2, 4), (2, 2, 4)), "shapes of hx"),
    ],
)
def test_what_torch_refuses_of_shapes_is_refused_by_name(shape, hx, says):
    plain, x = nn.LSTM(3, 4), torch.zeros(shape)
    state = None if hx is None else tuple(map(torch.zeros, hx))
    with pytest.raises((RuntimeError, ValueError)):
        plain(x, state)
    with pytest.raises(ValueError, match=says):
        unfused(plain)(x, state)


def test_one_state_for_an_lstm_and_a_cells_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match="shapes of hx"):
        unfused(nn.LSTM(3, 4))(torch.zeros(4, 2, 3), torch.zeros(1, 2, 4))
    cell = unfused(nn.GRUCell(3, 4))
    with pytest.raises(ValueError, match="shape of input"):
        cell(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="shapes of hx"):
        cell(torch.zeros(2, 3), torch.zeros(3, 4))
