"""The equations of the three structures, against nodal analysis of their circuits.

The circuits are built resistor by resistor; the equations are those of the chapter *One array instead
of two*. The feedback conductance equals the array's scale, so that the output is W x̄ in volts.
"""

import numpy as np
import pytest
import torch
from nodal import Circuit
from torch import nn
from torch.func import functional_call

from cimlib import Hardware, fabricate, program
from cimlib.arrays import DoubleArray, SingleArray, power
from cimlib.circuits import OpAmp, Wires

V0, N, M, G_SUB = 0.5, 6, 4, 100.0


def CONV():
    return nn.Conv2d(3, 4, 3, bias=False)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    weight = rng.uniform(-1, 1, (M, N))
    weight[0, 0] = 0.0
    return weight, rng.uniform(-0.1, 0.1, N), rng.normal(0, 5e-3, (4, M)), rng.normal(0, 5e-3)


def rows(circuit, x_bar):
    circuit.source("V0", V0)
    for i, x in enumerate(x_bar):
        circuit.source(f"row{i}", V0 + x)


def converter(circuit, name, conductances, g_l, offset):
    """IV converter: column node, feedback conductance, amplifier; output ``b{name}``."""
    for i, g in enumerate(conductances):
        circuit.resistor(f"row{i}", f"column{name}", g)
    circuit.resistor(f"column{name}", f"b{name}", g_l)
    circuit.amplifier("V0", f"column{name}", f"b{name}", offset)


def subtractor(circuit, plus, minus, out, offset):
    """Difference amplifier of four equal resistors: V0 + V(plus) − V(minus)."""
    circuit.resistor(plus, f"{out}+", G_SUB)
    circuit.resistor("V0", f"{out}+", G_SUB)
    circuit.resistor(minus, f"{out}-", G_SUB)
    circuit.resistor(out, f"{out}-", G_SUB)
    circuit.amplifier(f"{out}+", f"{out}-", out, offset)


def targets(array, weight):
    g = array.target(torch.as_tensor(weight))
    reference = None if g.reference is None else g.reference.numpy()
    return g, g.cells[0].numpy(), reference, float(g.scale)


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("mapping", ["one-sided", "two-sided"])
def test_a_double_array_gives_the_difference_plus_amplified_offsets(case, mapping, offsets):
    weight, x_bar, o, _ = case
    o = o * offsets
    _, (plus, minus), _, g_l = targets(DoubleArray(mapping=mapping), weight)
    circuit = Circuit()
    rows(circuit, x_bar)
    for j in range(M):
        converter(circuit, f"+{j}", plus[j], g_l, o[0, j])
        converter(circuit, f"-{j}", minus[j], g_l, o[1, j])
        subtractor(circuit, f"b-{j}", f"b+{j}", f"u{j}", o[2, j])
    voltage = circuit.solve()
    noise_gain = 1 + np.stack((plus, minus)).sum(-1) / g_l
    expected = weight @ x_bar + noise_gain[1] * o[1] - noise_gain[0] * o[0] + 2 * o[2]
    np.testing.assert_allclose([voltage[f"u{j}"] - V0 for j in range(M)], expected, atol=1e-13)


@pytest.mark.parametrize("offsets", [False, True])
def test_a_reference_column_gives_the_same_with_its_offset_common_to_all(case, offsets):
    weight, x_bar, o, o_ref = case
    o, o_ref = o * offsets, o_ref * offsets
    _, (cells,), reference, g_l = targets(SingleArray(reference="column"), weight)
    circuit = Circuit()
    rows(circuit, x_bar)
    converter(circuit, "ref", reference, g_l, o_ref)
    for j in range(M):
        converter(circuit, f"{j}", cells[j], g_l, o[0, j])
        subtractor(circuit, "bref", f"b{j}", f"u{j}", o[2, j])
    voltage = circuit.solve()
    common = (1 + reference.sum() / g_l) * o_ref
    expected = weight @ x_bar + common - (1 + cells.sum(1) / g_l) * o[0] + 2 * o[2]
    np.testing.assert_allclose([voltage[f"u{j}"] - V0 for j in range(M)], expected, atol=1e-13)


@pytest.mark.parametrize("offsets", [False, True])
def test_a_constant_term_amplifier_gives_the_same_without_subtractors(case, offsets):
    """Its output is inverted, and the array holds −W for it."""
    weight, x_bar, o, o_r = case
    o, o_r = o * offsets, o_r * offsets
    _, (cells,), reference, g_l = targets(SingleArray(reference="constant-term"), weight)
    g_c = g_f = 40.0
    circuit = Circuit()
    rows(circuit, x_bar)
    for i, g in enumerate(reference):
        circuit.resistor(f"row{i}", "sum", g)
    circuit.resistor("sum", "br", g_f)
    circuit.amplifier("V0", "sum", "br", o_r)
    for j in range(M):
        converter(circuit, f"{j}", cells[j], g_l, o[0, j])
        circuit.resistor("br", f"column{j}", g_c)
    voltage = circuit.solve()
    own = (1 + (cells.sum(1) + g_c) / g_l) * o[0]
    common = g_c / g_l * (1 + reference.sum() / g_f) * o_r
    np.testing.assert_allclose(
        [voltage[f"b{j}"] - V0 for j in range(M)], weight @ x_bar + own - common, atol=1e-13
    )


OWN = {
    "pair": DoubleArray(scale="column"),
    "zero state": DoubleArray(g_min=30.0, zero_state=True, scale="column"),
    "column": SingleArray(scale="column"),
    "constant-term": SingleArray(reference="constant-term", scale="column"),
}


@pytest.mark.parametrize("rails", [None, (-1e6, 1e6)], ids=["affine", "stage by stage"])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_columns_with_scales_of_their_own_have_feedback_of_their_own(case, name, offsets, rails):
    """The circuit has one amplifier a column with that column's feedback conductance; a reference column has
    the smallest of them, and each subtractor divides its output by what its column's is larger."""
    weight, x_bar, o, o_r = case
    weight, o, o_r = weight * np.array([[1.0], [0.02], [3.0], [0.0]]), o * offsets, o_r * offsets
    array = OWN[name]
    g = array.target(torch.as_tensor(weight))
    sides, loads = g.cells[0].numpy(), g.scale[0].tolist()
    assert len(set(loads)) == M
    circuit = Circuit()
    rows(circuit, x_bar)
    if g.reference is not None:
        own = min(loads) if name == "column" else max(loads)
        converter(circuit, "ref", g.reference.tolist(), own, o_r)
    for j, load in enumerate(loads):
        converter(circuit, f"+{j}", sides[0][j], load, o[0, j])
        plus, ratio = "bref", min(loads) / load
        if array.structure == "constant-term":
            circuit.resistor("bref", f"column+{j}", max(loads))
            continue
        if array.structure == "pair":
            converter(circuit, f"-{j}", sides[1][j], load, o[1, j])
            plus, ratio = f"b-{j}", 1.0
        circuit.resistor(plus, f"u{j}+", G_SUB * ratio / 2)
        circuit.resistor("V0", f"u{j}+", G_SUB * (1 - ratio / 2))
        circuit.resistor(f"b+{j}", f"u{j}-", G_SUB)
        circuit.resistor(f"u{j}", f"u{j}-", G_SUB)
        circuit.amplifier(f"u{j}+", f"u{j}-", f"u{j}", o[2, j])
    output = "b+" if array.structure == "constant-term" else "u"
    voltage = circuit.solve()
    expected = torch.tensor([voltage[f"{output}{j}"] - V0 for j in range(M)], dtype=torch.float64)
    layer = nn.Linear(N, M, bias=False, dtype=torch.float64)
    layer.weight.data = torch.as_tensor(weight)
    real = OpAmp(offset=1.0, rails=rails, v_0=V0, span=1.0)
    chip = fabricate(program(layer, Hardware(array=array, circuit=real)), 0)
    with torch.no_grad():
        for slot, z in {
            "converter": o[:2] if array.structure == "pair" else o[0],
            "subtractor": o[2],
        }.items():
            if f"circuit/{slot}" in chip._buffers:
                chip.get_buffer(f"circuit/{slot}").copy_(torch.as_tensor(z))
        if g.reference is not None:
            chip.get_buffer("circuit/reference").fill_(o_r)
        found = chip(torch.as_tensor(x_bar)[None])[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    if not offsets:
        held = array.represent(torch.as_tensor(weight)) @ torch.as_tensor(x_bar)
        torch.testing.assert_close(found, held, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", OWN)
def test_perfect_amplifiers_with_feedback_of_their_own_give_the_digital_layer_bit_for_bit(name):
    torch.manual_seed(0)
    for layer, x in ((nn.Linear(6, 4, bias=False), torch.rand(3, 6)), (CONV(), torch.rand(2, 3, 6, 6))):
        layer.weight.data[0] *= 100
        hardware = Hardware(array=OWN[name], circuit=OpAmp())
        wanted = OWN[name].represent(layer.weight)
        assert torch.equal(
            fabricate(program(layer, hardware))(x), functional_call(layer, {"weight": wanted}, (x,))
        )
        if name != "zero state":
            unlimited = Hardware(array=OWN[name], circuit=OpAmp(rails=(-1e9, 1e9)))
            torch.testing.assert_close(
                fabricate(program(layer, unlimited))(x), layer(x), rtol=1e-3, atol=1e-3
            )


def test_one_feedback_for_columns_of_different_scales_is_refused():
    for circuit in (OpAmp(g_load=100.0), Wires(1.0, 1.0, OpAmp(g_load=100.0))):
        with pytest.raises(
            ValueError, match=r"^g_load = 100.0 is not allowed; allowed: None where each column"
        ):
            Hardware(array=DoubleArray(scale="column"), circuit=circuit)


@pytest.mark.parametrize("array", [DoubleArray(), DoubleArray(mapping="two-sided"), SingleArray()], ids=repr)
def test_power_is_what_the_resistors_of_the_circuit_dissipate(case, array):
    weight, x_bar, *_ = case
    g, sides, reference, g_l = targets(array, weight)
    columns = [column for side in sides for column in side] + ([] if reference is None else [reference])
    circuit = Circuit()
    rows(circuit, x_bar)
    for j, column in enumerate(columns):
        converter(circuit, f"{j}", column, g_l, 0.0)
    voltage = circuit.solve()
    dissipated = sum(
        conductance * (voltage[a] - voltage[b]) ** 2
        for a, b, conductance in circuit.resistors
        if a.startswith("row")
    )
    np.testing.assert_allclose(float(power(g, torch.as_tensor(x_bar)[None])), dissipated, rtol=1e-12)


def test_gradient_of_one_cell_is_the_training_rule_of_a_single_array():
    """∂E/∂g = δ x̄ / g_L for the one cell; for a pair both signs of half the scale's inverse."""
    x_bar, delta = torch.tensor([0.3, -0.2]), torch.tensor([1.0, 2.0])
    for array, signs in ((SingleArray(w_max=1.0), [1.0]), (DoubleArray(w_max=1.0), [1.0, -1.0])):
        target = array.target(torch.zeros(2, 2))
        cells = target.cells.clone().requires_grad_()
        weight = array.decode(type(target)(cells, target.reference, target.scale))
        (delta @ (weight @ x_bar)).backward()
        outer = delta[:, None] * x_bar / target.scale
        torch.testing.assert_close(cells.grad[0], torch.stack([sign * outer for sign in signs]))
