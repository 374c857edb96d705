"""A record says what was computed or it is refused: every committed kind, copied, edited and cut by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from companion import records

FOLDERS = sorted(path.name for path in records.RESULTS.iterdir() if path.is_dir())
Record = dict[str, Any]


@pytest.fixture(params=FOLDERS)
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the first record of an experiment, in a folder of results of its own."""
    (first, *_) = sorted((records.RESULTS / request.param).glob("*.json"))
    copy = tmp_path / "results" / request.param / first.name
    copy.parent.mkdir(parents=True)
    shutil.copy(first, copy)
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return copy


def refused(path: Path, words: str) -> None:
    for use in (lambda: records.load(path), lambda: records.read(path.parent.name), records.stale):
        with pytest.raises(ValueError, match=words) as error:
            use()
        assert path.name in str(error.value) and "make sweep" in str(error.value)


def test_a_record_as_it_was_written_is_read(path: Path) -> None:
    record = records.load(path)
    (row,) = records.read(path.parent.name).to_dict("records")
    assert row["key"] == path.stem
    assert {name: row[name] for name in record["result"]} == record["result"]


def test_a_record_that_was_copied_to_another_name_is_refused(path: Path) -> None:
    other = path.with_name("0123456789abcdef.json")
    path.rename(other)
    refused(other, "another record's copy, or its parameters were edited")


def another(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x"


def test_a_record_with_edited_parameters_is_refused_whichever_it_is(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    params = record["params"]
    for name in params:
        path.write_text(json.dumps({**record, "params": {**params, name: another(params[name])}}), "utf-8")
        refused(path, "its parameters were edited")
    path.write_text(json.dumps({**record, "params": {**params, "unheard_of": 1}}), encoding="utf-8")
    refused(path, "its parameters were edited")


def numbers(result: Any) -> list[list[Any]]:
    """Every list of numbers in a result, wherever it is."""
    if isinstance(result, dict):
        return [found for value in result.values() for found in numbers(value)]
    if not isinstance(result, list):
        return []
    if any(isinstance(value, list) for value in result):
        return [found for value in result for found in numbers(value)]
    return [result] if result else []


EDITS: dict[str, Callable[[list[Any]], Any]] = {
    "one number": lambda values: values.__setitem__(-1, another(values[-1])),
    "one number less": lambda values: values.pop(),
    "one number more": lambda values: values.append(values[-1]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_record_with_edited_results_is_refused_whichever_it_is(path: Path, edit: str) -> None:
    text = path.read_text(encoding="utf-8")
    places = len(numbers(json.loads(text)["result"]))
    assert places > 0
    for place in range(places):
        record = json.loads(text)
        EDITS[edit](numbers(record["result"])[place])
        path.write_text(json.dumps(record), encoding="utf-8")
        refused(path, "the results in .* are not those that were written there")


@pytest.mark.parametrize("field", ["experiment", "params", "result", "content"])
def test_a_record_that_lacks_what_it_must_say_is_refused(path: Path, field: str) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    del record[field]
    path.write_text(json.dumps(record), encoding="utf-8")
    refused(path, "is not a record|another record's copy")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"record"', "{}", '{"params": 1, "content": ""}'])
def test_a_file_that_is_no_record_is_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    refused(path, "is not a record")


def test_a_record_that_says_another_experiment_is_refused(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    other = next(name for name in FOLDERS if name != record["experiment"])
    path.write_text(json.dumps({**record, "experiment": other}), encoding="utf-8")
    refused(path, "results in")


def test_a_record_in_the_folder_of_another_experiment_is_refused(path: Path) -> None:
    other = next(name for name in FOLDERS if name != path.parent.name)
    moved = path.parent.with_name(other) / path.name
    moved.parent.mkdir()
    path.rename(moved)
    path.parent.rmdir()
    refused(moved, "another record's copy")
