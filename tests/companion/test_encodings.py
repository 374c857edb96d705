"""Every file is UTF-8 and is opened as such, whatever the locale of the machine."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}  # a machine that knows ASCII alone
MODE = {"r", "w", "a", "x", "r+", "w+", "a+", "rt", "wt"}  # of a text; anything else is of bytes

#: What reads the book's own files, and says so if one is opened without its encoding.
READING = """
import sys, warnings
for ours in ("cimlib", "companion", "run", "__main__"):
    warnings.filterwarnings("error", category=EncodingWarning, module=rf"{ours}(\\.|$)")
sys.path.insert(0, "tools")
import run
from pathlib import Path
from cimlib.datasets import load
from companion import experiments, records, sources, sweeps
from companion.claims import ledger

assert sys.flags.utf8_mode == 0 and sys.getfilesystemencoding() == "ascii"
papers = [ledger.entries(ledger.CLAIMS / f"{paper}.yml") for paper in ledger.papers()]
found = [entry.measure for paper in papers for _, entry in paper]
assert any("\\u03c3" in said for said in found) and not any("\\xc2" in said for said in found)
for sweep in Path("data/sweeps").glob("*.yml"):
    assert sweeps.points(sweep)
assert records.stale() is not None and records.commit("deployed") != ""
for chapter in sorted(Path("chapters").glob("*.ipynb")):
    assert run.parameters(chapter) and sources.notebook_sources(chapter)
assert load("iris", "train")[0].shape == (90, 4)
said = [run.main("notation", ["-p", "sigma", "1"]), run.main("a_chip_is_a_seed", ["-p", "sigma", "-1"])]
assert said == [2, 2], said
"""


def nameless(source: str) -> Iterator[str]:
    """Calls in ``source`` that open a text, a file or another process's, and do not name its encoding."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            at = 1 if isinstance(node.func, ast.Name) else 0
            mode = given.get("mode", node.args[at] if len(node.args) > at else ast.Constant("r"))
            text = {
                "open": isinstance(mode, ast.Constant) and mode.value in MODE,
                "read_text": len(node.args) < 1,
                "write_text": len(node.args) < 2,
            }.get(name, isinstance(given.get("text"), ast.Constant) and given["text"].value is True)
            if text and "encoding" not in given:
                yield ast.unparse(node)


def sources() -> Iterator[tuple[Path, str]]:
    for folder in ("cimlib", "companion", "tests", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield path, cell.source


def test_every_opening_of_a_text_names_its_encoding() -> None:
    assert [f"{path.name}: {call}" for path, source in sources() for call in nameless(source)] == []


@pytest.mark.parametrize(
    "call",
    [
        "open(path)",
        "open(path, 'w')",
        "path.open()",
        "path.open(mode='a')",
        "path.read_text()",
        "here().read_text(errors='replace')",
        "path.write_text(text)",
        "subprocess.run(command, text=True)",
        "Popen(command, stdout=PIPE, text=True)",
    ],
)
def test_an_opening_without_an_encoding_is_found(call: str) -> None:
    assert list(nameless(call)) == [call]


@pytest.mark.parametrize(
    "call",
    [
        "open(path, encoding='utf-8')",
        "open(path, 'rb')",
        "path.open('rb')",
        "path.read_text('utf-8')",
        "path.read_text(encoding='utf-8')",
        "path.write_text(text, 'utf-8')",
        "subprocess.run(command, encoding='utf-8')",
        "subprocess.run(command)",
        "st.text('abc')",
    ],
)
def test_an_opening_with_an_encoding_or_of_bytes_is_right(call: str) -> None:
    assert list(nameless(call)) == []


def test_everything_is_read_on_a_machine_that_knows_ascii_alone() -> None:
    command = [sys.executable, "-X", "warn_default_encoding", "-c", READING]
    environment = {**os.environ, **PLAIN, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
