"""The chapters keep to the house rules, and every rule is shown to catch what it is there for."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import guards
import nbformat
import pytest
from guards import CHAPTERS, PAPERS
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from companion import sweeps, yaml_files
from companion.pictures import VERSIONS

ROOT = Path(__file__).resolve().parents[2]
BINARY = {".woff2", ".js", ".npz", ".gz", ".png"}
KERNEL = {"name": "python3", "display_name": "Python 3"}


def name(value: Path | guards.Guard) -> str:
    return value.stem if isinstance(value, Path) else value.__name__


@pytest.mark.parametrize("guard", guards.EVERYWHERE, ids=name)
@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_chapter_keeps_to(path: Path, guard: guards.Guard) -> None:
    assert guard(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("guard", guards.IN_PAPERS, ids=name)
@pytest.mark.parametrize("path", PAPERS, ids=name)
def test_chapter_on_a_paper_keeps_to(path: Path, guard: guards.Guard) -> None:
    assert guard(nbformat.read(path, as_version=4)) == []


def test_contents_and_disk_agree() -> None:
    top = [entry for part in yaml_files.read(ROOT / "_toc.yml")["parts"] for entry in part["chapters"]]
    listed = {entry["file"] for one in top for entry in [one, *one.get("sections", [])]}
    found = [*CHAPTERS, *(ROOT / "pages").rglob("*.md")]
    assert listed == {path.relative_to(ROOT).with_suffix("").as_posix() for path in found}


def test_text_names_no_machine_and_no_package_host() -> None:
    folders, hosts = "work|root|home|tmp|opt", ("pythonhosted", "npmjs", "debian.org")
    private = re.compile(rf"(?<![\w./])/(?:{folders})/|" + "|".join(map(re.escape, hosts)))
    found = [
        f"{path}: {match.group()}"
        for path in tracked()
        if path != Path("tests/book/test_book.py") and path.suffix not in BINARY
        for match in private.finditer((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_record_is_one_that_a_sweep_asks_for() -> None:
    files = [path for folder in ("sweeps", "paper") for path in (ROOT / "data" / folder).glob("*.yml")]
    asked = {point.path for file in files for point in sweeps.points(file)}
    found = set((ROOT / "data" / "results").glob("*/*.json"))
    assert sorted(found - asked) == []


def tracked() -> list[Path]:
    """Files under version control, or, where there is none, those that a clone would hold."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8")
    if listing.stdout:
        return [path for path in map(Path, listing.stdout.splitlines()) if (ROOT / path).exists()]
    built = {".venv", ".git", "_build", ".snakemake", "__pycache__"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in paths if not any(p in built or p[0] == "." for p in path.parts)]


def sound() -> NotebookNode:
    """A small chapter with which nothing is wrong."""

    def ran(count: int, source: str, outputs: list[NotebookNode], **metadata: object):
        return new_code_cell(source, execution_count=count, outputs=outputs, metadata=metadata)

    figure = {"caption": "Spread over chips, n = 10.", "name": "fig-spread"}
    alt = "Ten bars whose heights scatter around one value by a few hundredths."
    image = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    image.metadata = {"image/png": dict.fromkeys(VERSIONS[1:], "iVBORw0KGgo=")}
    answer = ":::{admonition} Answer\n:class: dropdown\nIt doubles.\n:::"
    prose = [
        "# A chapter\n\n## The question\nHow far does a weight move?",
        "## The idea\n\n$$w' = w + \\sigma z_{ij} \\label{eq-w}$$\n\nas $\\sigma$ does.",
        "## Try it\nThe spread is {glue:text}`spread`, `0.5` in code, and [1](http://a.b/0.5).",
        "## The evidence\nThe paper reports 0.35 and 12 % {cite}`someone2019`.",
        "## Does it hold?\nYes, within its 95 % interval.",
        "## Where we differ, and what to try next\n\n" + "\n\n".join([answer] * 3),
    ]
    parameters = (
        "sigma = 0.1  # programming spread, share of w_max, [0, 1]\n"
        'scale = "quick"  # size of the run: quick or desk'
    )
    code = [
        ran(1, parameters, [], tags=["parameters"]),
        ran(
            2,
            "figure = draw(sigma)\nprint('spread 0.10')",
            [image, new_output("stream", name="stdout", text="spread 0.10\n")],
            mystnb={"figure": figure, "image": {"alt": alt}},
        ),
        ran(3, "def twice(x):\n    return 2 * x", []),
    ]
    cells = [new_markdown_cell(prose[0]), code[0], *map(new_markdown_cell, prose[1:3]), *code[1:]]
    cells += map(new_markdown_cell, prose[3:])
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def code(notebook: NotebookNode, index: int) -> NotebookNode:
    return [cell for cell in notebook.cells if cell.cell_type == "code"][index]


def write(index: int, source: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: code(notebook, index).update(source=source)


def say(text: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells.insert(1, new_markdown_cell(text))


def output(kind: str, **content: object) -> Callable[[NotebookNode], None]:
    return lambda notebook: code(notebook, 2).outputs.append(new_output(kind, **content))


def tagged(index: int, *tags: str, **shown: str) -> Callable[[NotebookNode], None]:
    def breaking(notebook: NotebookNode) -> None:
        metadata = code(notebook, index).metadata
        metadata.tags = list(tags)
        metadata.setdefault("mystnb", {}).update(shown)

    return breaking


def forget(index: int, *path: str) -> Callable[[NotebookNode], None]:
    def breaking(notebook: NotebookNode) -> None:
        node = code(notebook, index)
        for key in path[:-1]:
            node = node[key]
        del node[path[-1]]

    return breaking


def reword(old: str, new: str) -> Callable[[NotebookNode], None]:
    def breaking(notebook: NotebookNode) -> None:
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return breaking


BREAKING: list[tuple[guards.Guard, str, Callable[[NotebookNode], None]]] = [
    (guards.ran_in_order, "a cell never ran", lambda nb: code(nb, 1).update(execution_count=None)),
    (guards.ran_in_order, "run twice", lambda nb: code(nb, 2).update(execution_count=4)),
    (
        guards.ran_clean,
        "an error is stored",
        output("error", ename="ValueError", evalue="", traceback=[]),
    ),
    (guards.ran_clean, "a warning is stored", output("stream", name="stderr", text="Warning")),
    (
        guards.runs_on_python3,
        "another kernel",
        lambda nb: nb.metadata.kernelspec.update(name="my-env"),
    ),
    (guards.one_parameters_cell, "no tag", forget(0, "metadata", "tags")),
    (
        guards.one_parameters_cell,
        "two of them",
        lambda nb: code(nb, 2).metadata.update(tags=["parameters"]),
    ),
    (
        guards.one_parameters_cell,
        "a derived value",
        write(0, "a = 2  # one, V, 0 to 3\nb = 2 * a  # two, V, 0 to 6"),
    ),
    (guards.one_parameters_cell, "an import", write(0, "import os")),
    (guards.one_parameters_cell, "no comment", write(0, "sigma = 0.1")),
    (guards.one_parameters_cell, "no range", write(0, "sigma = 0.1  # spread, share of w_max")),
    (guards.one_parameters_cell, "no values", write(0, "scale = 'quick'  # size of the run")),
    (
        guards.one_parameters_cell,
        "unreadable to papermill",
        write(0, "sigma = 0.1  # spread, V, 0 <= sigma <= 1"),
    ),
    (
        guards.compares_only_what_repeats,
        "five decimals",
        output("stream", name="stdout", text="0.12345"),
    ),
    (
        guards.compares_only_what_repeats,
        "an exponent",
        output("display_data", data={"text/markdown": "1.2e-05"}),
    ),
    (
        guards.compares_only_what_repeats,
        "a glued float",
        output("display_data", data={"application/papermill.record/text/plain": "0.123456"}),
    ),
    (
        guards.compares_only_what_repeats,
        "an address",
        output("display_data", data={"text/plain": "<Legend at 0x7f00>"}),
    ),
    (
        guards.hides_nothing_from_nbval,
        "a tag",
        lambda nb: code(nb, 2).metadata.update(tags=["nbval-skip"]),
    ),
    (guards.hides_nothing_from_nbval, "a comment", write(2, "# NBVAL_IGNORE_OUTPUT")),
    (
        guards.hides_nothing_from_nbval,
        "may raise",
        lambda nb: code(nb, 2).metadata.update(tags=["raises-exception"]),
    ),
    (guards.figures_speak, "no caption", forget(1, "metadata", "mystnb", "figure", "caption")),
    (guards.figures_speak, "no name", forget(1, "metadata", "mystnb", "figure", "name")),
    (guards.figures_speak, "no alt", forget(1, "metadata", "mystnb", "image")),
    (
        guards.figures_speak,
        "two outputs",
        lambda nb: code(nb, 1).outputs.append(code(nb, 1).outputs[0]),
    ),
    (guards.figures_speak, "no number", lambda nb: code(nb, 1).outputs.pop()),
    (
        guards.figures_speak,
        "no narrow version",
        lambda nb: code(nb, 1).outputs[0].metadata["image/png"].pop("narrow"),
    ),
    (guards.figures_speak, "one version", lambda nb: code(nb, 1).outputs[0].metadata.clear()),
    (
        guards.figures_speak,
        "a vector figure",
        output("display_data", data={"image/svg+xml": "<svg/>"}),
    ),
    (guards.shows_what_is_meant, "nothing below", tagged(2, "hide-input")),
    (guards.shows_what_is_meant, "a printed line", tagged(1, "hide-input", code_prompt_show="Code")),
    (guards.shows_what_is_meant, "no name", tagged(1, "hide-input", "remove-stdout")),
    (guards.cells_are_short, "13 lines", write(2, "x = 1\n" * 13)),
    (guards.library_does_the_work, "a class", write(2, "class Net:\n    pass")),
    (
        guards.library_does_the_work,
        "a long function",
        write(2, "def f():\n" + "    x = 1\n" * 10),
    ),
    (guards.numbers_have_a_source, "a decimal", say("We measured 0.93 here.")),
    (guards.numbers_have_a_source, "a percentage", say("It falls by 12 % with $x = 0.5$.")),
    (
        guards.numbers_have_a_source,
        "in an admonition",
        say(":::{note}\n:class: tip\nThe error is 1.5.\n:::"),
    ),
    (
        guards.numbers_have_a_source,
        "in a directive",
        say("```{note}\nThe error of `f` is 1.5.\n```"),
    ),
    (
        guards.numbers_have_a_source,
        "beside a code block",
        say("```python\nx = 1.5\n```\nso 2.5 it is."),
    ),
    (guards.symbols_are_in_the_notation, "inline", say("Let $H$ be the entropy.")),
    (guards.symbols_are_in_the_notation, "display", say("$$w = \\frac{\\omega}{2}$$")),
    (
        guards.symbols_are_in_the_notation,
        "a directive",
        say("```{math}\n:label: eq-q\nw = H_i\n```"),
    ),
    (guards.has_six_movements, "one missing", lambda nb: nb.cells.pop(-2)),
    (guards.has_six_movements, "one renamed", reword("## Try it", "## Live")),
    (guards.ends_in_exercises, "an open answer", reword(":class: dropdown", "")),
]


@pytest.mark.parametrize("guard", [*guards.EVERYWHERE, *guards.IN_PAPERS], ids=name)
def test_guard_accepts_a_sound_chapter(guard: guards.Guard) -> None:
    assert guard(sound()) == []


@pytest.mark.parametrize(
    ("guard", "breaking"),
    [pytest.param(g, breaking, id=f"{g.__name__}: {what}") for g, what, breaking in BREAKING],
)
def test_guard_catches(guard: guards.Guard, breaking: Callable[[NotebookNode], None]) -> None:
    notebook = sound()
    breaking(notebook)
    assert guard(notebook)


def test_every_guard_is_shown_to_catch_something() -> None:
    assert {guard for guard, *_ in BREAKING} == {*guards.EVERYWHERE, *guards.IN_PAPERS}
