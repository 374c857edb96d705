"""What must hold of digital networks: trained once, as they are trained elsewhere, and kept bit for bit."""

import logging
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from cimlib.arrays import DoubleArray
from cimlib.chip import Hardware, crossbars, plain_state
from cimlib.remedies import Kind, budget
from cimlib.training import CrossEntropy
from companion import definitions, experiments, sources
from companion.experiments import drifted, imperfections, negative_feedback
from companion.tasks import kept
from companion.tasks.kept import digital, ranged
from companion.tasks.task import Task

ROOT = Path(__file__).resolve().parents[2]
SMALL = Task.of(imperfections.Params(hidden=8, epochs=1, n_train=100))
CONVOLUTION = replace(SMALL, network="vgg8", dataset="mnist", width=1 / 16)


@pytest.fixture(autouse=True)
def asked_anew():
    digital.cache_clear(), negative_feedback.trained.cache_clear()
    yield
    digital.cache_clear(), negative_feedback.trained.cache_clear()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where networks are kept."""
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "_build" / "networks")
    return kept.FOLDER


@pytest.fixture
def trainings(monkeypatch):
    """The networks that are trained, in turn."""
    found = []

    def fit(model, *arguments, own, **options):
        found.append(type(model).__name__)
        return own(model, *arguments, **options)

    for module in (kept, budget):
        monkeypatch.setattr(module, "fit", lambda *a, own=module.fit, **k: fit(*a, own=own, **k))
    return found


def weights(network):
    """The weights of a network that nobody in this process has asked for before."""
    digital.cache_clear(), negative_feedback.trained.cache_clear()
    return {name: value.clone() for name, value in digital(network).state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


# --- the network ------------------------------------------------------------------------------------


def test_experiments_with_the_same_parameters_start_from_one_network():
    given = {"hidden": 8, "layers": 2, "lr": 0.01, "seed": 3}
    one, other = (Task.of(module.Params(**given)) for module in (drifted, imperfections))
    assert one == other
    assert digital(one) is digital(other)


def test_what_an_experiment_does_with_a_network_is_none_of_its_own():
    plain, other = drifted.Params(), drifted.Params(cell="cmo", rank=4, chips=7, images=10, noise_epochs=3)
    assert Task.of(plain) == Task.of(other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_convolutional_network_is_the_one_of_negative_feedback_training_without_errors(dtype):
    network = replace(CONVOLUTION, precision=dtype)
    names = "network dataset width epochs n_train batch lr seed precision"
    given = {name: getattr(network, name) for name in names.split()}
    given |= {"method": "plain", "sigma": 0.0, "chips": 1}
    trained, *_ = negative_feedback.trained(negative_feedback.Params(**given, images=1))
    assert same(digital(network).state_dict(), plain_state(trained))
    known = {field.name for field in fields(imperfections.Params)}
    started = {name: value for name, value in vars(network).items() if name in known}
    params = imperfections.Params(**started, remedy="none", images=300, chips=1)
    plain = experiments.run("negative_feedback", {**given, "images": 300})
    assert imperfections.run(params)["clean"] == pytest.approx(plain["clean"], abs=1e-3)


def test_a_perceptron_has_as_many_hidden_layers_as_asked_the_last_of_several_half_as_wide():
    for layers, widths in ((0, [10]), (1, [8, 10]), (2, [8, 4, 10]), (3, [8, 8, 4, 10])):
        model = digital(replace(SMALL, layers=layers))
        assert [len(weight) for weight in model.parameters() if weight.dim() == 2] == widths


@pytest.mark.parametrize("network", [SMALL, CONVOLUTION], ids=["mlp", "vgg8"])
def test_a_network_is_read_as_it_is_and_trained_on_in_its_own_batches(network):
    assert not digital(network).training
    sizes, model = [], network.blank()
    model.register_forward_hook(lambda _, x, y: sizes.append((len(y), y.dtype)))
    wanted = replace(network, batch=30, precision="bfloat16")
    wanted.train(model, CrossEntropy(), network.split("train", 70), epochs=2, lr=0.01)
    assert sizes == [(n, torch.bfloat16) for n in (30, 30, 10)] * 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_compute_in_the_precision_of_the_network(dtype):
    network = replace(SMALL, precision=dtype)
    with network.autocast():
        assert digital(network)(network.split("test", 2)[0]).dtype == getattr(torch, dtype)


@pytest.mark.parametrize("w_range", [0.3, 1.0])
def test_the_range_of_a_layer_is_that_of_the_digital_network_whatever_has_become_of_it(w_range):
    trained = digital(SMALL)
    largest = [float(w.detach().abs().max()) for w in trained.parameters() if w.dim() == 2]
    for model in (trained, SMALL.blank()):
        layers = crossbars(Kind(ranged(SMALL, Hardware(array=DoubleArray()), w_range)).program(model))
        assert [layer.hardware.array.w_max for layer in layers] == [w_range * weight for weight in largest]


# --- what is kept -----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [SMALL, CONVOLUTION], ids=["mlp", "vgg8"])
def test_a_network_is_trained_once_and_has_the_same_weights_from_disk(network, folder, trainings):
    first, second = weights(network), weights(network)
    assert len(trainings) == 1 and same(first, second)
    assert folder.is_dir()


def test_within_a_process_a_network_is_one_object():
    assert digital(SMALL) is digital(replace(SMALL))


@pytest.mark.parametrize(
    "given",
    [{"seed": 1}, {"epochs": 2}, {"n_train": 101}, {"lr": 0.01}, {"batch": 16}, {"hidden": 9}],
    ids=str,
)
def test_another_network_is_trained_for_itself(given, folder, trainings):
    first, other, again = (weights(network) for network in (SMALL, replace(SMALL, **given), SMALL))
    assert len(trainings) == 2 and same(first, again) and not same(first, other)


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (kept, "CODE", "another digest"),
        (torch, "__version__", "another version"),
        (torch, "get_num_threads", lambda: 7),
    ],
    ids=["code", "torch", "threads"],
)
def test_by_other_code_or_arithmetic_it_is_trained_anew(owner, name, value, folder, trainings, monkeypatch):
    before = weights(SMALL)
    with monkeypatch.context() as other:
        other.setattr(owner, name, value)
        weights(SMALL)
    assert len(trainings) == 2
    assert same(weights(SMALL), before) and len(trainings) == 2


def test_the_code_of_a_network_is_all_that_its_training_imports():
    own = ("companion.tasks.kept", "_weights")
    assert definitions.digest(*own) == kept.CODE
    reached = {one.module.rpartition(".")[2] for one in definitions.reached(*own)}
    called = {"kept", "task", "ahead", "fit", "plain", "convolutional", "augmentation", "loading"}
    assert called <= reached


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed"])
def test_a_damaged_file_is_trained_anew_with_a_note(damage, folder, trainings, caplog):
    before = weights(SMALL)
    (path,) = folder.rglob("output.pkl")
    whole = path.read_bytes()
    half = len(whole) // 2
    changed = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    path.write_bytes({"cut": whole[:half], "emptied": b"", "changed": changed}[damage])
    with caplog.at_level(logging.WARNING):
        assert same(weights(SMALL), before)
    assert "Exception while loading" in caplog.text
    assert len(trainings) == 2
    assert same(weights(SMALL), before) and len(trainings) == 2


@pytest.mark.parametrize("why", ["no folder can be made", "it is read-only"])
def test_where_nothing_can_be_written_a_network_is_trained_and_not_kept(
    why, tmp_path, trainings, monkeypatch
):
    if why == "it is read-only":
        monkeypatch.setattr(kept, "FOLDER", tmp_path)
        monkeypatch.setattr(kept.os, "access", lambda path, mode: False)
    assert same(weights(SMALL), weights(SMALL))
    assert len(trainings) == 2 and not list(tmp_path.iterdir())


def test_processes_that_train_the_same_network_at_once_get_the_same_and_leave_it_whole(folder, trainings):
    code = f"""
import sys
from pathlib import Path
import torch
from companion.tasks import kept, task as task_module
torch.set_num_threads({torch.get_num_threads()})
kept.FOLDER = Path({str(folder)!r})
found = kept.digital(task_module.{SMALL!r})
print([value.flatten().tolist() for value in found.state_dict().values()])
"""
    run = [sys.executable, "-W", "error", "-c", code]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT) for _ in range(2)]
    (one, _), (other, _) = (process.communicate(timeout=300) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    expected = [value.flatten().tolist() for value in weights(SMALL).values()]
    assert one == other == f"{expected}\n"
    assert trainings == []


def test_what_experiments_share_is_part_of_their_code():
    for name in ("drifted", "imperfections"):
        assert Path(kept.__file__) in sources.sources(f"companion.experiments.{name}")
    assert Path(kept.__file__) not in sources.sources("companion.experiments.deployed")
