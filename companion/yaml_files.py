"""YAML 1.2, read one way everywhere: ``010`` is ten, ``no`` a text, and a key given twice an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError


def parse(text: str) -> Any:
    """The one document in ``text`` as plain Python objects. Raises ``ValueError`` that names the line."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except YAMLError as error:
        raise ValueError(str(error)) from error


def read(path: Path) -> Any:
    """The one document in the file at ``path``. Raises ``ValueError`` that names file and line."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
