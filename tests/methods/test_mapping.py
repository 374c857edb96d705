"""What a mapping must be: the same chip and the same network, with large weights where cells work."""

import copy
import itertools
import pickle
from dataclasses import replace
from math import prod

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, evaluate, fabricate, fit, fresh, program, using
from cimlib.arrays import BitSliced, DoubleArray, SignedArray, SingleArray
from cimlib.chip import Mapped, Placement, reading_once
from cimlib.circuits import Converters, OpAmp, Wires
from cimlib.devices import Clusters, DeadLines, Device, FaultMap, Gaussian, Lognormal, StuckAt, detected
from cimlib.methods import fault_map, mapped, mapped_jointly, row_costs, sensitivity
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, Replicas, accuracy

ARRAYS = [
    DoubleArray(),
    DoubleArray(mapping="two-sided", w_max=0.2),
    DoubleArray(zero_state=True),
    SingleArray(),
    SingleArray(reference="constant-term"),
    SingleArray(reference_device="cell"),
    BitSliced(),
    DoubleArray(scale="column"),
    SingleArray(reference_device="cell", scale="column"),
    SignedArray(),
]
LAYERS = {
    "linear": (lambda: nn.Linear(40, 30), (128, 40)),
    "convolution": (lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False), (4, 16, 9, 9)),
    "groups": (lambda: nn.Conv2d(8, 12, 3, dilation=2, groups=4), (4, 8, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (4, 6, 9, 9)),
}
BROKEN = Device(Gaussian(0.05), Clusters(0.02, 0.03, 2), DeadLines(0.05, 0.05, 0.5), StuckAt(0.05, 0.1))


LARGE = {"large": (lambda: nn.Linear(784, 256), (128, 784)), **LAYERS}  # where the order of a sum shows


def shuffled(layer, seed=0, spares=0, tile=None, columns=True):
    """A random placement of the weights of ``layer``; one order of rows for all columns if single."""
    generator = torch.Generator().manual_seed(seed)
    shape, groups = layer.weight_shape, getattr(layer._template, "groups", 1)
    place = Placement.straight(shape[0], prod(shape[1:]), spares, tile, groups)

    def mixed(lines, tiles, count):
        """A random place in its tile for each of the first ``count`` lines."""
        found = {}
        for own in set(tiles):
            places = [line for line, at in enumerate(tiles) if at == own]
            order = [places[i] for i in torch.randperm(len(places), generator=generator).tolist()]
            found |= dict(zip([line for line in places if line < count], order, strict=False))
        return tuple(found[line] for line in range(count))

    orders = [mixed(order, place.row_tiles, prod(shape[1:])) for order in place.rows]
    if layer.hardware.array.reference_is_cells:
        orders = [orders[0]] * len(orders)
    outputs = mixed(place.columns, place.column_tiles, shape[0]) if columns else place.columns
    return replace(place, rows=tuple(orders), columns=outputs)


def made(kind, hardware, chip=0, **options):
    """The layer unmapped and shuffled, both holding ``chip``."""
    torch.manual_seed(0)
    layer = fabricate(program(LARGE[kind][0](), hardware), chip)
    return layer, Mapped(copy.deepcopy(layer), shuffled(layer, **options))


def damage(layer):
    with torch.no_grad():
        return (layer.read()[0] - layer.hardware.array.represent(layer.weight)).abs().sum()


def tiny(device, rows=5, columns=3, array=None, chip=0, seed=0):
    torch.manual_seed(seed)
    return fabricate(program(nn.Linear(rows, columns), Hardware(device, array or DoubleArray())), chip)


# --- nothing changes but the place ------------------------------------------------------------------


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_without_errors_every_mapping_gives_the_same_bit_for_bit(kind, array):
    x = torch.randn(LARGE[kind][1], generator=torch.Generator().manual_seed(1))
    for options in ({}, {"spares": 3}, {"spares": 2, "tile": (5, 2)}):
        if array.reference_is_cells and "tile" in options:
            options |= {"tile": (5, 256)}
        plain, moved = made(kind, Hardware(array=array), **options)
        assert torch.equal(moved(x), plain(x))
        assert moved.placement.rows != Placement.straight(*moved.placement.shape).rows


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("array", ARRAYS, ids=repr)
def test_in_its_own_place_a_layer_reads_as_if_it_were_not_mapped(kind, array):
    """With errors of every kind, and whatever spare rows there are."""
    plain, _ = made(kind, Hardware(BROKEN, array))
    found = plain.read()
    for spares in (0, 4):
        straight = Placement.straight(
            plain.weight_shape[0],
            prod(plain.weight_shape[1:]),
            spares,
            groups=plain._template.__dict__.get("groups", 1),
        )
        weight, g, _ = Mapped(copy.deepcopy(plain), straight).read()
        assert torch.equal(weight, found[0]) and torch.equal(g.cells, found[1].cells)
        assert (g.reference is None) == (found[1].reference is None)
        assert g.reference is None or torch.equal(g.reference, found[1].reference)


@pytest.mark.parametrize("array", ARRAYS[:-1], ids=repr)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_same_chip_has_the_same_broken_cells_under_every_mapping(kind, array):
    plain, moved = made(kind, Hardware(BROKEN, array))
    one, other = fault_map(plain), fault_map(moved)
    (name,) = one
    assert one[name].stuck.any() and torch.equal(one[name].cells, other[name].cells)
    assert one[name].reference is None or torch.equal(one[name].reference, other[name].reference)
    spared = made(kind, Hardware(BROKEN, array), spares=5)[1]
    rows = prod(plain.weight_shape[1:])
    assert torch.equal(fault_map(spared)[name].cells[..., :rows], one[name].cells)
    assert not torch.equal(fault_map(fabricate(moved, 1))[name].cells, one[name].cells)


def test_each_weight_has_the_errors_of_the_cells_where_it_lies():
    """Moved by hand: the physical array of rows and columns, read cell by cell."""
    plain, moved = made("linear", Hardware(Lognormal(0.5), DoubleArray(w_max=0.1)))
    place, z = moved.placement, plain.draws()["cells/programming"]
    rows, columns = torch.tensor(place.rows[0]), torch.tensor(place.columns)
    target = plain.hardware.array.target(plain.weight)
    there = z[:, :, columns][..., rows]
    expected = (target.cells * torch.exp(0.5 * there)).clamp(10.0, 100.0)
    assert torch.equal(moved.read()[1].cells, expected)
    laid = moved.lay(plain.weight)
    assert torch.equal(laid[columns[3], rows[7]], plain.weight[3, 7]) and torch.equal(
        moved.take(laid), plain.weight
    )


def test_a_spare_row_has_cells_of_its_own_and_the_columns_of_the_others():
    layer = tiny(DeadLines(rows=0.3, columns=0.5), rows=40, columns=30)
    spared = Mapped(layer, Placement.straight(30, 40, spares=20))
    state = fault_map(spared)[""].cells
    dead = (state[..., :40] == -1).all(-1)
    assert torch.equal(dead, (state[..., 40:] == -1).all(-1)) and dead.any() and not dead.all()
    rows = (state == -1).all(-2)
    assert rows[..., 40:].any() and not rows[..., 40:].all()


def test_keys_copies_pickles_and_types_stay_what_they_were():
    chip = fabricate(program(mlp(6, 5, 3, seed=0), Hardware(BROKEN)), 0)
    better, x = mapped(chip, spares=2, columns=True), torch.rand(4, 6)
    assert list(better.state_dict()) == list(chip.state_dict())
    assert all(
        torch.equal(one, other) for one, other in zip(better.parameters(), chip.parameters(), strict=True)
    )
    better.load_state_dict(chip.state_dict())
    for again in (copy.deepcopy(better), pickle.loads(pickle.dumps(better))):
        assert torch.equal(again(x), better(x))
    double = copy.deepcopy(better).double()
    torch.testing.assert_close(double(x.double()).float(), better(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, Mapped) for module in chip.modules())


def test_a_placement_is_immutable_and_hashable():
    place = Placement.straight(3, 4, spares=1)
    assert len({place, Placement.straight(3, 4, spares=1), Placement.straight(3, 4)}) == 2
    with pytest.raises(AttributeError):
        place.spares = 2
    assert place.shape == (3, 5) and place.index.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8], [10, 11, 12, 13]]


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_the_weights_as_they_do_unmapped(kind):
    x = torch.randn(LAYERS[kind][1], generator=torch.Generator().manual_seed(1))
    for options in ({}, {"spares": 3}):
        plain, moved = made(kind, Hardware(Lognormal(0.0)), **options)
        gradients = []
        for layer in (plain, moved):
            layer(x).square().sum().backward()
            gradients.append(layer.weight.grad)
        torch.testing.assert_close(*gradients)
        stuck = made(kind, Hardware(StuckAt(0.5, 0.5), DoubleArray(w_max=1.0)), **options)[1]
        stuck(x).sum().backward()
        assert stuck.weight.grad.abs().max() < 1e-6 * plain.weight.grad.abs().max()


def test_hardware_can_be_swapped_and_errors_be_fresh_under_the_same_mapping():
    chip = fabricate(program(mlp(6, 5, 3, seed=0), Hardware(Device(Gaussian(0.1), StuckAt(0.2)))), 0)
    better, x = mapped(chip, spares=2), torch.rand(4, 6)
    before = [layer.placement for layer in better if isinstance(layer, Mapped)]
    with using(better, Hardware()):
        assert torch.equal(better(x), mlp(6, 5, 3, seed=0)(x))
    with using(better, better[1].hardware.with_sigma(0.0)):
        assert not torch.equal(better(x), mlp(6, 5, 3, seed=0)(x))
    assert not torch.equal(fresh(better)(x), better(x))
    assert [layer.placement for layer in better if isinstance(layer, Mapped)] == before


def test_fresh_errors_are_those_of_the_unmapped_network():
    model = program(mlp(6, 5, 3, seed=0), Hardware(Device(Gaussian(0.1), StuckAt(0.2))))
    straight, x = mapped(fabricate(model, 0), rows=False), torch.rand(4, 6)
    assert torch.equal(fresh(straight, 3)(x), fresh(model, 3)(x))


def test_reading_once_makes_evaluation_as_cheap_as_ever():
    better = mapped(fabricate(program(mlp(6, 5, 3, seed=0), Hardware(StuckAt(0.2))), 0))
    x, y = torch.rand(20, 6), torch.randint(3, (20,), generator=torch.Generator().manual_seed(0))
    with reading_once(better):
        once = better(x)
    assert torch.equal(once, better(x))
    assert evaluate(better, x, y, chips=[0]).accuracy[0] == pytest.approx(
        float((once.argmax(1) == y).double().mean() * 100)
    )


def test_networks_with_mappings_of_their_own_train_side_by_side():
    device = StuckAt(0.2, 0.1)
    chips = [fabricate(program(mlp(4, 8, 3, seed=s), Hardware(device)), s) for s in range(3)]
    better = [mapped(chip, spares=1) for chip in chips]
    x, together = torch.rand(5, 3, 4), Replicas(better)
    alone = torch.stack([model(x[:, s]) for s, model in enumerate(better)], 1)
    torch.testing.assert_close(together(x), alone)
    assert better[0][1].placement != better[1][1].placement


def test_conductances_trained_in_the_array_keep_their_own_order():
    model = program(
        mlp(6, 5, 3, seed=0), Hardware(StuckAt(0.2, 0.2), DoubleArray(w_max=1.0)), train="conductance"
    )
    chip, x = fabricate(model, 0), torch.rand(4, 6)
    straight, better = mapped(chip, rows=False, spares=2), mapped(chip, spares=2)
    assert torch.equal(straight(x), chip(x)) and torch.equal(better[1].conductance, chip[1].conductance)
    better(x).sum().backward()
    stuck = better[1].take(fault_map(better)["1"].stuck)
    assert not better[1].conductance.grad[stuck].any() and better[1].conductance.grad[~stuck].any()


# --- the assignment ---------------------------------------------------------------------------------


@pytest.mark.parametrize("array", ARRAYS, ids=repr)
@pytest.mark.parametrize(
    "device", [StuckAt(0.2, 0.2), Lognormal(0.6), BROKEN], ids=["stuck", "spread", "all"]
)
@pytest.mark.parametrize("power", [1, 2])
def test_costs_are_what_the_weights_lose_when_they_are_put_there(array, device, power):
    """Every row of the weights on every physical row, spares included, read from the chip; columns, which
    differ in size, are moved."""
    columns = (1, 2, 3, 0)
    for kind, seed in (("linear", 0), ("convolution", 1)):
        torch.manual_seed(seed)
        module = nn.Linear(6, 4) if kind == "linear" else nn.Conv2d(2, 4, (1, 3))
        with torch.no_grad():
            module.weight.mul_(
                torch.tensor([1.0, 0.1, 3.0, 0.5]).reshape(-1, *[1] * (module.weight.dim() - 1))
            )
        chip = fabricate(program(module, Hardware(device, array)), seed)
        layer = Mapped(chip, replace(Placement.straight(4, 6, spares=2), columns=columns))
        alpha = torch.rand(layer.weight.shape)
        costs = row_costs(layer, alpha=alpha, power=power)
        assert costs.shape == (1, 6, 8)
        for p, q in itertools.product(range(6), range(8)):
            order = [q, *(other for other in range(8) if other != q)]
            rows = (*order[1 : p + 1], q, *order[p + 1 : 6])
            layer.place(Placement((rows,), columns, spares=2))
            with torch.no_grad():
                error = (layer.read()[0] - array.represent(layer.weight)).abs() ** power
            lost = (alpha * error).flatten(1)[:, p].sum()
            torch.testing.assert_close(costs[0, p, q], lost, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("array", [a for a in ARRAYS if not isinstance(a, SignedArray)], ids=repr)
def test_what_is_known_of_all_faults_is_all_there_is_to_know(array):
    """The fast way over patterns of stuck cells gives what trying every row on the device gives."""
    for tile in (None, (4, 3)):
        layer = tiny(StuckAt(0.2, 0.2), 10, 7, array)
        if tile and array.reference_is_cells:
            tile = (4, 7)
        layer = Mapped(layer, Placement.straight(7, 10, 1, tile))
        fast = row_costs(layer, fault_map(layer)[""])
        layer.hardware = replace(layer.hardware, device=Device(StuckAt(0.2, 0.2), Gaussian(1e-9, clip=False)))
        torch.testing.assert_close(row_costs(layer), fast, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("seed", "spares"), [(s, n) for s in range(4) for n in range(3)])
def test_the_assignment_of_rows_is_the_best_of_all(seed, spares):
    chip = tiny(Device(Lognormal(0.4), StuckAt(0.1, 0.2)), 4, 3, chip=seed, seed=seed)
    better = mapped(chip, spares=spares)
    best = min(
        damage(Mapped(chip, Placement((rows,), (0, 1, 2), spares)))
        for rows in itertools.permutations(range(4 + spares), 4)
    )
    torch.testing.assert_close(damage(better), best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", [StuckAt(0.1, 0.2), Lognormal(0.4)], ids=repr)
@pytest.mark.parametrize("scale", ["layer", "column"])
def test_the_assignment_of_columns_is_the_best_of_all(device, scale):
    for seed in range(5):
        chip = tiny(device, 4, 4, DoubleArray(scale=scale), chip=seed, seed=seed)
        with torch.no_grad():
            chip.weight.mul_(torch.tensor([[1.0], [0.1], [3.0], [0.5]]))
        rows = ((1, 2, 5, 0),)
        best = min(damage(Mapped(chip, Placement(rows, o, 2))) for o in itertools.permutations(range(4)))
        found = mapped(Mapped(chip, Placement(rows, (0, 1, 2, 3), 2)), rows=False, columns=True)
        assert found.placement.rows == rows
        torch.testing.assert_close(damage(found), best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "array", [DoubleArray(), SingleArray(), SingleArray(reference_device="cell")], ids=repr
)
@pytest.mark.parametrize(
    "layer", [nn.Linear(30, 30), nn.Conv2d(4, 8, 3), nn.Conv2d(8, 12, 3, groups=4)], ids=repr
)
def test_each_freedom_takes_away_some_of_the_damage(layer, array):
    plain = fabricate(program(layer, Hardware(Device(Clusters(0.05, 0.05, 2), StuckAt(0.05, 0.1)), array)), 0)
    rows, spares, both = (
        damage(mapped(plain, **options)) for options in ({}, {"spares": 8}, {"spares": 8, "columns": True})
    )
    assert damage(plain) > rows > spares >= both
    assert spares > both or isinstance(layer, nn.Conv2d)  # of many more rows than columns


def test_large_weights_leave_cells_that_are_stuck():
    torch.manual_seed(0)
    chip = fabricate(program(nn.Linear(64, 16), Hardware(StuckAt(0.05, 0.05))), 0)
    better = mapped(chip, weighting="magnitude")

    def on_stuck_cells(model):
        layer = model if isinstance(model, Mapped) else Mapped(model, Placement.straight(16, 64))
        return layer.lay(layer.weight.detach().abs())[fault_map(layer)[""].stuck.any(1)[0]].sum()

    assert on_stuck_cells(better) < 0.9 * on_stuck_cells(chip)
    placement = better.placement
    worse = replace(placement, rows=(tuple(sorted(placement.rows[0], reverse=True)),))
    assert on_stuck_cells(Mapped(copy.deepcopy(chip), worse)) > on_stuck_cells(better)


def test_without_faults_everything_stays_in_its_place():
    model = mapped(
        fabricate(program(mlp(6, 5, 3, seed=0), Hardware(Lognormal(0.0))), 0), spares=3, columns=True
    )
    for layer in (model[1], model[3]):
        shape = layer.weight_shape
        assert layer.placement == Placement.straight(*shape, spares=3)


def test_spare_rows_are_used_only_where_they_help():
    layer = tiny(StuckAt(), rows=6, columns=4)
    cells = torch.zeros(1, 2, 4, 8, dtype=torch.int8)
    spared = mapped(layer, spares=2)
    assert spared.placement.rows == (tuple(range(6)),)
    faulty = cells.clone()
    faulty[..., 6:] = 1
    assert mapped(spared, {"": FaultMap(faulty)}).placement.rows == (tuple(range(6)),)
    faulty = cells.clone()
    faulty[..., 2] = 1
    faulty[..., 7] = 1
    assert mapped(spared, {"": FaultMap(faulty)}).placement.rows == ((0, 1, 6, 3, 4, 5),)
    faulty = cells.clone()
    faulty[..., 2] = -1
    with torch.no_grad():
        spared.weight[:, 4] = 0.0  # at home on a row that is stuck off
    assert mapped(spared, {"": FaultMap(faulty)}).placement.rows == ((0, 1, 4, 3, 2, 5),)


@pytest.mark.parametrize("device", [StuckAt(0.1, 0.2), Lognormal(0.4)], ids=repr)
def test_in_tiles_every_tile_has_the_best_order_of_its_own(device):
    """As if each tile of rows and columns were a layer on its own, on the same cells."""
    chip = tiny(device, 7, 5)
    tiled = mapped(chip, tile=(4, 3))
    place = tiled.placement
    assert len(place.rows) == 2
    for order in place.rows:
        assert set(order[:4]) == {0, 1, 2, 3} and set(order[4:]) == {4, 5, 6}
    total = 0.0
    for columns, rows in itertools.product((range(3), range(3, 5)), (range(4), range(4, 7))):
        costs = [damage_in(chip, columns, rows, order) for order in itertools.permutations(rows)]
        total += min(costs)
    torch.testing.assert_close(damage(tiled), torch.as_tensor(total), rtol=1e-4, atol=1e-5)


def damage_in(chip, columns, rows, order):
    """Damage in a tile of ``rows`` and ``columns`` if its rows take that order."""
    every = list(range(7))
    for row, place in zip(rows, order, strict=True):
        every[row] = place
    with torch.no_grad():
        error = Mapped(chip, Placement((tuple(every),), tuple(range(5)))).read()[0] - chip.weight
    return float(error.abs()[list(columns)][:, list(rows)].sum())


def test_each_tile_has_spare_rows_of_its_own():
    chip = tiny(StuckAt(0.3, 0.1), 7, 3)
    place = mapped(chip, tile=(4, 3), spares=2).placement
    assert place.row_tiles == [0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert set(place.rows[0][:4]) <= {0, 1, 2, 3, 7, 8} and set(place.rows[0][4:]) <= {4, 5, 6, 9, 10}
    assert damage(mapped(chip, tile=(4, 3), spares=2)) < damage(mapped(chip, tile=(4, 3)))


def test_a_mapping_can_be_made_again_on_the_spares_that_are_there():
    chip = fabricate(program(mlp(12, 8, 3, seed=0), Hardware(StuckAt(0.1, 0.1))), 0)
    once = mapped(chip, spares=3)
    again = mapped(once)
    assert [m.placement for m in again if isinstance(m, Mapped)] == [
        m.placement for m in once if isinstance(m, Mapped)
    ]
    assert mapped(once, spares=0)[1].placement.spares == 0


def test_layers_that_are_not_named_stay_what_they_are():
    chip = fabricate(program(mlp(12, 8, 3, seed=0), Hardware(StuckAt(0.1, 0.1))), 0)
    found = mapped(chip, {"3": fault_map(chip)["3"]}, layers=["3"])
    assert not isinstance(found[1], Mapped) and found[3].placement == mapped(chip)[3].placement


def test_a_map_of_faults_is_worth_less_the_worse_it_is():
    device = StuckAt(0.1, 0.1)
    losses = {0.0: 0.0, 0.5: 0.0, 1.0: 0.0}
    for c in range(8):
        chip = tiny(device, 40, 20, chip=c)
        true = fault_map(chip)
        for missed in losses:
            losses[missed] += float(damage(mapped(chip, detected(true, missed=missed))))
        assert damage(mapped(chip, true)) == damage(mapped(chip))
        assert damage(mapped(chip, detected(true, missed=1.0))) == damage(chip)
    assert losses[0.0] < losses[0.5] < losses[1.0]


def test_a_network_of_ones_own_loses_less_when_it_is_mapped():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    chip = fabricate(program(model, Hardware(StuckAt(on=0.02, off=0.09))), 7)
    better = mapped(chip)
    assert damage(better[0]) < damage(chip[0]) and damage(better[3]) < damage(chip[3])


# --- without routing --------------------------------------------------------------------------------


def layers_of(model):
    return [module for module in model.modules() if isinstance(module, Mapped)]


def total_damage(model):
    return sum(float(damage(layer)) for layer in model.modules() if hasattr(layer, "weight_shape"))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 2, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3),
    ).eval()  # fmt: skip


STUCK = StuckAt(0.15, 0.1)
NETWORKS = {
    "perceptron": (lambda: mlp(7, 8, 6, 3, seed=0), (5, 7)),
    "bias row": (lambda: mlp(7, 8, 6, 3, bias="row", seed=0), (5, 7)),
    "convolutions": (convolutions, (5, 1, 8, 8)),
}


def jointly(kind, known=None, device=STUCK, array=None, number=0, **options):
    """The network on its chip as it is, and with hidden units in a joint order."""
    torch.manual_seed(0)
    hardware = Hardware(device, array or DoubleArray())
    chip = fabricate(program(NETWORKS[kind][0](), hardware), number)
    return chip, mapped_jointly(chip, known, **options)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    "array", [DoubleArray(), SingleArray(reference_device="cell"), BitSliced()], ids=repr
)
def test_a_joint_order_needs_no_routing_and_changes_nothing_on_a_perfect_chip(kind, array):
    chip, better = jointly(kind, array=array)
    x = torch.randn(NETWORKS[kind][1], generator=torch.Generator().manual_seed(1))
    layers = layers_of(better)
    assert layers[0].placement.rows[0] == tuple(range(len(layers[0].placement.rows[0])))
    assert layers[-1].placement.columns == tuple(range(3))
    for one, other in itertools.pairwise(layers):
        columns, rows = one.placement.columns, other.placement.rows[0]
        block = len(rows) // len(columns)
        order = [line * block + i for line in columns for i in range(block)]
        assert columns != tuple(sorted(columns)) and rows[: len(order)] == tuple(order)
        assert rows[len(order) :] == tuple(range(len(order), len(rows)))  # of a constant input
    perfect = Hardware(array=array)
    with using(better, perfect), using(chip, perfect):
        assert torch.equal(better(x), chip(x))


@pytest.mark.parametrize("seed", range(4))
def test_the_joint_order_of_one_hidden_layer_is_the_best_of_all(seed):
    torch.manual_seed(seed)
    linear = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    convolution = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 2))
    flat = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    for model in (linear, convolution, flat):
        chip = fabricate(program(model, Hardware(Device(Lognormal(0.4), StuckAt(0.1, 0.2)))), seed)
        first, second = mapped(chip, rows=False)[0], mapped(chip, rows=False)[-1]
        block = len(second.placement.rows[0]) // 4
        losses = []
        for order in itertools.permutations(range(4)):
            first.place(replace(first.placement, columns=order))
            rows = tuple(q * block + i for q in order for i in range(block))
            second.place(replace(second.placement, rows=(rows,)))
            losses.append(float(damage(first) + damage(second)))
        assert total_damage(mapped_jointly(chip)) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    "device", [StuckAt(0.1, 0.1), Lognormal(0.5), BROKEN], ids=["stuck", "spread", "all"]
)
def test_a_joint_order_never_costs_more_than_straight_lines(kind, device):
    for number in range(3):
        chip, better = jointly(kind, device=device, number=number)
        assert total_damage(better) < total_damage(chip)
        known = detected(fault_map(chip), missed=1.0)
        blind = mapped_jointly(chip, known)
        assert all(
            layer.placement.columns == tuple(sorted(layer.placement.columns)) for layer in layers_of(blind)
        )


def test_a_joint_order_saves_part_of_what_a_router_of_inputs_saves():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(150) % 3
    data = torch.randn(150, 6, generator=generator) / 2 + 2 * torch.eye(6)[y], y
    model = mlp(6, 16, 3, seed=0)
    fit(model, CrossEntropy(), data, epochs=30, lr=0.01, seed=0)
    found = {"naive": 0.0, "joint": 0.0, "routed": 0.0}
    for number in range(12):
        chip = fabricate(program(model, Hardware(StuckAt(0.4, 0.1))), number)
        for name, one in (("naive", chip), ("joint", mapped_jointly(chip)), ("routed", mapped(chip))):
            found[name] += float(accuracy(one, *data)) / 12
    assert found["naive"] < found["joint"] < found["routed"]


def test_in_a_joint_order_no_line_leaves_its_tile():
    torch.manual_seed(0)
    chip = fabricate(program(mlp(7, 8, 8, 3), Hardware(StuckAt(0.2, 0.2))), 0)
    better = mapped_jointly(mapped(chip, rows=False, tile=(3, 4)))
    first, second, _ = layers_of(better)
    assert len(set(second.placement.rows)) == 1 and second.placement.rows[0] == first.placement.columns
    groups = [{0, 1, 2}, {3}, {4, 5}, {6, 7}]  # columns cut at 4, rows at 3 and 6
    assert all({first.placement.columns[k] for k in group} == group for group in groups)
    assert total_damage(better) < total_damage(chip)


def test_hidden_channels_inside_a_block_are_a_chain_and_what_is_outside_stays():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)

        def forward(self, x):
            return x + self.two(F.relu(self.one(x)))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Block(), nn.Flatten(), nn.Linear(16, 3))
    chip = fabricate(program(model, Hardware(StuckAt(0.1, 0.1))), 0)
    with pytest.raises(ValueError, match="chains = None.*'Block'"):
        mapped_jointly(chip)
    better = mapped_jointly(chip, chains=[("1.one", "1.two")])
    one, two = layers_of(better)
    assert one.placement.columns != tuple(range(6)) and two.placement.columns == tuple(range(4))
    assert two.placement.rows[0][::9] == tuple(9 * q for q in one.placement.columns)
    assert not isinstance(better[0], Mapped) and not isinstance(better[3], Mapped)


def test_a_joint_order_starts_from_straight_lines_and_weighs_what_it_is_told_to():
    chip, better = jointly("perceptron")
    again = mapped_jointly(mapped(chip, columns=True))
    assert [one.placement for one in layers_of(again)] == [one.placement for one in layers_of(better)]
    counts = {str(k): torch.full(chip[k].weight_shape, 1000.0 if k == 3 else 1.0) for k in (1, 3, 5)}
    favoured = mapped_jointly(chip, weighting=counts)
    assert damage(favoured[3]) < damage(better[3])


# --- what weights count -----------------------------------------------------------------------------


def test_sensitivities_are_the_derivatives_of_the_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    chip = fabricate(program(model, Hardware(StuckAt(0.2, 0.2))), 0)
    x, y = torch.randn(10, 1, 4, 4), torch.arange(10) % 3
    found = {kind: sensitivity(chip, (x, y), kind, batch_size=4) for kind in ("gradient", "fisher")}
    plain = copy.deepcopy(model).eval()
    with torch.no_grad():
        plain[0].weight.copy_(chip[0].read()[0])
        plain[4].weight.copy_(chip[4].read()[0])

    def gradients(x, y):
        weights = [plain[0].weight, plain[4].weight]
        return torch.autograd.grad(F.cross_entropy(plain(x), y), weights)

    whole = gradients(x, y)
    each = [gradients(x[i : i + 1], y[i : i + 1]) for i in range(10)]
    for at, name in enumerate(("0", "4")):
        torch.testing.assert_close(found["gradient"][name], whole[at].abs(), rtol=1e-4, atol=1e-6)
        fisher = torch.stack([one[at].square() for one in each]).mean(0)
        torch.testing.assert_close(found["fisher"][name], fisher, rtol=1e-4, atol=1e-6)
    assert chip.training and chip[0].reading is None
    assert found["gradient"]["4"].ne(0).sum() > chip[4].weight.numel() / 2  # stuck cells are felt as well


def test_sensitivities_see_perfect_amplifiers_and_give_the_hardware_back():
    model = mlp(4, 5, 3, bias="row", seed=0)
    x, y = torch.rand(6, 4), torch.arange(6) % 3
    amplified = fabricate(program(model, Hardware(circuit=OpAmp(gain=100.0))), 0)
    found = sensitivity(amplified, (x, y))
    expected = sensitivity(fabricate(program(model, Hardware()), 0), (x, y))
    assert all(torch.allclose(found[name], expected[name]) for name in expected)
    assert amplified[2].hardware.circuit == OpAmp(gain=100.0)


def test_weights_that_count_more_lose_less():
    chip = tiny(StuckAt(0.2, 0.2), 30, 10)
    counts = torch.ones(10, 30)
    counts[:, :5] = 100.0
    favoured, fair = (mapped(chip, weighting=weighting) for weighting in ({"": counts}, "uniform"))

    def lost(layer, part):
        with torch.no_grad():
            return (layer.read()[0] - layer.weight).abs()[:, part].sum()

    assert lost(favoured, slice(5)) < lost(fair, slice(5))
    assert lost(favoured, slice(5, None)) > lost(fair, slice(5, None))


# --- circuits ---------------------------------------------------------------------------------------


def test_amplifiers_see_the_conductances_of_each_output_in_the_order_of_its_inputs():
    """The mapped chip is the network whose cells are those that it has, behind the same amplifiers."""
    circuit = OpAmp(gain=50.0, offset=0.02, rails=(0.05, 0.95))
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=False)
    for array in (DoubleArray(w_max=0.5), SingleArray(w_max=0.5)):
        chip = fabricate(program(layer, Hardware(StuckAt(0.2, 0.2), array, circuit)), 0)
        moved = Mapped(copy.deepcopy(chip), shuffled(chip, spares=2, columns=False))
        weight, g, z = moved.read()
        x = torch.rand(5, 6) / 4
        bare = fabricate(program(layer, Hardware(array=array, circuit=circuit)), 0)
        bare.reading = (weight, g, z)
        assert torch.equal(moved(x), bare(x)) and not torch.equal(moved(x), chip(x))


def test_wires_act_where_cells_lie():
    """Mapped, then wired is the wired array of the permuted weights; spare rows are open."""
    torch.manual_seed(0)
    layer, circuit = nn.Linear(6, 4, bias=False, dtype=torch.float64), Wires(50.0, 50.0)
    for array, spares in itertools.product((DoubleArray(), SingleArray()), (0, 2)):
        chip = fabricate(program(layer, Hardware(array=array, circuit=circuit)), 0)
        moved = Mapped(copy.deepcopy(chip), shuffled(chip, spares=spares))
        rows, columns = torch.tensor(moved.placement.rows[0]), torch.tensor(moved.placement.columns)
        physical = array.target(moved.weight.detach())
        cells = torch.zeros(1, array.sides, 4, 6 + spares, dtype=torch.float64)
        cells[:, :, columns[:, None], rows] = physical.cells
        reference = None
        if physical.reference is not None:
            reference = torch.zeros(6 + spares, dtype=torch.float64)
            reference[rows] = physical.reference
        wired = circuit.effective(replace(physical, cells=cells, reference=reference))
        torch.testing.assert_close(moved.read()[1].cells, wired.cells[:, :, columns[:, None], rows])
        assert not torch.allclose(moved.read()[0], chip.read()[0], rtol=1e-3)


def test_converters_in_the_tiles_of_the_placement_read_what_they_always_did():
    torch.manual_seed(0)
    hardware = Hardware(circuit=Converters(dac_bits=4, adc_bits=6, rows=2))
    layer = fabricate(program(nn.Conv2d(6, 4, 2), hardware), 0)
    x = torch.rand(2, 6, 5, 5)
    moved = Mapped(copy.deepcopy(layer), shuffled(layer, spares=1, tile=(8, 2)))
    assert torch.equal(moved(x), layer(x))


OTHER = [
    (DoubleArray(), Wires(1.0, 1.0), {"tile": (3, 4)}, ["tile of the placement = (3, 4)", "wires' None"]),
    (DoubleArray(), Wires(1.0, 1.0, tile=(3, 4)), {"spares": 1}, ["spares = 1", "0 with tiles of wires"]),
    (DoubleArray(), Converters(adc_bits=4, rows=2), {}, ["tile of the placement = None", "(2, ...)"]),
    (DoubleArray(), Wires(1.0, 1.0, Converters(rows=2)), {}, ["tile of the placement = None"]),
    (DoubleArray(), OpAmp(), {"columns": True}, ["columns = 'in another order'", "amplifiers"]),
]


@pytest.mark.parametrize(("array", "circuit", "options", "words"), OTHER)
def test_hardware_on_which_lines_cannot_move_as_asked_is_refused(array, circuit, options, words):
    device = Device(StuckAt(0.2, 0.2))
    hardware = Hardware(device, array) if circuit is None else Hardware(device, array, circuit)
    torch.manual_seed(0)
    chip = fabricate(program(nn.Linear(6, 4, bias=False), hardware), 0)
    with pytest.raises(ValueError, match=".*") as error:
        mapped(chip, **options)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("array", "circuit"),
    [(SingleArray(reference_device="cell"), Converters()), (SingleArray(), Wires(1.0, 1.0, tile=(6, 2)))],
)
def test_columns_that_share_a_reference_share_an_order_of_rows(array, circuit):
    torch.manual_seed(0)
    chip = fabricate(program(nn.Linear(6, 4, bias=False), Hardware(StuckAt(0.2, 0.2), array, circuit)), 0)
    better = mapped(chip, tile=(6, 2))
    first, second = better.placement.rows
    assert first == second != tuple(range(6))
    with pytest.raises(ValueError, match="rows = 'several orders'.*share a reference"):
        better.place(replace(better.placement, rows=(first, first[::-1])))


def test_hardware_that_does_not_go_with_the_mapping_is_refused_when_it_is_swapped_in():
    better = mapped(
        fabricate(program(nn.Linear(6, 4, bias=False), Hardware(StuckAt(0.2, 0.2))), 0), tile=(3, 2)
    )
    with (
        pytest.raises(ValueError, match="tile of the placement"),
        using(better, Hardware(circuit=Wires(1.0, 1.0))),
    ):
        better(torch.rand(2, 6))


# --- by name ----------------------------------------------------------------------------------------


def grouped(groups):
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 2, 1, groups=groups))
    return fabricate(program(model, Hardware(StuckAt(0.1))), 0)


def held(**options):
    return fabricate(program(nn.Linear(3, 2), Hardware(StuckAt(0.1), **options)), 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mapped(nn.Linear(3, 2)), ["model = 'Linear'", "program"]),
        (lambda: mapped(program(nn.Linear(3, 2), Hardware())), ["model", "fabricate(model, chip)"]),
        (lambda: mapped(fresh(held())), ["model", "fabricate(model, chip)"]),
        (lambda: mapped(held(), weighting="fisher"), ["weighting = 'fisher'", "'uniform', 'magnitude'"]),
        (lambda: mapped(held(), weighting={"a": torch.ones(2, 3)}), ["weighting = ['a']", "['']"]),
        (
            lambda: mapped(held(), weighting={"": torch.ones(3, 2)}),
            ["weighting of layer ''", "(3, 2)", "(2, 3)"],
        ),
        (lambda: mapped(held(), weighting={"": -torch.ones(2, 3)}), ["weighting of layer ''", "negative"]),
        (lambda: mapped(held(), power=0), ["power = 0", "0 < power"]),
        (lambda: mapped(held(), {}), ["known = []", "['']"]),
        (lambda: mapped(held(), fault_map(held()), spares=1), ["faults of layer ''", "(1, 2, 2, 4)"]),
        (
            lambda: mapped(
                held(array=SingleArray(reference_device="cell")), {"": FaultMap(torch.zeros(1, 1, 2, 3))}
            ),
            ["reference of the faults of layer ''", "made of cells"],
        ),
        (lambda: mapped(held(), layers=["a"]), ["layers = ['a']", "['']"]),
        (lambda: jointly("perceptron", chains=[("1", "2")]), ["chains = [('1', '2')]", "'5'"]),
        (lambda: jointly("perceptron", chains=["13"]), ["chains = ['13']", "not strings"]),
        (lambda: jointly("perceptron", chains=[("1", "1")]), ["chains", "none twice"]),
        (lambda: jointly("perceptron", chains=[("1", "3"), ("5", "3")]), ["chains", "one layer before"]),
        (lambda: jointly("perceptron", chains=[("1", "5")]), ["inputs of '5' = 6", "8 outputs of '1'"]),
        (lambda: jointly("perceptron", {}), ["known = []"]),
        (lambda: mapped_jointly(mapped(grouped(2), spares=1, layers=["0"])), ["groups of '1' = 2"]),
        (lambda: mapped_jointly(mapped(grouped(1), spares=1, layers=["0"])), ["spares of '0' = 1"]),
        (lambda: mapped(held(), layers="a"), ["layers = 'a'", "not one string"]),
        (lambda: mapped(held(), spares=-1), ["spares = -1", "≥ 0"]),
        (lambda: mapped(held(), tile=(0, 2)), ["tile = (0, 2)", "integers ≥ 1"]),
        (lambda: row_costs(held(), alpha=torch.ones(6)), ["weighting of layer ''", "(6,)"]),
        (lambda: sensitivity(held(), (torch.ones(2, 3), torch.zeros(3))), ["len(x), len(y) = (2, 3)"]),
        (lambda: sensitivity(held(), (torch.ones(2, 3), torch.zeros(2)), "hessian"), ["kind = 'hessian'"]),
        (lambda: Placement(((0, 0),), (0,)), ["rows = (0, 0)", "once"]),
        (lambda: Placement(((0, 3),), (0,)), ["rows = (0, 3)"]),
        (lambda: Placement(((0, 2, 1),), (0,), tile=(2, 1)), ["rows = (0, 2, 1)", "own tile"]),
        (lambda: Placement(((0, 1),), (0, 2)), ["columns = (0, 2)", "once"]),
        (lambda: Placement(((0, 1),) * 2, (1, 0), tile=(2, 1)), ["columns = (1, 0)", "own tile"]),
        (lambda: Placement(((0, 1),) * 2, (0,)), ["len(rows) = 2", "1, one for each"]),
        (lambda: Mapped(held(), Placement.straight(3, 2)), ["placement = (3, 2, 1)", "(2, 3, 1)"]),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words), error.value
