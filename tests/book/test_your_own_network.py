"""The page on networks of one's own runs as printed, block after block, and asks what it says it asks."""

import re
import shutil
from pathlib import Path

import pytest
from in_order import ROOT, blocks, runs_as_printed, text


def test_the_page_runs_as_printed_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "data" / "devices", tmp_path / "data" / "devices")
    monkeypatch.chdir(tmp_path)
    runs_as_printed("your_own_network", capsys)


def test_ten_questions_each_with_its_thread_and_a_short_answer_that_runs() -> None:
    parts = re.split(r"^#{2,3} ", text("your_own_network"), flags=re.MULTILINE)
    questions = [part for part in parts if re.match(r"\d+\. ", part)]
    assert [int(part.split(".")[0]) for part in questions] == list(range(1, 11))
    for part in questions:
        assert "Asked in [" in part and part.count("```python") == part.count("```text") == 1
    first = blocks("your_own_network")[1][0]
    assert sum(bool(line) for line in first.splitlines()) == 5
