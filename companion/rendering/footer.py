"""The line below every page: which version this is, and when it was last checked."""

from __future__ import annotations

import subprocess
from importlib.metadata import version

from sphinx.application import Sphinx
from sphinx.config import Config

from companion.records import ROOT


def checked() -> str:
    """The day of the commit that is rendered, which passed every check; empty without a history."""
    asked = ["git", "log", "-1", "--format=%cs"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, encoding="utf-8").stdout.strip()


def line(app: Sphinx, config: Config) -> None:
    """Put the line where the theme looks for it."""
    day = checked()
    told = [f"Version {version('cimlib')}", *([f"last checked {day}"] if day else [])]
    config.html_theme_options["extra_footer"] = f"<p>{' · '.join(told)}</p>"


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("config-inited", line)
