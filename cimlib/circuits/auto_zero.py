r"""Amplifiers that sample their own error on a capacitor, and subtract it: auto-zero, and double sampling.

Both work in two phases. In the first the error alone is sampled; in the second, the active one, a layer is
computed with it taken off. All equations here are derived; the circuits are textbook (Enz and Temes, Proc.
IEEE 84(11), 1584, 1996), and the tests hold both to ngspice transients (:mod:`cimlib.bench.transient`).

**At the input.** A capacitor C lies in series with the inverting input of every amplifier. First the
amplifier is a follower of itself, with the other plate at :math:`V_0`: it holds :math:`e A/(1+A)`, where
:math:`e = o + (v_0-V_0)/A` is the error of :mod:`cimlib.circuits.opamp`. Then the plate goes to the column,
and of the error is left

.. math:: e' = \frac{e}{1+A} - d, \qquad
    d = \frac{q - I\,t}{C} + \sqrt{\frac{kT}{C}}\,z, \qquad q = \bar q + \sigma_q z_q ,

with d what the plate at the amplifier has risen by since: the charge q that the switch leaves on it, the
leakage I out of it for the time t, the noise of the sampling. The output is that of an amplifier of the
error e′, so all of it is multiplied by the noise gain n. What all capacitors share, the mean charge and the
leakage, cancels between the two converters of a pair where their noise gains are equal, and only there; that
of the subtractor stays.

**At the output** (correlated double sampling). One capacitor a column follows the layer's last amplifier.
First every row is at :math:`V_0`, that of the bias too, and the other plate as well; then that plate is let
go, the rows are driven, and it shows

.. math:: y = u(x) - u(0) + d .

Off the rails this is the layer without any offset, with d not multiplied by anything. But the errors of all
stages are still in the amplifiers: rails hold in both phases, each stage is limited in each, and of a stage
that is at a rail in either one the error is not cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf, sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from cimlib.arrays.base import Array, Conductances
from cimlib.circuits.base import Circuit, Operation
from cimlib.circuits.opamp import OpAmp
from cimlib.devices.draws import Draw
from cimlib.devices.effects import require, require_kind

BOLTZMANN = 1.380649e-23  # J/K, exact


@dataclass(frozen=True)
class AtRest:
    """The linear map of a layer with every row at V_0; see :class:`~.Operation`. Its outputs are all alike,
    so one for each column stands for them: (out, 1, ...), which broadcasts with the layer's own."""

    x: Tensor

    def __call__(self, weight: Tensor, bias: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        nothing = weight.new_zeros(weight.shape[0], *[1] * (weight.dim() - 2))
        return nothing if bias is None else nothing + bias.reshape(nothing.shape)


@dataclass(frozen=True)
class AutoZero(Circuit):
    r"""Amplifiers ``inner`` whose errors are sampled and subtracted; equations in
    :mod:`cimlib.circuits.auto_zero`. By default the sampling is perfect.

    **What is auto-zeroed.** At the input every amplifier: converters, reference, subtractors, and behind the
    layer the follower and the comparator of every ReLU, with a capacitor each. A comparator is sampled as an
    amplifier of the nominal gain with e = o, for :class:`~.OpAmp` gives it no other error. At the output the
    layer alone, with one capacitor a column; comparators and followers behind it keep their errors, and what
    the capacitor drives has to be a gate, such as theirs, for its plate floats and is held by no rail.

    A chip's amplifiers are those of the same chip behind ``inner`` alone: their slots are the same, and
    charge and noise have slots of their own. (Not so under :func:`~.fresh`, where draws follow one another.)

    **Noise** is drawn anew at every sampling. Here it is one draw of the chip, as everything else is: a
    *stand-in*, of the right size from amplifier to amplifier, that stays the same from input to input. It
    makes chips differ more than they would. :func:`~.fresh` draws it anew, but with it the whole chip.

    Left out are a capacitance p of the amplifier's input (with it the gain is A C/(C + p), and e/(1 + A) is
    (C + p)/C times as large), a mismatch of leakages, noise that was not sampled, and settling.

    Args:
        inner: the amplifiers, with their gain, offsets and rails.
        where: ``"input"`` or ``"output"``. Rails act in the first phase too: at the input the capacitor holds
            at most what they let through, and the rest of the error stays.
        capacitor: C, **F**, > 0; ``inf`` is never moved, and allowed only where nothing would move it.
        charge: mean charge :math:`\bar q` that opening the switch adds to the plate that floats, C, of either
            sign; about half of the channel's, :math:`WLC_\text{ox}(V_\text{GS}-V_T)/2`, and the overlap's.
        charge_spread: its standard deviation :math:`\sigma_q`, C, **one normal draw per amplifier** (a column
            at the output), ≥ 0.
        leakage: current I away from that plate, A, of either sign; the same everywhere.
        hold: t from the sampling to the reading, s, ≥ 0, and > 0 where something leaks. An illustration of
            JJAP 2024 has 600 ns of activity for each input.
        temperature: T, K, ≥ 0, of the noise :math:`\sqrt{kT/C}` (2.04 mV for 1 fF at 300 K), **one normal
            draw per amplifier** (a column at the output); 0 is none.

    Raises ``ValueError`` for values out of range, ``TypeError`` if ``inner`` is no :class:`~.OpAmp`, and
    :meth:`check` as that does.
    """

    inner: OpAmp = field(default_factory=OpAmp)
    where: Literal["input", "output"] = "input"
    capacitor: float = inf
    charge: float = 0.0
    charge_spread: float = 0.0
    leakage: float = 0.0
    hold: float = 0.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        require_kind("inner", self.inner, OpAmp, "OpAmp(gain=1369)")
        require(self.where in ("input", "output"), "where", self.where, "'input', 'output'")
        for name, unit in (("charge", "C"), ("leakage", "A")):
            value = getattr(self, name)
            require(-inf < value < inf, name, value, f"finite ({unit})")
        for name, unit in (("charge_spread", "C"), ("hold", "s"), ("temperature", "K")):
            value = getattr(self, name)
            require(0 <= value < inf, name, value, f"0 ≤ {name} < ∞ ({unit})")
        require(self.capacitor > 0, "capacitor", self.capacitor, "0 < capacitor ≤ ∞ (F)")
        held = self._quiet or self.capacitor < inf
        require(
            held, "capacitor", self.capacitor, "0 < capacitor < ∞ (F), where charge, leakage or noise are"
        )
        lasting = self.leakage == 0 or self.hold > 0
        require(lasting, "hold", self.hold, "0 < hold < ∞ (s), where something leaks")

    @property
    def _quiet(self) -> bool:
        """Whether nothing moves what was sampled."""
        return not (self.charge or self.charge_spread or self.leakage or self.temperature)

    @property
    def has_activation(self) -> bool:
        return self.inner.has_activation

    def check(self, array: Array, layer: nn.Module | None = None) -> None:
        self.inner.check(array, layer)

    def draws(self, array: Array, weight: tuple[int, ...]) -> dict[str, Draw]:
        own = self.inner.draws(array, weight)
        if self.where == "output":
            return own | {f"sampled_{kind}": ("normal", weight[:1]) for kind in ("charge", "noise")}
        return own | _capacitors(own)

    def activation_draws(self, outputs: int) -> dict[str, Draw]:
        own = self.inner.activation_draws(outputs)
        return own if self.where == "output" else own | _capacitors(own)

    def plate(self, z: Mapping[str, Tensor], stage: str) -> Tensor:
        """d of :mod:`cimlib.circuits.auto_zero`, V, for each capacitor of ``stage``, ``"sampled"`` at the
        output; ``z`` are the draws."""
        rise = (self.charge - self.leakage * self.hold) / self.capacitor
        mismatch = self.charge_spread / self.capacitor * z[f"{stage}_charge"]
        return rise + mismatch + sqrt(BOLTZMANN * self.temperature / self.capacitor) * z[f"{stage}_noise"]

    def residue(self, z: Mapping[str, Tensor], stage: str) -> Tensor:
        """e′ of :mod:`cimlib.circuits.auto_zero`, V: the error that each amplifier of ``stage`` has left with
        a capacitor at its input; ``z`` are the draws."""
        inner, error = self.inner, self.inner.offset * z[stage]
        inverse = torch.full_like(error, 1 / inner.gain)
        if f"{stage}_gain" in z:  # a comparator has none
            inverse = torch.exp(-inner.gain_spread * z[f"{stage}_gain"]) / inner.gain
            error = error + (0.0 if inner.at_zero is None else inner.at_zero - inner.v_0) * inverse
        left = error * inverse / (1 + inverse)
        if inner.rails is not None:
            low, high = (rail - inner.v_0 for rail in inner.rails)
            sampled = error / (1 + inverse)
            left = left + (sampled - sampled.clamp(low, high))
        return left - self.plate(z, stage)

    def equivalent(self, z: Mapping[str, Tensor]) -> tuple[OpAmp, dict[str, Tensor]]:
        """Amplifiers without a capacitor, and their draws, that give the same in the active phase.

        At the input those of offsets e′, each its own draw in V, and no output at zero input. At the output
        ``inner`` itself. ``z`` are the draws of a layer, or of the activations behind it.
        """
        if self.where == "output":
            return self.inner, dict(z)
        if self._quiet and self.inner.gain == inf and self.inner.rails is None:
            return replace(self.inner, offset=0.0, at_zero=None), dict(z)
        stages = [name.removesuffix("_noise") for name in z if name.endswith("_noise")]
        left = {stage: self.residue(z, stage) for stage in stages}
        return replace(self.inner, offset=1.0, at_zero=None), {**z, **left}

    def __call__(
        self,
        op: Operation,
        array: Array,
        g: Conductances,
        weight: Tensor,
        bias: Tensor | None,
        z: Mapping[str, Tensor],
    ) -> Tensor:
        if self.where == "input":
            circuit, draws = self.equivalent(z)
            return circuit(op, array, g, weight, bias, draws)
        if self.inner.rails is None:  # one affine map, whose constant is u(0)
            perfect = replace(self.inner, offset=0.0, at_zero=None)
            y = perfect(op, array, g, weight, bias, z)
        else:
            y = self.inner(op, array, g, weight, bias, z)
            y = y - self.inner(AtRest(op.x), array, g, weight, bias, z)
        if self._quiet:
            return y
        rise = self.plate(z, "sampled") / self.inner.span
        return y + rise.reshape(-1, *[1] * (weight.dim() - 2))

    def activation(self, x: Tensor, z: Mapping[str, Tensor], dim: int) -> Tensor:
        circuit, draws = self.equivalent(z)
        return circuit.activation(x, draws, dim)


def _capacitors(amplifiers: Mapping[str, Draw]) -> dict[str, Draw]:
    """Draws for the charge and the noise on the capacitor of every amplifier."""
    stages = {name: draw for name, draw in amplifiers.items() if not name.endswith("_gain")}
    return {f"{stage}_{kind}": draw for stage, draw in stages.items() for kind in ("charge", "noise")}
