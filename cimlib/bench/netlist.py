"""Networks on hardware as SPICE circuits: amplifiers, arrays and layers, element by element."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import numpy as np
from numpy.typing import ArrayLike

from cimlib.devices.effects import require

OPTIONS = ".options reltol=1e-9 abstol=1e-15 vntol=1e-12"


STRUCTURES = {"currents": (), "pair": ("bp", "bn", "u"), "column": ("b", "u"), "constant-term": ("u",)}


COMMON = {"column": "bref", "constant-term": "br"}  # the one amplifier that all outputs share


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
