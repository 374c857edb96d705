"""What is known of an offset that was told with an error, and training that knows no more."""

import numpy as np
import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, fit, program
from cimlib.arrays import DoubleArray
from cimlib.chip import fabricated
from cimlib.circuits import OpAmp
from cimlib.methods import Redrawn, posterior, shrink
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, Objective, Replicas

CIRCUIT = OpAmp(gain=500.0, gain_spread=0.1, offset=0.01, rails=(0.05, 0.95))


def chip(number=0, seed=0):
    network = mlp(4, 200, 3, bias="row", seed=seed)
    return fabricate(program(network, Hardware(array=DoubleArray(w_max=1.0), circuit=CIRCUIT)), number)


def draws(model):
    return {f"{m.name}.{slot}": z.clone() for m in fabricated(model) for slot, z in m.draws().items()}


@pytest.mark.parametrize("error", [0.1, 0.63, 2.0])
def test_shrinkage_and_what_is_left_are_those_of_a_regression(error):
    """By numpy: the least-squares slope of true draws on told ones, and the spread around the line."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=200_000)
    told = true + error * rng.normal(size=true.size)
    slope = np.polyfit(told, true, 1)[0]
    mean, spread = posterior(error)
    assert mean == pytest.approx(slope, abs=0.01)
    assert spread == pytest.approx(np.std(true - slope * told), abs=0.01)


def test_who_knows_all_shrinks_nothing_and_who_knows_nothing_has_the_design_left():
    assert posterior(0.0) == (1.0, 0.0)
    assert posterior(float("inf")) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"error = -0\.1"):
        posterior(-0.1)


def test_offsets_shrink_and_gains_do_not():
    model = chip()
    before = draws(model)
    after = draws(shrink(model, 0.25))
    assert len(before) > 6
    for name, z in before.items():
        offset = "circuit/" in name and not name.endswith("_gain")
        assert torch.equal(after[name], 0.25 * z if offset else z), name


class Noting(Objective):
    """Notes the draws that each batch sees."""

    def __init__(self, of):
        self.of, self.seen = of, []

    def __call__(self, model, batch):
        self.seen.append(self.of(model))
        return CrossEntropy()(model, batch)


X, Y = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3


def test_each_batch_has_offsets_of_its_own_around_those_that_are_held():
    model = chip()
    held, noting = draws(model), Noting(draws)
    fit(model, Redrawn(noting, 0.5), (X, Y), epochs=200, lr=1e-9, seed=0, batch_size=20)
    assert len(noting.seen) == 400
    assert all(torch.equal(z, held[name]) for name, z in draws(model).items())
    for name, z in held.items():
        each = torch.stack([seen[name] for seen in noting.seen])
        if "circuit/" in name and not name.endswith("_gain"):
            assert float((each - z).std()) == pytest.approx(0.5, rel=0.1), name
            assert float((each - z).mean(0).abs().max()) < 5 * 0.5 / 20, name
        else:
            assert torch.equal(each, z.expand_as(each)), name


def test_without_a_spread_training_is_the_objectives_own():
    trained = []
    for objective in (CrossEntropy(), Redrawn(CrossEntropy(), 0.0)):
        model = chip()
        fit(model, objective, (X, Y), epochs=3, lr=0.01, seed=0)
        trained.append(model.state_dict())
    assert all(torch.equal(value, trained[1][n]) for n, value in trained[0].items() if "weight" in n)


def test_networks_side_by_side_have_offsets_of_their_own():
    def of(model):
        return {name: z.clone() for name, z in model.named_buffers()}

    model, noting = Replicas([chip(0), chip(1)]), Noting(of)
    x, y = X[:, None].expand(-1, 2, -1), Y[:, None].expand(-1, 2)
    fit(shrink(model, 0.0), Redrawn(noting, 1.0), (x, y), epochs=20, lr=0.001, seed=0)
    seen = torch.stack([next(z for name, z in one.items() if "subtractor" in name) for one in noting.seen])
    assert seen.shape[:2] == (20, 2)
    assert float(seen.std()) == pytest.approx(1.0, rel=0.1)
    assert float(torch.corrcoef(seen.transpose(0, 1).flatten(1))[0, 1].abs()) < 0.1


def test_what_has_no_offsets_and_arguments_out_of_range_are_refused():
    for make, word in (
        (lambda: Redrawn(CrossEntropy(), -1.0), "spread = -1"),
        (lambda: Redrawn(CrossEntropy(), 1.0, seed=-1), "seed = -1"),
        (lambda: shrink(chip(), 1.5), r"factor = 1\.5"),
        (lambda: shrink(nn.Linear(2, 2), 0.5), "no offsets held"),
        (lambda: Redrawn(CrossEntropy(), 1.0).setup(nn.Linear(2, 2)), "no offsets held"),
    ):
        with pytest.raises(ValueError, match=word):
            make()
