"""Circuits as ngspice solves them, against the equations of the book.

The equations are those of the op-amp chain with finite gain: each converter, subtractor and follower
in closed form. Each is compared with the committed operating points always, and with ngspice
itself where it is installed; which of the two it was is printed.
"""

import shutil

import numpy as np
import pytest
import torch
from oracle import FOLDER, GRID, read, solve

from cimlib.parasitics import crossbar_currents, effective_conductance
from cimlib.spice import Amplifier, Layer, Netlist, crossbar, netlist, simulate

RELATIVE = 1e-9  # what is asked of the equations: ≤ 1e-6


@pytest.fixture(scope="module")
def operating_point():
    """Gives the operating point of a circuit: of ngspice now, or the committed one without it."""
    live = shutil.which("ngspice") is not None
    print("compared with ngspice itself" if live else "ngspice is not installed: committed values used")
    return lambda name: solve(read(name)[0]) if live else read(name)[1]


def limit(volt, amplifier):
    return volt if amplifier.rails is None else float(np.clip(volt, *amplifier.rails))


def converter(x, g, v0, g_load, a):
    """Inputs x behind conductances g into an inverting amplifier with feedback g_load."""
    s, q = g.sum(), g @ x
    volt = ((g_load + s) * a.zero + a.gain * ((v0 + a.offset) * (g_load + s) - q)) / (
        (a.gain + 1) * g_load + s
    )
    return limit(volt, a)


def subtractor(plus, minus, v0, a):
    return limit(a.gain / (a.gain + 2) * (plus - minus + v0 + 2 * a.offset + 2 * a.zero / a.gain), a)


def follower(volt, a):
    return limit((a.gain * (volt + a.offset) + a.zero) / (a.gain + 1), a)


def equations(layer, x, v0):
    """Voltages or currents of a layer by name, and its outputs.

    Wires along columns only: a column whose foot is at c delivers Σ G_eff (x − c), so that G_eff
    stands in for the cells exactly.
    """
    g = torch.tensor(layer.conductance, dtype=torch.float64)
    x = np.asarray(x)
    if layer.structure == "currents":
        currents = crossbar_currents(g, torch.tensor(x - v0)[None], layer.r_row, layer.r_col)[0]
        return {f"i(vl0_c{j})": current for j, current in enumerate(currents.tolist())}, []
    assert layer.r_row == 0
    n, a, found = g.shape[1], layer.amplifiers, {}
    g = effective_conductance(g, 0.0, layer.r_col).numpy()
    reference = torch.tensor(layer.reference, dtype=torch.float64)
    reference = effective_conductance(reference, 0.0, layer.r_col).numpy()

    def convert(name, cells, inputs=x):
        found[name] = converter(inputs, cells, v0, layer.g_load, a[name])
        return found[name]

    for j in range(n):
        if layer.structure == "pair":
            minus, plus = convert(f"bp{j}", g[:, j]), convert(f"bn{j}", reference[:, j])
        elif layer.structure == "column":
            minus, plus = convert(f"b{j}", g[:, j]), convert("bref", reference[:, 0])
        else:
            common = convert("br", reference[:, 0])
            convert(f"u{j}", np.append(g[:, j], layer.g_load), np.append(x, common))
            continue
        found[f"u{j}"] = subtractor(plus, minus, v0, a[f"u{j}"])
    outputs = [found[f"u{j}"] for j in range(n)]
    if layer.relu is not None:
        for j, (u, offset) in enumerate(zip(outputs, layer.relu, strict=True)):
            assert abs(u - (v0 - offset)) > 1e-3, "too near the comparator's threshold to compare"
            found[f"a{j}"] = u if u > v0 - offset else v0
            found[f"y{j}"] = outputs[j] = follower(found[f"a{j}"], a[f"y{j}"])
    return found, outputs


def test_the_committed_circuits_are_those_of_the_grid():
    assert sorted(GRID) == sorted(path.stem for path in FOLDER.glob("*.json"))
    assert len(set(GRID)) == len(GRID) >= 30


@pytest.mark.parametrize("name", GRID)
def test_the_equations_give_what_ngspice_gives(name, operating_point):
    arguments, committed = read(name)
    found, x = {}, arguments["voltage"]
    for number, layer in enumerate(arguments["layers"]):
        values, x = equations(layer, x, arguments["v0"])
        found |= {key if key.startswith("i(") else f"l{number}_{key}": v for key, v in values.items()}
    live = operating_point(name)
    assert committed.keys() == live.keys() and found.keys() <= committed.keys()
    np.testing.assert_allclose(list(live.values()), list(committed.values()), rtol=RELATIVE, atol=1e-15)
    for circuit in (committed, live):
        np.testing.assert_allclose([circuit[key] for key in found], list(found.values()), rtol=RELATIVE)


def test_amplifiers_of_the_grid_are_at_either_rail_and_between():
    at = {"low": 0, "between": 0, "high": 0}
    for name in (one for one in GRID if one.endswith("rails")):
        arguments, point = read(name)
        for number, layer in enumerate(arguments["layers"]):
            for key, amplifier in layer.amplifiers.items():
                low, high = np.isclose(amplifier.rails, point[f"l{number}_{key}"], rtol=1e-9)
                at["low" if low else "high" if high else "between"] += 1
    assert min(at.values()) >= 5, at


def test_relus_of_the_grid_pass_and_block():
    points = [read(name)[1] for name in GRID if name.endswith("8x3-all")]
    passed = [point[f"l0_a{j}"] == point[f"l0_u{j}"] for point in points for j in range(8)]
    assert 2 <= sum(passed) <= len(passed) - 2


def test_a_netlist_is_plain_spice():
    circuit = Netlist("a  title")
    circuit.source("x", 0.25)
    circuit.resistor("x", "c", 2e4)
    circuit.amplifier("0", "c", "out", Amplifier(1000, offset=-0.01))
    assert str(circuit).splitlines() == [
        "a title",
        "Vx x 0 0.25",
        "R2 x c 20000.0",
        "B3 out 0 V=(0.0)+(1000.0)*(V(0)+(-0.01)-V(c))",
        ".options reltol=1e-9 abstol=1e-15 vntol=1e-12",
        ".op",
        ".end",
    ]


def test_an_open_cell_is_no_resistor_and_a_perfect_wire_is_none():
    circuit = Netlist()
    crossbar(circuit, [[1e-4, 0.0], [0.0, 1e-4]], ["x0", "x1"], ["c0", "c1"])
    assert [line.split()[1:3] for line in circuit.lines[1:]] == [["x0", "c0"], ["x1", "c1"]]
    crossbar(circuit, [[0.0]], ["x0"], ["c0"], r_row=1.0, r_col=2.0)
    assert [line.split()[1:] for line in circuit.lines[3:]] == [
        ["x0", "x0_c0_w", "1.0"],
        ["x0_c0_b", "c0", "2.0"],
    ]


def test_without_ngspice_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="apt-get install ngspice"):
        simulate(netlist([0.1], [Layer("currents", [[1e-4]])]))


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Warning: singular matrix'; touch $4",
        "echo 'doAnalyses: OP: no convergence'; touch $4",
        "echo 'Note: Transient op started'; touch $4",
        "echo 'some words'; touch $4; exit 1",
        "echo 'no file'",
        r"echo 'no data'; printf 'Variables:\n\t0\tv(a)\tvoltage\nBinary:\n' > $4",
    ],
)
def test_a_failed_simulation_is_an_error_in_ngspices_words(monkeypatch, tmp_path, script):
    """A stand-in for the program, so that this holds with and without ngspice."""
    program = tmp_path / "ngspice"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeError, match=f"no operating point:\n{script.split(chr(39))[1]}"):
        simulate("a circuit\n.op\n.end\n")


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: Amplifier(0.0), "gain"),
        (lambda: Amplifier(float("inf")), "gain"),
        (lambda: Amplifier(1.0, offset=float("nan")), "offset"),
        (lambda: Amplifier(1.0, zero=float("inf")), "zero"),
        (lambda: Amplifier(1.0, rails=(1.0, 1.0)), "rails"),
        (lambda: Netlist().resistor("a", "b", 0.0), "ohm"),
        (lambda: Netlist().resistor("A", "b", 1.0), "node"),
        (lambda: Netlist().amplifier("a b", "b", "c", Amplifier(1.0)), "node"),
        (lambda: Netlist().source("a", float("nan")), "volt"),
        (lambda: Netlist().relu("a", "b", "0", float("nan")), "offset"),
        (lambda: crossbar(Netlist(), [[1.0]], ["a", "b"], ["c"]), "conductance.shape"),
        (lambda: crossbar(Netlist(), [[-1.0]], ["a"], ["c"]), "conductance"),
        (lambda: crossbar(Netlist(), [[1.0]], ["a"], ["c"], r_row=-1.0), "r_row"),
        (lambda: crossbar(Netlist(), [[1.0]], ["a"], ["c"], r_col=float("inf")), "r_col"),
        (lambda: Layer("triple", [[1.0]]), "structure"),
        (lambda: Layer("currents", [1.0]), "conductance.shape"),
        (lambda: Layer("currents", [[1.0]], [[1.0]]), "reference.shape"),
        (lambda: Layer("pair", [[1.0]]), "reference.shape"),
        (lambda: Layer("currents", [[1.0]], g_load=0.0), "g_load"),
        (lambda: Layer("currents", [[1.0]], relu=[0.0]), "relu"),
        (lambda: Layer("pair", [[1.0]], [[1.0]], {"u0": Amplifier(1.0)}), "amplifiers"),
        (lambda: netlist([0.1, 0.2], [Layer("currents", [[1.0]])]), "conductance.shape"),
    ],
)
def test_impossible_parts_are_refused_by_name(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument} = .*; allowed: "):
        call()
