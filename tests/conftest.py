"""Tests are the same on every run and on every machine: fixed examples, one thread, no window, and every
network trained by the code that is tested."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import settings

from companion.tasks import kept

settings.register_profile("book", derandomize=True, deadline=None, database=None)
settings.load_profile("book")


@pytest.fixture(autouse=True)
def nothing_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FOLDER", Path(os.devnull, "networks"))
