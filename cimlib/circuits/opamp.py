r"""Operational amplifiers: finite gain, offset, rails, and what they make of a layer.

**One equation for every amplifier** (derived; equations (1)–(5) of JJAP 2024 as quoted by its author's
repository are special cases, see the tests). An amplifier of open-loop gain :math:`A` gives
:math:`v_0 + A\,(v_+ + o - v_-)`. In a circuit whose output would be :math:`v_\text{ideal}` if it were
perfect, and which returns the fraction :math:`1/n` of the output to its inverting input, it gives

.. math:: v = \frac{v_\text{ideal} + n\,e}{1 + n/A}, \qquad e = o + \frac{v_0 - V_0}{A},

all voltages above :math:`V_0`. The *noise gain* :math:`n` is :math:`1 + s/g_L` for a converter whose column
has conductances adding to :math:`s`, 2 for a subtractor, 1 for a voltage follower. Offset and output at
zero input are one error :math:`e`, and it is amplified by :math:`n`.

Signals between layers are in units of the input span: a voltage is :math:`V_0 + \text{span}\cdot x`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.circuits.base import Circuit, Operation
from cimlib.devices.draws import Draw
from cimlib.devices.effects import overwritable, require, straight_through


@dataclass(frozen=True)
class Signal:
    """One stage's output in units of the span, above V_0, one number or row for each column of an array.

    Args:
        value: with ``constant``, the matrix (out or 1, in, ...) of an affine map of the layer's input, not
            yet computed; without, the voltages themselves.
        dim: dimension of ``value`` along which the columns lie, counted from the end, < 0.
        constant: (out or 1,) or ``None``.
    """

    value: Tensor
    dim: int
    constant: Tensor | None = None

    def columns(self, vector: Tensor) -> Tensor:
        """``vector``, one number a column, so that it broadcasts with ``value``."""
        return vector.reshape(-1, *[1] * (-1 - self.dim))

    def __add__(self, vector: Tensor) -> Signal:
        if self.constant is None:
            return replace(self, value=self.value + self.columns(vector))
        return replace(self, constant=self.constant + vector)

    def __sub__(self, other: Signal) -> Signal:
        both = self.constant is not None and other.constant is not None
        constant = self.constant - other.constant if both else None  # type: ignore[operator]
        return Signal(self.value - other.value, self.dim, constant)

    def __truediv__(self, vector: Tensor) -> Signal:
        constant = None if self.constant is None else self.constant / vector
        return Signal(self.value / self.columns(vector), self.dim, constant)

    def reduced(self, vector: Tensor) -> Signal:
        """As division, of a signal just computed: in its own memory if it may."""
        if not overwritable():
            return self / vector
        constant = None if self.constant is None else self.constant.div_(vector)
        return replace(self, value=self.value.div_(self.columns(vector)), constant=constant)

    def settle(self, op: Operation) -> Signal:
        """The voltages themselves."""
        if self.constant is None:
            return self
        linear = Signal(op(self.value), 1 - self.value.dim())
        if not overwritable():
            return linear + self.constant
        return replace(linear, value=linear.value.add_(linear.columns(self.constant)))


@dataclass(frozen=True)
class OpAmp(Circuit):
    r"""The amplifiers of JJAP 2024 and of the two single structures; every default is ideal.

    Each column has an IV converter with feedback :math:`g_L`. A *pair* subtracts the converters of its
    two columns; a reference *column* has one converter, subtracted from every other; the
    *constant-term* amplifier sums the inputs through the reference with feedback :math:`g_f` and drives
    a conductance :math:`g_c = g_f` into each column, whose converters are the outputs. ReLUs behind a
    layer are a comparator and a voltage follower each; :func:`~.program` puts them there.

    **A scale for each column** (derived). Column j has its own feedback :math:`g_j`. Subtractors of a pair
    need not know; a constant term enters each column as a current, before its converter, and needs not
    either. A reference column has the smallest :math:`g_j` of the layer as feedback, and subtractor j takes
    the fraction :math:`\min g / g_j \le 1` of its output (a divider at the input that is not inverted), so
    that its noise gain stays 2.

    Without rails the layer is one affine map, and is computed as one; with rails each stage is computed
    and limited on its own.

    Args:
        gain: open-loop gain of every amplifier, > 0; ``inf`` is ideal.
        gain_spread: standard deviation of ln(gain), **one normal draw per amplifier**, ≥ 0.
        offset: standard deviation of the input offset voltage, V, **one normal draw per amplifier**, ≥ 0;
            comparators share it.
        at_zero: output at zero differential input, V; ``None`` is ``v_0``.
        rails: lowest and highest output of every amplifier, V, around ``v_0``; ``None`` is no limit.
        v_0: V of the virtual grounds: the zero of the signals.
        span: V for a signal of 1, > 0.
        g_load: feedback conductance :math:`g_L`, µS, > 0; ``None`` takes the array's scale, which makes the
            layer's output :math:`W\bar x`, and of an array with a scale for each column that column's.
        g_constant: :math:`g_f = g_c` of the constant term, µS, > 0; ``None`` is :math:`g_L`, the largest of
            the layer where columns have their own. A larger one keeps the summing amplifier off its rails,
            and adds :math:`g_c/g_L` to the noise gain.
        leak: slope of the surrogate gradient at the rails, 0 ≤ leak ≤ 1. A clipped output passes no
            gradient, and a network whose converters all clip never learns; 0 is that exact gradient (at the
            rails: the opened cells of a zero state pass theirs straight through all the same).
        backward: ``"circuit"``: gradients through all of the above (hardware-conscious training);
            ``"ideal"``: outputs of the circuit, gradients of the layer with perfect amplifiers, which is
            what software knows that is given the chip's outputs alone (in-situ training).

    Raises ``ValueError`` for values out of range, and :meth:`check` for sliced arrays, a ``g_load`` for
    columns with scales of their own, digital biases (the bias is a row of the array) and grouped
    convolutions in single arrays with rails.

    Source: circuit and equations (1)–(5) of JJAP 2024 as quoted by its author's repository; single
    structures, surrogate gradient and the one equation above derived.
    """

    gain: float = inf
    gain_spread: float = 0.0
    offset: float = 0.0
    at_zero: float | None = None
    rails: tuple[float, float] | None = None
    v_0: float = 0.5
    span: float = 0.35
    g_load: float | None = None
    g_constant: float | None = None
    leak: float = 0.02
    backward: Literal["circuit", "ideal"] = "circuit"

    def __post_init__(self) -> None:
        require(self.gain > 0, "gain", self.gain, "0 < gain ≤ ∞")
        require(
            0 <= self.gain_spread < inf, "gain_spread", self.gain_spread, "0 ≤ gain_spread < ∞ (std of ln)"
        )
        require(0 <= self.offset < inf, "offset", self.offset, "0 ≤ offset < ∞ (V)")
        require(abs(self.v_0) < inf, "v_0", self.v_0, "finite (V)")
        finite = self.at_zero is None or abs(self.at_zero) < inf
        require(finite, "at_zero", self.at_zero, "None or finite (V)")
        around = self.rails is None or -inf < self.rails[0] < self.v_0 < self.rails[1] < inf
        require(around, "rails", self.rails, f"None or low < v_0 = {self.v_0:g} < high (V)")
        require(0 < self.span < inf, "span", self.span, "0 < span < ∞ (V)")
        for name in ("g_load", "g_constant"):
            value = getattr(self, name)
            require(value is None or 0 < value < inf, name, value, f"None or 0 < {name} < ∞ (µS)")
        require(0 <= self.leak <= 1, "leak", self.leak, "0 ≤ leak ≤ 1")
        require(self.backward in ("circuit", "ideal"), "backward", self.backward, "'circuit', 'ideal'")

    @property
    def has_activation(self) -> bool:
        return True

    def check(self, array: Array, layer: nn.Module | None = None) -> None:
        require(array.slices == 1, "array", array, "an unsliced array behind operational amplifiers")
        fits = self.g_load is None or array.scale == "layer"
        allowed = "None where each column has its own scale: it is the feedback; array=DoubleArray() has one"
        require(fits, "g_load", self.g_load, allowed)
        if layer is None:
            return
        none = getattr(layer, "bias", None) is None
        require(none, "bias", "digital", "none behind amplifiers; a row of the array: mlp(..., bias='row')")
        groups = getattr(layer, "groups", 1)
        fits = groups == 1 or array.structure == "pair" or self.rails is None
        require(fits, "groups", groups, "1, where single arrays have rails")

    def amplifiers(self, array: Array, outputs: int) -> dict[str, tuple[int, ...]]:
        """Stages of a layer of ``outputs`` columns, with the shape of its amplifiers."""
        if array.structure == "pair":
            return {"converter": (2, outputs), "subtractor": (outputs,)}
        stages: dict[str, tuple[int, ...]] = {"converter": (outputs,), "reference": (1,)}
        return stages | ({"subtractor": (outputs,)} if array.structure == "column" else {})

    def draws(self, array: Array, weight: tuple[int, ...]) -> dict[str, Draw]:
        return _normals(self.amplifiers(array, weight[0]))

    def activation_draws(self, outputs: int) -> dict[str, Draw]:
        stages = _normals({"comparator": (outputs,), "follower": (outputs,)})
        del stages["comparator_gain"]
        return stages

    def amplify(
        self, ideal: Signal, noise_gain: Tensor | float, z: Mapping[str, Tensor], stage: str, at: int = 0
    ) -> Signal:
        """The equation of this module for amplifiers ``at`` of ``stage``, not yet limited."""
        offset, spread = z[stage], z[f"{stage}_gain"]
        if offset.dim() == 2:
            offset, spread = offset[at], spread[at]
        inverse = torch.exp(-self.gain_spread * spread) / self.gain
        at_zero = 0.0 if self.at_zero is None else self.at_zero - self.v_0
        error = (self.offset * offset + at_zero * inverse) / self.span
        return (ideal + noise_gain * error).reduced(1 + noise_gain * inverse)

    def limit(self, volt: Tensor) -> Tensor:
        """Signals, just computed, held between the rails; beyond them the gradient is ``leak``."""
        if self.rails is None:
            return volt
        low, high = ((rail - self.v_0) / self.span for rail in self.rails)
        if overwritable():
            return volt.clamp_(low, high)
        limited = volt.clamp(low, high)
        if not (self.leak and torch.is_grad_enabled()):
            return limited
        return straight_through(limited, limited + self.leak * (volt - limited))

    def stages(
        self, op: Operation, array: Array, g: Conductances, z: Mapping[str, Tensor]
    ) -> dict[str, Signal]:
        """Outputs of all amplifiers of a layer, in the order of the signal; the last is the layer's.

        Arguments are those of the call. ``"positive"`` and ``"negative"`` are the converters of a pair,
        ``"reference"`` is the one that all columns share. Without rails each is an affine map of the
        layer's input, with rails each is computed.
        """
        load = g.per_weight.flatten() if self.g_load is None else g.scale.new_tensor([self.g_load])
        smallest, largest = load.amin().reshape(1), load.amax().reshape(1)
        constant = largest if self.g_constant is None else g.scale.new_tensor([self.g_constant])

        def settle(signal: Signal) -> Signal:
            if self.rails is None:
                return signal
            signal = signal.settle(op)
            return replace(signal, value=self.limit(signal.value))

        def convert(cells: Tensor, stage: str, at: int = 0, load: Tensor = load) -> Signal:
            """Converter of columns ``cells`` (out, in, ...)."""
            noise_gain = 1 + cells.flatten(1).sum(1) / load
            ideal = Signal(-cells, -cells.dim(), torch.zeros_like(noise_gain)) / load
            return settle(self.amplify(ideal, noise_gain, z, stage, at))

        def convert_with(constant_term: Signal, cells: Tensor) -> Signal:
            """The same, with the constant term driven into each column."""
            noise_gain = 1 + (cells.flatten(1).sum(1) + constant) / load
            ideal = Signal(-cells, -cells.dim(), torch.zeros_like(noise_gain)) / load
            ideal = (ideal if self.rails is None else ideal.settle(op)) - constant_term / (load / constant)
            return settle(self.amplify(ideal, noise_gain, z, "converter"))

        if array.structure == "pair":
            minus, plus = (convert(g.cells[0, at], "converter", at) for at in (0, 1))
            found = {"positive": minus, "negative": plus}
        else:
            assert g.reference is not None
            if array.structure == "constant-term":
                term = convert(g.reference[None], "reference", load=constant)
                return {"reference": term, "output": convert_with(term, g.cells[0, 0])}
            minus = convert(g.cells[0, 0], "converter")
            common = convert(g.reference[None], "reference", load=smallest)
            found = {"reference": common, "converter": minus}
            plus = common / (load / smallest)
        return found | {"output": settle(self.amplify(plus - minus, 2.0, z, "subtractor"))}

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        perfect = weight if self.g_load is None else weight * (g.scale / self.g_load)  # one for the layer
        if self.gain == inf and self.offset == 0 and self.rails is None:
            return op(perfect)
        output = self.stages(op, array, g, z)["output"]
        if output.constant is None:
            y = output.value
        else:  # infinite gain leaves the weights as they are, to the last bit
            y = op(perfect if self.gain == inf else output.value, output.constant)
        return straight_through(y, op(perfect)) if self.backward == "ideal" else y

    def activation(self, x: Tensor, z: Mapping[str, Tensor], dim: int) -> Tensor:
        """ReLU whose comparator is off by its offset, then a follower: x > −o passes, else 0."""
        signal = Signal(x, dim)
        passed = x + signal.columns(self.offset / self.span * z["comparator"]) > 0
        above = replace(signal, value=torch.where(passed, x, 0.0))
        return self.limit(self.amplify(above, 1.0, z, "follower").value)


def _normals(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Draw]:
    """A normal draw for the offset and one for the gain of every amplifier."""
    return {name: ("normal", shape) for stage, shape in shapes.items() for name in (stage, f"{stage}_gain")}
