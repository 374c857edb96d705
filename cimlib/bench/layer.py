"""One layer of a network on hardware as a SPICE circuit: its arrays and what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cimlib.bench.netlist import Amplifier, Netlist, crossbar
from cimlib.devices.effects import require

STRUCTURES = {"currents": (), "pair": ("bp", "bn", "u"), "column": ("b", "u"), "constant-term": ("u",)}


COMMON = {"column": "bref", "constant-term": "br"}  # the one amplifier that all outputs share


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
        amplifiers: one for each name above except ``c<j>``. ``None``: there are none. Columns, ``bp<j>_in``
            and so on, then end in ideal virtual grounds, and an ideal source ``u<j>`` gives V0 and the
            difference of two columns' currents over ``g_load``: positive side less negative, cells less
            reference, or reference less cells of a constant term, whose cells hold −W.
        g_load: feedback conductance of every converter, S, or (n,) of every column's. A reference column then
            has the smallest, and subtractor j divides its output by how much g_j is larger.
        g_constant: the conductance of the constant term, S; ``None`` is the largest ``g_load``.
        r_row, r_col: wire resistance of every array, Ω.
        relu: (n,), V: comparator offsets of ReLUs ``a<j>`` behind ``u<j>``, each before a voltage follower
            ``y<j>`` (one more amplifier; none without amplifiers); ``None`` for neither.
        bias: V, against ground, of a source that drives the last row of the array; ``None`` if a node given
            from outside drives that row too.
        shift: (n,), V, that the ideal sources add: digital biases. Only without amplifiers.
        tile: most rows and columns of one array, each ≥ 1; larger ones are cut into tiles with wires of their
            own, rows driven at every tile and columns joined at their feet. ``None``: no limit.

    Raises ``ValueError`` for parts that do not fit together. Source: circuit of JJAP 2024 as quoted by
    its author's repository; the two single structures derived.
    """

    structure: str
    conductance: ArrayLike
    reference: ArrayLike | None = None
    amplifiers: Mapping[str, Amplifier] | None = field(default_factory=dict)
    g_load: float | Sequence[float] = 1e-3
    r_row: float = 0.0
    r_col: float = 0.0
    relu: Sequence[float] | None = None
    bias: float | None = None
    g_constant: float | None = None
    shift: Sequence[float] | None = None
    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        require(self.structure in STRUCTURES, "structure", self.structure, f"one of {list(STRUCTURES)}")
        shape = np.shape(self.conductance)
        require(len(shape) == 2 and min(shape) > 0, "conductance.shape", shape, "(m, n), m ≥ 1, n ≥ 1")
        m, n = shape
        side = {"currents": (), "pair": (m, n)}.get(self.structure, (m, 1))
        found = () if self.reference is None else np.shape(self.reference)
        require(found == side, "reference.shape", found, f"{side} for structure {self.structure!r}")
        load = np.asarray(self.g_load, dtype=float)
        positive = load.shape in ((), (n,)) and bool(((load > 0) & np.isfinite(load)).all())
        require(positive, "g_load", self.g_load, f"0 < g_load < ∞ (S), one or {n}")
        term = self.g_constant is None or (self.structure == "constant-term" and 0 < self.g_constant < inf)
        require(term, "g_constant", self.g_constant, "None, or 0 < g_constant < ∞ of a constant term (S)")
        driven = self.bias is None or isfinite(self.bias)
        require(driven, "bias", self.bias, "None or finite (V)")
        read = self.structure != "currents"
        fits = self.relu is None or (len(self.relu) == n and read)
        require(fits, "relu", self.relu, f"None, or {n} offsets behind outputs (V)")
        fits = self.shift is None or (len(self.shift) == n and read and self.amplifiers is None)
        require(fits, "shift", self.shift, f"None, or {n} voltages where there are no amplifiers (V)")
        tiled = self.tile is None or (len(self.tile) == 2 and min(self.tile) >= 1)
        require(tiled, "tile", self.tile, "None or (rows, columns), integers ≥ 1")
        if self.amplifiers is None:
            require(read, "amplifiers", None, "{} for structure 'currents'")
            return
        stages = STRUCTURES[self.structure] + (() if self.relu is None else ("y",))
        names = {f"{stage}{j}" for stage in stages for j in range(n)}
        names |= {COMMON[self.structure]} if self.structure in COMMON else set()
        require(set(self.amplifiers) == names, "amplifiers", sorted(self.amplifiers), f"{sorted(names)}")

    @property
    def loads(self) -> NDArray[np.float64]:
        """(n,), S: ``g_load`` of every column."""
        return np.broadcast_to(np.asarray(self.g_load, dtype=float), np.shape(self.conductance)[1:])

    def add_to(self, circuit: Netlist, rows: Sequence[str], name: str) -> list[str]:
        """Add it behind the nodes ``rows``; its node ``u0`` is called ``<name>_u0``. Returns the outputs."""

        if self.bias is not None:
            rows = [*rows, f"{name}_bias"]
            circuit.source(rows[-1], self.bias)

        def nodes(stage: str) -> list[str]:
            return [f"{name}_{stage}{j}" for j in range(np.shape(self.conductance)[1])]

        loads = self.loads.tolist()
        constant = max(loads) if self.g_constant is None else self.g_constant
        common = f"{name}_{COMMON.get(self.structure)}"

        def end(column: str, out: str, feedback: float) -> None:
            if self.amplifiers is None:
                circuit.source(column, 0.0, "v0")
            else:
                circuit.resistor(column, out, 1 / feedback)
                self._amplify(circuit, name, "v0", column, out)

        def converters(conductance: ArrayLike, outputs: list[str]) -> list[str]:
            """Amplifiers that hold the feet of the columns, or ideal virtual grounds there."""
            columns = [f"{out}_in" for out in outputs]
            self._add_array(circuit, conductance, rows, columns)
            shared = constant if self.structure == "constant-term" else min(loads)
            for column, out, feedback in zip(columns, outputs, [*loads, shared], strict=False):
                end(column, out, feedback)
            return outputs

        if self.structure == "currents":
            self._add_array(circuit, self.conductance, rows, nodes("c"))
            for foot in nodes("c"):
                circuit.source(foot, 0.0, "v0")
            return []
        if self.structure == "pair":
            positive = converters(self.conductance, nodes("bp"))
            negative = converters(np.asarray(self.reference), nodes("bn"))
        else:
            together = np.hstack([np.asarray(self.conductance), np.asarray(self.reference)])
            stage = "b" if self.structure == "column" else "u"
            positive = converters(together, [*nodes(stage), common])[:-1]
            negative = [common] * len(positive)
        if self.amplifiers is None:
            sign = -1.0 if self.structure == "constant-term" else 1.0
            shifts = [0.0] * len(loads) if self.shift is None else self.shift
            for p, m, out, load, shift in zip(positive, negative, nodes("u"), loads, shifts, strict=True):
                circuit.readout(out, "v0", {f"{p}_in": sign / load, f"{m}_in": -sign / load}, shift)
        elif self.structure == "constant-term":
            for out in positive:
                circuit.resistor(common, f"{out}_in", 1 / constant)
        else:
            ratios = (
                [min(loads) / load for load in loads] if self.structure == "column" else [1.0] * len(loads)
            )
            for p, m, out, ratio in zip(negative, positive, nodes("u"), ratios, strict=True):
                circuit.resistor(p, f"{out}_p", 1e4 / ratio)
                circuit.resistor("v0", f"{out}_p", 1e4 / (2 - ratio))
                for node in (m, out):
                    circuit.resistor(node, f"{out}_m", 1e4)
                self._amplify(circuit, name, f"{out}_p", f"{out}_m", out)
        if self.relu is None:
            return nodes("u")
        for u, a, y, offset in zip(nodes("u"), nodes("a"), nodes("y"), self.relu, strict=True):
            circuit.relu(u, a, "v0", offset)
            if self.amplifiers is not None:
                self._amplify(circuit, name, a, y, y)
        return nodes("a" if self.amplifiers is None else "y")

    def _amplify(self, circuit: Netlist, name: str, plus: str, minus: str, out: str) -> None:
        assert self.amplifiers is not None
        circuit.amplifier(plus, minus, out, self.amplifiers[out.removeprefix(f"{name}_")])

    def _add_array(
        self, circuit: Netlist, conductance: ArrayLike, rows: Sequence[str], columns: Sequence[str]
    ) -> None:
        """An array, tile by tile."""
        g = np.asarray(conductance, dtype=float)
        shape = (len(rows), len(columns))
        require(g.shape == shape, "conductance.shape", g.shape, f"{shape}, as many as rows and columns")
        height, width = self.tile or shape
        for top in range(0, len(rows), height):
            for left in range(0, len(columns), width):
                own = slice(top, top + height), slice(left, left + width)
                crossbar(circuit, g[own], rows[own[0]], columns[own[1]], self.r_row, self.r_col)
