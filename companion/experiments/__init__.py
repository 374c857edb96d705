"""The experiments behind the chapters: ``Params``, ``SCALES``, ``data`` and ``run(params) -> dict``.

Chapters and sweeps call the same function. ``Params`` is a frozen dataclass of declared fields
(:mod:`companion.fields`) whose defaults are the quick scale; ``SCALES`` holds what differs at
``"quick"``, ``"desk"`` and ``"paper"``. ``run`` returns what goes into a record: lists with one value
per seed or chip, never only a mean. What several experiments
share is in :mod:`companion.tasks`.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from companion.fields import checked
from companion.tasks.results import RIGHT, Right


@cache
def names() -> list[str]:
    """Names of all experiments."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(found)


def _module(experiment: str) -> ModuleType:
    if experiment not in names():
        raise ValueError(f"experiment = {experiment!r} is unknown; allowed: {', '.join(names())}")
    return import_module(f"{__name__}.{experiment}")


def resolve(experiment: str, given: Mapping[str, Any]) -> Any:
    """The experiment's ``Params``: defaults, then its scale's values, then ``given``.

    Raises ``ValueError`` for an unknown experiment, parameter, type or value, before any work.
    """
    module = _module(experiment)
    known = [field.name for field in fields(module.Params)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{experiment} has no parameter {name!r}{hint}; allowed: {', '.join(known)}")
    scale = module.SCALES.get(str(given.get("scale", "quick")), {})
    return checked(module.Params, **{**scale, **given})


def run(experiment: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the parameters and run the experiment once; see the module of that name."""
    result, _ = run_with_images(experiment, given)
    return result


def run_with_images(experiment: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Right]]:
    """The same, and of accuracies by name which images were predicted right, (values, images)."""
    params = resolve(experiment, given)
    result: dict[str, Any] = _module(experiment).run(params)
    right: dict[str, Right] = result.pop(RIGHT, {})
    return result, right


def data(experiment: str, params: Any) -> dict[str, int]:
    """Data sets that a run with ``params`` uses, with the number of training samples of each."""
    used: dict[str, int] = _module(experiment).data(params)
    return used


def defaults(experiment: str) -> dict[str, Any]:
    """The parameters of the experiment where nothing else is said."""
    return {field.name: field.default for field in fields(_module(experiment).Params)}


def changed(experiment: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``params`` those that differ from the defaults: what a record's key is made of."""
    default = defaults(experiment)
    return {name: value for name, value in params.items() if name not in default or value != default[name]}
