"""The code printed in the pages must run as printed, and every module must have its place in them."""

import re
from pathlib import Path

import pytest
import torch

from cimlib.networks import mlp
from companion import sources

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "pages").rglob("*.md"))
APART = {  # files that have a page apart from that of their room, by what its name adds
    ("remedies", "drift"): "_against_drift",
    ("remedies", "before_drift"): "_against_drift",
    **{("chip", file): "_digital_stages" for file in ("stages", "vera", "attachment")},
}
IN_ORDER = {"your_own_device", "your_own_network"}  # blocks that go on from one another: tests of their own
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{i}")
    for page in [ROOT / "intro.md", *PAGES]
    if page.stem not in IN_ORDER
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_code_of_the_pages_runs_as_printed(block, capsys):
    """Where a page speaks of the reader's own model and data, these stand in."""
    own = {"model": mlp(4, 8, 3, seed=0), "x": torch.rand(20, 4), "y": torch.randint(3, (20,))}
    exec(compile(block, "page", "exec"), own)
    assert "print(" not in block or capsys.readouterr().out


def test_every_module_is_on_the_page_of_its_room():
    """`companion` has five pages: experiments and their tasks share one, claims another, figures and pages a
    third, and so has what runs a paper's own size; remedies have two, of which those against drift have one,
    and so have chips, of which digital stages have one."""
    described = re.compile(r"^\.\. (?:auto|py:)module:: (\S+)$", re.MULTILINE)
    found = [(name, page.stem) for page in PAGES for name in described.findall(page.read_text("utf-8"))]
    rooms = {}
    for module in sources.all_modules():
        package, *rest = module.split(".")
        if package == "companion":
            room = "experiments" if {"experiments", "tasks"} & set(rest) else package
            room = "pages" if {"pictures", "plots", "moving", "rendering"} & set(rest) else room
            room = "claims" if {"claims", "resamples", "comparison"} & set(rest) else room
            room = "paper" if {"paper", "resumable"} & set(rest) else room
        else:
            room = rest[0] if rest else "api"
            room += APART.get((room, rest[-1]), "") if rest else ""
        rooms[module] = room
    assert sorted(found) == sorted(rooms.items())
