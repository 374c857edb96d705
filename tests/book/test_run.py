"""`make run`: nothing runs until every name and value fits; `make refresh` stores only changes."""

import importlib.util
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

TOOLS = Path(__file__).resolve().parents[2] / "tools"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
BOOK = sorted((TOOLS.parent / "chapters").glob("*.ipynb"))
PARAMETERS = """sigma = 0.1  # programming spread, fraction of the range, ≥ 0
chips = 10  # chips fabricated, ≥ 2
lr = 0.3  # learning rate of the weights, > 0
label = -3.0  # NL label of pulses down, -9 to 9; opposite sign: asymmetric
stuck = False  # whether cells may be stuck: true or false
array = "double"  # "double", "double, one draw" (one-sided) or "single"
paper = "all"  # one paper's key, such as "gao2019isips", or "all"
levels = [0.0, 0.5]  # levels to try, share of w_max, [0, 1]
"""


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run, refresh = tool("run"), tool("refresh")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one chapter that prints its parameters; it fails if chips is 13."""
    cells = [
        tagged(PARAMETERS, "parameters"),
        new_code_cell("assert chips != 13\nprint(sigma, chips, stuck, paper, levels)"),
    ]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    (tmp_path / "chapters").mkdir()
    nbformat.write(notebook, tmp_path / "chapters" / "toy.ipynb")
    return tmp_path


def runs(book: Path) -> list[Path]:
    return sorted((book / "_build").rglob("*.ipynb"))


def test_a_chapter_runs_with_the_values_given_and_says_where_it_is(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["-p", "sigma", "1e-3", "-p", "stuck", "true", "-p", "levels", "[1, 2e-1]"]
    given += ["-p", "paper", "truong2014"]
    assert run.main("toy", given, book) == 0
    (path,) = runs(book)
    assert str(path) in capfd.readouterr().out
    printed = nbformat.read(path, as_version=4).cells[-1].outputs[0].text
    assert printed == "0.001 10 True truong2014 [1.0, 0.2]\n"


def test_a_chapter_that_fails_fails_the_command_and_keeps_what_ran(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.main("toy", ["-p", "chips", "13"], book) == 1
    (path,) = runs(book)
    said = capfd.readouterr().err
    assert "AssertionError" in said
    assert str(path) in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], ["usage: make run CHAPTER=", "chapters: toy"]),
        (["tyo"], ["no chapter 'tyo'", "did you mean 'toy'"]),
        (["toy", "-p", "sigam", "3"], ["no parameter 'sigam'", "did you mean 'sigma'"]),
        (["toy", "-p", "sigma"], ["usage"]),
        (["toy", "sigma", "0.1", "-p"], ["usage"]),
        (["toy", "-p", "sigma", "high"], ["sigma", "of type str, not float"]),
        (["toy", "-p", "sigma", "true"], ["sigma", "of type bool, not float"]),
        (["toy", "-p", "chips", "2.5"], ["chips", "of type float, not int"]),
        (["toy", "-p", "stuck", "1"], ["stuck", "of type int, not bool"]),
        (["toy", "-p", "stuck", "no"], ["stuck", "of type str, not bool"]),
        (["toy", "-p", "array", "3"], ["array", "of type int, not str"]),
        (["toy", "-p", "levels", "0.5"], ["levels", "of type float, not list"]),
        (["toy", "-p", "levels", "[a]"], ["levels", "of type str, not float"]),
        (["toy", "-p", "levels", "[1"], ["levels = [1: line 1: "]),
        (["toy", "-p", "sigma", "-0.2"], ["sigma = -0.2: outside the range ≥ 0"]),
        (["toy", "-p", "sigma", ".nan"], ["sigma = .nan: not a finite number"]),
        (["toy", "-p", "sigma", ".inf"], ["sigma = .inf: not a finite number"]),
        (["toy", "-p", "levels", "[0, .nan]"], ["levels = [0, .nan]: not a finite number"]),
        (["toy", "-p", "sigma", "9" * 400], ["sigma = 999", "too large"]),
        (["toy", "-p", "sigma", "1e400"], ["sigma = 1e400", "beyond what a float can hold"]),
        (["toy", "-p", "sigma", ""], ["sigma", "of type NoneType, not float"]),
        (["toy", "-p", "sigma", "[0.1]"], ["sigma", "of type list, not float"]),
        (["toy", "-p", "levels", "{0.1: 0.2}"], ["levels", "of type dict, not list"]),
        (["toy", "-p", "levels", "[[0.1]]"], ["levels", "of type list, not float"]),
        (["toy", "-p", "chips", "010"], ["chips = 010", "010 is not how a number is written: 10 if"]),
        (["toy", "-p", "chips", "1_0"], ["chips = 1_0", "not how a number is written: 10 if"]),
        (["toy", "-p", "chips", "0x10"], ["chips = 0x10", "not how a number is written: 16 if"]),
        (["toy", "-p", "levels", "[0, 00.5]"], ["levels = [0, 00.5]", "not how a number is written: 0.5 if"]),
        (["toy", "-p", "paper", "a # b"], ["paper = a # b: what follows # is a comment"]),
        (["toy", "-p", "chips", "3", "-p", "sigma", "1", "-p", "chips", "3"], ["chips is given twice", "3"]),
        (["toy", "-p", "chips", "1"], ["chips = 1: outside the range ≥ 2"]),
        (["toy", "-p", "lr", "0"], ["lr = 0: outside the range > 0"]),
        (["toy", "-p", "label", "-9.1"], ["label = -9.1: outside the range -9 to 9"]),
        (["toy", "-p", "label", "10"], ["label = 10: outside the range -9 to 9"]),
        (["toy", "-p", "levels", "[0.5, 2]"], ["levels = [0.5, 2]: outside the range [0, 1]"]),
        (
            ["toy", "-p", "array", "double one"],
            ["array = double one: none of 'double', 'double, one draw', 'single'"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    book: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert run.main(arguments[0], arguments[1:], book) != 0
    said = capfd.readouterr().err
    assert all(word in said for word in words), said
    assert runs(book) == []


def test_a_refusal_lists_what_is_valid_with_default_type_and_comment(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run.main("toy", ["-p", "sigam", "3"], book)
    said = capfd.readouterr().err
    assert "sigma: float = 0.1  # programming spread, fraction of the range, ≥ 0" in said
    assert "stuck: bool = False  # whether cells may be stuck: true or false" in said


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("sigma", ["0", "5"]),
        ("chips", ["2"]),
        ("lr", ["1e-9"]),
        ("label", ["-9", "9"]),
        ("array", ["single", "double, one draw"]),
        ("levels", ["[0, 1]", "[]"]),
    ],
)
def test_the_ends_of_a_range_and_every_text_of_a_list_are_allowed(
    book: Path, name: str, texts: list[str]
) -> None:
    known = run.parameters(book / "chapters" / "toy.ipynb")
    for text in texts:
        assert list(run.checked(["-p", name, text], known)) == [name]


@pytest.mark.parametrize("chapter", BOOK, ids=lambda path: path.stem)
def test_every_range_in_the_book_is_enforced_and_allows_the_default(chapter: Path) -> None:
    for default, said in run.parameters(chapter).values():
        run.within(default, said)
        if "such as" not in said and not isinstance(default, bool):
            with pytest.raises(ValueError, match=r"outside|none of"):
                run.within("nonsense" if isinstance(default, str) else -1e9, said)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("-1E5", -1e5), ("2.5e+1", 25.0), ("1.0e-3", 0.001), ("+.50 ", 0.5)],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: float) -> None:
    assert run.checked(["-p", "sigma", text], {"sigma": (0.1, "")}) == {"sigma": value}


@given(value=st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_for_a_number_is_read_as_that_number(value: float) -> None:
    given = ["-p", "x", repr(value)]
    (read,) = run.checked(given, {"x": (value, "")}).values()
    assert (read, type(read)) == (value, type(value))


@given(text=st.text("0123456789+-._eExobaf", min_size=1, max_size=8), default=st.sampled_from([1, 0.5]))
def test_a_text_is_the_number_that_it_is_in_decimal_digits_or_is_refused(text: str, default: float) -> None:
    """`Decimal` is the oracle; what it reads as well with a zero in front, or with _, is refused."""
    try:
        (read,) = run.checked(["-p", "x", text], {"x": (default, "")}).values()
    except ValueError:
        return
    assert float(Decimal(text)) == read
    assert not re.search(r"_|(?<![\d.eE+-])[+-]?0\d", text.replace("e", "E").split("E")[0])


@pytest.mark.parametrize("default", [[0, 0.5], [0.5, 0]])
def test_a_list_of_numbers_some_of_them_real_is_one_of_real_numbers(default: list[float]) -> None:
    (read,) = run.checked(["-p", "x", "[1, 0.25]"], {"x": (default, "")}).values()
    assert list(map(repr, read)) == ["1.0", "0.25"]


Change = Callable[[nbformat.NotebookNode], object]


def changed(book: Path, change: Change) -> Path:
    """The book with another toy."""
    path = book / "chapters" / "toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)
    return book


@pytest.mark.parametrize(
    "change",
    [
        lambda notebook: notebook.metadata.kernelspec.update(name="my-env", display_name="My environment"),
        lambda notebook: notebook.metadata.kernelspec.pop("language"),
        lambda notebook: notebook.metadata.pop("kernelspec"),
    ],
    ids=["another kernel", "no language", "no kernel"],
)
def test_a_chapter_runs_on_python3_with_whichever_kernel_it_was_saved(book: Path, change: Change) -> None:
    assert run.main("toy", ["-p", "sigma", "0.25"], changed(book, change)) == 0
    (path,) = runs(book)
    assert nbformat.read(path, as_version=4).cells[-1].outputs[0].text.startswith("0.25 10 False")


def tagged(source: str, tag: str) -> nbformat.NotebookNode:
    return new_code_cell(source, metadata={"tags": [tag]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda nb: nb.cells.append(tagged(PARAMETERS, "parameters")),
            ["cells tagged 'parameters': 1 and 3", "exactly one"],
        ),
        (lambda nb: nb.cells[0].metadata.pop("tags"), ["cells tagged 'parameters': none", "exactly one"]),
        (
            lambda nb: nb.cells.insert(1, tagged("sigma = 3.0", "injected-parameters")),
            ["cell 2 holds the parameters of an earlier run: delete it"],
        ),
        (lambda nb: nb.metadata.kernelspec.update(name="ir", language="R"), ["kernel 'ir' for R"]),
        (lambda nb: nb.cells[0].update(source="a = 1  # one\na = 2  # two"), ["cell 1", "a is there twice"]),
        (
            lambda nb: nb.cells[0].update(source="a = 1  # b = 2"),
            ["cell 1", "cannot read a (an = in its comment?)"],
        ),
        (lambda nb: nb.cells[0].update(source="a = b  # one"), ["cell 1, tagged 'parameters'"]),
        (lambda nb: nb.cells[0].update(source="import os"), ["'import os' is not a name and a literal"]),
        (lambda nb: nb.cells[0].update(source="a = (1"), ["cell 1, tagged 'parameters'"]),
    ],
)
def test_a_chapter_whose_parameters_are_in_doubt_is_refused_by_file_and_cell(
    book: Path, capfd: pytest.CaptureFixture[str], change: Change, words: list[str]
) -> None:
    assert run.main("toy", [], changed(book, change)) == 2
    said = capfd.readouterr().err
    assert all(word in said for word in ["toy.ipynb", *words]), said
    assert runs(book) == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"cells": 1}', b'{"nbformat": 4}', b"\xef\xbb\xbf{}", b"\xff"]
)
def test_what_is_no_notebook_is_refused_by_file(
    book: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    (book / "chapters" / "toy.ipynb").write_bytes(content)
    assert run.main("toy", [], book) == 2
    assert "toy.ipynb is not a notebook" in capfd.readouterr().err


def executed(printed: list[str], **metadata: object) -> nbformat.NotebookNode:
    streams = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in printed]
    cell = new_code_cell("show()", id="one", execution_count=1, outputs=streams)
    cell.metadata.update(tags=[], papermill={"duration": 0.1}, execution={"a": "b"})
    return new_notebook(cells=[cell], metadata={"kernelspec": KERNEL, **metadata})


def test_refreshing_stores_a_changed_result_and_nothing_else(tmp_path: Path) -> None:
    chapter, fresh = tmp_path / "chapter.ipynb", tmp_path / "fresh.ipynb"
    nbformat.write(executed(["a\nb\n"]), chapter)
    nbformat.write(executed(["a\n", "b\n"], papermill={"version": "2"}), fresh)
    assert refresh.refresh(fresh, chapter)
    text = chapter.read_text(encoding="utf-8")
    assert "papermill" not in text
    assert 'execution"' not in text
    assert nbformat.reads(text, as_version=4).cells[0].outputs[0].text == "a\nb\n"
    assert fresh.stat().st_mtime >= chapter.stat().st_mtime
    assert not refresh.refresh(fresh, chapter)
    nbformat.write(executed(["a\nb\n"], papermill={"version": "3"}), fresh)
    assert not refresh.refresh(fresh, chapter)
    nbformat.write(executed(["a\nc\n"]), fresh)
    assert refresh.refresh(fresh, chapter)
    assert '"c\\n"' in chapter.read_text("utf-8")


def test_refreshing_stores_the_kernel_that_ran(tmp_path: Path) -> None:
    chapter, fresh = tmp_path / "chapter.ipynb", tmp_path / "fresh.ipynb"
    for path in (chapter, fresh):
        nbformat.write(executed(["a\n"], kernelspec={**KERNEL, "name": "my-env"}), path)
    assert refresh.refresh(fresh, chapter)
    assert nbformat.read(chapter, as_version=4).metadata.kernelspec == KERNEL
    nbformat.write(executed(["a\n"]), fresh)
    assert not refresh.refresh(fresh, chapter)
