"""What must hold of broken cells and their remedies: one chip for all, and a test that only reports."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cimlib.chip import Mapped, crossbars, fabricate
from cimlib.methods import fault_map
from cimlib.remedies import Case, Chip, budget
from cimlib.training import accuracy
from companion.experiments import imperfections
from companion.experiments.imperfections import DATASETS, REMEDIES, Params, programmed, repaired, run
from companion.tasks import kept
from companion.tasks import task as task_module
from companion.tasks.kept import digital

SMALL = Params(epochs=10, lr=0.02, retrain_epochs=4, n_retrain=500, retrain_lr=0.01, chips=2, per_step=100)
TRAINED = SMALL.task
FLAWLESS = replace(SMALL, stuck=0.0, w_range=1.0)
BRIEF = {"epochs": 1, "n_train": 100, "retrain_epochs": 1, "n_retrain": 100}
NARROW = {"network": "vgg8", "dataset": "mnist", "width": 1 / 16, **BRIEF}
CONVOLUTION = replace(SMALL, **NARROW, images=50)
LARGE = {"hidden": 200, "epochs": 1}  # 29,600 cells, to count faults


def chip(params, number=0):
    return fabricate(programmed(params), number)


def large(params, number=0):
    return chip(replace(params, **LARGE), number)


def reported(params, number=0):
    """A large chip as its test reports it."""
    return replace(params, **LARGE).kind().test(large(params, number), number)


def faults(model):
    """All cells as 1, −1 or 0: stuck on, stuck off, working."""
    return torch.cat([found.cells.flatten() for found in fault_map(model).values()])


def draws(model):
    """The standard draws of all cells but spare ones; a mapped layer has those of a convolution in a row."""
    return {
        f"{layer.name}/{slot}": z.flatten()
        for layer in crossbars(model)
        for slot, z in layer.draws().items()
        if not slot.startswith("spare")
    }


# --- without faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize("remedy", ["none", "mapping", "freezing"])
@pytest.mark.parametrize("base", [SMALL, CONVOLUTION], ids=["mlp", "vgg8"])
@pytest.mark.parametrize("array", ["double", "single"])
def test_a_chip_without_faults_is_the_digital_network_if_nothing_is_retrained(base, remedy, array):
    found = run(replace(base, stuck=0.0, w_range=1.0, remedy=remedy, array=array))
    assert found["accuracy"] == found["clean"] * 2


@pytest.mark.parametrize("remedy", ["noise", "retraining", "both", "adjusted"])
def test_retrained_for_a_chip_without_faults_a_network_is_as_good_as_before(remedy):
    found = run(replace(FLAWLESS, remedy=remedy))
    assert found["clean"][0] > 90
    assert found["accuracy"] == pytest.approx(found["clean"] * 2, abs=3)


def test_weights_beyond_the_range_are_what_a_narrower_range_costs():
    clean, cut = (run(replace(FLAWLESS, remedy="none", w_range=share)) for share in (1.0, 0.1))
    assert cut["clean"] == clean["clean"]
    assert np.mean(cut["accuracy"]) < clean["clean"][0]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_range_of_each_layer_is_fixed_by_its_largest_weight_also_when_retrained(share):
    largest = [float(w.detach().abs().max()) for w in digital(TRAINED).parameters() if w.dim() == 2]
    model, _ = repaired(replace(SMALL, w_range=share), 0)
    ranges = [layer.hardware.array.w_max for layer in crossbars(model)]
    assert ranges == pytest.approx([share * weight for weight in largest])


# --- the test of a chip -----------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["mostly off", "mostly on"])
@pytest.mark.parametrize("array", ["double", "single"])
def test_a_chip_of_which_every_fault_is_missed_seems_perfect(reading, array):
    params = replace(SMALL, reading=reading, array=array)
    assert (faults(large(params)) != 0).float().mean() == pytest.approx(0.2, abs=0.01)
    seeming = reported(replace(params, missed=1.0))
    assert not faults(seeming).any()
    for layer in crossbars(seeming):
        assert torch.equal(layer.read()[0], layer.hardware.array.represent(layer.weight))


@pytest.mark.parametrize(
    ("base", "remedy"),
    [
        *((SMALL, remedy) for remedy in ("mapping", "both", "adjusted", "freezing")),
        (CONVOLUTION, "both"),
        (CONVOLUTION, "adjusted"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.network,
)
def test_nothing_is_moved_or_fixed_for_faults_that_are_missed(base, remedy):
    """All is done as if the chip had no faults, down to the retrained weights."""
    unaware, _ = repaired(replace(base, remedy=remedy, missed=1.0), 0)
    flawless, _ = repaired(replace(base, remedy=remedy, stuck=0.0), 0)
    for one, other in zip(crossbars(unaware), crossbars(flawless), strict=True):
        assert one.placement == other.placement
        torch.testing.assert_close(one.weight, other.weight)


def test_some_faults_are_missed_and_nothing_else_changes():
    true, seeming = faults(large(SMALL)), faults(reported(replace(SMALL, missed=0.3)))
    stuck = true != 0
    assert (seeming[stuck] == 0).float().mean() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(seeming[~stuck], true[~stuck])
    kept = stuck & (seeming != 0)
    assert torch.equal(seeming[kept], true[kept])


def test_false_alarms_are_that_share_of_the_working_cells_half_of_them_on():
    true, seeming = faults(large(SMALL)), faults(reported(replace(SMALL, false_alarms=0.2)))
    working = true == 0
    assert (seeming[working] == 1).float().mean() == pytest.approx(0.1, abs=0.01)
    assert (seeming[working] == -1).float().mean() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(seeming[~working], true[~working])


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_conductances_are_mismeasured_by_a_factor_whose_logarithm_has_that_spread(sigma):
    params = replace(SMALL, stuck=0.0, sigma=sigma, mismeasured=0.3)
    models = large(params), reported(params)
    true, told = (torch.cat([layer.read()[1].cells.flatten() for layer in crossbars(m)]) for m in models)
    wrong = (told / true).log().detach()
    assert wrong.std() == pytest.approx(0.3, rel=0.03) and wrong.mean() == pytest.approx(0, abs=0.01)
    assert np.corrcoef(wrong, true.detach().log())[0, 1] == pytest.approx(0, abs=0.03)


def test_tests_of_two_chips_err_independently_and_those_of_one_chip_alike():
    blind = replace(SMALL, stuck=0.01, false_alarms=0.5)  # nearly all that is reported are false alarms
    one, other, again = (faults(reported(blind, number)) != 0 for number in (0, 1, 0))
    assert torch.equal(one, again)
    assert (one & other).float().mean() == pytest.approx(0.25, abs=0.02)


def test_a_test_that_errs_costs_accuracy_on_the_chip_as_it_is():
    known, blind = (run(replace(SMALL, missed=missed)) for missed in (0.0, 1.0))
    none = run(replace(SMALL, remedy="none"))
    assert np.mean(known["accuracy"]) > np.mean(blind["accuracy"]) + 10
    assert np.mean(blind["accuracy"]) == pytest.approx(np.mean(none["accuracy"]), abs=15)


# --- the chip ---------------------------------------------------------------------------------------

FLAWED = replace(SMALL, **BRIEF, sigma=0.3, clip=True, hidden=16)


@pytest.mark.parametrize(
    "given",
    [
        *({"remedy": remedy} for remedy in REMEDIES),
        *({"weighting": name} for name in ("magnitude", "gradient", "fisher")),
        {"routing": "joint"},
        {"tile": 16},
        {"spares": 4},
        {"missed": 0.5, "false_alarms": 0.2, "mismeasured": 0.3},
        {"remedy": "adjusted", "missed": 0.5, "mismeasured": 0.3},
        {**NARROW, "missed": 0.5, "mismeasured": 0.3},
    ],
    ids=str,
)
def test_what_is_read_is_the_chip_of_that_number_whatever_was_done_or_reported(given):
    params = replace(FLAWED, **given)
    for number in (0, 1):
        true, read = draws(chip(params, number)), draws(repaired(params, number)[0])
        assert true.keys() == read.keys()
        assert all(torch.equal(true[name], read[name]) for name in true)


def test_clusters_and_dead_lines_are_faults_of_the_chip():
    for given in ({"cluster": 3}, {"stuck": 0.0, "dead": 0.1}):
        marked = faults(large(replace(SMALL, **given)))
        assert (marked != 0).float().mean() == pytest.approx(0.2, abs=0.08)


def test_most_stuck_cells_are_on_or_off_as_the_measurement_is_read():
    off, on = (faults(large(replace(SMALL, reading=name))) for name in ("mostly off", "mostly on"))
    assert (off == -1).sum() / (off == 1).sum() == pytest.approx(9.04 / 1.75, rel=0.15)
    assert (on == 1).sum() / (on == -1).sum() == pytest.approx(9.04 / 1.75, rel=0.15)


# --- remedies ---------------------------------------------------------------------------------------


def test_a_remedy_helps_and_both_help_more():
    params = replace(SMALL, reading="mostly on")
    mean = {name: np.mean(run(replace(params, remedy=name))["accuracy"]) for name in REMEDIES}
    assert all(mean[name] > mean["none"] + 5 for name in REMEDIES if name != "none")
    assert mean["both"] > mean["mapping"] and mean["both"] > mean["noise"]


def test_one_network_is_trained_with_noise_for_all_chips_and_every_other_one_for_its_own():
    for remedy, alike in (("noise", True), ("retraining", False)):
        one, other = (repaired(replace(SMALL, remedy=remedy), number)[0] for number in (0, 1))
        pairs = zip(crossbars(one), crossbars(other), strict=True)
        assert all(torch.equal(a.weight, b.weight) == alike for a, b in pairs)


def test_hidden_units_are_moved_together_with_the_rows_that_they_feed():
    model, _ = repaired(replace(SMALL, layers=2, remedy="mapping", routing="joint"), 0)
    first, second, third = (layer.placement for layer in crossbars(model))
    assert first.rows[0] == tuple(range(64)) and third.columns == tuple(range(10))
    assert first.columns == second.rows[0] != tuple(range(32))
    assert second.columns == third.rows[0] != tuple(range(16))


def test_what_a_weight_counts_does_not_depend_on_the_chip():
    for weighting in ("gradient", "fisher"):
        params = replace(SMALL, weighting=weighting)
        mapping, _ = params.treatment().remedies
        cases = [Case(digital(TRAINED), Chip(params.kind(), number), TRAINED) for number in (0, 1)]
        one, other = (mapping._weighting(case.model(), case) for case in cases)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_networks_are_mapped_only_as_asked():
    for remedy, given, is_mapped in (("none", {}, False), ("none", {"tile": 8}, True), ("mapping", {}, True)):
        model, case = repaired(replace(SMALL, remedy=remedy, **given), 0)
        assert all(isinstance(layer, Mapped) == is_mapped for layer in crossbars(model))
        assert case.costs.seconds.get("map", 0.0) < 5


# --- updates on the device --------------------------------------------------------------------------


def test_updates_on_the_device_start_from_the_same_repaired_network():
    before = repaired(imperfections._unread(SMALL), 0)[0]
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    misses = repaired.cache_info().misses
    first, *_, again = (run(replace(SMALL, iterations=n)) for n in (0, 5, 20, 0))
    assert repaired.cache_info().misses <= misses + 2  # of the second chip, and of the twin
    assert repaired(imperfections._unread(SMALL), 0)[0] is before
    assert all(torch.equal(value, weights[name]) for name, value in before.state_dict().items())
    assert first["accuracy"] == again["accuracy"]


def test_a_cell_is_written_once_in_an_iteration_at_most_and_then_gets_a_pulse_or_more():
    few, many = (run(replace(SMALL, iterations=n)) for n in (2, 8))
    assert run(SMALL)["writes"] == run(SMALL)["pulses"] == [0, 0]
    for found, count in ((few, 2), (many, 8)):
        assert all(0 < n <= count for n in found["writes"])
        assert all(pulses >= writes for pulses, writes in zip(found["pulses"], found["writes"], strict=True))
    assert np.mean(many["writes"]) > 2 * np.mean(few["writes"])


def test_updates_on_the_device_mend_what_the_test_has_missed():
    blind = replace(SMALL, missed=0.5, pulse_lr=0.2)
    before, after = (run(replace(blind, iterations=n)) for n in (0, 100))
    assert np.mean(after["accuracy"]) > np.mean(before["accuracy"]) + 5


# --- the digital network ----------------------------------------------------------------------------


def test_clean_is_of_the_digital_network_whatever_its_chips_are():
    expected = float(accuracy(digital(TRAINED), *TRAINED.split("test", 360)))
    misses = digital.cache_info().misses
    for given in ({"stuck": 0.0}, {"sigma": 1.0}, {"array": "single"}, {"remedy": "both"}, {"w_range": 0.1}):
        assert run(replace(SMALL, **{"remedy": "mapping", **given}))["clean"] == [
            pytest.approx(expected, abs=1e-3)
        ]
    assert digital.cache_info().misses == misses


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_colour_images_are_cropped_and_mirrored_in_retraining_and_normalised(monkeypatch, precision):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(40, 3, 32, 32, generator=generator), torch.arange(40) % 10
    monkeypatch.setattr(task_module, "load", lambda name, split, n=None: (x[:n], y[:n]))
    used = []

    class Augmented(task_module.Augmented):
        def __init__(self, objective, black, seed):
            used.append((type(objective).__name__, black.flatten().tolist()))
            super().__init__(objective, black, seed)

    monkeypatch.setattr(task_module, "Augmented", Augmented)
    params = Params(network="resnet18", dataset="cifar10", width=1 / 16, precision=precision)
    params = replace(params, epochs=1, n_train=40, retrain_epochs=1, n_retrain=40, images=10, chips=1)
    found = run(replace(params, iterations=1))
    assert [name for name, _ in used] == [
        "CrossEntropy",
        "Retraining",
        "Retraining",
    ]  # the twin is trained too
    mean, std = task_module.NORMALISATION["cifar10"]
    assert used[1][1] == pytest.approx([-m / s for m, s in zip(mean, std, strict=True)])
    assert found["writes"][0] > 0


def test_the_data_of_a_record_are_named_with_how_many_were_trained_on():
    assert imperfections.data(SMALL) == {"digits": 1077}
    assert imperfections.data(CONVOLUTION) == {"mnist": 100}


def test_every_network_has_data():
    for network, names in DATASETS.items():
        assert all(Params(network=network, dataset=name).dataset == name for name in names)


@pytest.mark.parametrize("given", [{"images": 361}, {"n_train": 1078}])
def test_more_images_than_there_are_are_refused_before_any_training(monkeypatch, given):
    for module in (kept, budget):
        monkeypatch.setattr(module, "fit", None)
    with pytest.raises(ValueError, match="is not an integer in 1"):
        run(replace(Params(), seed=123, **given))


# --- BatchNorm found anew, and a cost that forgives -----------------------------------------------------


def statistics(params):
    model, case = repaired(params, 0)
    return [m.running_var for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)], case


def test_statistics_of_batchnorm_are_those_of_the_chip_and_nothing_else_is_another():
    mapping = replace(CONVOLUTION, remedy="mapping")
    old, _ = statistics(mapping)
    new, case = statistics(replace(mapping, batchnorm_images=50))
    assert not any(torch.allclose(a, b) for a, b in zip(old, new, strict=True))
    (before, _), (after, _) = repaired(mapping, 0), repaired(replace(mapping, batchnorm_images=50), 0)
    for one, other in zip(crossbars(before), crossbars(after), strict=True):
        assert one.placement == other.placement and torch.equal(one.weight, other.weight)
    assert case.costs.images == case.costs.readings == 50
    assert case.costs.stored == sum(2 * len(each) for each in new)


def test_behind_batchnorm_found_anew_a_network_of_scattered_cells_is_better_than_behind_the_old_one():
    scattered = replace(CONVOLUTION, n_train=400, epochs=4, stuck=0.0, sigma=0.7, clip=True, images=200)
    scattered = replace(scattered, remedy="mapping")
    old, new = (np.mean(run(replace(scattered, batchnorm_images=n))["accuracy"]) for n in (0, 100))
    assert new > old + 5


def test_a_placement_that_forgives_a_factor_helps_where_cells_scatter_by_factors():
    scattered = replace(SMALL, stuck=0.0, sigma=1.5, remedy="mapping", chips=4)
    usual, forgiving = (
        np.mean(run(replace(scattered, forgive=what))["accuracy"]) for what in ("nothing", "layer")
    )
    assert forgiving > usual + 5
