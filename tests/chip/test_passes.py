"""One pass of the network, one set of errors; gradient checkpointing included."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from cimlib import Hardware, fabricate, fit, fresh, program, using
from cimlib.chip import crossbars, reading_once
from cimlib.devices import Device, Gaussian, StuckAt
from cimlib.methods import OVF, NoiseAveraging
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

NOISY = Hardware(Device(Gaussian(0.1), StuckAt(off=0.05)))


class Network(nn.Module):
    """Two layers, of which the first is called ``steps`` times; parts of it checkpointed in a way."""

    def __init__(self, saved=None, steps=2):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.saved, self.steps = nn.Linear(6, 6), nn.Linear(6, 3), saved, steps

    def block(self, x):
        for _ in range(self.steps):
            x = torch.tanh(self.a(x))
        return self.b(x)

    def forward(self, x):
        if self.saved is None:
            return self.block(x)
        return checkpoint(self.block, x, use_reentrant=self.saved)


def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16, 6, generator=generator, requires_grad=True)
    return x, torch.randint(0, 3, (16,), generator=generator)


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


class Calls(nn.Module):
    """What a layer gives when it is called ``n`` times in one pass."""

    def __init__(self, n):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.n = nn.Linear(4, 4), n

    def forward(self, x):
        return [self.layer(x) for _ in range(self.n)]


@settings(max_examples=20, deadline=None)
@given(calls=st.integers(1, 6), passes=st.integers(1, 4), seed=st.integers(0, 9))
def test_within_a_pass_a_layer_has_one_set_of_errors_however_often_it_is_called(calls, passes, seed):
    many, once = (fresh(program(Calls(n), NOISY), seed) for n in (calls, 1))
    x = torch.eye(4)
    outputs = [many(x) for _ in range(passes)]
    for outs in outputs:
        assert all(torch.equal(out, outs[0]) for out in outs)
        assert torch.equal(outs[0], once(x)[0])  # as many draws a pass, whatever the calls
    assert all(not torch.equal(one[0], other[0]) for one, other in pairwise(outputs))


def test_one_layer_in_two_places_is_one_array_with_one_set_of_errors():
    shared = nn.Linear(4, 4, bias=False)
    model = fresh(program(nn.Sequential(shared, shared), NOISY), 0)
    found = model(torch.eye(4)).T
    root = torch.linalg.matrix_power(fresh(program(nn.Sequential(shared), NOISY), 0)(torch.eye(4)).T, 2)
    torch.testing.assert_close(found, root)


def test_a_layer_called_outside_its_network_draws_at_every_call():
    model = fresh(program(mlp(4, 4, 3, seed=0), NOISY), 0)
    x = torch.eye(4)
    assert not torch.equal(model[1](x), model[1](x))


def test_a_pass_that_failed_does_not_keep_its_errors_for_the_next():
    model, x = fresh(program(Network(), NOISY), 0), batch()[0]
    with pytest.raises(RuntimeError, match="shapes"):
        model(x[:, :5])
    assert not torch.equal(model(x), model(x))
    assert not torch.equal(model.a(x), model.a(x))


@pytest.mark.parametrize("saved", [False, True], ids=["", "reentrant"])
def test_gradients_under_checkpointing_are_those_without(saved):
    found = []
    for how in (None, saved):
        model = fresh(program(Network(how), NOISY), 3)
        x, y = batch()
        for _ in range(2):  # the second pass has other errors
            nn.functional.cross_entropy(model(x), y).backward()
        found.append(gradients(model))
    assert torch.equal(*found) and found[0].abs().sum() > 0


def test_a_whole_network_can_be_checkpointed():
    found = []
    for whole in (False, True):
        model, (x, y) = fresh(program(Network(), NOISY), 3), batch()
        out = checkpoint(model, x, use_reentrant=False) if whole else model(x)
        nn.functional.cross_entropy(out, y).backward()
        found.append(gradients(model))
    assert torch.equal(*found)


def test_what_is_computed_again_has_the_errors_of_its_own_pass_and_uses_up_none():
    found = []
    for how in (None, False):
        model, (x, y) = fresh(program(Network(how), NOISY), 3), batch()
        first, second = model(x), model(x)
        third = model(x)  # of which nothing is asked
        (nn.functional.cross_entropy(first, y) + 2 * nn.functional.cross_entropy(second, y)).backward()
        found.append((gradients(model), third, model(x)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    "objective",
    [lambda: OVF(beta=0.1), lambda: NoiseAveraging(3), CrossEntropy],
    ids=["OVF", "averaging", "noise"],
)
def test_methods_of_several_passes_train_alike_with_checkpointing(objective):
    found = []
    for how in (None, False):
        model, (x, y) = fresh(program(Network(how), NOISY), 3), batch()
        fit(model, objective(), (x.detach(), y), epochs=2, lr=0.01, seed=0, batch_size=8)
        found.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*found)


def test_a_held_chip_is_the_same_under_checkpointing_and_at_every_call():
    x, _ = batch()
    plain, saved = (fabricate(program(Network(how), NOISY), 3) for how in (None, True))
    plain(x).sum().backward(), saved(x).sum().backward()
    assert torch.equal(gradients(plain), gradients(saved))


def test_what_cannot_be_told_of_which_pass_is_refused_by_name():
    model, (x, y) = fresh(program(Network(), NOISY), 3), batch()
    out = checkpoint(model.block, x, use_reentrant=False)  # the network itself is not called
    with pytest.raises(RuntimeError, match=r"layer '[ab]'.*Call the whole network.*use_reentrant=False"):
        nn.functional.cross_entropy(out, y).backward()
    out = checkpoint(model, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match=r"layer 'a'.*use_reentrant=False"):
        out.sum().backward()


def test_outputs_may_be_in_a_dictionary():
    class Named(Network):
        def forward(self, x):
            return {"logits": [Network.forward(self, x)]}

    found = []
    for how in (None, False):
        model, (x, y) = fresh(program(Named(how), NOISY), 3), batch()
        one, two = (model(x)["logits"][0] for _ in range(2))
        nn.functional.cross_entropy(one + two, y).backward()
        found.append(gradients(model))
    assert torch.equal(*found)


def test_replicas_of_data_parallel_may_hold_a_chip_but_not_draw():
    """What torch.nn.DataParallel makes of a module for each device; here without devices."""
    model = fresh(program(mlp(4, 3, seed=0), NOISY), 0)
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        replicated(model[1]).draws()
    x, held = torch.eye(4), fabricate(model, 2)[1]
    assert torch.equal(replicated(held)(x), held(x))


def replicated(module):
    replica = module._replicate_for_data_parallel()
    for name, parameter in module._parameters.items():
        setattr(replica, name, parameter)
    return replica


def test_what_a_layer_was_on_in_a_pass_counts_when_it_is_computed_again():
    """Hardware that was swapped, or a reading that was set, for the pass alone."""
    found = []
    for how in (None, False):
        model, (x, y) = fabricate(program(Network(how), NOISY), 3), batch()
        with using(model, Hardware(Gaussian(0.3))):
            out = model(x)
        with reading_once(model):
            held = model(x)
        nn.functional.cross_entropy(out + held, y).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(*found)


def test_noise_aware_training_is_the_same_under_a_wrapper_around_the_network():
    found = []
    for wrap in (lambda m: m, nn.Sequential):
        model = fresh(program(Network(False), NOISY), 0)
        x, y = batch()
        fit(wrap(model), CrossEntropy(), (x.detach(), y), epochs=1, lr=0.01, seed=0, batch_size=8)
        found.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*found)
    assert [layer.name for layer in crossbars(nn.Sequential(model))] == ["a", "b"]


@pytest.mark.parametrize("saved", [False, True], ids=["", "reentrant"])
def test_chips_held_one_after_the_other_before_one_backward_are_right_or_refused(saved):
    found = []
    for how in (None, saved):
        model, (x, y) = program(Network(how), NOISY), batch()
        loss = sum(nn.functional.cross_entropy(fabricate(model, chip)(x), y) for chip in (0, 1))
        if how is None:
            loss.backward()
            found.append(gradients(model))
        else:
            with pytest.raises(RuntimeError, match=r"layer '[ab]' is computed again in a backward pass"):
                loss.backward()
    model = fabricate(program(Network(saved), NOISY), 3)
    loss = model(batch()[0]).sum()
    fresh(model, 0)
    with pytest.raises(RuntimeError, match="chip None.*chip 3|of which pass"):
        loss.backward()


def test_features_of_one_pass_and_the_output_of_another_have_each_their_own_errors():
    found = []
    for how in (None, False):
        model, (x, y) = fresh(program(Network(how), NOISY), 3), batch()
        features = []
        handle = model.b.register_forward_hook(lambda m, i, o, kept=features: kept.append(o))
        model(x)  # its output is let go
        handle.remove()
        (features[0].square().mean() + nn.functional.cross_entropy(model(x), y)).backward()
        found.append(gradients(model))
    assert torch.equal(*found)


def test_several_passes_with_reentrant_checkpoints_are_refused():
    model, (x, y) = fresh(program(Network(True), NOISY), 3), batch()
    loss = nn.functional.cross_entropy(model(x) + model(x), y)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        loss.backward()
    whole = fresh(program(nn.Linear(6, 6), NOISY), 3)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        whole(checkpoint(whole, x, use_reentrant=True)).sum().backward()


class Tree(nn.Module):
    """A network that calls itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.seen = []

    def forward(self, x, depth=3):
        self.seen.append(self.layer(torch.eye(4)))
        return self(x, depth - 1) if depth else self.layer(x)


def test_a_network_that_calls_itself_has_one_set_of_errors_and_an_interrupted_pass_leaves_none():
    model = fresh(program(Tree(), NOISY), 0)
    model(torch.eye(4))
    assert all(torch.equal(one, model.seen[0]) for one in model.seen)
    first, handle = model.seen[0], model.layer.register_forward_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(torch.eye(4))
    handle.remove()
    model.seen.clear()
    model(torch.eye(4)), model(torch.eye(4))
    assert not torch.equal(model.seen[0], model.seen[4]) and not torch.equal(model.seen[0], first)


def interrupted(module, inputs, output):
    raise KeyboardInterrupt
