"""One reader for all YAML of the book."""

import pytest

from companion import yaml_files


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0o10", 8),
        ("1e-3", 0.001),
        ("[1, 2.0, -1E5]", [1, 2.0, -1e5]),
        ("no", "no"),
        ("true", True),
        ("1:30", "1:30"),
        ("~", None),
        ("", None),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = yaml_files.parse(text)
    assert found == value and type(found) is type(value)


def test_a_mapping_takes_over_another_and_says_what_differs():
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}"
    assert yaml_files.parse(text)["other"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", 'some.yml: line 3: found duplicate key "a"'),
        (b"a: 1\n  b: 2\n", "some.yml: line 2: "),
        (b"a: [1\n", "some.yml: line 2: "),
        (b"a: 1\n---\nb: 2\n", "some.yml: line 2: "),
        (b"a: !!python/name:os.system ''\n", "some.yml: line 1: could not determine a constructor"),
        (b"a: \xff\n", "some.yml: .*utf-8"),
        (b"a: \x07\n", "some.yml: "),
    ],
)
def test_what_is_not_one_document_is_refused_by_file_and_line(tmp_path, content, words):
    path = tmp_path / "some.yml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        yaml_files.read(path)


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    path = tmp_path / "some.yml"
    path.write_bytes("σ: ≥".encode())
    assert yaml_files.read(path) == {"σ": "≥"}
