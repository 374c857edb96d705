"""The paper's own size, on a machine with a graphics processor, in the minutes that there are.

``data/paper/<experiment>.yml`` is a sweep whose points are run in their order, several at once. It stops in
time. A training that is finished is a record like any other; one that is not goes on from its checkpoint in
``_build/paper`` the next time, if the code and the parameters are still the same. Command line::

    python -m companion.paper --minutes 9 [--together 2]

On the CPU it takes days; to try it there at the size of a minute, with records in ``_build/paper``::

    python -m companion.paper --minutes 9 --device cpu --scale quick --together 1
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed, parallel_config
from pydantic.dataclasses import dataclass as declared

from cimlib.devices import require
from companion import definitions, experiments, provenance, records, sweeps
from companion.experiments import negative_feedback
from companion.fields import STRICT, checked
from companion.records import ROOT, Made, Point
from companion.tasks.results import RIGHT
from companion.tasks.resumable import Draws, OutOfTime, Resumable

PLAN = sweeps.PAPER / "negative_feedback.yml"
FOLDER = ROOT / "_build" / "paper"


@declared(frozen=True, config=STRICT)
class InTime(negative_feedback.Params):
    """The parameters of a run, and those of its :class:`~.Resumable` task; they are no part of its key."""

    checkpoint: str = ""
    until: float = math.inf
    draws: Draws = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.start == "scratch", "start", self.start, "'scratch': there is one checkpoint a run")

    @property
    def task(self) -> Resumable:
        return Resumable.of(self)


@dataclass(frozen=True)
class Session:
    """What the runs of one command have in common.

    Args:
        until: when they must stop, s, as :func:`time.time` counts it.
        draws: where errors in training are drawn, see :class:`~.Resumable`.
        folder: of the checkpoints.
    """

    until: float
    draws: Draws
    folder: Path = FOLDER

    def checkpoint(self, point: Point) -> Path:
        """The file of a run's checkpoint; that of other code has another name, and is left alone."""
        return self.folder / f"{point.key}-{provenance.digest([_code(), self.draws])}.pt"


class Outcome(NamedTuple):
    """What became of a run: ``said``, nothing if it was not begun, and whether it failed."""

    said: str = ""
    failed: bool = False


@cache
def _code() -> list[str]:
    """Digests of what decides the bits of a training."""
    own = definitions.digest("companion.tasks.resumable", Resumable.__name__)
    return [records.code_digest("negative_feedback"), own]


def plan(path: Path = PLAN, **given: Any) -> list[Point]:
    """The runs of a file of ``data/paper``, in the order in which they are to be made.

    Args:
        given: parameters in place of the file's, such as ``scale`` and ``device``; records of such runs are
            trials, kept in :data:`FOLDER` and not among those of the book.

    Raises ``ValueError`` as :func:`~companion.sweeps.points` does, and for other experiments than
    ``negative_feedback``.
    """
    points = sweeps.points(path)
    name = points[0].experiment
    require(name == "negative_feedback", "experiment", name, "'negative_feedback'")
    if not given:
        return points
    found: dict[str, Point] = {}
    for point in points:
        asked = experiments.changed(name, asdict(point.params))
        sizes = negative_feedback.SCALES[point.params.scale] if "scale" in given else {}
        kept = {key: value for key, value in asked.items() if key not in sizes}
        params = experiments.resolve(name, {**kept, **given})
        trial = replace(point, params=params, folder=FOLDER / "results")
        found.setdefault(trial.key, trial)
    return list(found.values())


def resumable(point: Point, session: Session) -> Made:
    """What :func:`companion.experiments.run_with_images` makes of the point, if its time suffices.

    Raises :class:`~.OutOfTime` when it is up.
    """
    path = session.checkpoint(point)
    own = {"checkpoint": str(path), "until": session.until, "draws": session.draws}
    params = checked(InTime, **asdict(point.params), **own)
    result = negative_feedback.run(params)
    result["training_seconds"] = [round(params.task.seconds(), 1)]  # of all sittings
    right = result.pop(RIGHT)
    return result, right


def attempt(point: Point, session: Session) -> Outcome:
    """Make the record of ``point``, or take it as far as time allows."""
    if time.time() >= session.until:
        return Outcome()
    try:
        records.run(point, partial(resumable, session=session), _where(point, session))
    except OutOfTime as stopped:
        return Outcome(str(stopped))
    except (ArithmeticError, OSError, RuntimeError, ValueError) as error:
        return Outcome(f"failed: {type(error).__name__}: {error}", failed=True)
    session.checkpoint(point).unlink(missing_ok=True)
    return Outcome(f"is a record: {point.path}")


def _where(point: Point, session: Session) -> str:
    """What a record says of the device."""
    device = torch.get_device_module(point.params.device)
    name = getattr(device, "get_device_name", platform.processor)()
    return f"{name or point.params.device}; errors in training drawn on the {session.draws}"


def run(points: Sequence[Point], session: Session, together: int = 1) -> list[Point]:
    """Make the records of ``points`` that are missing, in their order, ``together`` at a time, each in a
    process of its own; one at a time in this one. A line says what became of each.

    Returns the points that failed. Raises ``ValueError`` for ``together`` < 1, and for a device that is not
    there.
    """
    require(together >= 1, "together", together, "an integer ≥ 1: trainings at once")
    for device in {point.params.device for point in points}:
        here = device == "cpu" or torch.cuda.is_available()
        said = "'cpu' here, where torch sees no CUDA device; a trial: --device cpu --scale quick"
        require(here, "device", device, said)
    missing = [point for point in points if not point.path.exists()]
    failed, waiting = [], 0
    with parallel_config("loky", n_jobs=together, inner_max_num_threads=1):
        calls = (delayed(_numbered)(n, point, session) for n, point in enumerate(missing))
        parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
        for n, outcome in parallel(calls):
            if outcome.said:
                print(f"{_named(missing[n])} {outcome.said}", flush=True)
            failed += [missing[n]] if outcome.failed else []
            waiting += not outcome.said
    there = sum(point.path.exists() for point in points)
    print(f"{there} of {len(points)} records are there; {waiting} runs were not begun for want of time")
    return failed


def _numbered(n: int, point: Point, session: Session) -> tuple[int, Outcome]:
    return n, attempt(point, session)


def _named(point: Point) -> str:
    params = point.params
    what = f"{params.method}, {params.linear_start}, σ = {params.sigma:g}, seed {params.seed}"
    return f"{point.key} ({what}):"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring. Exit code 1 if a training failed, 2 if nothing could run."""
    start = time.time()
    parser = argparse.ArgumentParser(prog="python -m companion.paper", description=__doc__)
    parser.add_argument("--minutes", type=float, required=True, help="after which it stops")
    parser.add_argument("--together", type=int, default=2, help="trainings at once on one device")
    parser.add_argument("--device", help="in place of that of the file")
    parser.add_argument("--scale", help="in place of that of the file")
    parser.add_argument("--draws", choices=("cpu", "device"), help="where errors in training are drawn")
    args = parser.parse_args(arguments)
    given = {name: getattr(args, name) for name in ("device", "scale") if getattr(args, name) is not None}
    try:
        require(0 < args.minutes < math.inf, "minutes", args.minutes, "minutes > 0, such as --minutes 9")
        points = plan(PLAN, **given)
        draws: Draws = args.draws or ("cpu" if points[0].params.device == "cpu" else "device")
        failed = run(points, Session(start + 60 * args.minutes, draws), args.together)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return int(bool(failed))


if __name__ == "__main__":
    from companion import paper  # by its name, under which other processes know what is here

    sys.exit(paper.main())
