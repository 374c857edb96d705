"""Sweeps: the runs that the book's records come from, and the command line that makes them.

``data/sweeps/<experiment>.yml`` lists points, each a grid of parameters. Command line::

    python -m companion.sweeps run data/sweeps/deployed.yml KEY
    python -m companion.sweeps stale [--swept]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass
from sklearn.model_selection import ParameterGrid

from companion import experiments, yaml_files
from companion.claims import ledger
from companion.fields import Count, Filed, Positive, filed, one_of
from companion.records import ROOT, Point, run, stale

SWEEPS = ROOT / "data" / "sweeps"
#: Sweeps that :mod:`companion.paper` runs, and no other.
PAPER = ROOT / "data" / "paper"


@dataclass(frozen=True)
class Sweep(Filed):
    """A file of ``data/sweeps``. Each of the points adds to the ``defaults``; a list means a grid.

    Args:
        experiment: what is run; the file bears its name.
        threads: cores for one run.
        minutes: the estimate for one run.
        defaults: parameters of all points.
        points: parameters of each.
        evidence: parameters, such as more images and other chips, with which every point is run once more
            that a claim in the ledgers rests on, unless the point has its own.
    """

    experiment: Annotated[str, one_of(experiments.names())]
    threads: Annotated[Count, Strict()]
    minutes: Annotated[Positive, Strict()]
    defaults: dict[str, Any]
    points: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    evidence: dict[str, Any] = field(default_factory=dict)


def points(sweep: Path) -> list[Point]:
    """The runs of a sweep file; those that several of its points ask for are there once.

    Raises ``ValueError`` that names file, point (counted from one), field, value and what is allowed.
    """
    asked = filed(Sweep, yaml_files.read(sweep), str(sweep))
    if asked.experiment != sweep.stem:
        allowed = f"{sweep.stem!r}, the name of the file"
        raise ValueError(f"{sweep}: experiment = {asked.experiment!r} is not allowed; allowed: {allowed}")
    _check_evidence(asked, sweep)
    found: dict[str, Point] = {}
    for number, entry in enumerate(asked.points, 1):
        try:
            if entry in asked.points[: number - 1]:
                raise ValueError(f"it is point {asked.points.index(entry) + 1} once more: delete one")
            for params in ParameterGrid(_grid({**asked.defaults, **entry})):
                resolved = experiments.resolve(asked.experiment, params)
                wanted = [resolved]
                own = asked.evidence.keys() & entry.keys()
                if asked.evidence and not own and _claimed(asked.experiment, asdict(resolved)):
                    given = {**asdict(resolved), **asked.evidence}
                    wanted.append(experiments.resolve(asked.experiment, given))
                for each in wanted:
                    point = Point(asked.experiment, each, asked.threads, asked.minutes)
                    found.setdefault(point.key, point)
        except ValueError as error:
            raise ValueError(f"{sweep}: point {number}: {error}") from error
    return list(found.values())


def _check_evidence(asked: Sweep, sweep: Path) -> None:
    """Raise ``ValueError`` for evidence that no run can have, before any claim asks for it."""
    try:
        if "scale" in asked.evidence:
            raise ValueError("scale is not allowed; allowed: parameters but the scale")
        experiments.resolve(
            asked.experiment, {"scale": asked.defaults.get("scale", "quick"), **asked.evidence}
        )
    except ValueError as error:
        raise ValueError(f"{sweep}: evidence: {error}") from error


def _grid(given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each parameter. Raises ``ValueError`` for an empty list and for a value listed twice."""
    grid = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    for name, values in grid.items():
        if not values or any(value in values[:place] for place, value in enumerate(values)):
            allowed = "a value, or a list of values, at least one and none twice"
            raise ValueError(f"{name} = {values} is not allowed; allowed: {allowed}")
    return grid


@cache
def evidence(experiment: str) -> dict[str, Any]:
    """The parameters that all records have on which claims rest; none if no sweep says so."""
    path = SWEEPS / f"{experiment}.yml"
    return dict(filed(Sweep, yaml_files.read(path), str(path)).evidence) if path.exists() else {}


@cache
def _readings(experiment: str) -> list[dict[str, Any]]:
    """The parameters by which the ledgers select records of the experiment."""
    entries = (ledger.entries(ledger.CLAIMS / f"{paper}.yml") for paper in ledger.papers())
    pieces = [piece for paper in entries for _, entry in paper for piece in entry.evidence]
    readings = (each for piece in pieces for each in (piece.of, piece.against) if each is not None)
    return [each.given for each in readings if each.experiment == experiment]


def _claimed(experiment: str, params: Mapping[str, Any]) -> bool:
    """Whether a claim rests on the record with these ``params``."""
    return any(given.items() <= params.items() for given in _readings(experiment))


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m companion.sweeps", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="make one record of a sweep")
    one.add_argument("sweep", type=Path)
    one.add_argument("key")
    older = commands.add_parser("stale", help="list records made by older code")
    older.add_argument("--swept", action="store_true", help="without those that make paper made")
    args = parser.parse_args(arguments)
    if args.command == "stale":
        files = PAPER.glob("*.yml") if args.swept else ()
        others = {point.path for path in files for point in points(path)}
        print("\n".join(str(path.relative_to(ROOT)) for path in stale() if path not in others))
        return
    known = {point.key: point for point in points(args.sweep)}
    if args.key not in known:
        parser.error(f"{args.sweep} has no point {args.key!r}; it has {len(known)} others")
    run(known[args.key])


if __name__ == "__main__":
    main()
