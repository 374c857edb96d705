"""What drifted networks and their remedies must do: age on one chip, be read on it, store what they say."""

import re
from dataclasses import fields, replace
from itertools import combinations
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cimlib.chip import crossbars, plain_state
from cimlib.datasets import IMAGES, load
from cimlib.remedies import Case, Chip, Instances, Stages, before_drift, budget, carried
from companion import experiments
from companion.experiments import drifted
from companion.experiments.drifted import CELLS, CHECK, REMEDIES, SIZES, STAGES, Params
from companion.tasks import kept as kept_networks
from companion.tasks.kept import digital
from companion.tasks.task import Task
from companion.tasks.thin import ThinTask

TINY = {"hidden": 16, "epochs": 5, "n_train": 300, "lr": 0.02, "images": 100, "chips": 2, "samples": 20}
TINY |= {"calibration_epochs": 5, "calibration_lr": 0.1, "instances": 2}
MLP = tuple(remedy for remedy in REMEDIES if remedy != "batchnorm")
TRAININGS = ("distilled", "end to end", "offline")
PER_CHIP = ("accuracy", "undrifted", "validation_error", "calibration_seconds")


def run(**given):
    return experiments.run("drifted", {**TINY, **given})


def params(**given):
    return experiments.resolve("drifted", {**TINY, **given})


def repaired(given, number=0):
    """The network on the chip that is read, after the remedy for chip ``number``."""
    return drifted.repaired(drifted.prepared(given), given, number)[0]


def calibrated(given, number=0):
    """What the remedy changes of the network on chip ``number``."""
    case = Case(drifted.prepared(given), Chip(given.kind(), number, given.when), given.task)
    return carried(plain_state(given.treatment().act(case.model(), case)))


@pytest.mark.parametrize("remedy", STAGES)
def test_without_drift_there_is_nothing_to_distil_and_the_network_stays_the_digital_one(remedy):
    found = run(cell="relative", rho=0.0, remedy=remedy, compensation="global")
    assert found["accuracy"] == found["undrifted"] == found["clean"] * 2
    model = repaired(params(cell="relative", rho=0.0, remedy=remedy))
    x, _ = params().task.split("test", 50)
    assert torch.equal(model.eval()(x), digital(params().task)(x))


def test_drift_compensation_of_a_chip_that_has_not_drifted_changes_nothing():
    for compensation in ("global", "column"):
        for readout in ("images", "rows"):
            given = {"compensation": compensation, "readout": readout, "remedy": "none", "t": "0 s"}
            found = run(**given)
            assert found["accuracy"] == found["undrifted"]


def test_every_remedy_is_made_for_and_read_on_the_same_chips():
    plain = run(remedy="none")
    assert len(set(plain["undrifted"])) == 2
    for remedy in MLP:
        found = run(remedy=remedy)
        assert all(len(found[name]) == 2 for name in PER_CHIP)
        assert found["undrifted"] == plain["undrifted"]
        assert (found["accuracy"] == plain["accuracy"]) == (remedy == "none")
    assert run(remedy="none", chips=3)["accuracy"][:2] == plain["accuracy"]


def test_a_chip_ages_along_one_trajectory():
    network = digital(params().task)
    states = {t: drifted.drifted(network, params(), 0, t) for t in ("", "1 hour", "10 years")}
    draws = [dict(crossbars(model)[0].named_buffers(recurse=False)) for model in states.values()]
    assert len(draws[0]) == 3
    for later in draws[1:]:
        assert all(torch.equal(draws[0][name], later[name]) for name in draws[0])
    size = [crossbars(model)[0].read()[1].cells.mean().item() for model in states.values()]
    assert size == sorted(size, reverse=True)


def test_a_remedy_for_another_chip_is_read_on_that_chip_and_knows_nothing_of_it():
    for remedy in ("dora", "retraining"):
        own, moved = (run(remedy=remedy, other_chip=n, chips=1) for n in (0, 1))
        there = run(remedy=remedy, chips=2)
        assert own["accuracy"] == there["accuracy"][:1]
        assert moved["undrifted"] == there["undrifted"][1:]
        assert moved["accuracy"] != there["accuracy"][1:]
    model = repaired(params(other_chip=1))
    found = calibrated(params())
    assert {layer.chip for layer in crossbars(model)} == {1}
    assert all(torch.equal(value, found[name]) for name, value in plain_state(model).items())


def test_compensation_belongs_to_the_chip_that_is_read_and_to_its_time_whatever_came_with_a_remedy():
    given = {"compensation": "global", "other_chip": 1, "calibrated_at": "1 hour"}
    model = repaired(params(**given))
    alone = drifted.drifted(digital(params().task), params(compensation="global"), 1, "10 years")
    factors = {k: v for k, v in model.state_dict().items() if k.endswith(".factor")}
    assert [f.item() for f in factors.values()] == [layer.digital.factor.item() for layer in crossbars(alone)]
    assert all(factor > 1.5 for factor in factors.values())


def test_the_weights_of_the_network_are_those_that_were_programmed_unless_it_is_trained_as_a_whole():
    trained = digital(params().task).state_dict()
    for remedy in MLP:
        model = repaired(params(remedy=remedy, compensation="global"))
        same = [torch.equal(model.state_dict()[name], value) for name, value in trained.items()]
        assert all(same) == (remedy != "retraining")
        arrays = [layer.hardware.array.w_max for layer in crossbars(model)]
        assert arrays == [float(trained[f"{layer.name}.weight"].abs().max()) for layer in crossbars(model)]


def test_a_network_that_has_gone_on_for_chips_in_general_is_one_for_all_and_what_every_remedy_builds_on():
    given = {"noise_epochs": 2, "noise_lr": 0.02}
    weights = drifted.prepared(params(**given)).state_dict()
    trained = digital(params().task).state_dict()
    assert not any(torch.equal(value, trained[name]) for name, value in weights.items())
    for remedy in STAGES:
        for training in TRAININGS:
            how = params(**given, remedy=remedy, training=training, t="1 hour", compensation="global")
            again = drifted.prepared(how).state_dict()
            assert again.keys() == weights.keys()
            assert all(torch.equal(value, weights[name]) for name, value in again.items())
            model = repaired(how, 1)
            assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    found = run(**given, cell="relative", rho=0.0, remedy="dora")
    assert found["accuracy"] == found["undrifted"] == found["clean"] * 2


LAYERS = ((64, 16), (16, 10))  # inputs and outputs of the two layers
WEIGHTS = sum(i * o + o for i, o in LAYERS)
STORED = {
    "none": 0,
    "lora": sum(3 * (i + o) for i, o in LAYERS),
    "dora": sum(3 * (i + o) + o for i, o in LAYERS),
    "vera": sum(3 + o for _, o in LAYERS),
    "affine": sum(2 * o for _, o in LAYERS),
    "common": sum(i * o for i, o in LAYERS),
    "retraining": 0,
}


@pytest.mark.parametrize("remedy", MLP)
def test_what_is_stored_is_what_the_formulas_count_and_compensation_adds_its_factors(remedy):
    expected = STORED[remedy]
    for compensation, factors in (("none", 0), ("global", 2), ("column", 26)):
        found = run(remedy=remedy, rank=3, compensation=compensation, chips=1)
        assert found["stored"] == [expected + factors]
        assert found["bytes"] == [4 * (expected + factors)]
        assert found["fraction"] == [pytest.approx(100 * (expected + factors) / WEIGHTS, rel=1e-4)]
        assert (found["operations"][0] > 0) == (expected + factors > 0)
    projected = {True: 3 * (64 + 16), False: 3 * (64 + 16 + 16 + 10)}
    for shared, numbers in projected.items():
        found = run(remedy=remedy, rank=3, shared=shared, chips=1)
        assert found["projections"] == [numbers if remedy == "vera" else 0]


def test_samples_are_kept_where_something_on_the_chip_is_found_from_them():
    for given, kept in (
        ({"remedy": "none"}, 0),
        ({"remedy": "none", "compensation": "global"}, 0),
        ({"remedy": "none", "compensation": "global", "readout": "images"}, 20),
        ({"remedy": "dora"}, 20),
        ({"remedy": "vera", "training": "offline"}, 0),
        ({"remedy": "retraining"}, 0),
    ):
        assert run(**given, chips=1)["sample_bytes"] == [64 * kept]


def test_all_that_is_common_mended_the_instances_have_the_weights_asked_for_in_the_mean():
    for compensation in ("none", "global", "column"):
        given = params(remedy="common", compensation=compensation, instances=3)
        held = []
        for chip in range(before_drift.TRAINING, before_drift.TRAINING + 3):
            layer = crossbars(repaired(given, chip))[1]
            held.append(layer.digital.merged(layer.read()[0]))
        assert not torch.allclose(held[0], layer.weight, atol=1e-3)
        torch.testing.assert_close(torch.stack(held).mean(0), layer.weight)


OFFLINE = {"remedy": "vera", "training": "offline", "chips": 1, "samples": 100}


def test_a_schedule_has_no_set_where_none_is_needed_and_one_for_every_time_where_all_are_too_bad():
    easy, hard = (run(**OFFLINE, threshold=threshold) for threshold in (0.01, 1.0))
    assert (easy["sets"], easy["set_times"], easy["stored"]) == ([0], [], [0])
    assert easy["accuracy"] == run(remedy="none", chips=1)["accuracy"]
    assert hard["sets"] == [len(hard["set_times"])] and 1 < hard["sets"][0] <= len(drifted.TIMES)
    assert hard["stored"] == [hard["sets"][0] * (2 * 2 + 26)]
    assert hard["set_times"] == sorted(hard["set_times"])


def test_the_clock_says_which_set_of_a_schedule_is_in_use():
    given = {**OFFLINE, "remedy": "lora", "threshold": 1.0}
    untrained, trained = (run(**given, calibrated_at=time) for time in ("0 s", "10 years"))
    assert trained["set_times"] == untrained["set_times"]
    assert untrained["accuracy"] == run(remedy="none", chips=1)["accuracy"] != trained["accuracy"]


def test_one_set_is_trained_on_chips_that_are_not_read_and_is_the_same_for_all_of_them():
    read = [repaired(params(**{**OFFLINE, "chips": 2}), chip) for chip in (0, 1)]
    stages = [{k: v for k, v in plain_state(m).items() if ".digital." in k} for m in read]
    assert len(stages[0]) == 4
    assert all(torch.equal(value, stages[1][name]) for name, value in stages[0].items())
    assert {layer.chip for model in read for layer in crossbars(model)} == {0, 1}


def test_a_set_is_trained_on_the_cell_that_is_read_unless_another_is_named():
    def trained(given):
        *before, ahead = given.treatment().remedies
        case = Case(drifted.prepared(given), Chip(given.kind(), 0, given.when), given.task, tuple(before))
        return ahead.schedule(case)[0].at(0.0)

    own, named, other = (trained(params(**OFFLINE, trained_on=cell)) for cell in ("", "pcm", "cmo"))
    assert all(torch.equal(own[name], named[name]) for name in own)
    assert not any(torch.equal(own[name], other[name]) for name in own if not name.endswith("_extra_state"))


def test_stages_are_trained_the_way_that_is_asked_for():
    trained = [repaired(params(remedy="lora", training=how)).state_dict() for how in TRAININGS]
    for one, other in combinations(trained, 2):
        assert not torch.equal(one["1.digital.up"], other["1.digital.up"])


def test_calibrating_at_the_wrong_time_is_another_calibration():
    right, named, early = (
        repaired(params(calibrated_at=time)).state_dict() for time in ("", "10 years", "1 hour")
    )
    assert all(torch.equal(right[name], named[name]) for name in right)
    assert any(not torch.equal(right[name], early[name]) for name in right)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_read_in_an_array_of_its_range(cell):
    found = run(cell=cell, t="1 day", remedy="none", chips=1)
    assert 10 < found["accuracy"][0] <= 100


def test_relative_drift_has_no_time_and_more_of_it_costs_more():
    early, late = (run(cell="relative", t=t, remedy="none") for t in ("1 s", "10 years"))
    assert early["accuracy"] == late["accuracy"]
    some, most = (np.mean(run(cell="relative", rho=rho, remedy="none")["accuracy"]) for rho in (0.2, 2.0))
    assert most < some - 10


@pytest.mark.filterwarnings("ignore:converters clip")  # as they do in the records: x_max is 1 in all layers
def test_converters_weaken_compensation():
    perfect, coarse = (
        run(remedy="none", compensation="global", adc_bits=bits)["accuracy"] for bits in (0, 4)
    )
    assert np.mean(coarse) < np.mean(perfect)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"t": "ten years"}, "t = 'ten years'"),
        ({"t": "-1 s"}, "t = '-1 s'"),
        ({"t": ""}, "t = ''"),
        ({"t": "", "calibrated_at": "1 hour"}, "t = ''"),
        ({"calibrated_at": "soon"}, "calibrated_at = 'soon'.*'pcm'.*'10 years'"),
        ({"cell": "relative", "calibrated_at": "soon"}, "calibrated_at = 'soon'.*'relative'"),
        ({"cell": "wan"}, "t = 315576000.*86400"),
        ({"cell": "wan", "t": "1 day", "calibrated_at": "1 year"}, "calibrated_at = '1 year'.*'wan'.*86400"),
        ({"cell": "cmo", "t": "0.5 s"}, "t = 0.5.*t ≥ 1"),
        ({"cell": "flash"}, "cell = 'flash'.*'relative'"),
        ({"rho": -0.1}, "rho = -0.1"),
        ({"adc_bits": 1}, "adc_bits = 1 .*0 for none, or an integer, 2 … 16"),
        ({"adc_bits": 17}, "adc_bits = 17.*0 for none, or an integer, 2 … 16"),
        ({"adc_bits": -1}, "adc_bits = -1 .*≥ 0"),
        ({"compensation": "tile"}, "compensation = 'tile'.*'column'"),
        ({"readout": "ones"}, "readout = 'ones'.*'rows'"),
        ({"remedy": "global"}, "remedy = 'global'.*'retraining'"),
        ({"remedy": "batchnorm"}, "remedy = 'batchnorm'.*for a ResNet"),
        ({"training": "online"}, "training = 'online'.*'offline'"),
        ({"inputs": "both"}, "inputs = 'both'.*'teacher'"),
        ({"rank": 0}, "rank = 0"),
        ({"samples": 0}, "samples = 0"),
        ({"samples": 1078}, "samples = 1078.*an integer ≤ 1077"),
        ({"n_train": 1078}, "n_train = 1078.*an integer ≤ 1077"),
        ({"images": 361}, "images = 361.*an integer ≤ 360"),
        ({"samples": 50_001, "dataset": "mnist"}, "samples = 50001.*≤ 50000"),
        ({"instances": 0}, "instances = 0"),
        ({"threshold": 0.9}, "threshold = 0.9.*offline"),
        ({"threshold": 1.1, **OFFLINE}, "threshold = 1.1"),
        ({"threshold": 0.9, **OFFLINE, "cell": "relative"}, "threshold = 0.9.*clock"),
        ({"trained_on": "cmo"}, "trained_on = 'cmo'.*offline"),
        ({"trained_on": "wan", **OFFLINE}, "trained_on = 'wan'.*'10 years'.*86400"),
        (
            {"trained_on": "wan", "calibrated_at": "1 hour", **OFFLINE},
            "calibrated_at = '1 hour'.*'wan'.*86400",
        ),
        ({"other_chip": 1, "remedy": "none"}, "other_chip = 1"),
        ({"other_chip": 1, **OFFLINE}, "other_chip = 1"),
        ({"width": 0.0}, "width = 0.0"),
        ({"calibration_lr": 0.0}, "calibration_lr = 0.0"),
        ({"mix": 0.0}, "mix = 0.0.*0 < mix"),
        ({"mix": 0.5, "remedy": "dora"}, "mix = 0.5.*1 for other remedies"),
        ({"dataset": "cifar10"}, "dataset = 'cifar10'.*'mnist'"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name_before_any_work(given, words, monkeypatch):
    monkeypatch.setattr(Task, "split", None)
    with pytest.raises(ValueError, match=f"^{words}"):
        run(**given)


@pytest.mark.parametrize("name", [field.name for field in fields(Params)])
def test_a_parameter_is_refused_by_its_own_name(name):
    wrong = {str: ["none such"], int: [-1, True, 1.5, nan], float: [-1.0, nan, inf], bool: ["yes"]}
    for value in wrong[type(getattr(Params(), name))]:
        with pytest.raises(
            ValueError, match=rf"^{name} = {re.escape(repr(value))} is not allowed; allowed: "
        ):
            experiments.resolve("drifted", {name: value})


def test_data_sets_have_the_sizes_up_to_which_images_may_be_asked_for():
    for name, sizes in SIZES.items():
        if name == "cifar10":
            assert sizes == (50_000 - IMAGES[name][1], 10_000)  # as published
            continue
        for split, size in zip(("train", "test"), sizes, strict=True):
            with pytest.raises(ValueError, match=rf"1\.\.{size} "):
                load(name, split, size + 1)
        assert len(load(name, "val", min(CHECK, sizes[1]))[1]) == min(CHECK, sizes[1])


def test_no_pass_of_an_evaluation_sees_more_images_than_it_should(monkeypatch):
    monkeypatch.setattr(Task, "reading", 30)
    seen = []
    hook = digital(params().task).register_forward_hook(lambda _, x, y: seen.append(len(y)))
    try:
        run(remedy="none", chips=1)
    finally:
        hook.remove()
    assert max(seen) == 30


@pytest.mark.parametrize("given", [{"noise_epochs": 2, "remedy": "none"}, OFFLINE])
def test_training_ahead_is_timed_without_the_network_that_it_starts_from(given, monkeypatch):
    clock, train = [0.0], kept_networks._weights
    made = (digital, before_drift._trained)

    def slow(*arguments):
        clock[0] += 100
        return train(*arguments)

    monkeypatch.setattr(kept_networks, "_weights", slow)
    monkeypatch.setattr(budget, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    for kept in made:
        kept.cache_clear()
    assert run(**given)["training_seconds"] == [0] and clock == [100]
    for kept in made:
        kept.cache_clear()


# --- a convolutional network, with BatchNorm ---------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch):
    """A narrow ResNet-18 that knows nothing, and parameters for random images."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, 32, 32, generator=generator), torch.arange(40) % 10
    monkeypatch.setattr(Task, "split", lambda task, split, n=None: (x[:n], y[:n]))
    monkeypatch.setattr(kept_networks, "_weights", lambda task, *rest: task.blank().state_dict())
    small = {"network": "resnet18", "dataset": "cifar10", "width": 1 / 32, "images": 20, "chips": 1}
    given = Params(**{**TINY, **small, "samples": 4, "calibration_epochs": 2, "remedy": "batchnorm"})
    digital.cache_clear()
    yield digital(given.task), given
    digital.cache_clear()


def copied(model):
    return {name: value.clone() for name, value in plain_state(model).items()}


def test_a_narrow_resnet_recalibrates_its_batchnorm(narrow):
    network, given = narrow
    found = drifted.run(given)
    channels = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert found["stored"] == [2 * channels] and found["operations"] == [0]
    assert found["sample_bytes"] == [4 * 3 * 32 * 32]
    after = repaired(given).state_dict()
    before = network.state_dict()
    changed = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert (
        {"running_mean", "running_var"} <= changed <= {"running_mean", "running_var", "num_batches_tracked"}
    )


def test_mixed_statistics_lie_between_those_before_and_those_found_anew(narrow):
    network, given = narrow
    old = network.state_dict()
    new, half = (repaired(replace(given, mix=mix)).state_dict() for mix in (1.0, 0.5))
    for name in (name for name in old if name.endswith("running_var")):
        torch.testing.assert_close(half[name], (old[name] + new[name]) / 2)


def test_least_squares_bring_the_outputs_of_every_chip_closer_to_the_network(narrow):
    network, given = narrow
    x, _ = given.task.images(20)
    for compensation in ("none", "column"):
        ways = {name: replace(given, compensation=compensation, remedy=name) for name in ("none", "affine")}
        off = {name: (repaired(one, 3).eval()(x) - network(x)).square().mean() for name, one in ways.items()}
        assert off["affine"] < 0.5 * off["none"]
    found = drifted.run(replace(given, remedy="affine"))
    columns = sum(m.weight.shape[0] for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    assert found["stored"] == [2 * columns] and found["sample_bytes"] == [4 * 3 * 32 * 32]


def test_a_resnet20_is_a_network_of_this_experiment_and_is_kept_by_what_makes_it(narrow):
    _, given = narrow
    thin = replace(given, network="resnet20", width=1 / 16, own_images=True, remedy="affine")
    assert type(thin.task) is ThinTask and thin.task.code and digital(thin.task).conv.out_channels == 1
    x, y = thin.task.shown(7).images(6)
    assert torch.equal(x, replace(given.task.shown(7)).images(6)[0]) and len(y) == 6
    assert type(given.task) is Task
    found = drifted.run(thin)
    columns = sum(p.shape[0] for p in digital(thin.task).parameters() if p.dim() > 1)
    assert found["stored"] == [2 * columns]


@pytest.mark.parametrize("training", ["distilled", "end to end"])
@pytest.mark.parametrize("remedy", STAGES)
def test_a_calibration_changes_stages_and_nothing_else_bit_for_bit(remedy, training, narrow):
    network, given = narrow
    given = replace(given, remedy=remedy, training=training, compensation="column")
    before = copied(network)
    found = calibrated(given)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, found[name]) for name, value in before.items())
    trained = set(found) - set(before)
    untrained = drifted.drifted(network, given, 0, given.t)
    Stages(given.remedy, given.rank, given.seed, given.shared).attach(untrained)
    stages = {name: value for name, value in copied(untrained).items() if ".digital." in name}
    assert trained == {name for name in stages if not name.endswith(".factor")}
    assert all(not torch.equal(found[name], stages[name]) for name in trained)


def test_nor_does_training_on_several_instances_and_all_of_them_keep_the_same_stages(narrow):
    network, given = narrow
    given = replace(given, remedy="dora", training="offline", compensation="global")
    models = nn.ModuleList(drifted.drifted(network, given, chip, given.t) for chip in range(2))
    Stages(given.remedy, given.rank, given.seed, given.shared).attach(*models)
    before, trained = copied(models), copied(network)
    epochs, lr = given.calibration_epochs, given.calibration_lr
    given.task.train(models, Instances(network, 0), given.task.split("train", 8), epochs=epochs, lr=lr)
    changed = {name for name, value in plain_state(models).items() if not torch.equal(value, before[name])}
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())
    assert changed == {name for name in before if ".digital." in name and not name.endswith(".factor")}
    one, other = (carried(plain_state(model)) for model in models)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert [layer.digital.parts()[0].factor for layer in crossbars(models[0])] != [
        layer.digital.parts()[0].factor for layer in crossbars(models[1])
    ]
