r"""Measuring the amplifiers of a chip from their outputs, so that software can emulate *that* chip.

JJAP 2024 reports in its abstract a circuit that measures offset voltages and open-loop gains, of minor
area; the circuit itself is not found, and what follows is derived. Every amplifier obeys the equation of
:mod:`cimlib.circuits.opamp`. Its output is led out and read in a configuration of known noise gain
:math:`n` – for a converter known and open cells set it, a subtractor has 2, a follower 1 – twice: with
nothing driven, and with its inputs driven so that a perfect amplifier would give :math:`d`. With
:math:`c = 1 + n/A` the readings, and what follows from them, are

.. math:: r_0 = \frac{n e}{c}, \quad r_1 = \frac{d + n e}{c} \qquad\Longrightarrow\qquad
    c = \frac{d}{r_1 - r_0}, \quad e = \frac{c\,r_0}{n}, \quad o = e - \frac{v_0 - V_0}{A}.

**How well** (first order). With an independent error of standard deviation :math:`\varepsilon` in each
reading, :math:`\rho = n e/d` and :math:`v_0 = V_0`

.. math:: \mathrm{std}(\hat o) = \frac{c\,\varepsilon}{n}\sqrt{(1+\rho)^2 + \rho^2}, \qquad
    \mathrm{std}(\ln\hat A) = \sqrt2\,\frac{c^2 A}{n}\,\frac{\varepsilon}{d}.

Where the design fixes the gain, only the reading with nothing driven is used, and the offset is off by
:math:`c\,\varepsilon/n`. Where it does not, a gain is weighed against the design's spread: the measured
deviation of ln A from the nominal one is divided by :math:`1+\tau^2`, with :math:`\tau` the second of these
standard deviations at the nominal gain in units of ``gain_spread``. So the two above hold of the emulator
for :math:`\tau \ll 1` only; beyond, the gain tends to the nominal one. The sign of :math:`d` is opposite to
that of :math:`r_0`: then the output moves away from the nearer rail, and for :math:`n|e| \le |d|` the root
is at most 1. A comparator has no feedback: its threshold is found by a ramp and is off by one error.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from math import exp, inf

import torch
from torch import Tensor, nn

from cimlib.chip.crossbar import Crossbar, fabricated
from cimlib.chip.fabricated import Fabricated
from cimlib.chip.layers import LinearMap
from cimlib.circuits.opamp import OpAmp, Signal
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require

_PRIOR = 4.0  # standard deviations of ln A


_NOISE_GAIN = {"subtractor": 2.0, "follower": 1.0}


@torch.no_grad()
def measured(
    model: nn.Module, error: float, *, noise_gain: float = 10.0, drive: float = 0.1, seed: int = 0
) -> nn.Module:
    r"""The emulator of a chip: a deep copy of it with the amplifiers' draws as they are measured.

    The emulator is for training; ``model`` remains the chip. The emulator holds no chip of its own
    (``chip=None``), because :func:`~.fabricate` and :func:`~.evaluate`
    would draw the true amplifiers again: take its parameters back to the chip and evaluate that.

    What the design fixes is not measured: offsets if ``offset = 0``, gains if ``gain_spread = 0`` or
    ``gain = inf``. A measured gain is believed within ±4 standard deviations of the design's ln A, and not
    at all where an amplifier with nothing driven is at a rail: there it is the nominal gain, and the offset
    is the largest that the rail lets through, c·headroom/n in magnitude.

    Args:
        model: a network behind :class:`~.OpAmp` that holds a chip.
        error: standard deviation of **each reading**, V, ≥ 0.
        noise_gain: n of the converters while they are read, ≥ 1. Errors shrink as 1/n; but
            offsets beyond headroom/n, c ≈ 1, drive the output to a rail.
        drive: magnitude of d, V, > 0 and less than the headroom of the rails on either side.
        seed: of the errors, ≥ 0; they are each chip's, layer's and amplifier's own.

    Raises ``ValueError`` for values out of range, and for a model that is not on hardware, holds no chip or
    has another circuit.
    """
    require(0 <= error < inf, "error", error, "0 ≤ error < ∞ (V)")
    require(1 <= noise_gain < inf, "noise_gain", noise_gain, "1 ≤ noise_gain < ∞")
    valid = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(valid, "seed", seed, "an integer ≥ 0")
    for module, circuit in _amplified(model):
        require(module.chip is not None, "model", "a network without a chip", "fabricate(model, chip)")
        headroom = min(abs(rail - circuit.v_0) for rail in circuit.rails or (inf,))
        require(0 < drive < headroom, "drive", drive, f"0 < drive < {headroom:g} (V)")
    emulator = copy.deepcopy(model)
    for module, circuit in _amplified(emulator):
        draws = _amplifiers(module)
        z = {name: held.double().flatten() for name, held in draws.items()}
        for stage in [name for name in draws if not name.endswith("_gain")]:
            generator = seeded("measured", seed, module.chip, module.name, stage)
            noise = torch.randn(2, len(z[stage]), generator=generator, dtype=torch.float64)
            errors = error * noise.to(z[stage].device)
            n = _NOISE_GAIN.get(stage, noise_gain)
            for name, estimate in _estimates(circuit, stage, z, n, drive, error, errors).items():
                draws[name].copy_(estimate.view_as(draws[name]))
        module.chip = None
    return emulator


def offsets(model: nn.Module) -> dict[str, Tensor]:
    """Input offset voltage of every amplifier, V, by ``"layer.stage"``: those that ``model`` holds.

    Shapes are those of :meth:`OpAmp.amplifiers <cimlib.circuits.opamp.OpAmp.amplifiers>`: (2, out) for the
    converters of a pair, (1,) for a reference, else (out,). Raises ``ValueError`` for a model that is not
    behind :class:`~.OpAmp` or draws fresh errors, ``RuntimeError`` if it has no draws yet.
    """
    found = {}
    for module, circuit in _amplified(model):
        held = module.generator is None
        require(held, "model", "a network with fresh errors", "a held chip: fabricate(model, chip)")
        for stage, z in _amplifiers(module).items():
            if not stage.endswith("_gain"):
                found[f"{module.name}.{stage}".removeprefix(".")] = circuit.offset * z
    return found


@torch.no_grad()
def noise_gains(model: nn.Module) -> dict[str, Tensor]:
    """Noise gain n of every converter by layer: what multiplies its offset at its output.

    That of the conductances that ``model`` now holds. Of a pair (2, out), the positive side first, of single
    arrays (1, out); that of a shared reference is not among them. Raises ``ValueError`` for a model that is
    not behind :class:`~.OpAmp`, ``RuntimeError`` if it has no draws yet.
    """
    signals = {"pair": ("positive", "negative"), "column": ("converter",), "constant-term": ("output",)}
    found = {}
    for layer, circuit in _amplified(model):
        if not isinstance(layer, Crossbar):
            continue
        _, g, z = layer.read()
        alone = replace(circuit, gain=inf, at_zero=None, rails=None, offset=circuit.span)
        ones = {slot: torch.full_like(held, slot == "converter") for slot, held in z.items()}
        nothing = LinearMap(layer.plain, layer.like().new_zeros(0))  # without rails no stage computes it
        stages = alone.stages(nothing, layer.hardware.array, g, ones)
        constants = [stages[name].constant for name in signals[layer.hardware.array.structure]]
        found[layer.name] = torch.stack([n for n in constants if n is not None])
    return found


def _amplified(model: nn.Module) -> list[tuple[Fabricated, OpAmp]]:
    """The modules that chips differ in, each with its amplifiers."""
    found = []
    for module in fabricated(model):
        circuit = module.hardware.circuit
        if not isinstance(circuit, OpAmp):
            raise ValueError(f"model = a network behind {circuit!r} is not allowed; allowed: behind OpAmp")
        found.append((module, circuit))
    return found


def _amplifiers(module: Fabricated) -> dict[str, Tensor]:
    """The draws of ``module``'s amplifiers by slot."""
    draws = {name.partition("/")[::2]: z for name, z in module.draws().items()}
    return {slot: z for (part, slot), z in draws.items() if part == "circuit"}


def _estimates(
    circuit: OpAmp,
    stage: str,
    z: Mapping[str, Tensor],
    n: float,
    drive: float,
    error: float,
    errors: Tensor,
) -> dict[str, Tensor]:
    """Draws of the m amplifiers of ``stage`` as two readings with ``errors`` (2, m), V, show them.

    ``z`` holds the true draws (m,), ``n`` is the noise gain, ``error`` the spread of ``errors``.
    """
    gain_slot = f"{stage}_gain"
    if gain_slot not in z:  # a comparator
        return {stage: z[stage] + errors[0] / circuit.offset} if circuit.offset else {}
    zero = torch.zeros_like(z[stage])

    def output(ideal: Tensor, offset: Tensor, gain: Tensor) -> Tensor:
        return circuit.amplify(Signal(ideal, -1), n, {stage: offset, gain_slot: gain}, stage).value

    def read(ideal: Tensor, error: Tensor) -> Tensor:
        return circuit.limit(output(ideal, z[stage], z[gain_slot]) + error / circuit.span)

    undriven = read(zero, errors[0])
    found, gain = {}, zero
    if circuit.gain_spread and circuit.gain < inf:
        d = torch.where(undriven > 0, -drive, drive) / circuit.span
        driven = read(d, errors[1])
        least, most = (1 / (1 + n * exp(k * circuit.gain_spread) / circuit.gain) for k in (_PRIOR, -_PRIOR))
        c = 1 / ((driven - undriven) / d).clamp(least, most)
        gain = -torch.log((c - 1) / n * circuit.gain) / circuit.gain_spread
        nominal = 1 + n / circuit.gain
        tau = 2**0.5 * nominal**2 * circuit.gain * error / (n * drive * circuit.gain_spread)
        gain = gain / (1 + tau**2)
        low, high = circuit.limit(zero.new_tensor([-inf, inf]))
        found[gain_slot] = gain = torch.where((undriven > low) & (undriven < high), gain, 0.0)
    if circuit.offset:  # the output is affine in the offset
        nothing = output(zero, zero, gain)
        found[stage] = (undriven - nothing) / (output(zero, zero + 1, gain) - nothing)
    return found
