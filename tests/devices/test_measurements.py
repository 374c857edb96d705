"""What must hold of measured tables: units are said, and what is no number is refused by name."""

import math
from pathlib import Path

import pandas as pd
import pytest

from cimlib.devices.measurements import UNITS, microsiemens, read_table, unit_of, whole_numbers


def table(text: str, tmp_path: Path, encoding: str = "utf-8") -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("header", "value"),
    [("g_S", 5e-5), ("g_mS", 0.05), ("g_uS", 50), ("g_µS", 50), ("g_μS", 50), ("g_nS", 50_000)],  # both µ
)
def test_the_same_conductance_is_the_same_in_every_unit(header: str, value: float) -> None:
    assert microsiemens(pd.DataFrame({header: [value]}), "g") == pytest.approx([50])


@pytest.mark.parametrize(
    "columns", [["g"], ["g_kS"], ["g_us"], ["g_ohm"], ["g_uS", "g_S"], ["conductance_uS"], ["g_µS", "g_uS"]]
)
def test_a_header_without_one_known_unit_is_refused_with_those_that_are(columns: list[str]) -> None:
    with pytest.raises(ValueError, match="columns = .*g_S, g_mS, g_uS, g_nS"):
        microsiemens(pd.DataFrame({name: [1.0] for name in columns}), "g")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "", "ten", None])
def test_a_value_that_is_no_conductance_is_refused_with_its_row(value: object) -> None:
    with pytest.raises(ValueError, match="g_uS, row 2"):
        microsiemens(pd.DataFrame({"g_uS": [1.0, value]}), "g")


@pytest.mark.parametrize("value", [0.5, -1, "x"])
def test_a_count_that_is_none_is_refused_with_its_row(value: object) -> None:
    with pytest.raises(ValueError, match="pulse, row 1"):
        whole_numbers(pd.DataFrame({"pulse": [value]}), "pulse")


def test_a_file_may_have_a_byte_order_mark_comments_blanks_and_quoted_names(tmp_path: Path) -> None:
    text = '# made by hand\n\nlayer, "g_µS"\n"0, first",1.5\n# between\n2,3\n'
    found = read_table(table(text, tmp_path, "utf-8-sig"))
    assert unit_of(found, "g") == "uS" and unit_of(found, "g") in UNITS
    assert found["layer"].tolist() == ["0, first", "2"]
    assert microsiemens(found, "g").tolist() == [1.5, 3]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "path"),
        ("g_uS\n", "path"),
        ("# only a comment\n", "path"),
        ("a,a\n1,2\n", "columns of .*'a'.*once"),
        ("a,b\n1,2\n3\n", r"rows of .*\[2\].*2 values"),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, names: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=names):
        read_table(table(text, tmp_path))


def test_lines_within_quotes_are_no_comments_and_no_blanks_and_lose_no_row(tmp_path: Path) -> None:
    text = '# "a\ng_uS,note\n1,"two runs\n# 2 kept"\n2,"a\n\nb"\n  # c"\n3,"say ""so"""\n'
    found = read_table(table(text, tmp_path))
    assert found["g_uS"].tolist() == ["1", "2", "3"]
    assert found["note"].tolist() == ["two runs\n# 2 kept", "a\n\nb", 'say "so"']


@pytest.mark.parametrize("row", ['2,"again', '2,"again"!'])
def test_a_quote_that_is_not_closed_before_a_comma_is_refused_with_file_and_line(
    row: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"table\.csv.*begins in line 4 .*quotes that are closed"):
        read_table(table(f"# made up\ng_uS,note\n1,\n{row}\n3,\n4,\n", tmp_path))


def test_a_file_in_another_encoding_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="table.csv.*UTF-8"):
        read_table(table("g_µS\n1\n", tmp_path, "latin-1"))
