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
from dataclasses import replace
from math import exp, inf
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor, nn

from cimlib.bench.netlist import COMMON, Amplifier, Layer, Netlist
from cimlib.chip.crossbar import AnalogReLU, Crossbar
from cimlib.chip.fabricated import Fabricated
from cimlib.circuits.opamp import OpAmp
from cimlib.devices.effects import require
from cimlib.networks.plain import BiasRow

FAILED = "singular matrix|no convergence|Transient op started"  # the last is a guess, not a solution


DRAWS = {  # of OpAmp, and which row of them, for the names above
    "pair": {"bp": ("converter", 0), "bn": ("converter", 1), "u": ("subtractor", 0)},
    "column": {"b": ("converter", 0), "bref": ("reference", 0), "u": ("subtractor", 0)},
    "constant-term": {"u": ("converter", 0), "br": ("reference", 0)},
}


PARTS = "fabricated linear layers with AnalogReLU, BiasRow and Flatten, in a Sequential"


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
            :class:`~.AnalogReLU`, :class:`~.BiasRow` and ``Flatten``, on
            hardware with :class:`~.OpAmp` of finite gain.

    An input or output x of the network is the voltage ``v_0 + span * x``; ``v_0`` and ``span`` are those of
    the circuit, and :func:`netlist` must be given the same ``v0``.

    Raises ``ValueError`` for a network of other parts, on other hardware, with layers that differ in ``v_0``
    or ``span``, or without a chip.
    """
    found: list[Layer] = []
    signals: set[tuple[float, float]] = set()
    biased = False
    for part in model if isinstance(model, nn.Sequential) else [model]:
        if isinstance(part, Crossbar):
            circuit, _ = _chip(part)
            signals.add((circuit.v_0, circuit.span))
            found.append(_layer(part, biased))
            biased = False
        elif isinstance(part, AnalogReLU) and found and not biased:
            circuit, z = _chip(part)
            offsets = [circuit.offset * one for one in z["comparator"].tolist()]
            followers = _amplifiers(circuit, z, {"y": ("follower", 0)})
            found[-1] = replace(found[-1], relu=offsets, amplifiers={**found[-1].amplifiers, **followers})
        elif isinstance(part, BiasRow) and not biased:
            biased = True
        else:
            require(isinstance(part, nn.Flatten), "model", f"{type(part).__name__} in it", PARTS)
    require(bool(found) and not biased, "model", type(model).__name__, PARTS)
    require(len(signals) == 1, "(v_0, span)", sorted(signals), "the same for every layer (V)")
    return found


def _layer(part: Crossbar, biased: bool) -> Layer:
    linear = len(part.weight_shape) == 2 and part.digital is None
    require(linear, "model", f"layer {part.name!r} in it", PARTS + "; no convolution, no digital stage")
    circuit, z = _chip(part)
    _, g, _ = part.read()
    structure = part.hardware.array.structure
    siemens = 1e-6 * g.cells[0].detach().cpu().double().numpy()  # (sides, out, in)
    if structure == "pair":
        reference = siemens[1].T
    else:
        assert g.reference is not None
        reference = 1e-6 * g.reference.detach().cpu().double().numpy()[:, None]
    term = circuit.g_constant if structure == "constant-term" else None
    return Layer(
        structure,
        siemens[0].T,
        reference,
        _amplifiers(circuit, z, DRAWS[structure]),
        g_load=1e-6 * (float(g.scale) if circuit.g_load is None else circuit.g_load),
        bias=circuit.v_0 + circuit.span if biased else None,
        g_constant=None if term is None else 1e-6 * term,
    )


def _chip(part: Fabricated) -> tuple[OpAmp, dict[str, Tensor]]:
    """Circuit of a module, and its draws."""
    circuit = part.hardware.circuit
    require(type(circuit) is OpAmp, "hardware.circuit", circuit, "OpAmp(gain=..., ...)")
    assert isinstance(circuit, OpAmp)
    require(circuit.gain < inf, "gain", circuit.gain, "0 < gain < ∞ in a netlist")
    require(
        part.chip is not None, "model", f"{part.name!r} without a chip", "one after fabricate(model, chip)"
    )
    return circuit, {name.removeprefix("circuit/"): z for name, z in part.draws().items()}


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
