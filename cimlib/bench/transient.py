r"""Circuits that switch, as SPICE circuits over time: what sampling an error on a capacitor really leaves.

:class:`Transient` adds capacitors, switches and what changes with time to the elements of a netlist;
:func:`two_phases` builds a layer whose amplifiers, or whose outputs, are auto-zeroed; :func:`waveforms` has
ngspice integrate it. Nothing here knows an equation of :mod:`cimlib.circuits.auto_zero`, which the tests
compare with what comes out. As in :mod:`cimlib.bench.spice` everything is in S, V, A, Ω, and F, C, s.

**The order of the clocks matters** (derived, and tested). Until ``Clocks.sample`` the error is sampled.
Then, one ``Clocks.gap`` after the other,

1. the *sampling* switch opens, at the plate that floats from now on, while the other plate is still held at
   V_0: what this switch leaves on the plate is on the capacitor, and so is what leaks from here on;
2. the *clamp* opens, which held the other plate at V_0 (and an input that is not inverted);
3. the *active* switch closes, between that plate and the column, and rows that had to rest are driven.

A charge that arrives between 2 and 3 finds both plates floating, and no current can leave the other one. It
stays on the capacitance p of the amplifier's input, its ``gate``, and is on the capacitor once the column is
there: it counts as any other does. In a circuit without any p it has nowhere to stay and goes through open
switches: a part of it is never seen, an artefact, and so it is with what leaks in that gap. A gate takes part
of the signal: the gain is A C/(C + p), and e/(1 + A) counts (C + p)/C times.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cimlib.bench.layer import Layer
from cimlib.bench.netlist import Amplifier, Netlist
from cimlib.bench.spice import FAILED
from cimlib.devices.effects import require

ABORTED = f"{FAILED}|[Tt]imestep too small|aborted"
# nothing that rings; currents of femtofarads in short steps are not known to the abstol of other netlists
ACCURACY = ".options reltol=1e-9 abstol=1e-12 vntol=1e-12 chgtol=1e-20 method=gear"

ARRIVALS = ("clamped", "floating", "active")


@dataclass(frozen=True)
class Clocks:
    """When switches act; see :mod:`cimlib.bench.transient`.

    Args:
        sample: end of the first phase, s, > 0. JJAP 2024 shows 400 ns without activity before an input.
        gap: from one switch to the next, s, > 0.
        hold: from the opening of the sampling switch to the reading, s, > 4 gaps. JJAP 2024: 600 ns.
        arrives: when charges arrive: ``"clamped"``, between the first and the second switch, as they do;
            ``"floating"``, between the second and the third; ``"active"``, after the third.

    Raises ``ValueError`` for times out of order.
    """

    sample: float = 400e-9
    gap: float = 1e-9
    hold: float = 600e-9
    arrives: Literal["clamped", "floating", "active"] = "clamped"

    def __post_init__(self) -> None:
        require(0 < self.sample < inf, "sample", self.sample, "0 < sample < ∞ (s)")
        require(0 < self.gap < inf, "gap", self.gap, "0 < gap < ∞ (s)")
        longer = 4 * self.gap < self.hold < inf
        require(longer, "hold", self.hold, f"4 gaps = {4 * self.gap:g} < hold < ∞ (s)")
        require(self.arrives in ARRIVALS, "arrives", self.arrives, f"one of {list(ARRIVALS)}")

    @property
    def stop(self) -> float:
        """The reading, s."""
        return self.sample + self.hold

    def edge(self, number: int) -> float:
        """Switch ``number``, 0 … 2, acts then, s."""
        return self.sample + number * self.gap


class Transient(Netlist):
    """A circuit over time, from its operating point at 0 to ``stop``, s, > 0.

    Elements with another name, or with a value that is not allowed, raise ``ValueError``.

    Args:
        step: longest time step, s, > 0; ``None`` is a thousandth of ``stop``.
        closed: resistance of a closed switch, Ω, > 0.
        opened: of an open one, Ω, larger than that.
    """

    def __init__(
        self, stop: float, step: float | None = None, closed: float = 1e3, opened: float = 1e15
    ) -> None:
        super().__init__("switched crossbar circuit")
        require(0 < stop < inf, "stop", stop, "0 < stop < ∞ (s)")
        self.stop, self.step = stop, stop / 1000 if step is None else step
        require(0 < self.step < inf, "step", self.step, "0 < step < ∞ (s)")
        ohms = (float(closed), float(opened))
        require(0 < closed < opened < inf, "(closed, opened)", ohms, "0 < closed < opened < ∞ (Ω)")
        self.model = f".model switch sw(vt=0.5 vh=0 ron={ohms[0]!r} roff={ohms[1]!r})"

    def __str__(self) -> str:
        step, stop = repr(float(self.step)), repr(float(self.stop))
        analysis = [self.model, ACCURACY, f".tran {step} {stop} 0 {step}", ".end", ""]
        return "\n".join([*self.lines, *analysis])

    def _add(self, name: str, nodes: Sequence[str], value: str) -> None:
        require("time" not in nodes, "node", "time", "another name: this is what the course calls its times")
        super()._add(name, nodes, value)

    def capacitor(self, a: str, b: str, farad: float) -> None:
        """Capacitor between nodes ``a`` and ``b``, 0 < farad < ∞."""
        require(0 < farad < inf, "farad", farad, "0 < farad < ∞ (F)")
        self._add(f"C{len(self.lines)}", (a, b), f"{float(farad)!r}")

    def switch(self, a: str, b: str, clock: str) -> None:
        """Switch between nodes ``a`` and ``b``, closed while node ``clock`` is above 0.5 V."""
        self._add(f"S{len(self.lines)}", (a, b, clock), f"{clock} 0 switch")

    def course(self, node: str, points: Sequence[tuple[float, float]]) -> None:
        """Holds ``node`` at a voltage that changes: (s, V), straight lines from point to point."""
        self._add(f"V{node}", (node, "0"), _course(points, "V"))

    def drive(self, a: str, b: str, points: Sequence[tuple[float, float]]) -> None:
        """Drives a current out of node ``a`` into node ``b``: (s, A), straight lines from point to point."""
        self._add(f"I{len(self.lines)}", (a, b), _course(points, "A"))


def _course(points: Sequence[tuple[float, float]], unit: str) -> str:
    """A course as SPICE says it."""
    times = [time for time, _ in points]
    ordered = len(times) > 0 and all(0 <= one < inf for one in times) and times == sorted(set(times))
    require(ordered, "points", list(points), "at least one, times ≥ 0 that increase (s)")
    finite = all(isfinite(value) for _, value in points)
    require(finite, "points", list(points), f"finite values ({unit})")
    return f"PWL({' '.join(f'{float(time)!r} {float(value)!r}' for time, value in points)})"


class _Sampling(Transient):
    """A two-phase circuit: nodes ``v0``, and the clocks ``sample``, ``clamp`` and ``active``. With ``inputs``
    each amplifier gets a capacitor at its inverting input: ``<out>_g`` is the plate at the amplifier,
    ``<out>_o`` the other, ``<out>_n`` an input that is not inverted and not at V_0 by itself."""

    def __init__(
        self,
        v0: float,
        inputs: bool,
        farad: float,
        gate: float,
        charge: Mapping[str, float],
        leakage: float,
        clocks: Clocks,
    ) -> None:
        super().__init__(clocks.stop)
        self.inputs, self.farad, self.gate, self.clocks = inputs, farad, gate, clocks
        self.charge, self.leakage = charge, leakage
        self.source("v0", v0)
        for number, clock in enumerate(("sample", "clamp", "active")):
            level = float(clock != "active")
            self.course(clock, self.turning(number, level, 1 - level))

    def turning(self, number: int, before: float, after: float) -> list[tuple[float, float]]:
        """A course from ``before`` to ``after`` around switch ``number``, in a tenth of a gap."""
        edge, half = self.clocks.edge(number), self.clocks.gap / 20
        return [(0.0, before), (edge - half, before), (edge + half, after)]

    def hold(self, plate: str, key: str) -> None:
        """The gate at ``plate``, and what comes there: the charge of ``key`` and the leakage."""
        if self.gate:
            self.capacitor(plate, "0", self.gate)
        if charge := self.charge.get(key):
            start, rise = (
                self.clocks.edge(ARRIVALS.index(self.clocks.arrives)) + self.clocks.gap / 4,
                self.clocks.gap / 4,
            )
            top = (start + rise, charge / rise)
            self.drive("0", plate, [(0.0, 0.0), (start, 0.0), top, (start + 2 * rise, 0.0)])
        if self.leakage:
            self.drive(plate, "0", [(0.0, self.leakage)])

    def amplifier(self, plus: str, minus: str, out: str, amplifier: Amplifier) -> None:
        if not self.inputs:
            super().amplifier(plus, minus, out, amplifier)
            return
        plate, other, held = f"{out}_g", f"{out}_o", plus if plus == "v0" else f"{out}_n"
        super().amplifier(held, plate, out, amplifier)
        self.capacitor(plate, other, self.farad)
        self.switch(plate, out, "sample")
        for node, driven in ((other, minus), (held, plus)):
            if node != "v0":
                self.switch(node, "v0", "clamp")
                self.switch(node, driven, "active")
        self.hold(plate, out.partition("_")[2])


def two_phases(
    voltage: Sequence[float],
    layer: Layer,
    where: Literal["input", "output"],
    v0: float = 0.0,
    *,
    farad: float,
    gate: float = 0.0,
    charge: Mapping[str, float] | None = None,
    leakage: float = 0.0,
    clocks: Clocks | None = None,
) -> Transient:
    """Circuit of one layer with amplifiers that is auto-zeroed, as :class:`~.AutoZero` is.

    Args:
        voltage: (m,), V, of the row drivers ``x<i>`` in the active phase, against ground. At the output rows
            are at ``v0`` until then, so all of them must be given; at the input what they do does not matter.
        layer: its nodes begin with ``l0_``.
        where: ``"input"``: a capacitor at the inverting input of each amplifier, followers too.
            ``"output"``: one behind each output ``u<j>``; what it shows is node ``l0_s<j>``.
        v0: V, of node ``v0``.
        farad: every capacitor, F, 0 < farad < ∞.
        gate: capacitance p at each plate that floats, F, ≥ 0.
        charge: C, that comes to the plate of an amplifier by its name (``"bp0"``), or of the capacitor behind
            an output by that of the output (``"u0"``); of the others none.
        leakage: current away from each of these plates, A.
        clocks: when; ``None`` is ``Clocks()``.

    Raises ``ValueError`` for a layer without amplifiers, for charges of others, and at the output for ReLUs,
    which a capacitor does not drive here, and for a bias that is always driven.
    """
    require(where in ("input", "output"), "where", where, "'input', 'output'")
    names = set(layer.amplifiers or ())
    require(bool(names), "amplifiers", layer.amplifiers, "those of a layer that has some")
    if where == "output":
        names = {f"u{j}" for j in range(len(layer.loads))}
        require(layer.relu is None, "relu", layer.relu, "None behind a sampled output")
        require(layer.bias is None, "bias", layer.bias, "None: its row is at rest too; give its voltage")
    charge = {} if charge is None else charge
    known = set(charge) <= names and all(map(isfinite, charge.values()))
    require(known, "charge", charge, f"finite (C), of some of {sorted(names)}")
    require(0 <= gate < inf, "gate", gate, "0 ≤ gate < ∞ (F)")
    require(isfinite(leakage), "leakage", leakage, "finite (A)")
    clocks = Clocks() if clocks is None else clocks
    circuit = _Sampling(v0, where == "input", farad, gate, charge, leakage, clocks)
    rows = [f"x{i}" for i in range(len(voltage))]
    for row, volt in zip(rows, voltage, strict=True):
        if where == "input":
            circuit.source(row, volt)
        else:
            circuit.course(row, circuit.turning(2, v0, volt))
    outputs = layer.add_to(circuit, rows, "l0")
    if where == "output":
        for out in outputs:
            plate = out.replace("_u", "_s")
            circuit.capacitor(out, plate, farad)
            circuit.switch(plate, "v0", "sample")
            circuit.hold(plate, out.partition("_")[2])
    return circuit


def waveforms(circuit: Transient, limit: float = 60.0) -> dict[str, NDArray[np.float64]]:
    """Course of the circuit by ngspice: ``"time"``, s, the voltage of every node, V, and the current
    ``i(v<node>)`` into every source, A, at the times that ngspice chose, (points,) each.

    Raises ``RuntimeError``, in ngspice's words, if it is not there or does not reach the end in ``limit``, s.
    """
    if (program := shutil.which("ngspice")) is None:
        raise RuntimeError("ngspice is not on the path; install it (Debian: apt-get install ngspice)")
    with TemporaryDirectory() as folder:
        source, raw = Path(folder, "circuit.cir"), Path(folder, "circuit.raw")
        source.write_text(str(circuit), encoding="utf-8")
        command = [program, "-n", "-b", "-r", str(raw), str(source)]
        try:
            run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"ngspice did not reach the end of the transient in {limit:g} s") from error
        content = raw.read_bytes() if raw.exists() else b""
    header, _, data = content.partition(b"Binary:\n")
    names = re.findall(r"^\s+\d+\s+(\S+)\s+(?:time|voltage|current)", header.decode(), re.MULTILINE)
    said = (run.stdout + run.stderr).decode(errors="replace").strip()
    whole = names[:1] == ["time"] and len(data) > 0 and len(data) % (8 * len(names)) == 0
    values = np.frombuffer(data if whole else b"", dtype=np.float64).reshape(-1, max(len(names), 1))
    ended = whole and bool(np.isfinite(values).all()) and values[-1, 0] >= circuit.stop * (1 - 1e-9)
    if run.returncode or not ended or re.search(ABORTED, said):
        raise RuntimeError(f"ngspice did not reach the end of the transient:\n{said}")
    found = {re.sub(r"^v\((.*)\)$", r"\1", name): values[:, k] for k, name in enumerate(names)}
    return {name: course for name, course in found.items() if name[:3] != "i(b"}


def values_at(course: Mapping[str, NDArray[np.float64]], time: float) -> dict[str, float]:
    """Every value of ``course`` at ``time``, s, between two points of it. Raises ``ValueError`` outside."""
    times = course["time"]
    require(times[0] <= time <= times[-1], "time", time, f"{times[0]:g} … {times[-1]:g} (s)")
    return {name: float(np.interp(time, times, values)) for name, values in course.items() if name != "time"}
