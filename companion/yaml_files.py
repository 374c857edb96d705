"""YAML 1.2, read one way everywhere: ``no`` is a text, and a key given twice an error.

A number is written as it reads back, in decimal digits: ``10``, ``-0.50``, ``.5``, ``1e-3``. What another
version of YAML, or another language, takes for another number or for none is refused: ``010`` (eight or
ten), ``1_000``, ``0x10``, ``1e400``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode

PLAIN = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Constructor(SafeConstructor):
    """Takes for a number only what can be read in one way."""

    def construct_yaml_int(self, node: ScalarNode) -> int:
        return int(_number(node, super().construct_yaml_int))

    def construct_yaml_float(self, node: ScalarNode) -> float:
        return _number(node, super().construct_yaml_float)


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)
_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_yaml_float)


def _number(node: ScalarNode, construct: Callable[[ScalarNode], float]) -> float:
    """What ``construct`` makes of the node, if that is what its text says in decimal digits."""
    text = node.value
    try:
        number = construct(node)
    except ValueError as error:
        raise ConstructorError(problem=str(error), problem_mark=node.start_mark) from error
    if NOT_FINITE.fullmatch(text):
        return number
    wrong = ""
    if not PLAIN.fullmatch(text):
        wrong = f"not how a number is written: {number!r} if that is meant, '{text}' if a text is"
    elif math.isinf(number) or (number == 0 and Decimal(text) != 0):
        wrong = f"beyond what a float can hold: it would be read as {number!r}"
    if wrong:
        raise ConstructorError(problem=f"{text} is {wrong}", problem_mark=node.start_mark)
    return number


def parse(text: str) -> Any:
    """The one document in ``text`` as plain Python objects. Raises ``ValueError`` that names the line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from error
    except (YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def read(path: Path) -> Any:
    """The one document in the file at ``path``, parsed once as long as the file does not change.

    Raises ``ValueError`` that names file and line.
    """
    return deepcopy(_read(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=256)
def _read(path: Path, changed: int) -> Any:
    """The document in the file at ``path`` as it was when it ``changed``."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
