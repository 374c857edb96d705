"""What training for a known chip must do: leave stuck cells alone, map what it trains, count its writes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimlib import Hardware, fabricate, fit, program
from cimlib.arrays import BitSliced, DoubleArray, SingleArray
from cimlib.chip import Mapped, crossbars
from cimlib.circuits import OpAmp
from cimlib.devices import Device, Lognormal, StuckAt
from cimlib.methods import Retraining, adjusted, fault_map, freezing, frozen, mapped, on_device
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, Pulses, accuracy

BROKEN = Hardware(StuckAt(0.15, 0.1), DoubleArray(w_max=0.7))


@pytest.fixture(scope="module")
def data():
    """Three classes, one direction each: a perceptron tells them apart."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(150) % 3
    return torch.randn(150, 6, generator=generator) / 2 + 2 * torch.eye(6)[y], y


@pytest.fixture(scope="module")
def trained(data):
    model = mlp(6, 16, 3, seed=0)
    fit(model, CrossEntropy(), data, epochs=30, lr=0.01, seed=0)
    return model


def chip(model, hardware=BROKEN, number=0):
    return fabricate(program(model, hardware), number)


def gains(layer):
    """What a change of each weight changes in what the chip makes of it."""
    return torch.autograd.grad(layer.read()[0].sum(), layer.weight)[0]


# --- retraining -------------------------------------------------------------------------------------


def test_on_a_chip_without_errors_it_is_cross_entropy(trained, data):
    perfect = chip(trained, Hardware())
    for objective in (Retraining(), Retraining(penalty=1.0)):
        losses = [loss(perfect, data) for loss in (objective, CrossEntropy())]
        assert torch.equal(*losses)
    gradients = [torch.autograd.grad(loss, list(perfect.parameters())) for loss in losses]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("place", [copy.deepcopy, mapped])
def test_weights_on_stuck_cells_stay_and_the_others_learn(trained, data, place):
    """With cross-entropy alone, Adam takes rounding errors for gradients."""
    ours, plain = (place(chip(trained)) for _ in range(2))
    before = {layer.name: layer.weight.detach().clone() for layer in crossbars(ours)}
    stuck = {layer.name: gains(layer).abs() < 1e-4 for layer in crossbars(ours)}
    start = accuracy(ours, *data)
    for model, objective in ((ours, Retraining()), (plain, CrossEntropy())):
        fit(model, objective, data, epochs=10, lr=0.01, seed=0)
    for layer in crossbars(ours):
        moved = layer.weight != before[layer.name]
        assert not moved[stuck[layer.name]].any() and moved[~stuck[layer.name]].any()
    assert any((m.weight != before[m.name])[stuck[m.name]].any() for m in crossbars(plain))
    assert accuracy(ours, *data) > start
    assert all(layer.reading is None for layer in crossbars(ours))


def test_gradients_follow_the_chain_rule_through_the_spread(trained, data):
    spread = chip(trained, Hardware(Lognormal(0.5, clip=False), DoubleArray(w_max=1.0)))
    parameters = list(spread.parameters())
    ours, plain = (
        torch.autograd.grad(loss(spread, data), parameters) for loss in (Retraining(), CrossEntropy())
    )
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_penalty_counts_weights_by_how_bad_their_cells_are(trained, data):
    hardware = Hardware(Device(Lognormal(0.5, clip=False), StuckAt(0.1, 0.1)), DoubleArray(w_max=1.0))
    model = chip(trained, hardware)
    expected = sum(
        float((layer.weight.detach().abs() * (1 - gains(layer)).abs().clamp(max=1)).sum())
        for layer in crossbars(model)
    )
    found = float((Retraining(penalty=2.0)(model, data) - Retraining()(model, data)).detach())
    assert found == pytest.approx(2 * expected, rel=1e-4)


def test_amplifiers_and_conductances_train_as_they_do_without(data):
    model = mlp(6, 5, 3, bias="row", seed=0)
    amplified = chip(model, Hardware(StuckAt(0.1), DoubleArray(w_max=1.0), OpAmp(gain=100.0, offset=0.01)))
    in_array = fabricate(program(model, BROKEN, train="conductance"), 0)
    for held in (amplified, in_array):
        parameters = list(held.parameters())
        ours, plain = (
            torch.autograd.grad(loss(held, data), parameters) for loss in (Retraining(), CrossEntropy())
        )
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# --- layer by layer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["uniform", "magnitude", "gradient", "fisher"])
def test_layer_by_layer_every_layer_is_mapped_on_its_chip_and_the_network_learns(trained, data, weighting):
    before = chip(trained)
    weights = copy.deepcopy(before.state_dict())
    after = adjusted(before, data, epochs=5, lr=0.01, seed=0, weighting=weighting, spares=2)
    assert all(torch.equal(value, weights[name]) for name, value in before.state_dict().items())
    layers = list(crossbars(after))
    assert all(isinstance(layer, Mapped) and layer.hardware == BROKEN for layer in layers)
    assert all(layer.placement.spares == 2 for layer in layers)
    assert all(layer.placement.rows[0] != tuple(range(len(layer.placement.rows[0]))) for layer in layers)
    true = fault_map(mapped(before, rows=False, spares=2))
    assert all(torch.equal(fault_map(after)[name].cells, true[name].cells) for name in true)
    assert accuracy(after, *data) > accuracy(before, *data)


def test_the_first_layer_is_placed_as_it_is_when_all_are_at_once(trained, data):
    """It meets the same weights; later layers meet weights that have been trained since."""
    held = chip(trained)
    after, once = adjusted(held, data, epochs=3, lr=0.01, seed=0), mapped(held)
    assert after[1].placement == once[1].placement
    assert adjusted(held, data, epochs=0, lr=0.01, seed=0)[3].placement == once[3].placement


# --- iterative freezing -----------------------------------------------------------------------------


def on_stuck_cells(model):
    """Which weights of each layer have a cell that is stuck, or their reference."""
    straight, found = mapped(model, rows=False), {}
    for name, known in fault_map(model).items():
        shared = 0 if known.reference is None else known.reference.abs()
        found[name] = straight.get_submodule(name).take((known.cells.abs() + shared).sum((0, 1))) > 0
    return found


@pytest.fixture
def steps(monkeypatch):
    """For every training between two fixings: what is fixed, and the weights before and after, by layer."""
    seen = []

    def spy(model, objective, *args, **options):
        names = [layer.name for layer in crossbars(model)]
        fixed = {name: mask.clone() for name, mask in zip(names, objective.fixed, strict=True)}
        before = {m.name: m.weight.detach().clone() for m in crossbars(model)}
        history = fit(model, objective, *args, **options)
        after = {m.name: m.weight.detach().clone() for m in crossbars(model)}
        seen.append((fixed, before, after))
        return history

    monkeypatch.setattr(freezing, "fit", spy)
    return seen


def test_a_chip_without_errors_freezes_nothing(trained, data):
    perfect = chip(trained, Hardware(array=DoubleArray(w_max=1.0)))
    found = frozen(perfect, data, per_step=5, batches=1, lr=0.01, seed=0)
    assert found.steps == found.fixed == 0 and torch.equal(found.model(data[0]), perfect(data[0]))


AMPLIFIED = Hardware(StuckAt(0.15, 0.1), DoubleArray(w_max=0.7), OpAmp(gain=100.0, offset=0.01))


@pytest.mark.parametrize("hardware", [BROKEN, AMPLIFIED], ids=["broken", "amplified"])
def test_a_few_weights_are_fixed_at_a_time_and_never_move_again(data, steps, hardware):
    model = mlp(6, 8, 3, bias="row", seed=0)
    held = chip(model, hardware)
    stuck = on_stuck_cells(held)
    before = copy.deepcopy(held.state_dict())
    found = frozen(held, data, per_step=4, batches=3, lr=0.02, seed=0, batch_size=50)
    assert all(torch.equal(value, before[name]) for name, value in held.state_dict().items())
    previous = {name: torch.zeros_like(mask) for name, mask in steps[0][0].items()}
    for fixed, start, end in steps:
        new = {name: mask & ~previous[name] for name, mask in fixed.items()}
        assert 1 <= sum(int(mask.sum()) for mask in new.values()) <= 4
        assert all(mask.sum(1).max() <= 1 for mask in new.values())  # 11 columns for 4 weights
        for name, mask in fixed.items():
            assert not (previous[name] & ~mask).any()
            assert torch.equal(start[name][mask], end[name][mask])
            assert mask.all() or not torch.equal(start[name][~mask], end[name][~mask])
        previous = fixed
    assert len(steps) == found.steps
    assert found.fixed == sum(int(mask.sum()) for mask in previous.values())
    for layer in crossbars(found.model):
        name = layer.name
        assert torch.equal(previous[name], stuck[name])
        torch.testing.assert_close(layer.weight, steps[-1][2][name].clamp(-0.7, 0.7), rtol=1e-3, atol=0.0)
        moved = layer.weight[stuck[name]] != before[f"{name}.weight"][stuck[name]]
        assert moved.any()  # those fixed late have been trained before


def test_one_at_a_time_takes_as_many_steps_as_there_are_weights(trained, data):
    held, options = chip(trained), {"batches": 1, "lr": 0.005, "seed": 0}
    found = {n: frozen(held, data, per_step=n, **options) for n in (1, 5, 1000)}
    total = sum(int(mask.sum()) for mask in on_stuck_cells(held).values())
    assert [one.fixed for one in found.values()] == [total] * 3
    assert found[1].steps == total > found[5].steps > found[1000].steps == 1
    assert total / 5 <= found[5].steps


@pytest.mark.parametrize("order", ["most sensitive first", "least sensitive first"])
def test_the_first_to_be_fixed_is_the_weight_that_a_perfect_network_feels_most_or_least(
    trained, data, steps, order
):
    held = chip(trained)
    frozen(held, data, per_step=1, batches=1, lr=0.01, seed=0, order=order, batch_size=150)
    ideal = copy.deepcopy(trained)
    with torch.no_grad():
        for m in (ideal[1], ideal[3]):
            m.weight.clamp_(-0.7, 0.7)  # the range of the array
    weights = [ideal[1].weight, ideal[3].weight]
    felt = torch.autograd.grad(F.cross_entropy(ideal(data[0]), data[1]), weights)
    stuck = on_stuck_cells(held)
    scores = {name: size.abs() for name, size in zip(stuck, felt, strict=True)}
    ((name, place),) = [(name, mask.nonzero()[0]) for name, mask in steps[0][0].items() if mask.any()]
    candidates = torch.cat([scores[name][stuck[name]] for name in stuck])
    extreme = candidates.max() if order == "most sensitive first" else candidates.min()
    torch.testing.assert_close(scores[name][tuple(place)], extreme, rtol=1e-3, atol=1e-7)


def test_weights_that_the_chip_would_enlarge_are_reduced_to_what_training_asks_for(trained, data, steps):
    held = chip(trained, Hardware(Lognormal(0.5, clip=False), DoubleArray(g_min=0.0, w_max=4.0)))
    frozen(held, data, per_step=10**4, batches=1, lr=1e-6, seed=0, threshold=0.3)
    fixed, written, _ = steps[0]
    for layer in crossbars(held):
        gain, mask = gains(layer), fixed[layer.name]
        assert torch.equal(mask, (gain - 1).abs() > 0.3)
        large, small = mask & (gain > 1), mask & (gain < 1)
        assert large.any() and small.any()
        torch.testing.assert_close((written[layer.name] * gain)[large], layer.weight[large])
        assert torch.equal(written[layer.name][~large], layer.weight[~large])


def test_freezing_helps_less_than_training_through_all_that_is_known(data):
    """Means over chips of a network of one layer, which has little to make up with."""
    model = mlp(6, 3, seed=0)
    fit(model, CrossEntropy(), data, epochs=40, lr=0.02, seed=0)
    losses = {"naive": 0.0, "frozen": 0.0, "retrained": 0.0}
    for number in range(4):
        held = chip(model, BROKEN, number)
        slow = frozen(held, data, per_step=2, batches=2, lr=0.02, seed=0).model
        retrained = copy.deepcopy(held)
        fit(retrained, Retraining(), data, epochs=40, lr=0.02, seed=0)
        for name, one in (("naive", held), ("frozen", slow), ("retrained", retrained)):
            losses[name] += float(F.cross_entropy(one(data[0]), data[1]).detach())
    assert losses["retrained"] < losses["frozen"] < losses["naive"]


@pytest.mark.parametrize(
    "array", [BitSliced(w_max=1.0), SingleArray(w_max=1.0, reference_device="cell")], ids=repr
)
def test_freezing_works_on_arrays_of_every_kind_mapped_or_not(trained, data, array):
    for place in (copy.deepcopy, mapped):
        held = place(chip(trained, Hardware(StuckAt(0.1, 0.1), array)))
        found = frozen(held, data, per_step=50, batches=2, lr=0.01, seed=0)
        assert found.fixed == sum(int(mask.sum()) for mask in on_stuck_cells(held).values())
        before, after = (F.cross_entropy(model(data[0]), data[1]) for model in (held, found.model))
        assert after < before
        if place is mapped:
            assert found.model[1].placement == held[1].placement


# --- on the device ----------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [DoubleArray(w_max=1.0), SingleArray(w_max=1.0)], ids=repr)
@pytest.mark.parametrize("place", [copy.deepcopy, mapped])
def test_without_iterations_the_device_computes_what_it_did(trained, data, array, place):
    held = place(chip(trained, Hardware(Device(Lognormal(1.0), StuckAt(0.1, 0.1)), array)))
    found = on_device(held, data, Pulses(), iterations=0, lr=0.1, seed=0)
    assert found.pulses == found.writes == 0
    torch.testing.assert_close(found.model(data[0]), held(data[0]), rtol=1e-4, atol=1e-5)
    assert not held[1].in_array and found.model[1].in_array


def test_a_few_iterations_help_and_more_help_more_and_are_counted(trained, data):
    held = mapped(chip(trained, Hardware(Device(Lognormal(1.0), StuckAt(0.1, 0.1)), DoubleArray(w_max=1.0))))
    pulses = Pulses(levels=200, cycle_to_cycle=0.005)
    found = {
        t: on_device(held, data, pulses, iterations=t, lr=0.05, seed=0, batch_size=50) for t in (0, 1, 5, 40)
    }
    losses = {t: float(F.cross_entropy(one.model(data[0]), data[1]).detach()) for t, one in found.items()}
    assert losses[40] < losses[5] < losses[0]
    assert 0 < found[1].writes < found[5].writes < found[40].writes
    assert all(one.pulses >= one.writes for one in found.values())
    cells = sum(layer.conductance.numel() for layer in crossbars(found[1].model))
    assert found[1].writes <= cells


def test_stuck_cells_are_never_written(trained, data):
    held = mapped(chip(trained))
    start, end = (on_device(held, data, Pulses(), iterations=t, lr=1.0, seed=0).model for t in (0, 20))
    for name, known in fault_map(held).items():
        one, other = ((m.conductance) for model in (start, end) for m in crossbars(model) if m.name == name)
        stuck = held.get_submodule(name).take(known.stuck)
        assert stuck.any() and torch.equal(one[stuck], other[stuck]) and (one != other)[~stuck].any()


def test_with_fine_pulses_one_iteration_is_a_step_down_the_gradient(trained, data):
    """Both cells of a pair move: twice the rate, where neither is at the end of its range."""
    array = DoubleArray(mapping="two-sided", w_max=4.0)
    held = chip(trained, Hardware(array=array))
    found = on_device(held, data, Pulses(levels=10**6), iterations=1, lr=0.01, seed=0, batch_size=150).model
    loss = F.cross_entropy(held(data[0]), data[1])
    for layer in crossbars(held):
        (gradient,) = torch.autograd.grad(loss, layer.weight, retain_graph=True)
        step = found.get_submodule(layer.name).read()[0] - layer.weight
        torch.testing.assert_close(step, -0.02 * gradient, rtol=0.01, atol=1e-4)


def test_the_same_seed_writes_the_same_and_another_one_other_pulses(trained, data):
    held = chip(trained)
    one, again, other = (
        on_device(held, data, Pulses(cycle_to_cycle=0.01), iterations=3, lr=0.1, seed=s) for s in (0, 0, 1)
    )
    assert one.writes == again.writes
    assert torch.equal(one.model[1].conductance, again.model[1].conductance)
    assert not torch.equal(one.model[1].conductance, other.model[1].conductance)


def test_convolutions_and_perceptrons_are_written_side_by_side():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    x, y = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    held = mapped(chip(model))
    found = on_device(held, (x, y), Pulses(), iterations=2, lr=1.0, seed=0)
    assert found.writes > 0 and found.model[0].conductance.shape == (1, 2, 4, 1, 3, 3)


# --- by name ----------------------------------------------------------------------------------------


def update(hardware=BROKEN, **options):
    data = torch.rand(4, 6), torch.arange(4) % 3
    on_device(
        chip(mlp(6, 3, seed=0), hardware),
        data,
        Pulses(),
        **({"iterations": 1, "lr": 0.1, "seed": 0} | options),
    )


def freeze(model=None, **options):
    data = torch.rand(4, 6), torch.arange(4) % 3
    model = chip(mlp(6, 3, seed=0)) if model is None else model
    frozen(model, data, **({"per_step": 1, "batches": 1, "lr": 0.1, "seed": 0} | options))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: freeze(per_step=0), ["per_step = 0", "≥ 1"]),
        (lambda: freeze(batches=1.5), ["batches = 1.5", "≥ 1"]),
        (lambda: freeze(batch_size=0), ["batch_size = 0", "≥ 1"]),
        (lambda: freeze(threshold=1.0), ["threshold = 1.0", "< 1"]),
        (lambda: freeze(order="at random"), ["order = 'at random'", "'least sensitive first'"]),
        (lambda: freeze(chip(mlp(6, 3), Hardware(StuckAt(0.1)))), ["w_max = None"]),
        (
            lambda: freeze(fabricate(program(mlp(6, 3), BROKEN, train="conductance"), 0)),
            ["model = 'conductances'", "weights"],
        ),
        (lambda: Retraining(penalty=-1.0), ["penalty = -1.0", "0 ≤ penalty"]),
        (lambda: Retraining(scale=0.0), ["scale = 0.0"]),
        (
            lambda: adjusted(chip(mlp(6, 3)), (), epochs=1, lr=0.1, seed=0, weighting="hessian"),
            ["weighting = 'hessian'", "'fisher'"],
        ),
        (lambda: update(iterations=-1), ["iterations = -1", "≥ 0"]),
        (lambda: update(lr=0.0), ["lr = 0.0"]),
        (lambda: update(batch_size=0), ["batch_size = 0"]),
        (lambda: update(Hardware()), ["hardware.array", "w_max"]),
        (lambda: update(Hardware(array=BitSliced(w_max=1.0))), ["hardware.array", "unsliced"]),
        (
            lambda: update(Hardware(array=SingleArray(w_max=1.0, reference_device="cell"))),
            ["reference_device = 'cell'", "'resistor'"],
        ),
        (
            lambda: update(Hardware(Lognormal(3.0, clip=False), DoubleArray(w_max=1.0))),
            ["params", "out of range"],
        ),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=".*") as error:
        make()
    assert all(word in str(error.value) for word in words), error.value
