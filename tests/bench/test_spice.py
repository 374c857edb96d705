"""Circuits as ngspice solves them, against the library's own.

Every committed circuit is read into :class:`cimlib.circuits.opamp.OpAmp` or into wires, and every voltage and
current that comes out is compared: with the committed operating points always, and with ngspice itself
where it is installed; which of the two it was is printed.
"""

import re
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from oracle import FLOWERS, FOLDER, GRID, IRIS, MEASURING, OPAMP, V0, read, solve
from simulated import ARRAYS, STAGES, Rows, named, tensor
from torch import nn

from cimlib import Hardware, fabricate, fresh, program, using
from cimlib.arrays import BitSliced, Conductances, DoubleArray, SignedArray, SingleArray
from cimlib.bench import Amplifier, Layer, Netlist, crossbar, layers, netlist, simulate
from cimlib.bench.measurement import _NOISE_GAIN
from cimlib.chip import AnalogReLU, Mapped, Placement, fabricated
from cimlib.circuits import Converters, Ideal, OpAmp, Wires, crossbar_currents, effective_conductance
from cimlib.devices import Gaussian
from cimlib.networks import BiasRow, mlp

RELATIVE = 1e-9  # what is asked of the equations: ≤ 1e-6
SPAN = OPAMP.span


@pytest.fixture(scope="module")
def operating_point(live):
    """Gives the operating point of a circuit: of ngspice now, or the committed one without it."""
    return lambda name: solve(read(name)[0]) if live else read(name)[1]


def opamp(layer, v0):
    """The layer's amplifiers as a circuit of the library: each one's offset and gain are its own draws."""
    one = next(iter(layer.amplifiers.values()))
    assert {(a.zero, a.rails) for a in layer.amplifiers.values()} == {(one.zero, one.rails)}
    circuit = OpAmp(
        gain=one.gain,
        gain_spread=1.0,
        offset=1.0,
        at_zero=one.zero,
        rails=one.rails,
        v_0=v0,
        span=SPAN,
        g_load=1e6 * layer.g_load if np.ndim(layer.g_load) == 0 else None,
        g_constant=None if layer.g_constant is None else 1e6 * layer.g_constant,
    )
    z = {}
    stages = [(stage, draws) for stage, (draws, _) in STAGES[layer.structure].items()]
    for stage, draws in stages + [("y", "follower")] * (layer.relu is not None):
        amplifiers = [layer.amplifiers[node] for node in named(layer, stage)]
        z.setdefault(draws, []).append([a.offset for a in amplifiers])
        z.setdefault(f"{draws}_gain", []).append([log(a.gain / one.gain) for a in amplifiers])
    z = {draws: tensor(rows if len(rows) > 1 else rows[0]) for draws, rows in z.items()}
    return circuit, z | ({} if layer.relu is None else {"comparator": tensor(layer.relu)})


def conductances(layer):
    """The layer's cells in µS.

    Wires along columns only: a column whose foot is at c delivers Σ G_eff (x − c), so that G_eff stands
    in for the cells exactly.
    """
    assert layer.r_row == 0

    def effective(cells):
        return 1e6 * effective_conductance(tensor(cells), 0.0, layer.r_col).T

    cells, reference = effective(layer.conductance), effective(layer.reference)
    scale = 1e6 * tensor(layer.g_load)
    scale = scale.reshape(1) if scale.dim() == 0 else scale[None]
    if layer.structure == "pair":
        return Conductances(torch.stack((cells, reference))[None], None, scale)
    return Conductances(cells[None, None], reference[0], scale)


def equations(layer, x, v0):
    """Voltages or currents of a layer by name, and its outputs."""
    if layer.structure == "currents":
        applied = tensor(x)[None] - v0
        currents = crossbar_currents(tensor(layer.conductance), applied, layer.r_row, layer.r_col)[0]
        return {f"i(vl{{}}_c{j})": current for j, current in enumerate(currents.tolist())}, []
    if layer.amplifiers is None:
        return bare(layer, tensor(x) - v0, v0)
    circuit, z = opamp(layer, v0)
    array, g = ARRAYS[layer.structure], conductances(layer)
    rows = list(x) if layer.bias is None else [*x, layer.bias]
    op = Rows((tensor(rows)[None] - v0) / SPAN)

    def volts(signal):
        return (v0 + SPAN * signal[0]).tolist()

    found = {}
    signals = circuit.stages(op, array, g, z)
    for stage, (_, output) in STAGES[layer.structure].items():
        found |= zip(named(layer, stage), volts(signals[output].settle(op).value), strict=True)
    u = circuit(op, array, g, array.decode(g), None, z)
    np.testing.assert_allclose(volts(u), [found[node] for node in named(layer, "u")], rtol=1e-12)
    if layer.relu is None:
        return found, volts(u)
    margin = u + z["comparator"] / SPAN
    assert margin.abs().min() * SPAN > 1e-3, "too near the comparator's threshold to compare"
    perfect = replace(circuit, gain=float("inf"), rails=None)
    found |= zip(named(layer, "y"), volts(circuit.activation(u, z, -1)), strict=True)
    a = perfect.activation(u, z | {"follower": torch.zeros_like(u[0])}, -1)
    found |= {f"a{j}": volt for j, volt in enumerate(volts(a))}
    return found, [found[node] for node in named(layer, "y")]


def bare(layer, applied, v0):
    """The same without amplifiers: currents of every column, outputs, ReLUs."""
    if layer.bias is not None:
        applied = torch.cat((applied, tensor([layer.bias - v0])))
    single = layer.structure != "pair"
    sides = (
        [np.hstack([layer.conductance, layer.reference])] if single else [layer.conductance, layer.reference]
    )
    currents = []
    for side in map(tensor, sides):
        height, width = layer.tile or side.shape
        tiles = [
            torch.cat(
                [crossbar_currents(g, volt[None], layer.r_row, layer.r_col)[0] for g in strip.split(width, 1)]
            )
            for strip, volt in zip(side.split(height), applied.split(height), strict=True)
        ]
        currents.append(sum(tiles))
    plus, minus = (currents[0][:-1], currents[0][-1:]) if single else currents
    stages = {"pair": ("bp", "bn"), "column": ("b", "bref"), "constant-term": ("u", "br")}[layer.structure]
    found = {}
    for stage, current in zip(stages, (plus, minus), strict=True):
        many = stage not in ("bref", "br")
        names = [f"{stage}{j}" if many else stage for j in range(len(current))]
        found |= {f"i(vl{{}}_{name}_in)": one for name, one in zip(names, current.tolist(), strict=True)}
    difference = (minus - plus if layer.structure == "constant-term" else plus - minus) / tensor(layer.g_load)
    u = v0 + difference + (0.0 if layer.shift is None else tensor(layer.shift))
    found |= {f"u{j}": volt for j, volt in enumerate(u.tolist())}
    if layer.relu is None:
        return found, u.tolist()
    a = torch.where(u > v0, u, v0).tolist()
    return found | {f"a{j}": volt for j, volt in enumerate(a)}, a


def through(network, x, v0):
    """Voltages or currents of a network by the names of its netlist, and its outputs."""
    found = {}
    for number, layer in enumerate(network):
        values, x = equations(layer, x, v0)
        found |= {
            key.format(number) if key.startswith("i(") else f"l{number}_{key}": v for key, v in values.items()
        }
    return found, x


def test_the_committed_circuits_are_those_of_the_grid():
    stems = [path.stem for path in FOLDER.glob("*.json")]
    assert sorted(GRID) == sorted(stem for stem in stems if not stem.startswith("auto-zero-"))
    assert len(set(GRID)) == len(GRID) >= 30


@pytest.mark.parametrize("name", GRID)
def test_the_equations_give_what_ngspice_gives(name, operating_point):
    arguments, committed = read(name)
    found, _ = through(arguments["layers"], arguments["voltage"], arguments["v0"])
    live = operating_point(name)
    assert committed.keys() == live.keys()
    assert {key for key in committed if not re.search(r"_in$|_p$|_m$|_c\d+$", key)} == found.keys()
    np.testing.assert_allclose(list(live.values()), list(committed.values()), rtol=RELATIVE, atol=1e-15)
    for circuit in (committed, live):
        np.testing.assert_allclose([circuit[key] for key in found], list(found.values()), rtol=RELATIVE)


def network(structure, flower):
    """The trained network of a committed circuit on hardware of the library: same cells, same amplifiers."""
    arguments, _ = read(f"iris-{structure}-{flower}")
    array = IRIS[structure]
    model = fabricate(
        program(mlp(4, 8, 3, bias="row", seed=0).double(), Hardware(array=array, circuit=OPAMP))
    )
    parts = fabricated(model)
    for part, layer in zip(parts, [arguments["layers"][i] for i in (0, 0, 1)], strict=True):
        circuit, z = opamp(layer, V0)
        part.hardware = Hardware(array=array, circuit=circuit)
        for name in part.draws():
            setattr(part, name, z[name.removeprefix("circuit/")])
        if not isinstance(part, AnalogReLU):
            held = replace(conductances(layer), scale=array.target(part.weight).scale)
            part.weight.data = array.decode(held)
    return model, arguments


@pytest.mark.parametrize("flower", FLOWERS)
@pytest.mark.parametrize("structure", IRIS)
def test_a_trained_network_gives_what_ngspice_gives_and_knows_its_flower(structure, flower, operating_point):
    model, arguments = network(structure, flower)
    with torch.no_grad():
        volts = V0 + SPAN * model((tensor([arguments["voltage"]]) - V0) / SPAN)[0]
    for circuit in (read(f"iris-{structure}-{flower}")[1], operating_point(f"iris-{structure}-{flower}")):
        outputs = [circuit[f"l1_u{j}"] for j in range(3)]
        np.testing.assert_allclose(volts.tolist(), outputs, rtol=RELATIVE)
        assert FLOWERS[np.argmax(outputs)] == FLOWERS[int(volts.argmax())] == flower


@pytest.mark.parametrize("structure", IRIS)
def test_the_layers_of_a_network_on_hardware_are_those_that_it_was_made_from(structure):
    model, arguments = network(structure, "setosa")
    for found, layer in zip(layers(model), arguments["layers"], strict=True):
        assert found.structure == structure and found.amplifiers.keys() == layer.amplifiers.keys()
        assert found.bias == pytest.approx(layer.bias, rel=1e-12) and layer.bias == pytest.approx(0.85)
        for name in ("conductance", "reference", "g_load"):
            np.testing.assert_allclose(getattr(found, name), getattr(layer, name), rtol=1e-12)
        for name, amplifier in layer.amplifiers.items():
            own = found.amplifiers[name]
            assert (own.gain, own.offset) == pytest.approx((amplifier.gain, amplifier.offset), rel=1e-12)
            assert (own.zero, own.rails) == (amplifier.zero, amplifier.rails)
        assert found.relu == (None if layer.relu is None else pytest.approx(layer.relu, rel=1e-12))


FABRICATED = {
    "zero state": (DoubleArray(g_min=30.0, zero_state=True, w_max=2.0), OPAMP),
    "two-sided": (DoubleArray(mapping="two-sided"), replace(OPAMP, g_load=300.0, rails=None)),
    "disconnected": (DoubleArray(g_min=0.0, inactive="disconnected"), replace(OPAMP, gain_spread=0.0)),
    "column of cells": (SingleArray(reference_device="cell"), replace(OPAMP, g_load=500.0)),
    "constant term": (SingleArray(reference="constant-term"), replace(OPAMP, at_zero=None, v_0=0.4)),
    "another constant": (SingleArray(reference="constant-term"), replace(OPAMP, g_constant=500.0)),
    "pair of own scales": (DoubleArray(scale="column"), OPAMP),
    "column of own scales": (SingleArray(scale="column", reference_device="cell"), OPAMP),
    "constant term of own scales": (SingleArray(scale="column", reference="constant-term"), OPAMP),
}


@pytest.mark.parametrize("case", FABRICATED)
def test_any_fabricated_network_is_the_circuit_of_its_layers(case, live):
    array, circuit = FABRICATED[case]
    hardware = Hardware(Gaussian(0.1), array, circuit)
    model = fabricate(program(mlp(5, 7, 3, bias="row", seed=0).double(), hardware), 3)
    x = torch.rand(1, 5, generator=torch.Generator().manual_seed(1)).double()
    volts = circuit.v_0 + circuit.span * torch.cat((x, model(x)), 1)[0].detach()
    found, outputs = through(layers(model), volts[:5].tolist(), circuit.v_0)
    np.testing.assert_allclose(outputs, volts[5:].tolist(), rtol=1e-12)
    if live:
        solved = simulate(netlist(volts[:5].tolist(), layers(model), circuit.v_0))
        np.testing.assert_allclose([solved[key] for key in found], list(found.values()), rtol=RELATIVE)


BARE = {  # array, what is around Ideal() or nothing, biases
    "pair": (DoubleArray(), None, "row"),
    "pair with digital biases": (DoubleArray(mapping="two-sided"), None, True),
    "zero state": (DoubleArray(g_min=30.0, zero_state=True, scale="column"), None, True),
    "column": (SingleArray(scale="column", reference_device="cell"), None, True),
    "constant term": (SingleArray(reference="constant-term"), None, "row"),
    "signs of a disconnected pair": (DoubleArray(0.0, inactive="disconnected"), None, False),
    "wires": (DoubleArray(), Wires(4.0, 2.0), True),
    "wires around a column": (SingleArray(scale="column"), Wires(4.0, 2.0), "row"),
    "wires around a constant term": (SingleArray(reference="constant-term"), Wires(0.0, 5.0), True),
    "wires around a zero state": (DoubleArray(g_min=30.0, zero_state=True), Wires(4.0, 0.0), True),
    "tiles": (DoubleArray(scale="column"), Wires(20.0, 10.0, tile=(3, 2)), True),
    "tiles of a column": (SingleArray(), Wires(20.0, 10.0, tile=(2, 4)), "row"),
    "tile without wires": (DoubleArray(), Wires(0.0, 0.0, tile=(2, 2)), True),
}


@pytest.mark.parametrize("case", BARE)
def test_a_network_without_amplifiers_is_the_circuit_of_its_currents(case, live):
    """A whole network: input and output are volts."""
    array, circuit, bias = BARE[case]
    model = mlp(5, 7, 3, bias=bias, seed=0).double()
    with torch.no_grad():
        for one in model:
            if isinstance(one, nn.Linear):
                one.weight[0] *= 5
    hardware = Hardware(Gaussian(0.1), array, circuit or Ideal())
    model = fabricate(program(model, hardware), 3)
    x = torch.rand(1, 5, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        y = model(x)[0]
    network = layers(model)
    assert [layer.relu is None for layer in network] == [False, True]
    found, outputs = through(network, x[0].tolist(), 0.0)
    np.testing.assert_allclose(outputs, y, rtol=1e-10)
    if circuit is not None and circuit.r_row + circuit.r_col:
        with torch.no_grad(), using(model, replace(hardware, circuit=Ideal())):
            assert (model(x)[0] - y).abs().max() > 1e-5, "wires matter"
    if live:
        solved = simulate(netlist(x[0].tolist(), network))
        for key, value in found.items():
            least = 1e-15 if key.startswith("i(") else 1e-11  # A, V: what ngspice's tolerances leave
            assert solved[key] == pytest.approx(value, rel=RELATIVE, abs=least), key


@pytest.mark.parametrize("inner", [replace(OPAMP, rails=None), OPAMP], ids=["affine", "rails"])
@pytest.mark.parametrize("name", ARRAYS)
def test_wires_around_amplifiers_are_in_the_circuit_too(name, inner, live):
    """Exact for wires along columns; along rows feet that are apart drive currents that the model leaves out,
    and the circuit has them."""
    errors = {}
    for r_row, tile in ((0.0, None), (0.0, (3, 2)), (5.0, None)):
        hardware = Hardware(Gaussian(0.1), ARRAYS[name], Wires(r_row, 5.0, inner, tile))
        model = fabricate(program(mlp(5, 7, 3, bias="row", seed=0).double(), hardware), 3)
        x = torch.rand(1, 5, generator=torch.Generator().manual_seed(1)).double()
        with torch.no_grad():
            volts = V0 + SPAN * torch.cat((x, model(x)), 1)[0]
        network = layers(model)
        assert [(one.r_row, one.r_col, one.tile) for one in network] == [(r_row, 5.0, tile)] * 2
        if not live:
            continue
        solved = simulate(netlist(volts[:5].tolist(), network, V0))
        found = np.array([solved[f"l1_u{j}"] for j in range(3)])
        errors[r_row, tile] = np.abs(found - volts[5:].numpy()).max()
    if live:
        assert max(errors[0.0, None], errors[0.0, (3, 2)]) < 1e-9
        assert 1e-9 < errors[5.0, None] < 3e-3


def test_layers_with_and_without_amplifiers_share_the_signals_of_the_amplifiers(live):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)).double()
    chip = fabricate(program(model, {"0": Hardware(circuit=OPAMP), "2": Hardware()}), 1)
    x = torch.rand(1, 4).double()
    with torch.no_grad():
        volts = V0 + SPAN * torch.cat((x, chip(x)), 1)[0]
    network = layers(chip)
    assert network[1].shift == pytest.approx([SPAN * one for one in chip[2].bias.tolist()])
    _, outputs = through(network, volts[:4].tolist(), V0)
    np.testing.assert_allclose(outputs, volts[4:], rtol=1e-12)
    if live:
        solved = simulate(netlist(volts[:4].tolist(), network, V0))
        np.testing.assert_allclose([solved[f"l1_u{j}"] for j in range(3)], volts[4:], rtol=RELATIVE)


def test_reading_a_network_for_its_circuit_leaves_it_as_it_was():
    hardware = Hardware(Gaussian(0.1), circuit=Wires(1.0, 1.0))
    chip = fabricate(program(nn.Linear(4, 3), hardware), 1)
    before = chip(torch.ones(1, 4))
    (layer,) = layers(chip)
    assert chip.hardware == hardware and torch.equal(chip(torch.ones(1, 4)), before)
    cells = chip.hardware.array.target(chip.weight).cells
    assert not np.allclose(1e6 * layer.conductance, cells[0, 0].detach().T, rtol=1e-3), "of the chip"


def test_one_layer_alone_is_a_circuit_too():
    model = fabricate(program(nn.Linear(3, 2, bias=False), Hardware(circuit=OPAMP)), 1)
    (layer,) = layers(model)
    assert layer.relu is None and layer.bias is None and np.shape(layer.conductance) == (3, 2)


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
    for part in ("8x3-all", *(f"iris-{structure}" for structure in IRIS)):
        points = [read(name)[1] for name in GRID if part in name]
        passed = [point[f"l0_a{j}"] == point[f"l0_u{j}"] for point in points for j in range(8)]
        assert 2 <= sum(passed) <= len(passed) - 2, part


def test_two_readings_of_an_amplifier_by_ngspice_give_its_offset_and_gain(operating_point):
    """By the formulas of :mod:`cimlib.bench.measurement`. Nothing drives converters and follower in the first
    reading; the subtractor has its converters' outputs there too, which are known and taken off."""
    (layer,) = read("measuring-driven")[0]["layers"]
    positive, negative = (np.ravel(g)[0] / layer.g_load for g in (layer.conductance, layer.reference))
    noise_gain = {"bp0": 1 + positive, "bn0": 1 + negative}
    noise_gain |= {"u0": _NOISE_GAIN["subtractor"], "y0": _NOISE_GAIN["follower"]}
    assert noise_gain["bp0"] == pytest.approx(10.0, rel=1e-12)

    def perfect(name, point):
        x = MEASURING[name] - V0
        between = point["l0_bn0"] - point["l0_bp0"]
        return {"bp0": -positive * x, "bn0": -negative * x, "u0": between, "y0": point["l0_a0"] - V0}

    for solved in (lambda name: read(name)[1], operating_point):
        points = {name: solved(name) for name in MEASURING}
        before, after = (perfect(*one) for one in points.items())
        assert before["bp0"] == before["bn0"] == before["y0"] == 0
        for node, n in noise_gain.items():
            r_0, r_1 = (point[f"l0_{node}"] - V0 for point in points.values())
            c = (after[node] - before[node]) / (r_1 - r_0)
            e = (c * r_0 - before[node]) / n
            gain, true = n / (c - 1), layer.amplifiers[node]
            offset = e - (true.zero - V0) / gain
            assert (gain, offset) == pytest.approx((true.gain, true.offset), rel=1e-6), node


def test_a_constant_row_has_a_source_of_its_own():
    circuit = str(netlist([0.1], [Layer("currents", [[1e-4], [2e-4]], bias=0.3)], v0=0.2))
    assert "Vl0_bias l0_bias 0 0.3" in circuit.splitlines()
    assert "l0_bias l0_c0 5000.0" in circuit


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
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
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
        (lambda: Layer("currents", [[1.0]], g_constant=1.0), "g_constant"),
        (lambda: Layer("constant-term", [[1.0]], [[1.0]], g_constant=0.0), "g_constant"),
        (lambda: Layer("currents", [[1.0]], relu=[0.0]), "relu"),
        (lambda: Layer("pair", [[1.0]], [[1.0]], {"u0": Amplifier(1.0)}), "amplifiers"),
        (lambda: Layer("currents", [[1.0]], bias=float("nan")), "bias"),
        (lambda: Layer("currents", [[1.0]], amplifiers=None), "amplifiers"),
        (lambda: Layer("currents", [[1.0]], g_load=[1.0, 1.0]), "g_load"),
        (lambda: Layer("pair", [[1.0]], [[1.0]], None, g_load=[0.0]), "g_load"),
        (lambda: Layer("pair", [[1.0]], [[1.0]], None, shift=[0.0, 1.0]), "shift"),
        (lambda: netlist([0.1], [Layer("pair", [[1.0]], [[1.0]], None, shift=[float("nan")])]), "shift"),
        (lambda: Layer("currents", [[1.0]], shift=[1.0]), "shift"),
        (lambda: Layer("currents", [[1.0]], tile=(0, 1)), "tile"),
        (lambda: netlist([0.1], [Layer("currents", [[1.0], [1.0]], tile=(1, 1))]), "conductance.shape"),
        (lambda: netlist([0.1, 0.2], [Layer("currents", [[1.0]])]), "conductance.shape"),
    ],
)
def test_impossible_parts_are_refused_by_name(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument} = .*; allowed: "):
        call()


def chip(*parts, array=None, circuit=OPAMP):
    return fabricate(
        program(nn.Sequential(*parts), Hardware(array=array or DoubleArray(), circuit=circuit)), 0
    )


def linear():
    return nn.Linear(2, 2, bias=False)


def differing():
    model = chip(linear(), linear())
    model[1].hardware = replace(model[1].hardware, circuit=replace(OPAMP, span=0.3))
    return model


def with_digital_stage():
    model = chip(linear())
    model[0].digital = lambda x, y: y
    return model


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def derived():
    return fabricate(program(Twice(linear()), Hardware(circuit=Ideal())))


def hooked(part, register="register_forward_hook"):
    """A network with a hook on the part of that name, or on all of it."""
    model = chip(linear(), nn.ReLU(), circuit=Ideal())
    getattr(model.get_submodule(part), register)(lambda *_: None)
    return model


def overridden():
    model = chip(linear(), circuit=Ideal())
    model.forward = lambda x: 2 * x
    return model


def moved():
    model = chip(nn.Linear(2, 2), circuit=Wires(1.0, 0.0))
    model[0] = Mapped(model[0], Placement.straight(2, 2))
    return model


@pytest.mark.parametrize(
    ("call", "argument", "words"),
    [
        (lambda: layers(chip(linear(), circuit=replace(OPAMP, gain=float("inf")))), "gain", "gain < ∞"),
        (lambda: layers(chip(linear(), circuit=Converters())), "hardware.circuit", r"OpAmp\(.*Ideal\("),
        (
            lambda: layers(chip(linear(), circuit=Wires(1.0, 1.0, Converters()))),
            "hardware.circuit",
            "Wires or not",
        ),
        (lambda: layers(chip(linear(), circuit=Wires(1.0, 1.0, OpAmp()))), "gain", "gain < ∞"),
        (lambda: layers(chip(linear(), array=BitSliced(), circuit=Ideal())), "slices", "1 in a netlist"),
        (lambda: layers(chip(linear(), array=SignedArray(), circuit=Ideal())), "array", "arrays of cells"),
        (lambda: layers(moved()), "model", "layer '0'.*own order"),
        (lambda: layers(derived()), "model", "Twice in it.*no class derived"),
        (lambda: layers(hooked("0")), "model", "hooks on a Crossbar.*remove"),
        (lambda: layers(hooked("1")), "model", "hooks on a ReLU.*remove"),
        (lambda: layers(hooked("", "register_forward_pre_hook")), "model", "hooks on a Sequential.*remove"),
        (lambda: layers(overridden()), "model", "Sequential with a forward of its own"),
        (lambda: layers(chip(nn.ReLU(), linear(), circuit=Ideal())), "model", "ReLU in it"),
        (lambda: layers(chip(linear(), nn.Flatten(), nn.ReLU())), "model", "ReLU in it"),
        (lambda: layers(chip(nn.Conv2d(1, 1, 3, bias=False))), "model", "layer '0'.*no convolution"),
        (lambda: layers(with_digital_stage()), "model", "layer '0'.*no digital stage"),
        (lambda: layers(chip(linear(), nn.Sigmoid())), "model", "Sigmoid in it"),
        (lambda: layers(chip(linear(), nn.BatchNorm1d(2), nn.ReLU())), "model", "BatchNorm1d in it"),
        (lambda: layers(chip(linear(), BiasRow())), "model", "Sequential"),
        (lambda: layers(chip(BiasRow(), BiasRow(), nn.Linear(4, 2, bias=False))), "model", "BiasRow in it"),
        (lambda: layers(nn.Linear(2, 2)), "model", "Linear in it"),
        (lambda: layers(nn.Flatten()), "model", "Flatten"),
        (lambda: layers(fabricate(chip(linear()), None)), "model", r"fabricate\(model, chip\)"),
        (lambda: layers(fresh(chip(linear()))), "model", r"fabricate\(model, chip\)"),
        (lambda: layers(differing()), r"\(v_0, span\)", "the same for every layer"),
    ],
)
def test_networks_that_are_no_such_circuit_are_refused_by_name(call, argument, words):
    with pytest.raises(ValueError, match=rf"^{argument} = .*{words}"):
        call()
