"""What broken cells must be: at the rates asked for, where a line or a cluster puts them, the chip's own."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cimlib import Hardware, fabricate, program
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.devices import (
    READINGS,
    Clusters,
    DeadLines,
    Device,
    FaultMap,
    Lognormal,
    StuckAt,
    detected,
    stuck_rates,
)
from cimlib.methods import fault_map

LOW, HIGH = 10.0, 100.0
SHAPE = (1, 2, 60, 50)


def drawn(effect, shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {slot: torch.rand(size, generator=generator) for slot, (_, size) in effect.draws(shape).items()}


def states(effect, shape=SHAPE, seed=0, z=None):
    """1 stuck on, −1 stuck off, 0 as asked."""
    z = drawn(effect, shape, seed) if z is None else z
    g = effect(torch.full(shape, 40.0), z, LOW, HIGH)
    assert set(g.unique().tolist()) <= {LOW, 40.0, HIGH} and g.shape == shape
    return (g == HIGH).int() - (g == LOW).int()


# --- rates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("total", [0.0, 0.1079, 0.2, 1.0])
def test_rates_add_to_the_total_in_the_measured_ratio_either_way(total, reading):
    rates = stuck_rates(total, reading)
    assert rates["on"] + rates["off"] == pytest.approx(total)
    more, less = ("on", "off") if reading == "mostly on" else ("off", "on")
    assert rates[more] * 1.75 == pytest.approx(rates[less] * 9.04)
    assert isinstance(StuckAt(**rates), StuckAt)


def test_as_measured_the_rates_are_those_of_the_chip():
    assert stuck_rates(0.1079, "mostly off") == pytest.approx({"on": 0.0175, "off": 0.0904})


# --- clusters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(("on", "off"), [(0.02, 0.1), (0.3, 0.0), (0.0, 0.2)])
def test_clusters_break_the_fraction_of_cells_asked_for_at_the_border_as_well(size, on, off):
    found = torch.stack([states(Clusters(on, off, size), seed=seed) for seed in range(20)])
    for region in (found, found[..., 0, :], found[..., -1], found[..., -2:, :2]):
        counts = region.flatten(1)
        for state, rate in ((1, on), (-1, off)):
            shares = (counts == state).double().mean(1)
            assert abs(shares.mean() - rate) <= 4 * shares.std() / len(shares) ** 0.5 + 1e-12


def test_clusters_are_blocks_of_their_size():
    """Few enough to lie apart: each is 4 × 4, unless it is cut by the border."""
    z = {"cluster": torch.full((1, 1, 23, 13), 0.5)}
    z["cluster"][0, 0, 8, 5] = 0.0
    z["cluster"][0, 0, 0, 0] = 1 - 2**-24
    expected = torch.zeros(1, 1, 20, 10, dtype=torch.int32)
    expected[0, 0, 5:9, 2:6] = 1
    expected[0, 0, 0, 0] = -1
    assert torch.equal(states(Clusters(0.01, 0.01, 4), (1, 1, 20, 10), z=z), expected)


def test_neighbours_break_together_in_clusters_and_not_alone():
    def agreement(effect):
        broken = states(effect, (1, 1, 400, 400)) != 0
        return float(broken[..., 1:][broken[..., :-1]].float().mean())

    assert agreement(Clusters(0.1, 0.0, size=1)) == pytest.approx(0.1, abs=0.01)
    assert agreement(Clusters(0.1, 0.0, size=4)) > 0.7


def test_clusters_of_one_cell_are_independent_stuck_cells():
    z = drawn(Clusters(size=1))
    for rates in ({"on": 0.1, "off": 0.2}, {"on": 0.1}, {"off": 0.2}, {}, {"on": 0.7, "off": 0.3}):
        alone = states(StuckAt(**rates), z={"stuck": z["cluster"]})
        assert torch.equal(states(Clusters(**rates, size=1), z=z), alone)


@given(seed=st.integers(0, 999), size=st.integers(1, 6), reading=st.sampled_from(list(READINGS)))
def test_clusters_nest_over_rates_and_keep_their_side(seed, size, reading):
    before = torch.zeros(1, 2, 12, 9, dtype=torch.int32)
    for total in (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        after = states(Clusters(**stuck_rates(total, reading), size=size), before.shape, seed)
        assert torch.equal(after[before != 0], before[before != 0])
        before = after
    assert (before != 0).all()


# --- lines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "across"), [("rows", -2), ("columns", -1)])
def test_dead_lines_are_whole_and_of_either_kind_at_their_rates(name, across):
    effect = DeadLines(**{name: 0.1}, shorted=0.25)
    found = torch.stack([states(effect, seed=seed) for seed in range(60)])
    first = found.select(across, 0)
    assert torch.equal(found, first.unsqueeze(across).expand_as(found))
    for state, rate in ((1, 0.025), (-1, 0.075)):
        deviation = (rate / first.numel()) ** 0.5
        assert abs((first == state).double().mean() - rate) < 4 * deviation


def test_open_lines_cut_shorted_ones():
    z = {"dead_rows": torch.tensor([[[[0.0, 0.5, 0.99]]]]), "dead_columns": torch.tensor([[[[0.0], [0.99]]]])}
    found = states(DeadLines(rows=0.2, columns=0.2, shorted=0.5), (1, 1, 2, 3), z=z)
    assert found.tolist() == [[[[1, 1, -1], [-1, -1, -1]]]]


@given(seed=st.integers(0, 999), shorted=st.sampled_from([0.0, 0.3, 1.0]))
def test_dead_lines_nest_over_rates(seed, shorted):
    before = torch.zeros(1, 2, 12, 9, dtype=torch.int32)
    for rate in (0.0, 0.1, 0.3, 1.0):
        after = states(DeadLines(rate, rate / 2, shorted), before.shape, seed)
        assert (after[before != 0] != 0).all() and (after[before == -1] == -1).all()
        before = after
    assert (before != 0).all()


def test_a_kernel_lies_in_rows_of_its_own_in_the_same_columns():
    """The rows of a convolution are its inputs times the taps of the kernel, flattened."""
    conv, flat = (1, 2, 4, 3, 5, 5), (1, 2, 4, 75)
    for effect in (Clusters(0.2, 0.2, 3), DeadLines(0.3, 0.3, 0.5), StuckAt(0.2, 0.2)):
        z = drawn(effect, flat)
        shaped = {slot: z[slot].reshape(size) for slot, (_, size) in effect.draws(conv).items()}
        assert torch.equal(states(effect, conv, z=shaped).flatten(3), states(effect, flat, z=z))


@pytest.mark.parametrize("effect", [Clusters(0.4, 0.4, 3), DeadLines(0.5, 0.3, 0.5)], ids=repr)
@pytest.mark.parametrize("shape", [(30,), (5, 3, 2)])
def test_a_reference_column_breaks_too(effect, shape):
    found = states(effect, shape)
    assert found.shape == shape and (found == 0).any() and (found != 0).any()


@pytest.mark.parametrize(
    "layer", [nn.Linear(9, 6), nn.Conv2d(2, 6, 3), nn.Conv2d(4, 6, 3, groups=2)], ids=repr
)
@pytest.mark.parametrize(
    "array", [DoubleArray(), SingleArray(reference_device="cell"), BitSliced(), DoubleArray(zero_state=True)]
)
def test_every_array_and_layer_takes_them_and_at_rate_zero_nothing_changes(layer, array):
    broken = Device(Clusters(0.1, 0.1, 2), DeadLines(0.1, 0.1, 0.5), StuckAt(0.05, 0.05))
    whole = Hardware(Device(Clusters(), DeadLines(), StuckAt()), array)
    with torch.no_grad():
        ideal = fabricate(program(layer, Hardware(array=array)), 0).read()[0]
        assert torch.equal(fabricate(program(layer, whole), 0).read()[0], ideal)
        assert not torch.equal(fabricate(program(layer, Hardware(broken, array)), 0).read()[0], ideal)


def test_no_gradient_reaches_a_stuck_cell():
    for effect in (Clusters(0.2, 0.2, 2), DeadLines(0.2, 0.2, 0.5)):
        g = torch.full(SHAPE, 40.0, requires_grad=True)
        effect(g, drawn(effect), LOW, HIGH).sum().backward()
        assert torch.equal(g.grad != 0, states(effect) == 0)


# --- maps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [DoubleArray, SingleArray])
@pytest.mark.parametrize(("on", "off"), [(0.01, 0.0), (0.0, 0.01), (0.004, 0.006)])
def test_stuck_cells_cost_what_the_chapter_derives_to_first_order(array, on, off):
    largest, layer = 0.7, nn.Linear(300, 300, bias=False)
    with torch.no_grad():
        w = layer.weight.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(0))
    network = program(layer, Hardware(StuckAt(on=on, off=off), array(w_max=largest)))
    with torch.no_grad():
        error = torch.stack([fabricate(network, chip).read()[0] - w for chip in range(8)]).square().mean()
    if array is DoubleArray:
        expected = on * ((largest - w.abs()) ** 2 + largest**2) + off * w**2
    else:
        expected = on * (largest - w) ** 2 + off * (largest + w) ** 2
    assert error.item() == pytest.approx(expected.mean().item(), rel=0.05)


@pytest.mark.parametrize("layer", [nn.Linear(40, 30), nn.Conv2d(4, 30, 3), nn.Conv2d(8, 30, 3, groups=2)])
def test_the_map_of_a_chip_shows_where_what_is_written_does_not_matter(layer):
    device = Device(Clusters(0.02, 0.03), StuckAt(0.05, 0.1))
    array = DoubleArray(w_max=1.0)
    chip = fabricate(program(nn.Sequential(layer), Hardware(device, array)), 3)
    found = fault_map(chip)["0"]
    assert not (found.stuck_on & found.stuck_off).any() and torch.equal(found.cells != 0, found.stuck)
    for value in (-1.0, 0.3):
        with torch.no_grad():
            chip[0].weight.fill_(value)
            cells = chip[0].read()[1].cells.flatten(3)
        asked = array.target(chip[0].weight.detach()).cells.flatten(3)
        expected = torch.where(found.stuck_on, 100.0, torch.where(found.stuck_off, 10.0, asked))
        assert torch.equal(cells, expected)


def test_rates_in_the_map_are_those_of_the_device_whatever_else_spreads():
    linear = program(
        nn.Linear(200, 300), Hardware(Device(Lognormal(0.3, clip=False), StuckAt(0.0175, 0.0904)))
    )
    found = fault_map(fabricate(linear, 0))[""]
    assert found.reference is None
    assert float(found.stuck_on.float().mean()) == pytest.approx(0.0175, abs=0.002)
    assert float(found.stuck_off.float().mean()) == pytest.approx(0.0904, abs=0.004)


def test_a_cell_that_clipping_takes_to_one_end_from_both_is_stuck():
    linear = fabricate(program(nn.Linear(200, 300), Hardware(Lognormal(2.0))), 0)
    found = fault_map(linear)[""]
    factor = torch.exp(2.0 * linear.draws()["cells/programming"])
    assert torch.equal(found.stuck_on, factor >= 10) and torch.equal(found.stuck_off, factor <= 0.1)


def test_the_map_holds_a_reference_made_of_cells():
    hardware = Hardware(StuckAt(0.3, 0.3), SingleArray(reference_device="cell"))
    linear = fabricate(program(nn.Linear(50, 4), hardware), 0)
    reference, g = fault_map(linear)[""].reference, linear.read()[1].reference
    expected = torch.where(reference == 1, 100.0, torch.where(reference == -1, 10.0, 55.0))
    assert reference.any() and torch.equal(g, expected)


@given(seed=st.integers(0, 99))
def test_an_imperfect_test_misses_and_invents_at_its_rates_and_nests(seed):
    generator = torch.Generator().manual_seed(seed)
    true = FaultMap(torch.randint(-1, 2, (1, 2, 100, 100), generator=generator, dtype=torch.int8))
    maps = {"a": true, "b": replace(true, reference=true.cells[0, 0, 0])}
    exact = detected(maps, seed=seed)
    assert all(torch.equal(exact[name].cells, true.cells) for name in maps)
    little, much = (detected(maps, missed=m, false=f, seed=seed) for m, f in ((0.1, 0.02), (0.2, 0.04)))
    wrong = little["a"].cells != true.cells
    assert float(wrong[true.stuck].float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(wrong[~true.stuck].float().mean()) == pytest.approx(0.02, abs=0.008)
    assert (little["a"].cells[true.stuck & wrong] == 0).all()
    assert torch.equal(much["a"].cells[wrong], little["a"].cells[wrong])
    assert not torch.equal(little["a"].cells, little["b"].cells)  # each layer has its own
    assert detected(maps, missed=1.0)["b"].reference[true.cells[0, 0, 0] != 0].eq(0).all()


def test_an_invented_fault_is_on_or_off_with_equal_chance():
    found = detected({"": FaultMap(torch.zeros(1, 1, 300, 300, dtype=torch.int8))}, false=0.5)[""]
    for side in (found.stuck_on, found.stuck_off):
        assert float(side.float().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: stuck_rates(1.1, "mostly on"), ["total = 1.1", "0 ≤ total ≤ 1"]),
        (lambda: stuck_rates(0.1, "SA0"), ["reading = 'SA0'", "'mostly off'", "'mostly on'"]),
        (lambda: Clusters(on=-0.1), ["on = -0.1", "0 ≤ on"]),
        (lambda: Clusters(off=1.1), ["off = 1.1"]),
        (lambda: Clusters(on=0.6, off=0.6), ["on + off = 1.2"]),
        (lambda: Clusters(size=0), ["size = 0", "≥ 1"]),
        (lambda: Clusters(size=2.0), ["size = 2.0", "integer"]),
        (lambda: DeadLines(rows=1.1), ["rows = 1.1", "0 ≤ rows ≤ 1"]),
        (lambda: DeadLines(columns=float("nan")), ["columns = nan"]),
        (lambda: DeadLines(shorted=-1), ["shorted = -1"]),
        (lambda: Device(Clusters(0.1), Clusters(0.2)), ["effects", "at most once"]),
        (lambda: detected({}, missed=1.5), ["missed = 1.5"]),
        (lambda: detected({}, false=-0.5), ["false = -0.5"]),
        (lambda: detected({}, seed=-1), ["seed = -1"]),
        (lambda: fault_map(program(nn.Linear(2, 2), Hardware())), ["model", "fabricate(model, chip)"]),
        (lambda: fault_map(nn.Linear(2, 2)), ["model = 'Linear'", "program"]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words)
