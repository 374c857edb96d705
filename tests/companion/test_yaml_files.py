"""One reader for all YAML of the book."""

import pytest

from companion import yaml_files


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-0", 0),
        ("+5", 5),
        (".50", 0.5),
        ("5.", 5.0),
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


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        *[("010", "10"), ("-010", "-10"), ("00", "0"), ("08", "8"), ("00.5", "0.5"), ("0o10", "8")],
        *[("0x10", "16"), ("0b10", "2"), ("1_000", "1000"), ("1_0.5", "10.5"), ("!!float 010", "10.0")],
        *[("1e400", "inf"), ("-1e400", "-inf"), ("1e-400", "0.0")],
    ],
)
@pytest.mark.parametrize("place", ["{}", "a: [1, {}]", "a: {{b: {}}}", "{}: 1"])
def test_a_number_that_can_be_read_in_two_ways_is_refused_wherever_it_stands(tmp_path, text, read_as, place):
    path = tmp_path / "some.yml"
    path.write_text(f"# first\n{place.format(text)}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"some\.yml: line 2: ") as error:
        yaml_files.read(path)
    assert f"{text.split()[-1]} is " in str(error.value) and f" {read_as}" in str(error.value)


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_a_byte_order_mark_and_the_ends_of_lines_make_no_difference(tmp_path, start, end):
    path = tmp_path / "some.yml"
    path.write_bytes(f"{start}a: 1{end}b: [σ, no]{end}".encode())
    assert yaml_files.read(path) == {"a": 1, "b": ["σ", "no"]}


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
        (b"a: 1\n\tb: 2\n", "some.yml: line 2: .*t' that cannot start any token"),
        (b"a: 1\n<<<<<<< ours\nb: 2\n", "some.yml: line 3: "),
        (b"a: !!int x\n", "some.yml: line 1: invalid literal"),
        (b"[" * 5000, "some.yml: maximum recursion depth"),
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
