"""What is saved is what decides the output: loaded elsewhere, a network on hardware computes the same."""

import copy
import io

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, fit, fresh, program
from cimlib.arrays import DoubleArray, SingleArray
from cimlib.chip import (
    Affine,
    DoRA,
    LoRA,
    Mapped,
    Projections,
    Scale,
    VeRA,
    attach,
    crossbars,
    plain_state,
    projections,
)
from cimlib.chip.attachment import state
from cimlib.circuits import OpAmp
from cimlib.devices import Device, Gaussian, StuckAt
from cimlib.methods import Retraining, mapped
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

BROKEN = Hardware(Device(Gaussian(0.05), StuckAt(on=0.05, off=0.1)), DoubleArray(w_max=1.0))
X = torch.rand(64, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (64,), generator=torch.Generator().manual_seed(1))


def saved(model, **how):
    """The state_dict through a file, as it is shared: tensors and nothing else."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def network(seed, hardware=BROKEN):
    return program(mlp(8, 16, 3, seed=seed), hardware)


def trained(chip):
    fit(chip, Retraining(), (X, Y), epochs=3, lr=0.02, seed=0)
    return chip


PLACED = {
    "rows": lambda chip: mapped(chip),
    "rows and columns": lambda chip: mapped(chip, columns=True),
    "spare rows": lambda chip: mapped(chip, spares=3),
    "tiles": lambda chip: mapped(chip, tile=(4, 6)),
    "one layer": lambda chip: mapped(chip, layers=["1"]),
}


@pytest.mark.parametrize("how", PLACED)
@pytest.mark.parametrize("receiver", ["plain", "straight", "mapped"])
def test_a_placement_is_loaded_with_the_weights(how, receiver):
    original = trained(PLACED[how](fabricate(network(0), 7)))
    other = fabricate(network(1), 7)
    other = {"plain": lambda m: m, "straight": lambda m: mapped(m, rows=False), "mapped": mapped}[receiver](
        other
    )
    other.load_state_dict(saved(original))
    assert torch.equal(other(X), original(X))
    assert [layer.name for layer in crossbars(other)] == [layer.name for layer in crossbars(original)]


def test_a_layer_that_becomes_mapped_stays_the_object_that_others_know():
    original = mapped(fabricate(network(0), 7))
    other = fabricate(network(1), 7)
    attach(other, lambda layer: DoRA(layer, 1))
    layer, adam = other[1], torch.optim.Adam(other.parameters())
    other.load_state_dict(saved(original), strict=False)
    assert other[1] is layer and isinstance(layer, Mapped) and layer.digital.layer is layer
    assert {id(p) for p in adam.param_groups[0]["params"]} == {id(p) for p in other.parameters()}


def test_a_single_layer_and_the_layers_of_a_wrapped_network_become_mapped_too():
    single = mapped(fabricate(program(nn.Linear(8, 5), BROKEN), 7))
    other = fabricate(program(nn.Linear(8, 5), BROKEN), 7)
    other.load_state_dict(saved(single))
    assert torch.equal(other(X), single(X))
    wrapped, again = nn.Sequential(mapped(fabricate(network(0), 7))), nn.Sequential(fabricate(network(1), 7))
    again.load_state_dict(saved(wrapped))
    assert torch.equal(again(X), wrapped(X))


def test_weights_of_a_chip_that_was_not_mapped_lie_straight_again_and_digital_ones_as_they_are_mapped():
    straight, other = fabricate(network(0), 7), mapped(fabricate(network(1), 7))
    place = other[1].placement
    other.load_state_dict(mlp(8, 16, 3, seed=0).state_dict())
    assert other[1].placement == place
    other.load_state_dict(saved(straight))
    assert torch.equal(other(X), straight(X)) and other[1].placement != place


@pytest.mark.parametrize("prepare", [lambda m: fabricate(m, 7), lambda m: fresh(m, 5)], ids=["held", "fresh"])
def test_a_network_without_a_chip_takes_over_errors_and_one_that_has_them_keeps_its_chip(prepare):
    original = prepare(network(0))
    original(X)  # some errors are used up
    blank, held = network(1), fabricate(network(1), 2)
    blank.load_state_dict(saved(original)), held.load_state_dict(saved(original))
    expected = fabricate(program(mlp(8, 16, 3, seed=0), BROKEN), 2)
    assert torch.equal(held(X), expected(X))
    for _ in range(3):
        assert torch.equal(blank(X), original(X))


@pytest.mark.parametrize("amplifiers", [False, True])
def test_a_resumed_noise_aware_training_is_the_uninterrupted_one_bit_for_bit(amplifiers):
    hardware = Hardware(Gaussian(0.1), circuit=OpAmp(gain=1e3, offset=0.01)) if amplifiers else BROKEN
    digital = mlp(8, 16, 3, bias="row" if amplifiers else True, seed=0)

    def steps(model, adam, count):
        for _ in range(count):
            adam.zero_grad()
            nn.functional.cross_entropy(model(X), Y).backward()
            adam.step()

    whole = fresh(program(digital, hardware), 5)
    adam = torch.optim.Adam(whole.parameters(), 0.01)
    steps(whole, adam, 3)
    weights, optimiser = saved(whole), copy.deepcopy(adam.state_dict())
    steps(whole, adam, 4)
    for seed in (0, 5):
        resumed = fresh(program(digital, hardware), seed)
        resumed.load_state_dict(weights)
        again = torch.optim.Adam(resumed.parameters(), 0.01)
        again.load_state_dict(copy.deepcopy(optimiser))
        steps(resumed, again, 4)
        assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))
        assert torch.equal(copy.deepcopy(whole)(X), resumed(X))


STAGES = {
    "LoRA": lambda layer, n: LoRA(layer, 2, alpha=(3.0, 8.0)[n], seed=n),
    "DoRA": lambda layer, n: DoRA(layer, 2, alpha=(3.0, 8.0)[n], seed=n),
    "VeRA": lambda layer, n: VeRA(layer, Projections(16, 16, 4, seed=n)),
    "VeRA of other sizes": lambda layer, n: VeRA(layer, Projections(16 + 4 * n, 16 + n, 4, seed=n)),
    "Affine": lambda layer, n: Affine(layer),
    "Scale": lambda layer, n: Scale(layer, torch.tensor([2.0 + n])),
}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_loaded_with_what_their_numbers_follow_from(stage):
    original, other = (
        attach(fabricate(network(n), 7), lambda layer, n=n: STAGES[stage](layer, n)) for n in (0, 1)
    )
    for p in state(original).values():
        assert isinstance(p, torch.Tensor)
    with torch.no_grad():
        for layer in crossbars(original):
            for p in layer.digital.parameters():
                p.add_(0.1)
    other.load_state_dict(saved(original))
    assert torch.equal(other(X), original(X))


def test_a_plain_checkpoint_loads_strictly_and_a_chips_is_refused_by_name_elsewhere():
    digital = mlp(8, 16, 3, seed=0)
    chip = fabricate(network(1), 7)
    assert str(chip.load_state_dict(digital.state_dict(), strict=True)) == "<All keys matched successfully>"
    with pytest.raises(RuntimeError, match=r"1\._extra_state.*3\._extra_state"):
        digital.load_state_dict(saved(chip))
    digital.load_state_dict(plain_state(chip))
    with pytest.raises(RuntimeError, match="digital"):
        chip.load_state_dict(saved(attach(fabricate(network(1), 7), lambda layer: DoRA(layer, 1))))


@pytest.mark.parametrize(
    "entry",
    [torch.zeros(5), torch.tensor([], dtype=torch.uint8), "text", torch.tensor([91, 93], dtype=torch.uint8)],
)
def test_an_entry_that_is_none_is_refused_with_its_key(entry):
    chip = fabricate(network(0), 7)
    entries = chip.state_dict() | {"1._extra_state": entry}
    with pytest.raises(RuntimeError, match=r"1\._extra_state: no state of a network on hardware"):
        chip.load_state_dict(entries)


def test_a_placement_of_another_size_is_refused_with_its_key():
    chip, other = fabricate(network(0), 7), mapped(fabricate(program(mlp(8, 9, 3, seed=0), BROKEN), 7))
    entries = chip.state_dict() | {"1._extra_state": other.state_dict()["1._extra_state"]}
    with pytest.raises(RuntimeError, match=r"1\._extra_state: \(columns, rows, groups\) of placement"):
        chip.load_state_dict(entries)


def test_deep_copies_and_casts_of_a_state_dict_still_load():
    original, other = fabricate(network(0), 7), network(1)
    other.load_state_dict({key: value.clone().to("cpu") for key, value in saved(original).items()})
    assert torch.equal(other(X), original(X))
    assert projections(original, 2) == Projections(16, 16, 2)
    fit(fresh(original, 0), CrossEntropy(), (X, Y), epochs=1, lr=0.01, seed=0)


@pytest.mark.parametrize(
    "other", [DoubleArray(w_max=4.0), DoubleArray(5.0, 100.0, w_max=1.0), SingleArray(w_max=1.0)]
)
def test_conductances_of_another_array_are_refused(other):
    digital = mlp(8, 3, seed=0)
    trained, here = (
        program(digital, Hardware(array=array), train="conductance")
        for array in (DoubleArray(w_max=1.0), other)
    )
    with pytest.raises(RuntimeError, match=r"_extra_state: array = .*|size mismatch"):
        here.load_state_dict(saved(trained))


def test_averaged_entries_are_refused():
    one, other = (fabricate(network(0), chip).state_dict() for chip in (7, 9))
    mean = {key: ((one[key].double() + other[key].double()) / 2).to(one[key].dtype) for key in one}
    with pytest.raises(RuntimeError, match="taken whole, not averaged"):
        network(1).load_state_dict(mean)


def test_what_was_frozen_stays_frozen_in_the_array():
    digital = mlp(8, 16, 3, seed=0)
    digital[1].requires_grad_(False)
    chip = program(digital, Hardware(array=DoubleArray(w_max=1.0)), train="conductance")
    assert [chip[1].conductance.requires_grad, chip[3].conductance.requires_grad] == [False, True]
