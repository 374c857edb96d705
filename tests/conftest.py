"""Tests are the same on every run and on every machine: fixed examples, one thread, no window, and every
network trained by the code that is tested."""

import os
from pathlib import Path

# before torch is imported, whatever Snakemake says: as many workers run as there are cores
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import settings

from companion.tasks import kept

settings.register_profile("book", derandomize=True, deadline=None, database=None)
settings.load_profile("book")


@pytest.fixture(autouse=True)
def nothing_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FOLDER", Path(os.devnull, "networks"))
