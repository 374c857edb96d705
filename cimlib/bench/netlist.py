"""Networks on hardware as SPICE circuits: sources, amplifiers and arrays, element by element."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import ArrayLike

from cimlib.devices.effects import require

OPTIONS = ".options reltol=1e-9 abstol=1e-15 vntol=1e-12"


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

    def readout(self, out: str, v0: str, ohms: Mapping[str, float], shift: float = 0.0) -> None:
        """``out`` is V(v0) + ``shift`` (V) and so many ``ohms`` times the current into each of these nodes,
        which a :meth:`source` holds (Ω, of either sign)."""
        terms = "".join(f"+({float(ohm)!r})*I(V{node})" for node, ohm in ohms.items())
        require(isfinite(shift), "shift", shift, "finite (V)")
        self._add(f"B{len(self.lines)}", (out, "0"), f"V=V({v0})+({float(shift)!r}){terms}")

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
