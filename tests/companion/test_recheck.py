"""Older records are accepted on the evidence of a sample, and on no other."""

import json

import pytest

from companion import experiments, recheck, records, sweeps, twins


@pytest.fixture
def older(tmp_path, monkeypatch):
    """Two records, as if older code had made them."""
    monkeypatch.setattr(recheck, "cpu_count", lambda: 1)  # in this process
    return made(tmp_path, monkeypatch, gaussian=[0.0, 0.1])


def made(folder, monkeypatch, **grid):
    """Records of a grid of parameters in a folder of their own, as if older code had made them."""
    monkeypatch.setattr(records, "RESULTS", folder / "results")
    spec = {"experiment": "deployed", "threads": 1, "minutes": 0.1}
    spec |= {"defaults": {"epochs": 1, "seeds": 2, "chips": 1}, "points": [grid]}
    sweep = folder / "deployed.yml"
    sweep.write_text(json.dumps(spec), encoding="utf-8")
    paths = [records.run(point) for point in sweeps.points(sweep)]
    for path in paths:
        aged(path, fit_seconds=[0.0])
    return paths


def aged(path, **result):
    record = records.load(path)
    change = {"digest": "0" * 16, "seconds": 1.0, "result": {**record["result"], **result}}
    records.write(path, {**record, **change})


def interrupt_after(runs, patch):
    """Lets so many runs finish and no more; gives the keys of those that did."""
    run, ran = recheck._run, []

    def interrupted(*given):
        if len(ran) == runs:
            raise KeyboardInterrupt
        ran.append(given[1])
        return run(*given)

    patch.setattr(recheck, "_run", interrupted)
    return ran


def test_they_are_accepted_if_a_sample_comes_out_the_same(older, capsys, monkeypatch):
    before = [records.load(path) for path in older]
    monkeypatch.setattr(recheck, "covering", lambda found, *_: found[:1])
    assert recheck.main(["deployed"]) == 0
    first = min(path.stem for path in older)
    assert f"the same again: {first}\n" in capsys.readouterr().out
    for path, record in zip(older, before, strict=True):
        kept = records.load(path)
        (note,) = kept.pop("rechecked")
        assert note["digest"] == "0" * 16 and note["rerun"] == [first]
        assert records.provenance.sealed({**kept, "digest": "0" * 16}) == record
    assert records.stale() == []


def test_records_of_another_device_are_accepted_by_what_all_make_at_a_small_size_alone(older, monkeypatch):
    monkeypatch.setattr(recheck, "_repeats", lambda record: record["params"]["gaussian"] == 0.0)
    away, here = sorted(older, key=lambda path: records.load(path)["params"]["gaussian"] == 0.0)
    assert recheck.recheck("deployed") == [here.stem] and records.stale() == [away]
    monkeypatch.setattr(twins, "compare", lambda experiment, found, against: len(found))
    assert recheck.recheck("deployed", against="COMMIT") == [] and records.stale() == []
    assert records.load(away)["rechecked"][-1]["small"] == 1


def test_a_run_of_another_device_is_cut_down_to_the_cpu():
    assert twins.small("negative_feedback", {"device": "cuda", "epochs": 200}) == {
        "device": "cpu",
        "epochs": 1,
    }
    assert not recheck._repeats({"params": {"device": "cuda"}}) and recheck._repeats({"params": {}})


def test_a_second_recheck_has_nothing_to_run(older):
    assert sorted(recheck.recheck("deployed")) == sorted(path.stem for path in older)
    assert recheck.recheck("deployed") == []


@pytest.mark.parametrize("change", [{"error": [0.0, 0.0]}, {"more": [1.0]}])
def test_one_number_that_differs_leaves_its_record_stale_and_keeps_what_agreed(older, capsys, change):
    first, second = older
    aged(first, **change)
    before = first.read_bytes()
    assert recheck.main(["deployed"]) == 1
    assert first.stem in capsys.readouterr().err
    assert first.read_bytes() == before and records.stale() == [first]
    assert records.load(second)["rechecked"][-1]["rerun"] == [second.stem]


def test_an_interrupted_recheck_goes_on_where_it_stopped(older, monkeypatch):
    with monkeypatch.context() as patch:
        ran = interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            recheck.recheck("deployed")
    assert [path.stem for path in records.stale()] == [path.stem for path in older if path.stem not in ran]
    assert recheck.recheck("deployed") == [path.stem for path in older if path.stem not in ran]


def test_a_sample_has_every_value_of_every_parameter_and_cheap_records_first():
    def record(seconds, **params):
        return {"seconds": seconds, "params": params, "result": {}}

    found = [record(9, a=1, b=1), record(1, a=1, b=2), record(1, a=2, b=1), record(1, a=1, b=1)]
    assert recheck.covering(found) == [found[1], found[2]]
    assert recheck.covering(found, covered=found[1:2]) == [found[2]]
    assert recheck.covering([]) == []


def test_records_that_were_not_run_stay_stale_if_one_of_the_sample_differs(older, monkeypatch):
    first, second = sorted(older)
    aged(first, error=[0.0, 0.0])
    monkeypatch.setattr(recheck, "covering", lambda found, *_: found[:1])
    with pytest.raises(ValueError, match=rf"records \['{first.stem}'\] of deployed"):
        recheck.recheck("deployed")
    assert records.stale() == [first, second]


def test_what_was_rerun_before_counts_as_part_of_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(recheck, "cpu_count", lambda: 1)
    paths = made(tmp_path, monkeypatch, gaussian=[0.0, 0.1, 0.2], hidden=[4, 8, 12])
    with monkeypatch.context() as patch:
        before = interrupt_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            recheck.recheck("deployed")
    (first,) = before
    rest = recheck.recheck("deployed")
    assert len(rest) == 2 and first not in rest and records.stale() == []
    found = {path.stem: records.load(path) for path in paths}
    for name in ("gaussian", "hidden"):
        sampled = {found[key]["params"][name] for key in [first, *rest]}
        assert sampled == {record["params"][name] for record in found.values()}
    for key, record in found.items():
        (note,) = record["rechecked"]
        assert note["rerun"] == ([key] if key in [first, *rest] else sorted([first, *rest]))


def test_runs_side_by_side_give_what_a_run_in_this_process_gives(older, monkeypatch):
    monkeypatch.setattr(recheck, "cpu_count", lambda: 2)
    sample = {path.stem: records.load(path) for path in older}
    found = dict(recheck._runs("deployed", sample))
    assert set(found) == set(sample)
    for key, record in sample.items():
        here = json.loads(json.dumps(experiments.run("deployed", record["params"])))
        assert twins.agree(record["result"], here) and twins.agree(found[key], here)


def test_it_says_beforehand_how_long_it_takes_and_then_how_far_it_is(older, monkeypatch, capsys):
    for path in older:
        records.write(path, {**records.load(path), "seconds": 90.0})
    with monkeypatch.context() as patch:
        interrupt_after(0, patch)
        with pytest.raises(KeyboardInterrupt):
            recheck.recheck("deployed")
    assert capsys.readouterr().err == "deployed: 2 records to run again, about 3 min on 1 cores\n"
    monkeypatch.setattr(recheck, "_runs", lambda _, sample: ((k, sample[k]["result"]) for k in sample))
    monkeypatch.setattr(recheck, "cpu_count", lambda: 2)
    first, second = recheck.recheck("deployed")
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("2 records to run again, about 2 min on 2 cores")
    assert told[1:] == [f"deployed: {first} agrees, 1 of 2", f"deployed: {second} agrees, 2 of 2"]


def test_against_a_commit_all_are_run_small_and_some_at_full_size(older, monkeypatch):
    """How many, the minutes say; one at least."""
    asked = []

    def compare(experiment, stale, commit):
        asked.append((experiment, len(stale), commit))
        return len(stale)

    monkeypatch.setattr(twins, "compare", compare)
    (one,) = recheck.recheck("deployed", against="abc", minutes=0)
    assert asked == [("deployed", 2, "abc")] and records.stale() == []
    notes = [records.load(path)["rechecked"][-1] for path in older]
    assert [(note["small"], note["rerun"]) for note in notes] == [(2, [one])] * 2
    assert recheck.recheck("deployed", against="abc") == [] and len(asked) == 1


def test_the_cheapest_records_fill_the_minutes_and_a_shared_training_counts(monkeypatch):
    def record(seconds, training=None, threads=1):
        result = {} if training is None else {"training_seconds": [training]}
        return {"seconds": seconds, "threads": threads, "result": result}

    monkeypatch.setattr(recheck, "cpu_count", lambda: 2)
    read_only, trained, short, wide = record(10, 200), record(150, 140), record(60), record(61, threads=2)
    found = [read_only, trained, wide, short]
    assert recheck.cheapest(found, 0) == [short]
    assert recheck.cheapest(found, 1.6) == [short, wide]
    assert recheck.cheapest(found, 3) == [short, wide, trained]
    assert recheck.cheapest(found, 60) == [short, wide, trained, read_only]


def test_against_a_commit_that_differs_nothing_is_accepted(older, monkeypatch, capsys):
    def compare(*_):
        raise ValueError("1 of 2 small runs differ")

    monkeypatch.setattr(twins, "compare", compare)
    before = [path.read_bytes() for path in older]
    assert recheck.main(["--against", "abc", "deployed"]) == 1
    assert "1 of 2 small runs differ" in capsys.readouterr().err
    assert [path.read_bytes() for path in older] == before
