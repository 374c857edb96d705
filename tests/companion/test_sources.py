"""What a module or a notebook stands on, seen on a toy package."""

import ast
import json
from pathlib import Path

import pytest

from companion import sources

TOY = {
    "__init__": "from toy.core import Core\nfrom toy.front import paint as draw\n",
    "core": '"""Core."""\nclass Core:\n    """It."""\n    size = 1  # cell\n',
    "front": "from toy.core import Core\ndef paint(): ...\n",
    "other": "",
    "ledger": "from toy import runs\n",
    "runs/__init__": "",
    "runs/first": "from toy.core import Core\n",
    "runs/second": "",
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "toy"
    for name, text in TOY.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, value in {"PACKAGES": ("toy",), "BY_NAME": "toy.runs", "LEDGER": "toy.ledger"}.items():
        monkeypatch.setattr(sources, name, value)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    _forget()
    yield folder
    _forget()


def _forget() -> None:
    sources.all_modules.cache_clear()
    sources._imports.cache_clear()


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).with_suffix("").as_posix() for path in paths]


def reached(folder: Path, *cells: str) -> list[str]:
    path = folder.parent / "chapter.ipynb"
    written = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    written.append({"cell_type": "markdown", "source": ["import toy.other"]})
    path.write_text(json.dumps({"cells": written}), encoding="utf-8")
    return names(sources.notebook_sources(path), folder)


def test_a_module_stands_on_itself_and_on_all_that_it_imports(toy: Path) -> None:
    assert names(sources.sources("toy.front"), toy) == ["core", "front"]
    assert names(sources.sources("toy.front", "toy.other"), toy) == ["core", "front", "other"]
    assert sources.sources() == []


def test_an_unknown_module_is_refused_and_the_known_ones_are_listed(toy: Path) -> None:
    with pytest.raises(ValueError, match=r"\['toy\.cores'\].*'toy\.core'"):
        sources.sources("toy.cores")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("from toy import Core", ["core"]),
        ("from toy import draw", ["core", "front"]),
        ("from toy import front", ["core", "front"]),
        ("import toy.other as other", ["other"]),
        ("%matplotlib inline\nimport numpy, json\nfrom pathlib import Path", []),
        ("import toy", ["__init__", "core", "front"]),
        ("def f():\n    from toy.other import x", ["other"]),
    ],
)
def test_a_notebook_stands_on_what_its_code_imports(toy: Path, cell: str, expected: list[str]) -> None:
    assert reached(toy, cell) == expected


def test_imports_of_all_cells_count(toy: Path) -> None:
    assert reached(toy, "import toy.other", "from toy import Core") == ["core", "other"]


def test_what_is_imported_by_name_is_found_by_the_name(toy: Path) -> None:
    assert reached(toy, "from toy import runs", "runs.run('second')") == [
        "runs/__init__",
        "runs/second",
    ]
    everything = ["core", "runs/__init__", "runs/first", "runs/second"]
    assert reached(toy, "from toy import runs") == everything


def test_a_notebook_that_draws_from_the_ledger_stands_on_every_experiment(toy: Path) -> None:
    assert reached(toy, "from toy import ledger", "ledger.load('second')") == [
        "core",
        "ledger",
        "runs/__init__",
        "runs/first",
        "runs/second",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"cells": 1}',
        '{"cells": [{}]}',
        "\ufeff{}",
        '{"cells": [{"cell_type": "code", "source": "a <- 1 2"}]}',
    ],
)
def test_what_is_no_notebook_in_python_is_refused_by_file(toy: Path, content: str) -> None:
    path = toy / "chapter.ipynb"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"chapter\.ipynb is not a notebook of Python cells: "):
        sources.notebook_sources(path)


def test_no_module_imports_the_front_door() -> None:
    """It would stand on the whole library, and every chapter that it serves on all of that."""
    found = [
        module
        for module in sources.all_modules() - {"cimlib"}
        if "cimlib" in sources._imported(ast.parse(sources.file_of(module).read_text(encoding="utf-8")))
    ]
    assert found == []
