"""`make run`: nothing runs until every name and value fits; `make refresh` stores only changes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

TOOLS = Path(__file__).resolve().parents[1] / "tools"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
PARAMETERS = """sigma = 0.1  # programming spread, share of w_max, [0, 1]
chips = 10  # chips fabricated, 1 to 1000
stuck = False  # whether cells may be stuck: true or false
scale = "quick"  # size of the run: quick or desk
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
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("assert chips != 13\nprint(sigma, chips, stuck, scale, levels)"),
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
    assert run.main("toy", given, book) == 0
    (path,) = runs(book)
    assert str(path) in capfd.readouterr().out
    printed = nbformat.read(path, as_version=4).cells[-1].outputs[0].text
    assert printed == "0.001 10 True quick [1.0, 0.2]\n"


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
        ([""], ["no chapter", "chapters: toy"]),
        (["tyo"], ["no chapter 'tyo'", "did you mean 'toy'"]),
        (["toy", "-p", "sigam", "3"], ["no parameter 'sigam'", "did you mean 'sigma'"]),
        (["toy", "-p", "sigma"], ["usage"]),
        (["toy", "sigma", "0.1", "-p"], ["usage"]),
        (["toy", "-p", "sigma", "high"], ["sigma", "of type str, not float"]),
        (["toy", "-p", "sigma", "true"], ["sigma", "of type bool, not float"]),
        (["toy", "-p", "chips", "2.5"], ["chips", "of type float, not int"]),
        (["toy", "-p", "stuck", "1"], ["stuck", "of type int, not bool"]),
        (["toy", "-p", "scale", "3"], ["scale", "of type int, not str"]),
        (["toy", "-p", "levels", "0.5"], ["levels", "of type float, not list"]),
        (["toy", "-p", "levels", "[a]"], ["levels", "of type str, not float"]),
        (["toy", "-p", "levels", "[1"], ["levels"]),
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
    assert "sigma: float = 0.1  # programming spread, share of w_max, [0, 1]" in said
    assert "scale: str = 'quick'  # size of the run: quick or desk" in said


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("-1E5", -1e5), ("2.5e+1", 25.0), ("1.0e-3", 0.001)]
)
def test_a_number_with_an_exponent_is_a_number(text: str, value: float) -> None:
    assert run.checked(["-p", "sigma", text], {"sigma": (0.1, "")}) == {"sigma": value}


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
    text = chapter.read_text()
    assert "papermill" not in text
    assert 'execution"' not in text
    assert nbformat.reads(text, as_version=4).cells[0].outputs[0].text == "a\nb\n"
    assert fresh.stat().st_mtime >= chapter.stat().st_mtime
    assert not refresh.refresh(fresh, chapter)
    nbformat.write(executed(["a\nb\n"], papermill={"version": "3"}), fresh)
    assert not refresh.refresh(fresh, chapter)
    nbformat.write(executed(["a\nc\n"]), fresh)
    assert refresh.refresh(fresh, chapter)
    assert '"c\\n"' in chapter.read_text()
