"""The page on devices of one's own runs as printed, block after block, and says what comes out."""

import shutil
from pathlib import Path

import pytest
from in_order import ROOT, runs_as_printed

from cimlib.devices import Levels
from cimlib.training import Pulses


def test_the_page_runs_as_printed_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "data" / "devices", tmp_path / "data" / "devices")
    monkeypatch.chdir(tmp_path)
    runs_as_printed("your_own_device", capsys)
    assert (tmp_path / "curve.svg").exists()


def test_the_example_files_are_small_and_hold_what_their_formula_says() -> None:
    folder = ROOT / "data" / "devices"
    assert all(path.stat().st_size < 20_000 for path in folder.iterdir())
    assert all("made up" in path.read_text(encoding="utf-8") for path in folder.iterdir())
    fitted = Pulses.from_csv(folder / "example_pulses.csv")
    assert (fitted.pulses.levels, fitted.pulses.levels_down, fitted.cells) == (64, 48, 6)
    assert (fitted.pulses.potentiation, fitted.pulses.depression) == pytest.approx((1.8, -2.4), abs=0.3)
    assert (fitted.g_min, fitted.g_max) == pytest.approx((12, 96), abs=1.5)
    assert Levels.from_csv(folder / "example_levels.csv").range == (12, 96)
