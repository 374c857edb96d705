"""Wires around a circuit: the limits of perfect ones, the circuit solved resistor by resistor, ngspice."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from nodal import Circuit
from oracle import read
from torch import nn
from torch.func import functional_call

from cimlib import Hardware, evaluate, fabricate, program, using
from cimlib.arrays import BitSliced, Conductances, DoubleArray, SingleArray
from cimlib.chip import AnalogReLU
from cimlib.circuits import Converters, Ideal, OpAmp, Wires, crossbar_currents
from cimlib.devices import Gaussian
from cimlib.networks import mlp

R_ROW, R_COL = 30.0, 20.0
ARRAYS = [
    DoubleArray(),
    DoubleArray(zero_state=True),
    SingleArray(reference="column"),
    SingleArray(reference="constant-term"),
    DoubleArray(g_min=0.0, inactive="disconnected"),
    BitSliced(),
    DoubleArray(scale="column"),
    SingleArray(reference="constant-term", scale="column"),
]
INNER = [Ideal(), OpAmp(gain=1000.0, offset=5e-3, rails=(0.0, 1.0)), Converters(4, 6)]
WIRES = [(R_ROW, R_COL), (R_ROW, 0.0), (0.0, R_COL)]


def linear(rows=12, columns=5, dtype=torch.float64):
    """A layer without bias, and inputs."""
    torch.manual_seed(0)
    layer = nn.Linear(rows, columns, bias=False, dtype=dtype)
    return layer, torch.rand(6, rows, dtype=dtype)


def conv(**arguments):
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, bias=False, dtype=torch.float64, **arguments), torch.rand(
        2, 4, 8, 8, dtype=torch.float64
    )


def on_wires(layer, array, circuit=None, device=None):
    """The layer as chip 1, by default with wires around an ideal circuit."""
    circuit = Wires(R_ROW, R_COL) if circuit is None else circuit
    return fabricate(program(layer, Hardware(device or Gaussian(0.1), array, circuit)), 1)


def cells_of(programmed):
    """The conductances of the cells themselves."""
    perfect = replace(programmed.hardware.circuit, r_row=0.0, r_col=0.0)
    with using(programmed, replace(programmed.hardware, circuit=perfect)):
        return programmed.read()[1]


def arrays_of(programmed):
    """All arrays (rows, columns) of a linear layer, S, with the reference to the right, and the scales."""
    g = cells_of(programmed)
    columns = g.cells.mT  # (slices, sides, rows, columns)
    if g.reference is not None:
        columns = torch.cat((columns, g.reference[None, None, :, None]), -1)
    return 1e-6 * columns, 1e-6 * g.scale


def signed(structure, currents, scale):
    """Output of a layer, given the currents (slices, sides, batch, columns) of its arrays, A."""
    if structure == "pair":
        return ((currents[:, 0] - currents[:, 1]) / scale.reshape(len(scale), 1, -1)).sum(0)
    difference = (currents[0, 0, :, :-1] - currents[0, 0, :, -1:]) / scale
    return difference if structure == "column" else -difference


# --- no resistance ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "inner"),
    [(a, c) for a in ARRAYS for c in INNER if a.slices == 1 or not isinstance(c, OpAmp)],
    ids=repr,
)
def test_without_resistance_it_is_the_inner_circuit_bit_for_bit(array, inner):
    for layer, x in (linear(784, 64, torch.float32), conv(stride=2, padding=1)):
        bare, wired = (on_wires(layer, array, c) for c in (inner, Wires(0.0, 0.0, inner, (16, 16))))
        assert torch.equal(wired(x), bare(x))


def test_without_resistance_a_grouped_convolution_is_unchanged():
    layer, x = conv(groups=2)
    assert torch.equal(program(layer, Hardware(circuit=Wires(0.0, 0.0)))(x), layer(x))


def test_a_little_resistance_changes_a_little():
    layer, x = linear(64, 32, torch.float32)
    y, wired = layer(x), program(layer, Hardware(circuit=Wires(1e-6, 1e-6)))(x)
    assert 0 < (wired - y).abs().max() < 1e-5


# --- each knob --------------------------------------------------------------------------------------

BASE = Wires(R_ROW, R_COL, Ideal(), (8, 8))


@pytest.mark.parametrize(
    "changed",
    [
        {"r_row": 0.0},
        {"r_col": 0.0},
        {"r_col": 40.0},
        {"inner": OpAmp(gain=100.0)},
        {"tile": (4, 8)},
        {"tile": (8, 2)},
        {"tile": None},
    ],
    ids=repr,
)
@pytest.mark.parametrize("case", [linear, conv], ids=["Linear", "Conv2d"])
def test_each_knob_moves_the_output(case, changed):
    layer, x = case()
    assert not torch.allclose(
        on_wires(layer, DoubleArray(), replace(BASE, **changed))(x), on_wires(layer, DoubleArray(), BASE)(x)
    )


def test_wires_take_from_the_far_corner_most():
    """All cells alike: a cell loses more the further from the driver and from the foot of its column."""
    g = Conductances(torch.full((1, 1, 8, 8), 100.0), torch.full((8,), 55.0), torch.ones(1))
    cells = Wires(R_ROW, R_COL).effective(g).cells[0, 0].T  # (rows, columns)
    assert (cells.diff(dim=1) < 0).all(), "along a row from the driver"
    assert (cells.diff(dim=0) > 0).all(), "down a column towards its foot"


# --- the right thing --------------------------------------------------------------------------------


@pytest.mark.parametrize(("r_row", "r_col"), WIRES)
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_a_linear_layer_gives_what_the_currents_of_its_arrays_amount_to(array, r_row, r_col):
    layer, x = linear()
    wired = on_wires(layer, array, Wires(r_row, r_col))
    cells, scale = arrays_of(wired)
    currents = torch.stack(
        [torch.stack([crossbar_currents(one, x, r_row, r_col) for one in sides]) for sides in cells]
    )
    expected = signed(array.structure, currents, scale)
    torch.testing.assert_close(wired(x), expected, rtol=1e-9, atol=1e-12)
    assert (expected - on_wires(layer, array, Ideal())(x)).abs().max() > 1e-4


def resistors(circuit, cells, name, feet, r_row, r_col):
    """An array of ``cells`` (rows, columns), S, between nodes ``row<i>`` and ``feet``; µS in the circuit."""
    for i, row in enumerate(cells.tolist()):
        word = f"row{i}"
        for j, cell in enumerate(row):
            bit = f"{name}b{i},{j}" if r_col else feet[j]
            if r_row:
                circuit.resistor(word, word := f"{name}w{i},{j}", 1e6 / r_row)
            if r_col:
                below = f"{name}b{i + 1},{j}" if i + 1 < len(cells) else feet[j]
                circuit.resistor(bit, below, 1e6 / r_col)
            circuit.resistor(word, bit, 1e6 * cell)


@pytest.mark.parametrize(("r_row", "r_col"), WIRES)
@pytest.mark.parametrize("array", ARRAYS[:4], ids=repr)
def test_a_linear_layer_gives_what_its_circuit_gives_solved_resistor_by_resistor(array, r_row, r_col):
    layer, x = linear(5, 3)
    wired = on_wires(layer, array, Wires(r_row, r_col))
    cells, scale = arrays_of(wired)
    circuit, volt = Circuit(), x[0].tolist()
    for i, v in enumerate(volt):
        circuit.source(f"row{i}", v)
    feet = [[f"foot{s}{j}" for j in range(cells.shape[-1])] for s in range(cells.shape[1])]
    for s, side in enumerate(cells[0]):
        for foot in feet[s]:
            circuit.source(foot, 0.0)
        resistors(circuit, side, f"s{s}", feet[s], r_row, r_col)
    found = circuit.solve()
    current = [
        sum(1e-6 * c * found[a] for a, b, c in circuit.resistors if b == foot)
        for side in feet
        for foot in side
    ]
    currents = torch.tensor(current, dtype=torch.float64).reshape(1, len(feet), 1, -1)
    torch.testing.assert_close(wired(x)[:1], signed(array.structure, currents, scale), rtol=1e-8, atol=1e-10)


def test_an_open_cell_is_bypassed_by_its_neighbours():
    """With resistance along both lines no row is cut off from a column by one cell of 0."""
    array = DoubleArray(g_min=0.0, inactive="disconnected")
    g = cells_of(on_wires(linear()[0], array))
    both, one = (Wires(R_ROW, r_col).effective(g).cells[~g.connected] for r_col in (R_COL, 0.0))
    assert (both > 0).all() and (one == 0).all()


@pytest.mark.parametrize("structure", ["pair", "column", "constant-term"])
def test_behind_amplifiers_it_gives_what_ngspice_gives_for_wires_along_columns(structure):
    arguments, point = read(f"{structure}-6x4-wires")
    (layer,), v0, span = arguments["layers"], arguments["v0"], 0.35
    assert layer.r_row == 0 < layer.r_col
    cells, reference = (
        1e6 * torch.tensor(g, dtype=torch.float64) for g in (layer.conductance, layer.reference)
    )
    if structure == "pair":
        array, sides, names = (
            DoubleArray(),
            [cells.T, reference.T],
            {"converter": ["bp", "bn"], "subtractor": "u"},
        )
    else:
        array, sides = SingleArray(reference=structure), [cells.T]
        names = {"converter": "b", "reference": ["bref"], "subtractor": "u"}
        names = names if structure == "column" else {"converter": "u", "reference": ["br"]}
    g = Conductances(
        torch.stack(sides)[None],
        None if structure == "pair" else reference[:, 0],
        torch.tensor([250.0], dtype=torch.float64),
    )

    def offsets(stage):
        """Offsets of amplifiers ``<stage>0 …``, of a list of stages, or of one amplifier; V."""
        if isinstance(stage, list):
            return torch.stack([offsets(one) for one in stage]).squeeze(-1)
        single = stage in layer.amplifiers
        found = [stage] if single else [f"{stage}{j}" for j in range(cells.shape[1])]
        return torch.tensor([layer.amplifiers[name].offset for name in found], dtype=torch.float64)

    z = {stage: offsets(name) for stage, name in names.items()}
    z |= {f"{stage}_gain": torch.zeros_like(value) for stage, value in z.items()}
    (one,) = {(a.gain, a.zero) for a in layer.amplifiers.values()}
    amplifiers = OpAmp(gain=one[0], at_zero=one[1], offset=1.0, v_0=v0, span=span, g_load=1e6 * layer.g_load)
    hardware = Hardware(array=array, circuit=Wires(0.0, layer.r_col, amplifiers))
    wired = program(nn.Linear(6, 4, bias=False, dtype=torch.float64), hardware)
    seen = hardware.circuit.effective(g)
    wired.reading = (array.decode(seen), seen, z)
    x = (torch.tensor(arguments["voltage"], dtype=torch.float64) - v0) / span
    expected = [point[f"l0_u{j}"] for j in range(4)]
    np.testing.assert_allclose((v0 + span * wired(x)).detach(), expected, rtol=1e-9)


@pytest.mark.parametrize(("r_row", "alike"), [(0.0, False), (2.5, True), (2.5, False)])
def test_only_offsets_that_differ_and_rows_with_resistance_make_it_approximate(r_row, alike):
    """32 columns and their reference behind perfect amplifiers with offsets, solved resistor by resistor.

    Offsets of σ = 15.9 mV move the outputs by 0.1–0.2 V (root mean square); what flows through rows of
    2.5 Ω because the offsets differ, and is left out, is some per cent of that.
    """
    sigma, size = 15.9e-3, 32
    layer, x = linear(size, size)
    circuit = Wires(r_row, 2.5, OpAmp(offset=sigma))
    wired = on_wires(layer, SingleArray(), circuit)
    weight, g, z = wired.read()
    z = {name: torch.ones_like(value) if alike else value for name, value in z.items()}
    wired.reading = (weight, g, z)
    cells, scale = arrays_of(wired)
    v_0, span = circuit.inner.v_0, circuit.inner.span
    nodal = Circuit()
    nodal.source("V0", v_0)
    for i, signal in enumerate(x[0].tolist()):
        nodal.source(f"row{i}", v_0 + span * signal)
    feet = [f"foot{j}" for j in range(size + 1)]
    resistors(nodal, cells[0, 0], "s", feet, r_row, 2.5)
    for j, (foot, offset) in enumerate(zip(feet, torch.cat((z["converter"], z["reference"])), strict=True)):
        nodal.resistor(foot, f"b{j}", 1e6 * float(scale))
        nodal.amplifier("V0", foot, f"b{j}", sigma * float(offset))
    found = nodal.solve()
    expected = torch.tensor([found[f"b{size}"] - found[f"b{j}"] for j in range(size)], dtype=torch.float64)
    expected += 2 * sigma * z["subtractor"]
    error = (span * wired(x[0]) - expected).detach().square().mean().sqrt().item()
    with using(wired, Hardware(Gaussian(0.1), SingleArray(), Wires(r_row, 2.5))):
        moved = (span * wired(x[0]) - expected).detach().square().mean().sqrt().item()
    if alike or r_row == 0:
        assert error < 1e-10 < 1e-2 < moved
    else:
        assert 0.1 < moved < 0.2 and 0.02 < error / moved < 0.08


# --- tiles, groups ----------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [DoubleArray(w_max=1.0), SingleArray(w_max=1.0)], ids=repr)
def test_tiles_are_arrays_of_their_own_whose_currents_add(array):
    """12 rows in 5 + 5 + 2, columns in threes: the reference of a single array is in the last tile."""
    layer, x = linear()
    wired = on_wires(layer, array, Wires(R_ROW, R_COL, tile=(5, 3)))
    cells, scale = arrays_of(wired)
    currents = torch.stack(
        [
            torch.cat(
                [
                    sum(
                        crossbar_currents(
                            side[top : top + 5, left : left + 3], x[:, top : top + 5], R_ROW, R_COL
                        )
                        for top in (0, 5, 10)
                    )
                    for left in range(0, side.shape[1], 3)
                ],
                1,
            )
            for side in cells[0]
        ]
    )
    expected = signed(array.structure, currents[None], scale)
    torch.testing.assert_close(wired(x), expected, rtol=1e-9, atol=1e-12)


def test_a_convolution_is_the_linear_layer_of_its_patches():
    """Rows are in, then kh, then kw; tiles of two channels and four outputs."""
    layer, x = conv(stride=2, padding=1)
    flat = nn.Linear(36, 6, bias=False, dtype=torch.float64)
    flat.weight.data = layer.weight.data.flatten(1)
    circuit = Wires(R_ROW, R_COL, tile=(18, 4))
    wired, as_linear = (program(one, Hardware(circuit=circuit)) for one in (layer, flat))
    patches = nn.functional.unfold(x, 3, padding=1, stride=2).mT  # (batch, places, rows)
    expected = as_linear(patches).mT.reshape(2, 6, 4, 4)
    torch.testing.assert_close(wired(x), expected, rtol=1e-12, atol=1e-12)


def test_tiles_of_a_convolution_add_up_to_its_output():
    layer, x = conv()
    array = DoubleArray(w_max=1.0)
    parts = [nn.Conv2d(2, 6, 3, bias=False, dtype=torch.float64) for _ in range(2)]
    for part, weight in zip(parts, layer.weight.split(2, 1), strict=True):
        part.weight.data = weight.data
    whole = program(layer, Hardware(array=array, circuit=Wires(R_ROW, R_COL, tile=(18, 6))))
    alone = [program(part, Hardware(array=array, circuit=Wires(R_ROW, R_COL))) for part in parts]
    expected = sum(part(inputs) for part, inputs in zip(alone, x.split(2, 1), strict=True))
    torch.testing.assert_close(whole(x), expected, rtol=1e-12, atol=1e-12)


def test_each_group_of_a_convolution_is_an_array_of_its_own():
    layer, x = conv(groups=2)
    hardware = Hardware(array=DoubleArray(w_max=1.0), circuit=Wires(R_ROW, R_COL))
    parts = [nn.Conv2d(2, 3, 3, bias=False, dtype=torch.float64) for _ in range(2)]
    for part, weight in zip(parts, layer.weight.split(3), strict=True):
        part.weight.data = weight.data
    expected = [program(part, hardware)(half) for part, half in zip(parts, x.split(2, 1), strict=True)]
    torch.testing.assert_close(program(layer, hardware)(x), torch.cat(expected, 1), rtol=1e-12, atol=1e-12)


# --- gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [Ideal(), OpAmp(gain=50.0, offset=5e-3)], ids=["Ideal", "OpAmp"])
@pytest.mark.parametrize(
    "array",
    [
        DoubleArray(w_max=1.0, mapping="two-sided"),
        SingleArray(w_max=1.0),
        SingleArray(w_max=1.0, reference="constant-term"),
    ],
    ids=repr,
)
def test_gradients_of_weights_are_those_of_finite_differences(array, inner):
    for layer, x in (linear(4, 3), conv(padding=1)):
        wired = on_wires(layer, array, Wires(300.0, 200.0, inner, (3, 2)))
        weights = torch.randn(wired(x).shape, dtype=x.dtype)

        def loss(weight, wired=wired, x=x, weights=weights):
            return (functional_call(wired, {"weight": weight}, (x,)) * weights).sum()

        weight = layer.weight.detach().clone().requires_grad_()
        loss(weight).backward()
        direction = torch.randn_like(weight)
        with torch.no_grad():
            slope = (loss(weight + 1e-5 * direction) - loss(weight - 1e-5 * direction)) / 2e-5
        torch.testing.assert_close((weight.grad * direction).sum(), slope, rtol=1e-7, atol=0)


def test_the_gradient_is_not_that_of_perfect_wires():
    layer, x = linear()
    slopes = []
    for circuit in (Wires(R_ROW, R_COL), Ideal()):
        programmed = on_wires(layer, DoubleArray(w_max=1.0), circuit)
        programmed(x).sum().backward()
        slopes.append(programmed.weight.grad)
    assert 1e-3 < (slopes[0] / slopes[1] - 1).abs().max() < 1


# --- the seam ---------------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 10)), torch.rand(20, 1, 8, 8), torch.randint(10, (20,))


def test_a_small_network_is_evaluated_chip_by_chip_whatever_the_batches():
    model, x, y = network()
    network_on = program(model, Hardware(Gaussian(0.3), circuit=Wires(R_ROW, R_COL, tile=(16, 8))))
    results = [evaluate(network_on, x, y, range(4), batch_size=size) for size in (None, 7)]
    assert np.array_equal(results[0].accuracy, results[1].accuracy)
    fabricate(network_on, 2)
    with using(network_on, Hardware(Gaussian(0.3))):
        perfect = network_on(x)
    assert not torch.allclose(network_on(x), perfect), "wires"
    assert torch.equal(pickle.loads(pickle.dumps(network_on))(x), network_on(x))


def test_amplifiers_behind_wires_keep_their_draws_and_their_relus():
    model, x = mlp(8, 6, 3, bias="row", seed=0), torch.rand(5, 8)
    amplifiers = OpAmp(gain=1000.0, offset=5e-3)
    wired, bare = (
        fabricate(program(model, Hardware(circuit=circuit)), 3)
        for circuit in (Wires(0.0, 0.0, amplifiers), amplifiers)
    )
    assert any(isinstance(module, AnalogReLU) for module in wired.modules())
    assert torch.equal(wired(x), bare(x))
    with using(wired, Hardware(circuit=Wires(0.0, R_COL, amplifiers))):
        assert not torch.allclose(wired(x), bare(x))


# --- refusals ---------------------------------------------------------------------------------------


def swapped(layer, x):
    """A grouped convolution in pairs, taken to single arrays with wires."""
    with using(program(layer, Hardware()), Hardware(array=SingleArray(), circuit=BASE)) as model:
        return model(x)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Wires(-1.0, 0.0), "r_row"),
        (lambda: Wires(float("nan"), 0.0), "r_row"),
        (lambda: Wires(0.0, float("inf")), "r_col"),
        (lambda: Wires(1.0, 1.0, tile=(0, 4)), "tile"),
        (lambda: Wires(1.0, 1.0, tile=(4,)), "tile"),
        (lambda: Wires(1.0, 1.0, tile=(4, 2.5)), "tile"),
        (lambda: Hardware(array=BitSliced(), circuit=Wires(1.0, 1.0, OpAmp())), "array"),
        (lambda: on_wires(conv(groups=2)[0], SingleArray()), "groups"),
        (lambda: swapped(*conv(groups=2)), "groups"),
        (lambda: program(mlp(4, 3), Hardware(circuit=Wires(1.0, 1.0, OpAmp()))), "bias"),
        (
            lambda: on_wires(linear()[0], DoubleArray(), device=Gaussian(1.0, clip=False))(linear()[1]),
            "conductance",
        ),
    ],
)
def test_what_is_impossible_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=rf"^{name} = .*; allowed: "):
        call()


def test_what_is_no_circuit_is_refused():
    with pytest.raises(TypeError, match=r"^inner = .* is not a Circuit"):
        Wires(1.0, 1.0, OpAmp)
