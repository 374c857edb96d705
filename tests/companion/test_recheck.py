"""Older records are accepted on the evidence of a sample, and on no other."""

import json

import pytest

from companion import recheck, records


@pytest.fixture
def older(tmp_path, monkeypatch):
    """Two records, as if older code had made them."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(recheck, "cpu_count", lambda: 1)  # in this process
    spec = {"experiment": "deployed", "threads": 1, "minutes": 0.1}
    spec |= {"defaults": {"epochs": 1, "seeds": 2, "chips": 1}, "points": [{"gaussian": [0.0, 0.1]}]}
    sweep = tmp_path / "sweep.yml"
    sweep.write_text(json.dumps(spec), encoding="utf-8")
    paths = [records.run(point) for point in records.points(sweep)]
    for path in paths:
        aged(path, fit_seconds=[0.0])
    return paths


def aged(path, **result):
    record = records.load(path)
    records.write(path, {**record, "digest": "0" * 16, "result": {**record["result"], **result}})


def test_they_are_accepted_if_a_sample_comes_out_the_same(older, capsys, monkeypatch):
    before = [records.load(path) for path in older]
    monkeypatch.setattr(recheck, "covering", lambda found, covered: found[:1])
    assert recheck.main(["deployed"]) == 0
    first = min(path.stem for path in older)
    assert f"the same again: {first}\n" in capsys.readouterr().out
    for path, record in zip(older, before, strict=True):
        kept = records.load(path)
        (note,) = kept.pop("rechecked")
        assert note["digest"] == "0" * 16 and note["rerun"] == [first]
        assert {**kept, "digest": "0" * 16} == record
    assert records.stale() == []


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
    run, ran = recheck._run, []

    def interrupted(*given):
        if ran:
            raise KeyboardInterrupt
        ran.append(given[1])
        return run(*given)

    with monkeypatch.context() as patch:
        patch.setattr(recheck, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recheck.recheck("deployed")
    assert [path.stem for path in records.stale()] == [path.stem for path in older if path.stem not in ran]
    assert recheck.recheck("deployed") == [path.stem for path in older if path.stem not in ran]


def test_a_sample_has_every_value_of_every_parameter_and_cheap_records_first():
    def record(seconds, **params):
        return {"seconds": seconds, "params": params}

    found = [record(9, a=1, b=1), record(1, a=1, b=2), record(1, a=2, b=1), record(1, a=1, b=1)]
    assert recheck.covering(found) == [found[1], found[2]]
    assert recheck.covering(found, covered=found[1:2]) == [found[2]]
    assert recheck.covering([]) == []
