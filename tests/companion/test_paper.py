"""The paper's own size in sittings: stopped in time, resumed as if never stopped, several at once."""

import itertools
import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from tiny import untimed

from cimlib.chip import fabricate, fresh, program
from cimlib.networks import mlp
from companion import experiments, paper, records, sidecars, sweeps
from companion.experiments import negative_feedback
from companion.tasks import resumable
from companion.tasks.resumable import DrawnThere, OutOfTime
from companion.tasks.task import Augmented

TOY = {"width": 1 / 16, "epochs": 3, "n_train": 48, "batch": 16, "images": 20, "chips": 3, "sigma": 0.3}
METHODS = ("noise", "temperature", "averaging", "correctnet", "ovf", "irs")
SHORT = 15  # looks at the clock that suffice for an epoch, and for all readings, but not for more


@pytest.fixture(autouse=True)
def no_network_is_kept_from_test_to_test():
    negative_feedback.trained.cache_clear()


@pytest.fixture
def clock(monkeypatch):
    """A clock for trainings of which each look takes a second; called, it shows other times from then on."""
    times = []
    monkeypatch.setattr(resumable, "time", SimpleNamespace(time=lambda: next(times[-1])))

    def shows(*first, then=0):
        times.append(itertools.chain(first, itertools.count(then)))

    shows()
    return shows


@pytest.fixture
def epochs(monkeypatch):
    """What trainings have made: an entry for each whole epoch."""
    made, epoch = [], resumable._Sitting._epoch
    monkeypatch.setattr(resumable._Sitting, "_epoch", lambda sitting: made.append(epoch(sitting)))
    return made


def point(folder, **given):
    params = experiments.resolve("negative_feedback", {**TOY, **given})
    return records.Point("negative_feedback", params, 1, 0.1, folder / "results")


def session(folder, until=math.inf, draws="cpu"):
    return paper.Session(until, draws, folder / "checkpoints")


def plain(made):
    """Results without times, and which images were predicted right."""
    result, right = made
    return json.dumps(untimed(result)), {name: sidecars.digest(each) for name, each in right.items()}


def at_once(one):
    return plain(experiments.run_with_images("negative_feedback", asdict(one.params)))


def in_sittings(one, now, clock):
    """What comes out in the end, and what was said each time that the time was up."""
    said = []
    while len(said) < 20:
        clock()
        try:
            return plain(paper.resumable(one, now)), said
        except OutOfTime as stopped:
            said.append(str(stopped))
    raise AssertionError(said)


@pytest.mark.parametrize("method", METHODS)
def test_a_training_in_sittings_is_the_experiment_in_one_bit_for_bit(tmp_path, clock, method):
    given = {"precision": "bfloat16"} if method in ("ovf", "irs") else {"last_lr": 0.5}
    one, now = point(tmp_path, method=method, linear_start="fan-in", **given), session(tmp_path, SHORT)
    made, said = in_sittings(one, now, clock)
    assert said == ["trained for 1 of 3 epochs", "trained for 2 of 3 epochs", "trained, not yet read"]
    assert made == at_once(one)
    whole, *_ = negative_feedback.trained(replace(one.params, images=1, chips=1))
    weights = resumable.restored(now.checkpoint(one))["model"]
    named = {name: value for name, value in whole.state_dict().items() if "_extra_state" not in name}
    assert len(named) > 30 and all(torch.equal(weights[name], value) for name, value in named.items())


@pytest.mark.parametrize("method", ["ovf", "irs"])
def test_errors_that_are_drawn_on_the_device_are_resumed_too_and_are_others(tmp_path, clock, method):
    one = point(tmp_path, method=method)
    made, said = in_sittings(one, session(tmp_path / "sittings", SHORT, "device"), clock)
    whole = plain(paper.resumable(one, session(tmp_path / "whole", draws="device")))
    assert len(said) == 3 and made == whole != at_once(one)


def test_what_an_objective_draws_from_and_trains_is_found_within_another_too():
    params = negative_feedback.Params(method="irs")
    irs = params.objective()
    irs.setup(fresh(program(params.task.blank(), params.hardware())))
    coloured = Augmented(irs, torch.zeros(1, 1, 1), seed=0)
    assert list(resumable._generators(coloured)) == [coloured.generator]
    assert list(resumable._modules(coloured)) == [irs.trained]


def test_an_epoch_that_is_cut_short_is_made_again_and_no_other(tmp_path, clock, epochs):
    one, now = point(tmp_path, method="noise"), session(tmp_path, until=500)
    clock(*range(12), then=1000)  # within the second epoch
    with pytest.raises(OutOfTime, match="trained for 1 of 3 epochs"):
        paper.resumable(one, now)
    clock()
    assert plain(paper.resumable(one, now)) == at_once(one) and len(epochs) == 3


def test_a_training_is_kept_every_so_often_and_at_its_end(tmp_path, clock, monkeypatch):
    stored, store = [], resumable.store

    def storing(path, kept):
        stored.append(len(kept["loss"]))
        store(path, kept)

    monkeypatch.setattr(resumable, "store", storing)
    paper.resumable(point(tmp_path, epochs=12, method="noise"), session(tmp_path))  # 8 s an epoch
    assert stored == [1, 9, 12]


def test_a_finished_training_is_a_record_and_an_unfinished_one_goes_on(tmp_path, clock, epochs):
    one, now = point(tmp_path, method="noise"), session(tmp_path, until=1e12)
    clock(*range(12), then=1e13)
    assert paper.attempt(one, now) == ("trained for 1 of 3 epochs", False) and not one.path.exists()
    clock()
    assert paper.attempt(one, now) == (f"is a record: {one.path}", False) and len(epochs) == 3
    record = records.load(one.path)
    assert record["params"] == asdict(one.params) and not records.is_stale(record)
    assert record["platform"].endswith("errors in training drawn on the cpu")
    assert record["result"]["training_seconds"] == [12.0]  # of three epochs, four looks each
    assert not list(now.folder.iterdir())
    assert json.dumps(untimed(record["result"])) == at_once(one)[0]


def test_nothing_is_begun_when_the_time_is_up(tmp_path, capsys):
    one = point(tmp_path)
    assert paper.run([one], session(tmp_path, until=0.0)) == [] and not list(tmp_path.rglob("*.pt"))
    assert capsys.readouterr().out == "0 of 1 records are there; 1 runs were not begun for want of time\n"


def test_several_at_once_are_what_they_are_one_at_a_time_and_none_is_made_twice(tmp_path, capsys, epochs):
    both = [point(tmp_path, method=method) for method in ("ovf", "temperature")]
    assert paper.run(both, session(tmp_path), together=2) == [] and epochs == []
    said = capsys.readouterr().out
    assert said.count("is a record") == 2 and "(ovf, fan-out, σ = 0.3, seed 0)" in said
    for one in both:
        assert json.dumps(untimed(records.load(one.path)["result"])) == at_once(one)[0]
    assert paper.run(both, session(tmp_path)) == [] and epochs == []
    assert capsys.readouterr().out == "2 of 2 records are there; 0 runs were not begun for want of time\n"


def test_runs_are_begun_in_their_order_and_one_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    asked = [point(tmp_path, seed=seed) for seed in (2, 0, 1)]
    begun = []

    def make(one, session):
        begun.append(one.params.seed)
        raise FloatingPointError("loss = nan") if one.params.seed == 0 else OutOfTime("trained for a while")

    monkeypatch.setattr(paper, "resumable", make)
    assert paper.run(asked, session(tmp_path)) == [asked[1]] and begun == [2, 0, 1]
    assert "seed 0): failed: FloatingPointError: loss = nan\n" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_is_named_with_its_epoch(tmp_path, clock, monkeypatch):
    one, now = point(tmp_path, method="noise"), session(tmp_path, SHORT)
    with pytest.raises(OutOfTime, match="1 of 3"):
        paper.resumable(one, now)
    bad = resumable.restored(now.checkpoint(one))
    bad["model"]["fc2.bias"] = torch.tensor([3e38, -3e38] * 5)
    resumable.store(now.checkpoint(one), bad)
    clock()
    with pytest.raises(FloatingPointError, match="epoch 1: loss = inf"):
        paper.resumable(one, replace(now, until=math.inf))


def damage(path, how):
    content = path.read_bytes()
    if how == "flipped":
        content = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = b""
    else:
        other = path.with_name("another.pt")
        resumable.store(other, {**resumable.restored(path), "name": "another"})
        content = other.read_bytes()
        other.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "another's"])
def test_a_damaged_checkpoint_is_put_aside_and_the_training_begins_anew(tmp_path, clock, capsys, how):
    one, now = point(tmp_path, method="noise"), session(tmp_path, SHORT)
    with pytest.raises(OutOfTime, match="1 of 3"):
        paper.resumable(one, now)
    path = now.checkpoint(one)
    damage(path, how)
    damaged = path.read_bytes()
    assert plain(paper.resumable(one, replace(now, until=math.inf))) == at_once(one)
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert f"{path} cannot be used" in capsys.readouterr().out


def test_a_checkpoint_of_other_code_or_of_errors_drawn_elsewhere_is_left_alone(tmp_path, monkeypatch):
    one, now = point(tmp_path), session(tmp_path)
    names = {now.checkpoint(one), replace(now, draws="device").checkpoint(one)}
    names |= {now.checkpoint(point(tmp_path, seed=1))}
    monkeypatch.setattr(paper, "_code", lambda: ["0" * 16])
    assert len(names | {now.checkpoint(one)}) == 4


def drawn(model, steps=1):
    x = torch.ones(1, 4)
    return torch.stack([model(x) for _ in range(steps)])


def test_errors_drawn_on_the_device_are_standard_and_follow_from_the_layers_generator():
    hardware = negative_feedback.Params(sigma=0.3).hardware()
    made = []
    for cls in (None, DrawnThere, DrawnThere):
        model = fresh(program(mlp(4, 400, 300, seed=0), hardware), 3)
        for layer in (model[1], model[-1]) if cls else ():
            layer.__class__ = cls
        made.append(model)
    cpu, there, again = made
    with torch.no_grad():
        assert torch.equal(drawn(there, 3), drawn(again, 3))
        again.load_state_dict(there.state_dict())
        assert torch.equal(drawn(there, 2), drawn(again, 2))
        (z,) = there[-1].draws().values()
        assert z.dtype == torch.float32 and z.numel() == 300 * 400
        assert abs(z.mean()) < 0.015 and abs(z.std() - 1) < 0.01
        assert not torch.equal(drawn(there), drawn(cpu))
        assert torch.equal(fabricate(there, 7)(torch.ones(1, 4)), fabricate(cpu, 7)(torch.ones(1, 4)))


def test_the_plan_is_the_papers_own_size_in_the_order_of_what_it_tells():
    points = paper.plan()
    assert len({each.key for each in points}) == len(points)
    said = [(p.params.method, p.params.linear_start, p.params.sigma, p.params.epochs) for p in points]
    methods = {("noise", "fan-out"), ("noise", "fan-in"), ("temperature", "fan-out")}
    methods |= {("ovf", "fan-out"), ("irs", "fan-out")}
    for number, (epochs, sigma) in enumerate([(25, 0.3), (25, 0.35), (200, 0.3), (200, 0.35)]):
        first = said[5 * number : 5 * number + 5]
        assert set(first) == {(*method, sigma, epochs) for method in methods}
    assert {each.params.seed for each in points[:20]} == {0}
    for each in points:
        params = each.params
        assert (params.scale, params.network, params.dataset, params.width) == ("paper", "vgg8", "mnist", 1.0)
        assert (params.device, params.precision) == ("cuda", "bfloat16")
        assert each.path.parent == records.RESULTS / "negative_feedback"


def test_the_sweep_of_every_day_asks_for_nothing_of_it():
    daily = sweeps.points(sweeps.SWEEPS / "negative_feedback.yml")
    assert not {each.key for each in daily} & {each.key for each in paper.plan()}


def test_a_trial_has_the_sizes_of_its_scale_and_its_records_apart(tmp_path):
    spec = {"experiment": "negative_feedback", "threads": 1, "minutes": 1}
    spec |= {"defaults": {"scale": "paper", "device": "cuda"}, "points": [{"epochs": 50, "sigma": 0.3}]}
    path = tmp_path / "negative_feedback.yml"
    path.write_text(json.dumps(spec), encoding="utf-8")
    (small,), (large,) = paper.plan(path, scale="quick", device="cpu"), paper.plan(path, device="cpu")
    assert (small.params.epochs, small.params.dataset, small.params.sigma) == (8, "digits", 0.3)
    assert (large.params.epochs, large.params.dataset, large.params.device) == (50, "mnist", "cpu")
    assert {small.path.parents[1], large.path.parents[1]} == {paper.FOLDER / "results"}


def test_other_experiments_and_pretrained_networks_are_refused(tmp_path):
    spec = {"experiment": "deployed", "threads": 1, "minutes": 1, "defaults": {}, "points": [{}]}
    path = tmp_path / "deployed.yml"
    path.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ValueError, match="experiment = 'deployed' is not allowed; allowed: 'negative_feed"):
        paper.plan(path)
    failed = paper.attempt(point(tmp_path, start="pretrained"), session(tmp_path))
    assert failed.failed and "start = 'pretrained' is not allowed; allowed: 'scratch'" in failed.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--minutes", "0"], "minutes = 0.0 is not allowed; allowed: minutes > 0"),
        (["--minutes", "nan"], "minutes = nan is not allowed"),
        (["--minutes", "1", "--device", "tpu"], "device = 'tpu' is not allowed; allowed: 'cpu' or 'cuda'"),
        (["--minutes", "1", "--scale", "huge"], "scale = 'huge' is not allowed; allowed: 'quick', 'desk' or"),
        (["--minutes", "1", "--together", "0"], "together = 0 is not allowed; allowed: an integer ≥ 1"),
        (["--minutes", "1"], "device = 'cuda' is not allowed; allowed: 'cpu' here, where torch sees no CUDA"),
    ],
)
def test_the_command_line_refuses_by_name(monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert paper.main(arguments) == 2
    assert capsys.readouterr().err.startswith(said)


def test_the_command_line_runs_the_plan_and_says_what_failed(tmp_path, monkeypatch, capsys):
    wanted = [point(tmp_path, method="noise"), point(tmp_path, start="pretrained")]
    monkeypatch.setattr(paper, "plan", lambda path, **given: wanted)
    monkeypatch.setattr(paper, "FOLDER", tmp_path)
    assert paper.main(["--minutes", "1", "--together", "1", "--draws", "device"]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 records are there" in said and "seed 0): failed: ValueError: start" in said
    assert records.load(wanted[0].path)["platform"].endswith("drawn on the device")
