"""A record says what was computed or it is refused: every committed kind, copied, edited and cut by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


MUST = ["experiment", "params", "result", "data", "seconds", "threads", "digest", "commit", "versions"]


@pytest.mark.parametrize("field", [*MUST, "platform", "content"])
def test_a_record_that_lacks_what_it_must_say_is_refused(path: Path, field: str) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    del record[field]
    path.write_text(json.dumps(record), encoding="utf-8")
    refused(path, f"is not a record .record: {field} is missing")


DIGEST, SHA, COMMIT = "0123456789abcdef", "0" * 64, "0" * 40
NOTE = {"digest": DIGEST, "commit": COMMIT, "rerun": [DIGEST]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"digset": DIGEST}, "key = 'digset' is not allowed; allowed: experiment, params"),
        ({"digest": None}, "digest = None is not allowed"),
        ({"digest": DIGEST[1:]}, f"digest = '{DIGEST[1:]}' is not allowed; allowed: 16 hexadecimal digits"),
        ({"digest": DIGEST.upper()}, "allowed: 16 hexadecimal digits"),
        ({"content": 3}, "content = 3 is not allowed; allowed: a str"),
        ({"commit": "HEAD"}, "commit = 'HEAD' is not allowed; allowed: 40 hexadecimal digits"),
        ({"seconds": -1.0}, "seconds = -1.0 is not allowed; allowed: ≥ 0"),
        ({"seconds": float("nan")}, "seconds = nan is not allowed"),
        ({"seconds": "1.0"}, "seconds = '1.0' is not allowed; allowed: a float"),
        ({"threads": 0}, "threads = 0 is not allowed; allowed: ≥ 1"),
        ({"threads": True}, "threads = True is not allowed; allowed: an int"),
        ({"versions": {"torch": 2}}, "versions.torch = 2 is not allowed; allowed: a str"),
        ({"versions": ["torch"]}, "versions = .* is not allowed; allowed: a mapping"),
        ({"platform": None}, "platform = None is not allowed; allowed: a str"),
        ({"data": ["iris"]}, "data = .* is not allowed; allowed: a mapping"),
        ({"data": {"iris": {"digest": SHA}}}, "data.iris.n_train is missing"),
        (
            {"data": {"iris": {"digest": SHA[1:], "n_train": 90}}},
            "data.iris.digest = .*64 hexadecimal digits",
        ),
        ({"data": {"iris": {"digest": SHA, "n_train": 0}}}, "data.iris.n_train = 0 .*≥ 1"),
        ({"rechecked": NOTE}, "rechecked = .* is not allowed; allowed: a list"),
        ({"rechecked": [NOTE, {**NOTE, "rerun": "all"}]}, "rechecked.2.rerun = 'all' is not .* a list"),
        ({"rechecked": [{**NOTE, "rerun": ["first"]}]}, "rechecked.1.rerun.1 = 'first'"),
        ({"rechecked": [{**NOTE, "small": 0}]}, "rechecked.1.small = 0 .*≥ 1"),
        ({"rechecked": [{**NOTE, "by": "me"}]}, "rechecked.1.key = 'by' is not allowed; allowed: digest"),
        (
            {"result": {"scale": []}},
            r"result = \['scale'\] is not allowed; allowed: what no parameter is called",
        ),
        ({"result": {"key": []}}, r"result = \['key'\] is not allowed"),
        ({"result": []}, "result = .* is not allowed; allowed: a mapping"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_file_field_value_and_what_is_allowed(
    path: Path, change: Record, words: str
) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    refused(path, words)


def places(content: Any, *way: Any) -> list[tuple[Any, ...]]:
    """The way to every value in a record that holds no other."""
    parts = content.items() if isinstance(content, dict) else enumerate(content)
    found = [
        places(value, *way, name) if isinstance(value, dict | list) else [(*way, name)]
        for name, value in parts
    ]
    return [one for many in found for one in many]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record as it is written now, with a recheck."""
    (first, *_) = sorted((records.RESULTS / "deployed").glob("*.json"))
    path = tmp_path_factory.mktemp("results") / "deployed" / first.name
    path.parent.mkdir()
    records.write(path, {**records.load(first), "rechecked": [{**NOTE, "small": 1}]})
    return path


@given(data=st.data())
def test_a_record_is_refused_whatever_single_value_is_edited_or_removed(
    sealed: Path, data: st.DataObject
) -> None:
    text = sealed.read_text(encoding="utf-8")
    record = json.loads(text)
    *way, last = data.draw(st.sampled_from(places(record)))
    node = record
    for name in way:
        node = node[name]
    if data.draw(st.booleans()):
        del node[last]
    else:
        node[last] = data.draw(
            st.one_of(
                st.just(another(node[last])), st.sampled_from([DIGEST, SHA, COMMIT, 1, 0.5, None, "x"])
            ).filter(lambda value: json.dumps(value) != json.dumps(node[last]))
        )
    sealed.write_text(json.dumps(record), encoding="utf-8")
    try:
        if last == "provenance" and last not in record:  # as in records of before it was there
            assert records.load(sealed)
            return
        with pytest.raises(ValueError, match=rf"{sealed.name}.*make sweep"):
            records.load(sealed)
    finally:
        sealed.write_text(text, encoding="utf-8")


def test_a_key_that_is_there_twice_is_refused(path: Path) -> None:
    text = path.read_text(encoding="utf-8").rstrip()
    path.write_text(f'{text[:-1]}, "digest": "{DIGEST}"}}', encoding="utf-8")
    refused(path, r"keys that are there twice: \['digest'\]")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"record"', "{}", '{"params": 1, "content": ""}', "[" * 10**5]
)
def test_a_file_that_is_no_record_is_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    refused(path, "is not a record")


def test_a_record_that_is_not_utf_8_or_has_a_byte_order_mark_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for start in (b"\xff", "\ufeff".encode(), "\ufeff".encode("utf-16")):
        path.write_bytes(start + content)
        refused(path, "is not a record")


def test_a_record_with_other_line_ends_is_the_same(path: Path) -> None:
    record = records.load(path)
    path.write_bytes(json.dumps(record, indent=1).replace("\n", "\r\n").encode())
    assert records.load(path) == record


def test_a_record_that_says_another_experiment_is_refused(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    other = next(name for name in FOLDERS if name != record["experiment"])
    path.write_text(json.dumps({**record, "experiment": other}), encoding="utf-8")
    refused(path, "results in")
    path.write_text(json.dumps({**record, "experiment": 3}), encoding="utf-8")
    refused(path, "experiment = 3 is not allowed; allowed: a str")


def test_a_record_in_the_folder_of_another_experiment_is_refused(path: Path) -> None:
    other = next(name for name in FOLDERS if name != path.parent.name)
    moved = path.parent.with_name(other) / path.name
    moved.parent.mkdir()
    path.rename(moved)
    path.parent.rmdir()
    refused(moved, "another record's copy")
