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
from dataclasses import dataclass, field, replace
from math import exp, inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from cimlib.circuits import OpAmp
from cimlib.crossbar import AnalogReLU, Crossbar, Fabricated
from cimlib.devices import require
from cimlib.models import BiasRow

OPTIONS = ".options reltol=1e-9 abstol=1e-15 vntol=1e-12"
FAILED = "singular matrix|no convergence|Transient op started"  # the last is a guess, not a solution
STRUCTURES = {"currents": (), "pair": ("bp", "bn", "u"), "column": ("b", "u"), "constant-term": ("u",)}
COMMON = {"column": "bref", "constant-term": "br"}  # the one amplifier that all outputs share
DRAWS = {  # of OpAmp, and which row of them, for the names above
    "pair": {"bp": ("converter", 0), "bn": ("converter", 1), "u": ("subtractor", 0)},
    "column": {"b": ("converter", 0), "bref": ("reference", 0), "u": ("subtractor", 0)},
    "constant-term": {"u": ("converter", 0), "br": ("reference", 0)},
}
PARTS = "fabricated linear layers with AnalogReLU, BiasRow and Flatten, in a Sequential"


@dataclass(frozen=True)
class Amplifier:
    """Operational amplifier: out = zero + gain (V₊ + offset − V₋), held between the rails.

    Args:
        gain: open-loop gain, 0 < gain < ∞.
        offset: input offset, V.
        zero: output at zero differential input, V.
        rails: lowest and highest output, V, or ``None`` for no limit.

    Raises ``ValueError`` for a value that is not allowed. Source: equations (1)–(5) of JJAP 2024 as
    quoted by its author's repository; rails as a plain limit on the output are ours.
    """

    gain: float
    offset: float = 0.0
    zero: float = 0.0
    rails: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require(0 < self.gain < inf, "gain", self.gain, "0 < gain < ∞")
        require(isfinite(self.offset), "offset", self.offset, "finite (V)")
        require(isfinite(self.zero), "zero", self.zero, "finite (V)")
        ordered = self.rails is None or -inf < self.rails[0] < self.rails[1] < inf
        require(ordered, "rails", self.rails, "None or −∞ < low < high < ∞ (V)")


class Netlist:
    """A circuit under construction; ``str()`` of it is the SPICE text. Node ``"0"`` is ground.

    Node names are letters, digits and underscores, in lower case because SPICE knows no other; an
    element with another name, or with a value that is not allowed, raises ``ValueError``.
    """

    def __init__(self, title: str = "crossbar circuit") -> None:
        self.lines = [" ".join(title.split())]

    def __str__(self) -> str:
        return "\n".join([*self.lines, OPTIONS, ".op", ".end", ""])

    def _add(self, name: str, nodes: Sequence[str], value: str) -> None:
        for node in nodes:
            named = re.fullmatch("[a-z0-9_]+", node) is not None
            require(named, "node", node, "lower-case letters, digits, underscores")
        self.lines.append(f"{name} {nodes[0]} {nodes[1]} {value}")

    def resistor(self, a: str, b: str, ohm: float) -> None:
        """Resistor between nodes ``a`` and ``b``, 0 < ohm < ∞."""
        require(0 < ohm < inf, "ohm", ohm, "0 < ohm < ∞")
        self._add(f"R{len(self.lines)}", (a, b), f"{float(ohm)!r}")

    def source(self, node: str, volt: float, minus: str = "0") -> None:
        """Holds ``node`` at ``volt`` above ``minus``; the current into it is ``i(v<node>)``."""
        require(isfinite(volt), "volt", volt, "finite (V)")
        self._add(f"V{node}", (node, minus), f"{float(volt)!r}")

    def amplifier(self, plus: str, minus: str, out: str, amplifier: Amplifier) -> None:
        """Operational amplifier with inputs ``plus`` and ``minus``.

        Rails are written as out = limit(out + (free − out) / (1 + gain)): the solutions are those of
        out = limit(free), and Newton's method finds them, since the limit is now asked about where the
        output is, not about where the full gain would send it (derived).
        """
        gain, offset, zero = (f"({float(x)!r})" for x in (amplifier.gain, amplifier.offset, amplifier.zero))
        volt = f"{zero}+{gain}*(V({plus})+{offset}-V({minus}))"
        if amplifier.rails is not None:
            low, high = (f"({float(x)!r})" for x in amplifier.rails)
            volt = f"min({high},max({low},V({out})+({volt}-V({out}))/(1+{gain})))"
        self._add(f"B{len(self.lines)}", (out, "0", plus, minus), f"V={volt}")

    def relu(self, node: str, out: str, v0: str, offset: float = 0.0) -> None:
        """``out`` is V(node) where that is above V(v0) − ``offset`` (V), and V(v0) elsewhere."""
        require(isfinite(offset), "offset", offset, "finite (V)")
        volt = f"(V({node})>(V({v0})-({float(offset)!r})))?V({node}):V({v0})"
        self._add(f"B{len(self.lines)}", (out, "0", node, v0), f"V={volt}")


def crossbar(
    circuit: Netlist,
    conductance: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    r_row: float = 0.0,
    r_col: float = 0.0,
) -> None:
    """Add an array of resistors, with its wires where they have resistance.

    Args:
        circuit: what it is added to.
        conductance: (m, n), S, finite and ≥ 0; a cell of 0 is left out.
        rows: m nodes, at the left ends of the rows.
        columns: n nodes, below the last row.
        r_row, r_col: resistance of the wire from one cell to the next, Ω, finite and ≥ 0. The nodes
            along the wires are called ``<row>_<column>_w`` and ``<row>_<column>_b``.

    Raises ``ValueError`` for a shape or a value that is not allowed.
    """
    g = np.asarray(conductance, dtype=float)
    shape = (len(rows), len(columns))
    require(g.shape == shape, "conductance.shape", g.shape, f"{shape}, as many as rows and columns")
    allowed = np.isfinite(g) & (g >= 0)
    require(bool(allowed.all()), "conductance", g[~allowed][:1].tolist(), "0 ≤ G < ∞ (S)")
    for name, ohm in (("r_row", r_row), ("r_col", r_col)):
        require(0 <= ohm < inf, name, ohm, "0 ≤ r < ∞ (Ω)")
    for i, row in enumerate(rows):
        word = row
        for j, column in enumerate(columns):
            bit = column
            if r_row > 0:
                circuit.resistor(word, word := f"{row}_{column}_w", r_row)
            if r_col > 0:
                bit, below = f"{row}_{column}_b", f"{rows[i + 1]}_{column}_b" if i + 1 < len(rows) else column
                circuit.resistor(bit, below, r_col)
            if g[i, j] > 0:
                circuit.resistor(word, bit, 1 / g[i, j])


@dataclass(frozen=True)
class Layer:
    """One layer as a circuit.

    Args:
        structure: ``"currents"``: columns end in ideal virtual grounds ``c<j>``. ``"pair"``: two arrays,
            converters ``bp<j>`` and ``bn<j>``, subtractors ``u<j>`` = V0 + V(bn<j>) − V(bp<j>).
            ``"column"``: the reference is one more column; converters ``b<j>`` and ``bref``, subtractors
            ``u<j>`` = V0 + V(bref) − V(b<j>). ``"constant-term"``: that column's converter ``br`` has
            feedback ``g_constant`` and drives as much into each other column, whose converters are ``u<j>``.
        conductance: (m, n), S; of a pair, the positive side.
        reference: S: (m, n), the negative side of a pair; (m, 1) for the single arrays; else ``None``.
        amplifiers: one for each name above except ``c<j>``.
        g_load: feedback conductance of every converter, S.
        g_constant: the conductance of the constant term, S; ``None`` is ``g_load``.
        r_row, r_col: wire resistance of every array, Ω.
        relu: (n,), V: comparator offsets of ReLUs ``a<j>`` behind ``u<j>``, each before a voltage follower
            ``y<j>`` (one more amplifier); ``None`` for neither.
        bias: V, against ground, of a source that drives the last row of the array; ``None`` if a node given
            from outside drives that row too.

    Raises ``ValueError`` for parts that do not fit together. Source: circuit of JJAP 2024 as quoted by
    its author's repository; the two single structures derived.
    """

    structure: str
    conductance: ArrayLike
    reference: ArrayLike | None = None
    amplifiers: Mapping[str, Amplifier] = field(default_factory=dict)
    g_load: float = 1e-3
    r_row: float = 0.0
    r_col: float = 0.0
    relu: Sequence[float] | None = None
    bias: float | None = None
    g_constant: float | None = None

    def __post_init__(self) -> None:
        require(self.structure in STRUCTURES, "structure", self.structure, f"one of {list(STRUCTURES)}")
        shape = np.shape(self.conductance)
        require(len(shape) == 2 and min(shape) > 0, "conductance.shape", shape, "(m, n), m ≥ 1, n ≥ 1")
        m, n = shape
        side = {"currents": (), "pair": (m, n)}.get(self.structure, (m, 1))
        found = () if self.reference is None else np.shape(self.reference)
        require(found == side, "reference.shape", found, f"{side} for structure {self.structure!r}")
        require(0 < self.g_load < inf, "g_load", self.g_load, "0 < g_load < ∞ (S)")
        term = self.g_constant is None or (self.structure == "constant-term" and 0 < self.g_constant < inf)
        require(term, "g_constant", self.g_constant, "None, or 0 < g_constant < ∞ of a constant term (S)")
        driven = self.bias is None or isfinite(self.bias)
        require(driven, "bias", self.bias, "None or finite (V)")
        fits = self.relu is None or (len(self.relu) == n and self.structure != "currents")
        require(fits, "relu", self.relu, f"None, or {n} offsets behind amplifiers (V)")
        stages = STRUCTURES[self.structure] + (() if self.relu is None else ("y",))
        names = {f"{stage}{j}" for stage in stages for j in range(n)}
        names |= {COMMON[self.structure]} if self.structure in COMMON else set()
        require(set(self.amplifiers) == names, "amplifiers", sorted(self.amplifiers), f"{sorted(names)}")

    def add_to(self, circuit: Netlist, rows: Sequence[str], name: str) -> list[str]:
        """Add it behind the nodes ``rows``; its node ``u0`` is called ``<name>_u0``. Returns the outputs."""

        if self.bias is not None:
            rows = [*rows, f"{name}_bias"]
            circuit.source(rows[-1], self.bias)

        def nodes(stage: str) -> list[str]:
            return [f"{name}_{stage}{j}" for j in range(np.shape(self.conductance)[1])]

        def amplify(plus: str, minus: str, out: str) -> None:
            circuit.amplifier(plus, minus, out, self.amplifiers[out.removeprefix(f"{name}_")])

        constant = self.g_load if self.g_constant is None else self.g_constant

        def converters(conductance: ArrayLike, outputs: list[str]) -> list[str]:
            columns = [f"{out}_in" for out in outputs]
            crossbar(circuit, conductance, rows, columns, self.r_row, self.r_col)
            for column, out in zip(columns, outputs, strict=True):
                circuit.resistor(column, out, 1 / (constant if out == f"{name}_br" else self.g_load))
                amplify("v0", column, out)
            return outputs

        def subtractors(plus: Sequence[str], minus: Sequence[str]) -> None:
            for p, m, out in zip(plus, minus, nodes("u"), strict=True):
                for a, b in ((p, "p"), ("v0", "p"), (m, "m"), (out, "m")):
                    circuit.resistor(a, f"{out}_{b}", 1e4)
                amplify(f"{out}_p", f"{out}_m", out)

        if self.structure == "currents":
            crossbar(circuit, self.conductance, rows, nodes("c"), self.r_row, self.r_col)
            for foot in nodes("c"):
                circuit.source(foot, 0.0, "v0")
            return []
        if self.structure == "pair":
            positive = converters(self.conductance, nodes("bp"))
            subtractors(converters(np.asarray(self.reference), nodes("bn")), positive)
        else:
            together = np.hstack([np.asarray(self.conductance), np.asarray(self.reference)])
            common = f"{name}_{COMMON[self.structure]}"
            if self.structure == "column":
                columns = converters(together, [*nodes("b"), common])[:-1]
                subtractors([common] * len(columns), columns)
            else:
                for out in converters(together, [*nodes("u"), common])[:-1]:
                    circuit.resistor(common, f"{out}_in", 1 / constant)
        if self.relu is None:
            return nodes("u")
        for u, a, y, offset in zip(nodes("u"), nodes("a"), nodes("y"), self.relu, strict=True):
            circuit.relu(u, a, "v0", offset)
            amplify(a, y, y)
        return nodes("y")


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
        model: a linear :class:`~cimlib.crossbar.Crossbar`, or a ``Sequential`` of them with
            :class:`~cimlib.crossbar.AnalogReLU`, :class:`~cimlib.models.BiasRow` and ``Flatten``, on
            hardware with :class:`~cimlib.circuits.OpAmp` of finite gain.

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
        run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
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
