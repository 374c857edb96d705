"""Pages whose blocks of Python go on from one another: they run as printed, and print what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def text(page):
    return (ROOT / "pages" / f"{page}.md").read_text(encoding="utf-8")


def blocks(page):
    """Each block of Python with what is said to come out, empty if nothing."""
    return re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", text(page), re.DOTALL)


def runs_as_printed(page, capsys):
    """Words exactly, numbers to what another processor may change."""
    names: dict[str, object] = {}
    for block, said in blocks(page):
        exec(compile(block, f"{page}.md", "exec"), names)
        printed = capsys.readouterr().out
        assert bool(printed) == bool(said) == ("print(" in block), block
        assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", said).split()
        numbers = [[float(n) for n in NUMBER.findall(out)] for out in (printed, said)]
        assert numbers[0] == pytest.approx(numbers[1], abs=2.5)
