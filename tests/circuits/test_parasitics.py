"""Wire resistance: limits, an independent nodal analysis, gradients, a table of current losses."""

import numpy as np
import pytest
import torch
from nodal import Circuit
from torch.autograd import gradcheck

from cimlib.circuits import crossbar_currents, effective_conductance

WIRES = [(0.0, 0.0), (3.0, 0.0), (0.0, 2.0), (3.0, 2.0)]


def array(m, n, b=3, low=1e-5, high=1e-4, seed=0):
    """Conductances (m, n) uniform in [low, high] S, voltages (b, m) uniform in [0, 0.2] V; float64."""
    g = torch.Generator().manual_seed(seed)
    cells = low + (high - low) * torch.rand(m, n, generator=g, dtype=torch.float64)
    return cells, 0.2 * torch.rand(b, m, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perfect_wires_are_the_matrix_product_bit_for_bit(dtype):
    g, v = (x.to(dtype) for x in array(784, 128, b=64))
    assert torch.equal(crossbar_currents(g, v, 0.0, 0.0), v @ g)
    assert torch.equal(effective_conductance(g, 0.0, 0.0), g)


@pytest.mark.parametrize(("r_row", "r_col"), WIRES[1:])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 4), (5, 1), (3, 4)])
def test_currents_are_those_of_the_circuit_solved_resistor_by_resistor(m, n, r_row, r_col):
    g, v = array(m, n, b=1)
    circuit = Circuit()
    for j in range(n):
        circuit.source(f"foot{j}", 0.0)
    for i in range(m):
        circuit.source(f"row{i}", float(v[0, i]))
        word = f"row{i}"
        for j in range(n):
            bit = f"b{i}{j}" if r_col else f"foot{j}"
            if r_row:
                circuit.resistor(word, word := f"w{i}{j}", 1 / r_row)
            if r_col:
                circuit.resistor(bit, f"b{i + 1}{j}" if i + 1 < m else f"foot{j}", 1 / r_col)
            circuit.resistor(word, bit, float(g[i, j]))
    volt = circuit.solve()
    expected = [
        sum(c * (volt[a] - volt[f"foot{j}"]) for a, b, c in circuit.resistors if b == f"foot{j}")
        for j in range(n)
    ]
    np.testing.assert_allclose(crossbar_currents(g, v, r_row, r_col)[0], expected, rtol=1e-10)


def test_one_cell_is_three_resistors_in_series():
    g, v = array(1, 1)
    expected = v / (1 / g + 3.0 + 2.0)
    torch.testing.assert_close(crossbar_currents(g, v, 3.0, 2.0), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize(("r_row", "r_col"), [(1e-9, 0.0), (0.0, 1e-9), (1e-9, 1e-9), (1e-300, 1e-300)])
def test_tiny_resistances_cost_no_digits(r_row, r_col):
    """Of 16 × 16 cells of 100 µS, 1 nΩ takes less than 16² G r ≈ 3e-11 of the current."""
    n, cell, volt = 16, 1e-4, 0.1
    g = torch.full((n, n), cell, dtype=torch.float64)
    currents = crossbar_currents(g, torch.full((1, n), volt, dtype=torch.float64), r_row, r_col)
    torch.testing.assert_close(currents, torch.full_like(currents, n * cell * volt), rtol=5e-11, atol=0)


@pytest.mark.parametrize(("with_zero", "nearly"), [((0.0, 2.0), (1e-9, 2.0)), ((3.0, 0.0), (3.0, 1e-9))])
def test_a_perfect_wire_is_the_limit_of_a_good_one(with_zero, nearly):
    g, v = array(8, 6)
    torch.testing.assert_close(
        crossbar_currents(g, v, *with_zero), crossbar_currents(g, v, *nearly), rtol=1e-10, atol=0
    )
    assert not torch.equal(crossbar_currents(g, v, *with_zero), v @ g)


@pytest.mark.parametrize(("r_row", "r_col"), WIRES)
def test_the_effective_conductance_gives_the_same_currents(r_row, r_col):
    g, v = array(12, 7)
    effective = effective_conductance(g, r_row, r_col)
    assert effective.shape == g.shape
    torch.testing.assert_close(v @ effective, crossbar_currents(g, v, r_row, r_col), rtol=1e-12, atol=0)


def test_open_cells_carry_nothing_and_cut_nothing_off():
    g, v = array(6, 4)
    g[:, 1] = 0.0
    g[2] = 0.0
    currents = crossbar_currents(g, v, 3.0, 2.0)
    assert torch.equal(currents[:, 1], torch.zeros(3, dtype=torch.float64))
    assert (currents[:, [0, 2, 3]] > 0).all()
    everything_open = torch.zeros_like(g)
    assert torch.equal(
        crossbar_currents(everything_open, v, 3.0, 2.0), torch.zeros(3, 4, dtype=torch.float64)
    )


def test_each_resistance_acts_along_its_own_lines():
    """A row of cells loses to the resistance of the row at its far end, a column at its far end."""
    g = torch.full((1, 8), 1e-4, dtype=torch.float64)
    v = torch.full((1, 1), 0.2, dtype=torch.float64)
    along_row = crossbar_currents(g, v, 50.0, 0.0)[0]
    assert (along_row.diff() < 0).all()
    along_column = effective_conductance(g.T, 0.0, 50.0)[:, 0]
    assert (along_column.diff() > 0).all()
    torch.testing.assert_close(along_column.flip(0) * 0.2, along_row, rtol=1e-12, atol=0)


def test_float32_is_computed_in_float64_and_returned_as_float32():
    g, v = array(16, 16)
    rough = crossbar_currents(g.float(), v.float(), 3.0, 2.0)
    assert rough.dtype == torch.float32
    exact = crossbar_currents(g.float().double(), v.float().double(), 3.0, 2.0)
    assert torch.equal(rough, exact.float())


@pytest.mark.parametrize(("r_row", "r_col"), WIRES)
@pytest.mark.parametrize(("m", "n"), [(4, 3), (1, 3), (3, 1)])
def test_gradients_are_those_of_finite_differences(m, n, r_row, r_col):
    """With cells of 0.1–1 S and wires of 0.2–0.3 Ω, so that the wires matter and steps are large."""
    g, v = array(m, n, low=0.1, high=1.0)
    g.requires_grad_()
    v.requires_grad_()
    r_row, r_col = r_row / 10, r_col / 10
    assert gradcheck(lambda g, v: crossbar_currents(g, v, r_row, r_col), (g, v), rtol=1e-6)
    assert gradcheck(lambda g: effective_conductance(g, r_row, r_col), (g,), rtol=1e-6)


def test_the_gradient_at_micro_siemens_is_that_of_a_central_difference():
    g, v = array(8, 8)
    g[3, 5] = 0.0
    g.requires_grad_()
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64)
    (crossbar_currents(g, v, 3.0, 2.0) @ weights).sum().backward()
    for i, j in ((0, 0), (7, 7), (2, 5)):
        step = torch.zeros_like(g)
        step[i, j] = 1e-8
        with torch.no_grad():
            high, low = (crossbar_currents(g + s * step, v, 3.0, 2.0) @ weights for s in (1, -1))
        torch.testing.assert_close((high - low).sum() / 2e-8, g.grad[i, j], rtol=1e-6, atol=0)
    assert g.grad[3, 5] != 0, "an open cell can be learnt"


def test_gradients_of_gradients_are_refused():
    g, v = array(2, 2)
    g.requires_grad_()
    (first,) = torch.autograd.grad(crossbar_currents(g, v, 1.0, 1.0).square().sum(), g, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("r_on", "r_off", "size", "resistance", "mean", "worst"),
    [
        (1e4, 1e5, 32, 1.0, 3.8, 5.0),
        (1e4, 1e5, 64, 5.0, 42, 52),
        (1e4, 1e5, 128, 1.0, 37, 45),
        (1e5, 1e7, 64, 2.5, 3.4, 4.5),
    ],
)
def test_current_losses_are_those_of_the_reference_table(r_on, r_off, size, resistance, mean, worst):
    """Loss of a column's current in %, mean and worst over columns and ten inputs.

    The table is of one random array, here are six: its entry lies within its own rounding and twice
    their spread.
    """
    losses = []
    for seed in range(6):
        g, v = array(size, size, b=10, low=1 / r_off, high=1 / r_on, seed=seed)
        losses.append(100 * (1 - crossbar_currents(g, v, resistance, resistance) / (v @ g)))
    loss = torch.stack(losses)
    for measured, printed in ((loss.mean((1, 2)), mean), (loss.amax((1, 2)), worst)):
        rounding = 0.5 if printed >= 10 else 0.05
        assert abs(measured.mean() - printed) <= rounding + 2 * measured.std(), (measured, printed)
        assert measured.std() < 0.04 * printed, "a tolerance that stays small"


G, V = array(3, 2)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((G[0], V, 1.0, 1.0), "conductance.shape"),
        ((G[:, :0], V, 1.0, 1.0), "conductance.shape"),
        ((G.long(), V, 1.0, 1.0), "conductance.dtype"),
        ((-G, V, 1.0, 1.0), "conductance"),
        ((G * float("nan"), V, 1.0, 1.0), "conductance"),
        ((G, V, -1.0, 1.0), "r_row"),
        ((G, V, 1.0, float("inf")), "r_col"),
        ((G, V, float("nan"), 0.0), "r_row"),
        ((G, V[0], 1.0, 1.0), "voltage.shape"),
        ((G, V[:, :2], 1.0, 1.0), "voltage.shape"),
        ((G, V[:0], 1.0, 1.0), "voltage.shape"),
        ((G, V.float(), 1.0, 1.0), "voltage.dtype"),
        ((G, V / 0, 0.0, 0.0), "voltage"),
    ],
)
def test_impossible_arguments_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*; allowed: "):
        crossbar_currents(*arguments)
    conductance, _, r_row, r_col = arguments
    if not name.startswith("voltage"):
        with pytest.raises(ValueError, match=rf"^{name} = .*; allowed: "):
            effective_conductance(conductance, r_row, r_col)
