"""A small book, made by Sphinx with the parts of the book's own rendering that a test is about."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def made(
    source: Path, builder: str, target: Path, settings: Sequence[str] = (), *, strict: bool = True
) -> Path:
    """``target``, into which Sphinx has built the book of ``source``: by its ``conf.py``, or without one by
    ``settings`` such as ``"numfig=1"``; ``strict``: a warning is an error."""
    options = [part for setting in settings for part in ("-D", setting)]
    how = [*(["-W"] if strict else []), *(["-C"] if settings else []), "-d", f"{target}-read", "-b", builder]
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", *how, *options, source, target],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stderr
    return target
