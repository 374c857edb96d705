"""What a reader is told to do with a chip, and to expect of it, stands in a record."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from companion import comparison, records

CHAPTERS = Path(__file__).resolve().parents[2] / "chapters"
RESTS_ON = {
    "a_chip_is_a_seed": ["chip_spread"],
    "double_cba": ["in_array", "deployed"],
    "single_cba": ["deployed"],
    "offsets_iris": ["offsets_iris"],
    "hardware_conscious": ["offsets"],
    "where_to_train": ["where_to_train"],
    "imperfection_tolerant": ["imperfections"],
    "dora_calibration": ["drifted"],
    "vera_drift": ["drifted"],
}
GLUED = re.compile(r"\{glue:text\}`([^`:]+):s`( %)?")


def advice(notebook: nbformat.NotebookNode) -> list[str]:
    """The paragraphs that say what to do."""
    told = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [part for text in told for part in text.split("\n\n") if part.startswith("**If your chip**")]


def glued(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What the chapter has glued, by name, as it was when it last ran."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                (text,) = (text for kind, text in output.data.items() if kind.endswith("text/plain"))
                found[name] = text.strip("'")
    return found


def levels(table: pd.DataFrame, digits: int = 1) -> Iterator[str]:
    """What each record of a table lets one expect of a chip, and of its errors the rest to 100."""
    for _, row in table.iterrows():
        for name, values in row.items():
            if isinstance(values, list) and len(values) > 1 and np.ndim(values) == 1:
                one = comparison.sample(row, str(name))
                yield comparison.expected(one, digits)
                yield comparison.expected(comparison.Sample(100 - one.values), digits)


@pytest.mark.parametrize("chapter", RESTS_ON)
def test_the_advice_of_a_chapter_is_one_paragraph_of_numbers_from_its_records(chapter: str) -> None:
    notebook = nbformat.read(CHAPTERS / f"{chapter}.ipynb", as_version=4)
    (told,) = advice(notebook)
    assert not re.search(r"\d\s?%", GLUED.sub("", told)), f"{chapter}: a typed accuracy"
    values = glued(notebook)
    expected = {values[name] for name, percent in GLUED.findall(told) if percent and "±" in values[name]}
    assert expected, f"{chapter}: nothing to expect"
    known = {level for experiment in RESTS_ON[chapter] for level in levels(records.read(experiment))}
    assert expected <= known, f"{chapter}: {sorted(expected - known)} stand in no record"
