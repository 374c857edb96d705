"""What a record must survive and what a sweep must refuse."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from companion import experiments, records

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "data" / "sweeps").glob("*.yml"))
TINY = {"epochs": 1, "seeds": 2, "chips": 1}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep of two points, with its records in a folder of its own."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return written(tmp_path, points=[{"gaussian": [0.0, 0.1]}])


def written(folder, **change):
    spec = {"experiment": "deployed", "threads": 1, "minutes": 0.1, "defaults": TINY, "points": [{}]}
    path = folder / "sweep.yml"
    path.write_text(yaml.safe_dump({**spec, **change}))
    return path


def test_lists_are_grids_and_points_named_twice_are_one(tmp_path):
    grid = [{"gaussian": [0.0, 0.1], "hidden": [4, 8]}, {"gaussian": 0.1}]
    assert len(records.points(written(tmp_path, points=grid))) == 4


def test_a_key_depends_on_what_differs_from_the_defaults_and_on_nothing_else(tmp_path):
    plain, same, other = (
        records.points(written(tmp_path, points=[entry]))[0].key
        for entry in ({}, {"gaussian": 0.0, "scale": "quick"}, {"gaussian": 0.1})
    )
    assert plain == same != other


def test_a_record_holds_what_made_it(sweep):
    point = records.points(sweep)[1]
    record = json.loads(records.run(point).read_text())
    assert record["params"]["gaussian"] == 0.1 and record["params"]["hidden"] == 8
    assert len(record["result"]["error"]) == 2
    assert record["digest"] == records.code_digest("deployed") and not records.is_stale(record)
    assert record["seconds"] > 0 and {"torch", "numpy"} <= set(record["versions"])
    assert set(record["data"]) == {"iris"} and record["data"]["iris"]["n_train"] == 90


def test_a_finished_record_is_never_run_again(sweep, monkeypatch):
    point = records.points(sweep)[0]
    path = records.run(point)
    monkeypatch.setattr(experiments, "run", lambda *_: pytest.fail("ran again"))
    before = path.stat().st_mtime_ns
    assert records.run(point) == path and path.stat().st_mtime_ns == before


def test_a_record_of_older_code_is_stale_listed_and_run_again(sweep, capsys, monkeypatch):
    path = records.run(records.points(sweep)[0])
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "digest": "0" * 16, "result": {"error": []}}))
    monkeypatch.setattr(records, "ROOT", path.parents[2])
    assert records.stale() == [path]
    records.main(["stale"])
    assert path.name in capsys.readouterr().out
    assert records.read("deployed").stale.all()
    records.run(records.points(sweep)[0])
    assert records.stale() == [] and not records.read("deployed").stale.any()


def aged(path, **change):
    """The record at ``path`` as if older code had made it."""
    record = {**json.loads(path.read_text()), "digest": "0" * 16}
    record["result"] = {**record["result"], **change}
    path.write_text(json.dumps(record))
    return record


def test_records_of_older_code_are_accepted_if_a_sample_comes_out_the_same(sweep, capsys, monkeypatch):
    paths = [records.run(point) for point in records.points(sweep)]
    older = [aged(path, fit_seconds=[0.0]) for path in paths]
    monkeypatch.setattr(records, "ROOT", paths[0].parents[2])
    monkeypatch.setattr(records, "covering", lambda found: found[:1])
    records.main(["recheck", "deployed"])
    assert records.stale() == [] and paths[0].stem in capsys.readouterr().out
    for path, record in zip(paths, older, strict=True):
        kept = json.loads(path.read_text())
        (note,) = kept.pop("rechecked")
        assert note["digest"] == "0" * 16 and note["rerun"] == [min(path.stem for path in paths)]
        assert {**kept, "digest": "0" * 16} == record
    assert records.recheck("deployed") == []


@pytest.mark.parametrize("change", [{"error": [0.0, 0.0]}, {"more": [1.0]}])
def test_one_number_that_differs_and_no_record_is_accepted(sweep, change):
    first, second = (records.run(point) for point in records.points(sweep))
    before = [aged(first, **change), aged(second)]
    with pytest.raises(ValueError, match=first.stem):
        records.recheck("deployed")
    assert [json.loads(path.read_text()) for path in (first, second)] == before


def test_a_sample_has_every_value_of_every_parameter_and_cheap_records_first():
    def record(seconds, **params):
        return {"seconds": seconds, "params": params}

    found = [record(9, a=1, b=1), record(1, a=1, b=2), record(1, a=2, b=1), record(1, a=1, b=1)]
    assert records.covering(found) == [found[1], found[2]]
    assert records.covering([]) == []


def test_an_interrupted_run_leaves_no_record(sweep, monkeypatch):
    point = records.points(sweep)[0]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.run(point)
    assert not point.path.exists()
    monkeypatch.setattr(experiments, "run", lambda *_: {"error": float})
    with pytest.raises(TypeError):
        records.run(point)
    assert not point.path.exists()


def test_an_interrupted_write_leaves_no_record_and_the_next_run_makes_it(sweep, monkeypatch):
    point = records.points(sweep)[0]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(records.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            records.run(point)
    assert not point.path.exists() and records.stale() == []
    with pytest.raises(FileNotFoundError):
        records.read("deployed")
    assert records.run(point) == point.path
    assert list(point.path.parent.iterdir()) == [point.path]
    assert records.read("deployed").key.tolist() == [point.key]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
@pytest.mark.parametrize(
    "use",
    [lambda _: records.read("deployed"), lambda _: records.stale(), records.run],
    ids=["read", "stale", "run"],
)
def test_a_truncated_record_is_refused_naming_the_file(sweep, use, kept):
    point = records.points(sweep)[0]
    text = records.run(point).read_text()
    point.path.write_text(text[: int(kept * len(text))])
    with pytest.raises(ValueError, match=point.path.name):
        use(point)


def test_the_command_line_makes_one_record_and_refuses_unknown_keys(sweep, capsys):
    point = records.points(sweep)[0]
    records.main(["run", str(sweep), point.key])
    assert point.path.exists()
    with pytest.raises(SystemExit):
        records.main(["run", str(sweep), "nothing"])
    assert "no point 'nothing'" in capsys.readouterr().err


def test_tables_select_and_tune_by_validation():
    table = pd.DataFrame(
        {
            "lr": [0.1, 1.0, 0.1, 1.0],
            "levels": [10, 10, 20, 20],
            "error": [[5.0, 6.0], [1.0, 1.0], [2.0, 2.0], [9.0, 9.0]],
            "validation_error": [[1.0, 1.0], [3.0, 3.0], [4.0, 4.0], [2.0, 2.0]],
            "key": list("abcd"),
            "stale": [False] * 4,
        }
    )
    assert records.select(table, levels=10, lr=1.0).key.tolist() == ["b"]
    assert sorted(records.tuned(table, "lr").key) == ["a", "d"]
    with pytest.raises(ValueError, match="no record has"):
        records.select(table, levels=30)
    with pytest.raises(ValueError, match=r"\['level'\] are not columns"):
        records.select(table, level=10)


def test_reading_without_records_says_what_to_do(sweep):
    with pytest.raises(FileNotFoundError, match="make sweep"):
        records.read("deployed")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"extra": 1}, "extra"),
        ({"experiment": "nothing"}, "chip_spread"),
        ({"points": [{"gausian": 0.1}]}, "did you mean 'gaussian'"),
        ({"points": [{"gaussian": "0.1"}]}, "float"),
        ({"points": [{"gaussian": -0.1}]}, "sigma"),
    ],
)
def test_a_wrong_sweep_is_refused_naming_the_file(tmp_path, change, word):
    with pytest.raises(ValueError, match=word) as error:
        records.points(written(tmp_path, **change))
    assert "sweep.yml" in str(error.value)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_committed_sweep_is_valid_and_bears_the_name_of_its_experiment(path):
    assert {point.experiment for point in records.points(path)} == {path.stem}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_committed_record_belongs_to_a_sweep(path):
    wanted = {point.path.name for point in records.points(path)}
    there = {record.name for record in (records.RESULTS / path.stem).glob("*.json")}
    assert there <= wanted
