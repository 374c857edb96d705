"""What a record must survive and what a sweep must refuse."""

import json
from pathlib import Path

import pandas as pd
import pytest

from companion import experiments, records, sweeps

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "data" / "sweeps").glob("*.yml"))
WHOLE = "{{experiment: deployed, threads: 1, minutes: {minutes}, defaults: {{}}, points: [{{{point}}}]}}"
TINY = {"epochs": 1, "seeds": 2, "chips": 1}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep of two points, with its records in a folder of its own."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return written(tmp_path, points=[{"gaussian": [0.0, 0.1]}])


def written(folder, **change):
    spec = {"experiment": "deployed", "threads": 1, "minutes": 0.1, "defaults": TINY, "points": [{}]}
    path = folder / "deployed.yml"
    path.write_text(json.dumps({**spec, **change}), encoding="utf-8")
    return path


def test_lists_are_grids_and_what_two_points_ask_for_is_there_once(tmp_path):
    grid = [{"gaussian": [0.0, 0.1], "hidden": [4, 8]}, {"gaussian": 0.1}]
    assert len(sweeps.points(written(tmp_path, points=grid))) == 4


def test_a_key_depends_on_what_differs_from_the_defaults_and_on_nothing_else(tmp_path):
    plain, same, other = (
        sweeps.points(written(tmp_path, points=[entry]))[0].key
        for entry in ({}, {"gaussian": 0.0, "scale": "quick"}, {"gaussian": 0.1})
    )
    assert plain == same != other


def test_a_record_holds_what_made_it(sweep):
    point = sweeps.points(sweep)[1]
    record = json.loads(records.run(point).read_text(encoding="utf-8"))
    assert record["params"]["gaussian"] == 0.1 and record["params"]["hidden"] == 8
    assert len(record["result"]["error"]) == 2
    assert record["digest"] == records.code_digest("deployed") and not records.is_stale(record)
    assert record["seconds"] > 0 and {"torch", "numpy"} <= set(record["versions"])
    assert set(record["data"]) == {"iris"} and record["data"]["iris"]["n_train"] == 90


def test_a_finished_record_is_never_run_again(sweep, monkeypatch):
    point = sweeps.points(sweep)[0]
    path = records.run(point)
    monkeypatch.setattr(experiments, "run", lambda *_: pytest.fail("ran again"))
    before = path.stat().st_mtime_ns
    assert records.run(point) == path and path.stat().st_mtime_ns == before


def test_a_record_of_older_code_is_stale_listed_and_run_again(sweep, capsys, monkeypatch):
    path = records.run(sweeps.points(sweep)[0])
    records.write(path, {**records.load(path), "digest": "0" * 16, "result": {"error": []}})
    monkeypatch.setattr(sweeps, "ROOT", path.parents[2])
    assert records.stale() == [path]
    sweeps.main(["stale"])
    assert path.name in capsys.readouterr().out
    monkeypatch.setattr(sweeps, "PAPER", sweep.parent)
    sweeps.main(["stale", "--swept"])
    assert path.name not in capsys.readouterr().out
    assert records.read("deployed").stale.all()
    records.run(sweeps.points(sweep)[0])
    assert records.stale() == [] and not records.read("deployed").stale.any()


def test_an_interrupted_run_leaves_no_record(sweep, monkeypatch):
    point = sweeps.points(sweep)[0]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run_with_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.run(point)
    assert not point.path.exists()
    monkeypatch.setattr(experiments, "run_with_images", lambda *_: ({"error": float}, {}))
    with pytest.raises(TypeError):
        records.run(point)
    assert not point.path.exists()


def test_an_interrupted_write_leaves_no_record_and_the_next_run_makes_it(sweep, monkeypatch):
    point = sweeps.points(sweep)[0]

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
    point = sweeps.points(sweep)[0]
    text = records.run(point).read_text(encoding="utf-8")
    point.path.write_text(text[: int(kept * len(text))], encoding="utf-8")
    with pytest.raises(ValueError, match=point.path.name):
        use(point)


def edited(path, **change):
    """The record at ``path`` with other entries, by hand."""
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, **change}), encoding="utf-8")


def test_a_record_with_other_parameters_than_its_name_says_is_refused(sweep):
    first, second = (records.run(point) for point in sweeps.points(sweep))
    params = records.load(first)["params"]
    edited(first, params={**params, "hidden": 4096})
    with pytest.raises(ValueError, match=f"{first.stem}.* parameters were edited"):
        records.read("deployed")
    edited(first, params=params)
    copy = first.with_name(f"{first.stem} (conflicted copy).json")
    copy.write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match="conflicted copy.* another record's copy"):
        records.read("deployed")
    copy.unlink()
    assert set(records.read("deployed").key) == {first.stem, second.stem}


def test_a_record_whose_results_were_edited_is_refused(sweep):
    path = records.run(sweeps.points(sweep)[0])
    edited(path, result={"error": [0.0, 0.0]})
    with pytest.raises(ValueError, match=f"results in .*{path.name} are not those that were written"):
        records.read("deployed")


def test_a_table_that_is_changed_changes_no_other(sweep):
    records.run(sweeps.points(sweep)[0])
    table = records.read("deployed")
    table["hidden"] = 0
    assert records.read("deployed").hidden.tolist() == [8]


def test_the_command_line_makes_one_record_and_refuses_unknown_keys(sweep, capsys):
    point = sweeps.points(sweep)[0]
    sweeps.main(["run", str(sweep), point.key])
    assert point.path.exists()
    with pytest.raises(SystemExit):
        sweeps.main(["run", str(sweep), "nothing"])
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
    assert records.select(table).equals(table)
    for other in [{"levels": 30}, {"levels": "10"}, {"lr": None}]:
        with pytest.raises(ValueError, match="no record has"):
            records.select(table, **other)
    with pytest.raises(ValueError, match=r"\['level'\] are not columns"):
        records.select(table, level=10)


def test_reading_without_records_says_what_to_do(sweep):
    with pytest.raises(FileNotFoundError, match="make sweep"):
        records.read("deployed")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": 1}, "deployed.yml: key = 'extra' is not allowed; allowed: experiment, threads"),
        (
            {"experiment": "nothing"},
            "deployed.yml: experiment = 'nothing' is not allowed; allowed: 'agreement'",
        ),
        ({"threads": 0}, "deployed.yml: threads = 0 is not allowed; allowed: ≥ 1"),
        ({"threads": True}, "deployed.yml: threads = True is not allowed; allowed: an int"),
        ({"minutes": "1"}, "deployed.yml: minutes = '1' is not allowed; allowed: a float"),
        ({"minutes": 0}, "deployed.yml: minutes = 0 is not allowed; allowed: > 0"),
        ({"defaults": []}, "deployed.yml: defaults = .* is not allowed; allowed: a mapping"),
        ({"points": {}}, "deployed.yml: points = {} is not allowed; allowed: a list"),
        ({"points": [{}, 3]}, "deployed.yml: points.2 = 3 is not allowed; allowed: a mapping"),
        ({"points": [{}, {"gausian": 0.1}]}, "deployed.yml: point 2: .* 'gausian' .did you mean 'gaussian'"),
        ({"points": [{"gaussian": "0.1"}]}, "deployed.yml: point 1: gaussian = '0.1' .* float"),
        ({"points": [{"gaussian": [0.1, -0.1]}]}, "deployed.yml: point 1: .*-0.1"),
        ({"points": []}, "deployed.yml: points = .* is not allowed; allowed: at least 1"),
        ({"points": [{}, {"gaussian": []}]}, "deployed.yml: point 2: gaussian = .. is not .* at least one"),
        (
            {"points": [{"hidden": [4, 8, 4]}]},
            "deployed.yml: point 1: hidden = .4, 8, 4. is not .* none twice",
        ),
        ({"points": [{"hidden": 4}, {}, {"hidden": 4}]}, "deployed.yml: point 3: it is point 1 once more"),
        ({"points": [{"gaussian": [[0.1]]}]}, "deployed.yml: point 1: gaussian = .0.1. is not .* a float"),
        (
            {"points": [{"gaussian": {"a": 1}}]},
            "deployed.yml: point 1: gaussian = {'a': 1} is not .* a float",
        ),
        ({"points": [{"gaussian": None}]}, "deployed.yml: point 1: gaussian = None is not .* a float"),
        ({"points": [{"hidden": True}]}, "deployed.yml: point 1: hidden = True is not .* an int"),
        ({"points": [{"hidden": 8.0}]}, "deployed.yml: point 1: hidden = 8.0 is not .* an int"),
        ({"defaults": {**TINY, "lr": 0.0}}, "deployed.yml: point 1: lr = 0.0 is not allowed; allowed: > 0"),
        ({"experiment": "in_array"}, "deployed.yml: experiment = 'in_array' is not .* allowed: 'deployed'"),
        ({"experiment": ["deployed"]}, "deployed.yml: experiment = .* is not allowed; allowed: a str"),
    ],
)
def test_a_wrong_sweep_is_refused_by_file_point_field_value_and_what_is_allowed(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        sweeps.points(written(tmp_path, **change))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "deployed.yml: this = None is not allowed; allowed: a mapping"),
        ("- deployed", "deployed.yml: this = .* is not allowed; allowed: a mapping"),
        ("points: [{seed: 010}]", "deployed.yml: line 1: 010 is not how a number is written: 10 if"),
        ("threads: 1\nthreads: 2", 'deployed.yml: line 2: found duplicate key "threads"'),
        ("points:\n  - {hidden: 4, hidden: 8}", 'deployed.yml: line 2: found duplicate key "hidden"'),
        ("points:\n\t- {hidden: 4}", "deployed.yml: line 2: found character"),
        ("1: 2", "deployed.yml: key = 1 is not allowed; allowed: experiment"),
        ("points: &all [{hidden: *all}]", "deployed.yml: experiment is missing"),
        (WHOLE.format(minutes=".inf", point=""), "deployed.yml: minutes = inf is not .*: a finite number"),
        (WHOLE.format(minutes=".nan", point=""), "deployed.yml: minutes = nan is not allowed"),
        (WHOLE.format(minutes="1", point="lr: .nan"), "deployed.yml: point 1: lr = nan is not allowed"),
        (WHOLE.format(minutes="1", point="true: 1"), "deployed.yml: .*True"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused_by_file_and_line_or_field(tmp_path, content, words):
    path = tmp_path / "deployed.yml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        sweeps.points(path)


@pytest.mark.parametrize(
    "value", [[8], (8,), {"hidden": 8}, pd.Series([8]).to_numpy()], ids=["list", "tuple", "mapping", "array"]
)
def test_a_table_is_selected_by_one_value_of_a_column(value):
    table = pd.DataFrame({"hidden": [8], "key": ["a"]})
    assert len(records.select(table, hidden=8)) == 1
    with pytest.raises(ValueError, match=r"hidden = .* is not allowed; allowed: one value"):
        records.select(table, hidden=value)


def test_true_is_not_one_nor_one_true():
    table = pd.DataFrame({"rails": [True, False], "seed": [1, 0], "both": pd.Series([True, 1], dtype=object)})
    assert records.select(table, rails=True).seed.tolist() == [1]
    assert records.select(table, seed=1).rails.tolist() == [True]
    assert records.select(table, both=True).seed.tolist() == [1] and len(records.select(table, seed=1.0)) == 1
    for where in [{"rails": 1}, {"rails": 0}, {"seed": True}, {"seed": False}]:
        with pytest.raises(ValueError, match="no record has"):
            records.select(table, **where)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"over": "rate"}, "'rate' is not a column; allowed: .*'lr'"),
        ({"by": "error"}, "'error' is not a column"),
        ({"values": [float("nan"), 1.0]}, r"validation_error is not a finite number in records \['b'\]"),
        ({"values": []}, r"validation_error is not a finite number in records \['b'\]"),
    ],
)
def test_tuning_needs_a_parameter_and_finite_errors(change, words):
    values = change.pop("values", [2.0])
    table = pd.DataFrame({"lr": [0.1, 0.2], "validation_error": [[1.0], values], "key": ["a", "b"]})
    with pytest.raises(ValueError, match=words):
        records.tuned(table.assign(stale=False), **{"over": "lr", **change})


@pytest.mark.parametrize("field", ["experiment", "threads", "minutes", "defaults", "points"])
def test_a_sweep_says_everything(tmp_path, field):
    path = written(tmp_path)
    spec = json.loads(path.read_text(encoding="utf-8"))
    del spec[field]
    path.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ValueError, match=f"deployed.yml: {field} is missing"):
        sweeps.points(path)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_committed_sweep_is_valid_and_bears_the_name_of_its_experiment(path):
    assert {point.experiment for point in sweeps.points(path)} == {path.stem}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_committed_record_belongs_to_a_sweep(path):
    wanted = {point.path.name for point in sweeps.points(path)}
    there = {record.name for record in (records.RESULTS / path.stem).glob("*.json")}
    assert there <= wanted
