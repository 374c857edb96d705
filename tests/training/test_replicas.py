"""What replicas must not do to each other."""

import pytest
import torch
from torch import nn

from cimlib import Hardware, fabricate, fit, fresh, load, program
from cimlib.chip import Crossbar
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy, Replicas, accuracy, resample


def test_each_replica_trains_as_if_alone():
    splits, _, _ = resample(*load("iris", "all"), range(5), (90, 30, 30))
    x, y = splits
    alone = [mlp(4, 8, 3, seed=s) for s in range(5)]
    together = Replicas(alone)
    fit(together, CrossEntropy(), splits, epochs=10, lr=0.01, seed=0, batch_size=30)
    for s, model in enumerate(alone):
        fit(model, CrossEntropy(), (x[:, s], y[:, s]), epochs=10, lr=0.01, seed=0, batch_size=30)
        member = together.member(s, mlp(4, 8, 3))
        for p, q in zip(model.parameters(), member.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_replicas_of_chips_are_those_chips():
    chips = [fabricate(program(mlp(4, 8, 3, seed=s), Hardware(Gaussian(0.2))), s) for s in range(6)]
    x = torch.randn(10, 6, 4)
    together = Replicas(chips)(x)
    for s, chip in enumerate(chips):
        torch.testing.assert_close(together[:, s], chip(x[:, s]))


def test_replicas_do_not_share_memory_with_their_models():
    models = [mlp(4, 3, seed=s) for s in range(2)]
    before = models[0][1].weight.detach().clone()
    replicas = Replicas(models)
    for p in replicas.parameters():
        p.data.zero_()
    assert torch.equal(models[0][1].weight, before)


def test_replicas_of_chips_on_different_hardware_or_with_fresh_errors_are_refused():
    model = mlp(4, 3, seed=0)
    chips = [fabricate(program(model, Hardware(Gaussian(sigma))), 0) for sigma in (0.1, 0.5)]
    with pytest.raises(ValueError, match="different hardware"):
        Replicas(chips)
    with pytest.raises(ValueError, match="fresh"):
        Replicas([fresh(program(model, Hardware(Gaussian(0.1))))])


def test_evaluation_mode_reaches_the_layers_of_replicas():
    models = [nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)) for _ in range(3)]
    replicas, x = Replicas(models).eval(), torch.randn(5, 3, 4)
    torch.testing.assert_close(replicas(x)[:, 1], models[1].eval()(x[:, 1]))
    accuracy(replicas.train(), x, torch.zeros(5, 3, dtype=torch.int64))
    assert replicas.training and replicas._skeleton.training


def test_no_replicas_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Replicas([])


def test_every_seed_has_its_own_stratified_split_of_all_the_data():
    x, y = load("iris", "all")
    parts = resample(x, y, range(4), (90, 30, 30))
    for s in range(4):
        rows = torch.cat([part[0][:, s] for part in parts])
        assert torch.equal(rows.sort(0).values, x.sort(0).values)
        assert [part[1][:, s].bincount().tolist() for part in parts] == [
            [30] * 3,
            [10] * 3,
            [10] * 3,
        ]
    assert not torch.equal(parts[0][0][:, 0], parts[0][0][:, 1])
    with pytest.raises(ValueError, match="add to 150"):
        resample(x, y, range(4), (90, 30, 20))


def test_crossbars_inside_replicas_keep_their_meta_skeleton_out_of_the_state():
    replicas = Replicas([fabricate(program(mlp(4, 3, seed=0), Hardware(Gaussian(0.1))), 0)])
    assert not any(isinstance(m, Crossbar) for m in replicas.modules())
    assert [name for name, _ in replicas.named_parameters()] == ["1|weight", "1|bias"]
