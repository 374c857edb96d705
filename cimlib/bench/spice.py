r"""The outside oracle: crossbar circuits as SPICE netlists, and ngspice to solve them.

Nothing here knows the equation of a layer: :class:`Netlist` collects resistors, sources and amplifiers,
:func:`layers` takes them from a network on hardware, :func:`simulate` has ngspice find the operating
point, and the tests compare that with what the library computes. Everything is in S, V, A and Ω, the units
of a circuit simulator; elsewhere conductances are in µS. ngspice is a program of its own
(``apt-get install ngspice``).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor, nn

from cimlib.bench.layer import COMMON, Layer
from cimlib.bench.netlist import Amplifier, Netlist
from cimlib.chip.crossbar import AnalogReLU, Crossbar
from cimlib.chip.fabricated import Fabricated
from cimlib.chip.mapped import Mapped
from cimlib.chip.passes import Passes
from cimlib.circuits.base import Circuit, Ideal
from cimlib.circuits.opamp import OpAmp
from cimlib.circuits.wires import Wires
from cimlib.devices.effects import require
from cimlib.networks.plain import BiasRow

FAILED = "singular matrix|no convergence|Transient op started"  # the last is a guess, not a solution


DRAWS = {  # of OpAmp, and which row of them, for the names above
    "pair": {"bp": ("converter", 0), "bn": ("converter", 1), "u": ("subtractor", 0)},
    "column": {"b": ("converter", 0), "bref": ("reference", 0), "u": ("subtractor", 0)},
    "constant-term": {"u": ("converter", 0), "br": ("reference", 0)},
}


PARTS = (
    "fabricated linear layers with ReLUs, BiasRow and Flatten, in a Sequential and no class derived from it"
)


def netlist(voltage: Sequence[float], layers: Sequence[Layer], v0: float = 0.0) -> Netlist:
    """Circuit of a network.

    Args:
        voltage: (m,), V, of the row drivers ``x<i>`` of the first layer, against ground.
        layers: one behind the other; the nodes of the first begin with ``l0_``, and so on.
        v0: V, of node ``v0``, at which the virtual grounds sit.
    """
    circuit = Netlist(f"crossbar circuit of {len(layers)} layer(s)")
    circuit.source("v0", v0)
    rows = [f"x{i}" for i in range(len(voltage))]
    for row, volt in zip(rows, voltage, strict=True):
        circuit.source(row, volt)
    for number, layer in enumerate(layers):
        rows = layer.add_to(circuit, rows, f"l{number}")
    return circuit


def layers(model: nn.Module) -> list[Layer]:
    """Circuit of a network on hardware: the conductances and amplifiers of the chip that it holds.

    Args:
        model: a linear :class:`~.Crossbar`, or a ``Sequential`` of them with
            :class:`~.AnalogReLU`, ``ReLU``, :class:`~.BiasRow` and ``Flatten``, on
            hardware with :class:`~.OpAmp` of finite gain or without amplifiers (:class:`~.Ideal`), with
            :class:`~.Wires` around either.

    An input or output x of the network is the voltage ``v_0 + span * x``; ``v_0`` and ``span`` are those of
    the amplifiers, or 0 V and 1 V where there are none, and :func:`netlist` must be given the same ``v0``.
    Without amplifiers the columns end in ideal virtual grounds, and ideal sources stand for the scale, a
    digital bias and a ReLU. Around amplifiers whose feet are apart :class:`~.Wires` with resistance along
    rows is no exact model of this circuit.

    Raises ``ValueError`` for a network of other parts, with a ``forward`` of its own or with hooks, on other
    hardware, with bit slices, with layers that differ in ``v_0`` or ``span``, with weights in another order
    behind wires, or without a chip.
    """
    parts = list(model) if type(model) is nn.Sequential else [model]
    for part in {id(one): one for one in (model, *parts)}.values():
        _require_own_forward(part)
    read_outs = [_ReadOut.of(part) for part in parts if isinstance(part, Crossbar)]
    signals = {(one.amplifier.v_0, one.amplifier.span) for one in read_outs if one.amplifier} or {(0.0, 1.0)}
    found: list[Layer] = []
    biased = False
    for part in parts:
        if isinstance(part, Crossbar):
            found.append(_layer(part, biased, *min(signals)))
            biased = False
        elif isinstance(part, AnalogReLU) and found and not biased:
            found[-1] = _with_relu(found[-1], part)
        elif type(part) is nn.ReLU and found and not biased and found[-1].amplifiers is None:
            found[-1] = replace(found[-1], relu=[0.0] * len(found[-1].loads))
        elif type(part) is BiasRow and not biased:
            biased = True
        else:
            require(type(part) is nn.Flatten, "model", f"{type(part).__name__} in it", PARTS)
    require(bool(found) and not biased, "model", type(model).__name__, PARTS)
    require(len(signals) == 1, "(v_0, span)", sorted(signals), "the same for every layer (V)")
    return found


def _require_own_forward(part: nn.Module) -> None:
    """Refuse what computes more than its class says; hooks of :class:`~.Passes` compute nothing."""
    hooks = (*part._forward_pre_hooks.values(), *part._forward_hooks.values())
    others = [one for one in hooks if not isinstance(getattr(one, "__self__", None), Passes)]
    what = f"forward hooks on a {type(part).__name__}"
    require(not others, "model", what, PARTS + "; no hooks, for a netlist has none: remove them")
    what = f"a {type(part).__name__} with a forward of its own"
    require("forward" not in vars(part), "model", what, PARTS)


@dataclass(frozen=True)
class _ReadOut:
    """What reads an array: ``circuit`` is that without wires, ``amplifier`` the same if it has amplifiers."""

    circuit: Circuit
    amplifier: OpAmp | None
    wires: Wires

    @classmethod
    def of(cls, part: Fabricated) -> _ReadOut:
        """That of ``part``, or ``ValueError``."""
        outer = part.hardware.circuit
        wires = outer if isinstance(outer, Wires) else Wires(0.0, 0.0, outer)
        circuit = wires.inner
        amplifier = circuit if type(circuit) is OpAmp else None
        known = amplifier is not None or type(circuit) is Ideal
        require(known, "hardware.circuit", circuit, "OpAmp(gain=..., ...) or Ideal(), in Wires or not")
        finite = amplifier is None or amplifier.gain < inf
        require(finite, "gain", getattr(circuit, "gain", None), "0 < gain < ∞ in a netlist")
        held = part.chip is not None
        require(held, "model", f"{part.name!r} without a chip", "one after fabricate(model, chip)")
        return cls(circuit, amplifier, wires)


def _layer(part: Crossbar, biased: bool, v_0: float, span: float) -> Layer:
    linear = len(part.weight_shape) == 2 and part.digital is None
    require(linear, "model", f"layer {part.name!r} in it", PARTS + "; no convolution, no digital stage")
    array, own = part.hardware.array, _ReadOut.of(part)
    require(array.slices == 1, "slices", array.slices, "1 in a netlist")
    wired = own.wires.r_row > 0 or own.wires.r_col > 0
    moved = wired and isinstance(part, Mapped)
    require(not moved, "model", f"layer {part.name!r} in it", "weights in their own order, where wires are")
    hardware = part.hardware
    try:
        part.hardware = replace(hardware, circuit=own.circuit)  # the cells themselves
        _, g, _ = part.read()
    finally:
        part.hardware = hardware
    siemens = 1e-6 * g.cells[0].detach().cpu().double().numpy()  # (sides, out, in)
    if array.structure == "pair":
        reference = siemens[1].T
    else:
        assert g.reference is not None
        reference = 1e-6 * g.reference.detach().cpu().double().numpy()[:, None]
    load: float | list[float] = [1e-6 * one for one in g.per_weight.flatten().tolist()]
    amplifiers = g_constant = shift = None
    if (amplifier := own.amplifier) is not None:
        amplifiers = _amplifiers(amplifier, _draws(part), DRAWS[array.structure])
        load = load if amplifier.g_load is None else 1e-6 * amplifier.g_load
        if array.structure == "constant-term" and amplifier.g_constant is not None:
            g_constant = 1e-6 * amplifier.g_constant
    elif part.bias is not None:
        shift = [span * one for one in part.bias.detach().tolist()]
    return Layer(
        array.structure,
        siemens[0].T,
        reference,
        amplifiers,
        g_load=load[0] if isinstance(load, list) and len(load) == 1 else load,
        r_row=own.wires.r_row,
        r_col=own.wires.r_col,
        bias=v_0 + span if biased else None,
        g_constant=g_constant,
        shift=shift,
        tile=own.wires.tile if wired else None,
    )


def _with_relu(layer: Layer, part: AnalogReLU) -> Layer:
    """``layer`` with the comparators and followers of ``part``, which are perfect without amplifiers."""
    circuit = _ReadOut.of(part).amplifier
    if circuit is None or layer.amplifiers is None:
        return replace(layer, relu=[0.0] * len(layer.loads))
    z = _draws(part)
    offsets = [circuit.offset * one for one in z["comparator"].tolist()]
    followers = _amplifiers(circuit, z, {"y": ("follower", 0)})
    return replace(layer, relu=offsets, amplifiers={**layer.amplifiers, **followers})


def _draws(part: Fabricated) -> dict[str, Tensor]:
    """The draws of a module's circuit."""
    return {name.removeprefix("circuit/"): z for name, z in part.draws().items()}


def _amplifiers(
    circuit: OpAmp, z: Mapping[str, Tensor], draws: Mapping[str, tuple[str, int]]
) -> dict[str, Amplifier]:
    """Amplifiers by name, from the draws of ``circuit``."""
    zero = circuit.v_0 if circuit.at_zero is None else circuit.at_zero
    found = {}
    for stage, (slot, row) in draws.items():
        pairs = zip(
            *(z[name].reshape(-1, z[name].shape[-1])[row].tolist() for name in (slot, f"{slot}_gain")),
            strict=True,
        )
        for j, (offset, spread) in enumerate(pairs):
            gain = circuit.gain * exp(circuit.gain_spread * spread)
            name = stage if stage in COMMON.values() else f"{stage}{j}"
            found[name] = Amplifier(gain, circuit.offset * offset, zero, circuit.rails)
    return found


def simulate(circuit: Netlist | str) -> dict[str, float]:
    """Operating point by ngspice: voltage of every node, V, and current ``i(v<node>)`` into every
    source, A, at full precision (read from its binary raw file).

    Raises ``RuntimeError`` with ngspice's own words if it is not installed or finds no solution.
    """
    if (program := shutil.which("ngspice")) is None:
        raise RuntimeError("ngspice is not on the path; install it (Debian: apt-get install ngspice)")
    with TemporaryDirectory() as folder:
        source, raw = Path(folder, "circuit.cir"), Path(folder, "circuit.raw")
        source.write_text(str(circuit), encoding="utf-8")
        command = [program, "-n", "-b", "-r", str(raw), str(source)]
        run = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL
        )
        content = raw.read_bytes() if raw.exists() else b""
    header, _, data = content.partition(b"Binary:\n")
    names = re.findall(r"^\s+\d+\s+(\S+)\s+(?:voltage|current)", header.decode(), re.MULTILINE)
    values = np.frombuffer(data, dtype=np.float64)
    said = (run.stdout + run.stderr).strip()
    complete = 0 < len(names) == len(values) and bool(np.isfinite(values).all())
    if run.returncode or not complete or re.search(FAILED, said):
        raise RuntimeError(f"ngspice found no operating point:\n{said}")
    found = dict(zip(names, values.tolist(), strict=True))
    return {re.sub(r"^v\((.*)\)$", r"\1", name): value for name, value in found.items() if name[:3] != "i(b"}
