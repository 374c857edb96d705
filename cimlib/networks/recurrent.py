"""Recurrent networks that step through time with linear layers.

torch hands the weights of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` to one fused kernel. Here each layer and
direction is a :class:`Cell` with one linear layer for its input and one for its state. Made by
:func:`~cimlib.networks.unfused.unfused`. Sources: the equations of torch's documentation; for the LSTM
Hochreiter and Schmidhuber, *Neural Computation* 9 (1997), with the projection of Sak et al.
(arXiv 1402.1128); for the GRU Cho et al. (arXiv 1406.1078), with the reset gate behind the recurrent weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from cimlib.networks.plain import linear

State = tuple[Tensor, ...]  # of an LSTM the output and the memory; else the output alone


def _lstm(x: Tensor, h: Tensor, state: State) -> State:
    i, f, g, o = (x + h).chunk(4, -1)
    memory = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * memory.tanh(), memory


def _gru(x: Tensor, h: Tensor, state: State) -> State:
    x_r, x_z, x_n = x.chunk(3, -1)
    h_r, h_z, h_n = h.chunk(3, -1)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return ((1 - z) * n + z * state[0],)


def _tanh(x: Tensor, h: Tensor, state: State) -> State:
    return ((x + h).tanh(),)


def _relu(x: Tensor, h: Tensor, state: State) -> State:
    return ((x + h).relu(),)


# From what a cell's two linear layers return, and its state, to the next state; by torch's name of the mode.
_UPDATES = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _tanh, "RNN_RELU": _relu}


class Cell(nn.Module):
    """One step in time: linear layers ``input`` and ``recurrent``, and a ``projection`` if there is one.

    The gates lie in ``input.weight`` (gates · hidden, in) as they do in ``weight_ih`` of torch: i, f, g, o of
    an LSTM, r, z, n of a GRU.

    Args:
        mode: ``"LSTM"``, ``"GRU"``, ``"RNN_TANH"`` or ``"RNN_RELU"``.
        parameters: the two weights, then the two biases if there are any, then the projection's weight.
    """

    def __init__(self, mode: str, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.mode = mode
        matrices = [p for p in parameters if p.dim() == 2]
        biases = [p for p in parameters if p.dim() == 1]
        self.input, self.recurrent = map(linear, matrices[:2], biases or repeat(None))
        self.projection = linear(matrices[2]) if len(matrices) > 2 else None
        self.bias = bool(biases)
        self.input_size = self.input.in_features
        self.hidden_size = self.projection.in_features if self.projection else self.recurrent.in_features

    def extra_repr(self) -> str:
        return self.mode

    def step(self, x: Tensor, state: State) -> State:
        """The next state (batch, hidden); ``x`` (batch, gates · hidden) is what ``input`` returned."""
        state = _UPDATES[self.mode](x, self.recurrent(state[0]), state)
        return state if self.projection is None else (self.projection(state[0]), *state[1:])

    def scan(self, x: Tensor, sizes: Sequence[int], state: State, reverse: bool) -> tuple[Tensor, State]:
        """Outputs of all steps, one step behind the other as in ``x`` (sum of sizes, in), and the last state.

        ``sizes`` are the batches of the steps. Where a step has fewer sequences than ``state``, the others
        have ended, or in ``reverse`` not begun, and their states wait.
        """
        steps = list(zip(self.input(x).split(sizes), sizes, strict=True))
        outputs = []
        for gates, size in reversed(steps) if reverse else steps:
            new = self.step(gates, tuple(part[:size] for part in state))
            outputs.append(new[0])
            waiting = [part[size:] for part in state]
            state = tuple(map(torch.cat, zip(new, waiting, strict=True))) if len(waiting[0]) else new
        return torch.cat(outputs[::-1] if reverse else outputs), state

    def forward(self, input: Tensor, hx: Tensor | State | None = None) -> Tensor | State:
        """What ``nn.LSTMCell``, ``nn.GRUCell`` or ``nn.RNNCell`` returns.

        Args:
            input: (batch, in), or (in,).
            hx: the state, (batch, hidden) or (hidden,), of an LSTM two of them; default zeros.

        Raises ``ValueError`` for other shapes.
        """
        batch = input.shape[:-1]
        _require(len(batch) < 2, "shape of input", tuple(input.shape), "(batch, in) or (in,)")
        state = _states(hx, [(*batch, self.hidden_size)] * (1 + (self.mode == "LSTM")), input)
        if not batch:
            state = tuple(part[None] for part in state)
        new = self.step(self.input(input if batch else input[None]), state)
        new = new if batch else tuple(part[0] for part in new)
        return new if self.mode == "LSTM" else new[0]


class Recurrent(nn.Module):
    """``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``, as :class:`Cell` after :class:`Cell` in ``cells``.

    There is one for each layer and direction, in torch's order: forward and backward of the first layer, and
    so on. Inputs of all steps go through ``input`` at once; ``recurrent`` is called step by step, and what
    draws at every call draws at every step.

    Args:
        network: the module to rewrite.
    """

    def __init__(self, network: nn.RNNBase) -> None:
        super().__init__()
        self.mode, self.bias = network.mode, network.bias
        self.input_size, self.hidden_size = network.input_size, network.hidden_size
        self.proj_size, self.num_layers = network.proj_size, network.num_layers
        self.batch_first, self.dropout = network.batch_first, network.dropout
        self.bidirectional = network.bidirectional
        self.cells = nn.ModuleList(Cell(self.mode, parameters) for parameters in network.all_weights)

    def extra_repr(self) -> str:
        return f"{self.mode}, batch_first={self.batch_first}, dropout={self.dropout}"

    def flatten_parameters(self) -> None:
        """Nothing, as no fused kernel reads the weights; for callers of torch's method."""

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | State | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor | State]:
        """The outputs and the last state, as ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` return them.

        Args:
            input: (batch, length, in) with ``batch_first``, else (length, batch, in); without a batch
                (length, in); or a packed sequence.
            hx: the state, (layers · directions, batch, hidden), without a batch (layers · directions,
                hidden); of an LSTM two of them, the first with ``proj_size`` features if there are
                projections. Default zeros.

        Raises ``ValueError`` for other shapes, and for sequences without a step.
        """
        if isinstance(input, PackedSequence):
            sizes = [int(size) for size in input.batch_sizes]
            batch: tuple[int, ...] = (sizes[0],)
            state = self._state(hx, batch, input.data)
            if input.sorted_indices is not None:
                state = tuple(part.index_select(1, input.sorted_indices) for part in state)
            outputs, state = self._run(input.data, sizes, state)
            if input.unsorted_indices is not None:
                state = tuple(part.index_select(1, input.unsorted_indices) for part in state)
            packed = PackedSequence(outputs, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            return packed, state if self.mode == "LSTM" else state[0]
        layout = "(batch, length, in)" if self.batch_first else "(length, batch, in)"
        layouts = f"{layout} or (length, in), with in = {self.input_size}"
        ok = input.dim() in (2, 3) and input.shape[-1] == self.input_size
        _require(ok, "shape of input", tuple(input.shape), layouts)
        batched, swap = input.dim() == 3, input.dim() == 3 and self.batch_first
        x = input.transpose(0, 1) if swap else input  # (length, batch, in) or (length, in)
        length, batch = len(x), tuple(x.shape[1:-1])
        _require(length > 0, "length of input", length, "at least one step")
        state = self._state(hx, batch, x)
        if not batched:
            state = tuple(part[:, None] for part in state)
        sizes = [state[0].shape[1]] * length
        outputs, state = self._run(x.flatten(0, -2), sizes, state)
        if batched:
            outputs = outputs.view(length, *batch, outputs.shape[-1])
        else:
            state = tuple(part[:, 0] for part in state)
        return outputs.transpose(0, 1) if swap else outputs, state if self.mode == "LSTM" else state[0]

    def _state(self, hx: Tensor | State | None, batch: tuple[int, ...], like: Tensor) -> State:
        """The given state, or zeros: (layers · directions, batch, hidden)."""
        widths = [self.proj_size or self.hidden_size] + [self.hidden_size] * (self.mode == "LSTM")
        return _states(hx, [(len(self.cells), *batch, width) for width in widths], like)

    def _run(self, x: Tensor, sizes: list[int], state: State) -> tuple[Tensor, State]:
        """Outputs (sum of sizes, directions · hidden) and last states of all layers."""
        directions = 1 + self.bidirectional
        last = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = F.dropout(x, self.dropout)
            outputs = []
            for n in range(layer * directions, (layer + 1) * directions):
                cell = self.cells.get_submodule(str(n))
                assert isinstance(cell, Cell)
                y, own = cell.scan(x, sizes, tuple(part[n] for part in state), reverse=bool(n % directions))
                outputs.append(y)
                last.append(own)
            x = torch.cat(outputs, -1)
        return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))


def _states(hx: Tensor | State | None, shapes: list[tuple[int, ...]], like: Tensor) -> State:
    """``hx`` as a tuple, or zeros. Raises ``ValueError`` unless it has these shapes."""
    if hx is None:
        return tuple(like.new_zeros(shape) for shape in shapes)
    state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    found = [tuple(part.shape) for part in state]
    _require(found == shapes, "shapes of hx", found, f"{shapes}")
    return state


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} = {value} is not allowed; allowed: {allowed}")
