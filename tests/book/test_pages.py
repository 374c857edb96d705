"""The code printed in the pages must run as printed."""

import re
from pathlib import Path

import pytest
import torch

from cimlib.networks import mlp

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{i}")
    for page in [ROOT / "intro.md", *sorted((ROOT / "pages").glob("*.md"))]
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_code_of_the_pages_runs_as_printed(block, capsys):
    """Where a page speaks of the reader's own model and data, these stand in."""
    own = {"model": mlp(4, 8, 3, seed=0), "x": torch.rand(20, 4), "y": torch.randint(3, (20,))}
    exec(compile(block, "page", "exec"), own)
    assert "print(" not in block or capsys.readouterr().out
