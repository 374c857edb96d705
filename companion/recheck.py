"""Accepting the records of older code, because the present code makes the same numbers.

Some changes should change no number: a definition that was rewritten, a check that was added. Two kinds of
evidence count:

- *A sample at full size*, cheap records first, that has every value of every parameter at least once.
- *Against a commit*: all stale records, cut down to sizes of a second a run, by the code that made them and
  by the present code (:mod:`companion.twins`); and at full size a few, cheap ones first, as many as run in
  the minutes given.

What is run is compared number by number, on all cores. Each agreement at full size is kept as soon as it is
there, in the record itself, so that a recheck that was interrupted goes on where it stopped. Command line::

    python -m companion.recheck [--against COMMIT --minutes 5] deployed [drifted ...]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config

from companion import experiments, records, sidecars, twins

Record = Mapping[str, Any]


def covering(found: Sequence[Record], covered: Sequence[Record] = ()) -> list[Record]:
    """Some of these records, cheap ones first, that together, and with those ``covered`` already, have every
    value of every parameter."""
    missing = set[tuple[str, str]]().union(*map(_values, found)).difference(*map(_values, covered))
    chosen = []
    while missing:
        best = max(found, key=lambda record: len(_values(record) & missing) / _cost(record))
        chosen.append(best)
        missing -= _values(best)
    return chosen


def cheapest(found: Sequence[Record], minutes: float) -> list[Record]:
    """The cheapest of these records, at least one, that together run in so many minutes on all cores."""
    chosen, left = list[Record](), 60 * minutes * cpu_count()
    for record in sorted(found, key=_cost):
        left -= _cost(record) * record["threads"]
        if chosen and left < 0:
            break
        chosen.append(record)
    return chosen


def _values(record: Record) -> set[tuple[str, str]]:
    return {(name, repr(value)) for name, value in record["params"].items()}


def _repeats(record: Record) -> bool:
    """Whether the same code makes the same numbers of it again, to the last digit."""
    return bool(record["params"].get("device", "cpu") == "cpu")


def _cost(record: Record) -> float:
    """Seconds that a run of ``record`` alone takes, with the training that it shared with another."""
    training = sum(record["result"].get("training_seconds", [0.0]))
    seconds: float = record["seconds"]
    return max(seconds if seconds > training else seconds + training, 1e-3)


def recheck(experiment: str, against: str | None = None, minutes: float = 5) -> list[str]:
    """Accept the stale records of ``experiment``, if the present code makes the same numbers.

    Only times (results whose names end in ``_seconds``) may differ, and there may be results that the older
    code did not have. Every record of the sample that agrees
    becomes one of the present code at once, and the others when all agree; each says so under ``rechecked``.
    What was rerun by the present code before counts as part of the sample.

    Args:
        against: the commit of the code that made the records, for the second kind of evidence. Records made
            by other code yet stay stale.
        minutes: at full size, if there is one.

    Records of another device than the CPU, whose numbers do not come out again, are no part of a sample:
    without a commit they stay stale.

    Returns the keys that were run at full size. Raises ``ValueError`` naming those that differ; the stale
    records that were not run stay stale.
    """
    every = {path.stem: records.load(path) for path in sorted((records.RESULTS / experiment).glob("*.json"))}
    older = {key: record for key, record in every.items() if records.is_stale(record)}
    if against and len({record["digest"] for record in older.values()}) > 1:
        made = twins.code(experiment, against)
        older = {key: record for key, record in older.items() if record["digest"] == made}
    agreed = [record for key, record in every.items() if key not in older and _was_rerun(key, record)]
    if not against:
        older = {key: record for key, record in older.items() if _repeats(record)}
    found = list(older.values())
    small = twins.compare(experiment, found, against) if against and found else 0
    full = [record for record in found if _repeats(record)]
    chosen = cheapest(full, minutes) if against else covering(full, agreed)
    sample = {_key(record): record for record in chosen}
    if sample:
        print(f"{experiment}: {_estimate(list(sample.values()))}", file=sys.stderr)
    differ = []
    for done, (key, result) in enumerate(_runs(experiment, sample), 1):
        same = twins.agree({**sample[key]["result"], "images": sample[key].get("right", {})}, result)
        if same:
            _accept(experiment, older.pop(key), key, [key], small)
        else:
            differ.append(key)
        print(
            f"{experiment}: {key} {'agrees' if same else 'DIFFERS'}, {done} of {len(sample)}", file=sys.stderr
        )
    if differ:
        raise ValueError(f"records {differ} of {experiment} are not what the present code makes of them")
    rerun = sorted({*sample, *map(_key, agreed)})
    for key, record in older.items():
        _accept(experiment, record, key, rerun, small)
    return list(sample)


def _key(record: Record) -> str:
    return records.key_of(record["experiment"], record["params"])


def _was_rerun(key: str, record: Record) -> bool:
    """Whether the present code made this record's numbers again."""
    notes = record.get("rechecked", [])
    return bool(notes) and key in notes[-1]["rerun"]


def _estimate(sample: Sequence[Record]) -> str:
    minutes = sum(_cost(record) * record["threads"] for record in sample) / 60 / cpu_count()
    return f"{len(sample)} records to run again, about {minutes:.0f} min on {cpu_count()} cores"


def _runs(experiment: str, sample: Mapping[str, Record]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each record's key and its new result, as they finish; long ones first, with as many threads as then."""
    by_threads: dict[int, list[str]] = {}
    for key in sorted(sample, key=lambda key: -_cost(sample[key])):
        by_threads.setdefault(sample[key]["threads"], []).append(key)
    for threads, keys in by_threads.items():
        jobs = max(1, cpu_count() // threads)
        with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=threads):
            calls = (delayed(_run)(experiment, key, sample[key]["params"], threads) for key in keys)
            yield from Parallel(return_as="generator_unordered", batch_size=1)(calls)


def _run(experiment: str, key: str, params: Mapping[str, Any], threads: int) -> tuple[str, dict[str, Any]]:
    torch.set_num_threads(threads)
    result, right = experiments.run_with_images(experiment, params)
    images = {name: sidecars.digest(each) for name, each in right.items()}
    return key, {**json.loads(json.dumps(result)), "images": images}  # as a record holds it


def _accept(experiment: str, record: Record, key: str, rerun: Sequence[str], small: int) -> None:
    note = {"digest": record["digest"], "commit": records.commit(experiment), "rerun": list(rerun)}
    note |= {"small": small} if small else {}
    change = {"digest": records.code_digest(experiment), "rechecked": [*record.get("rechecked", []), note]}
    records.write(_path(experiment, key), {**record, **change})


def _path(experiment: str, key: str) -> Path:
    return records.RESULTS / experiment / f"{key}.json"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring. Exit code 1 if a record differs."""
    parser = argparse.ArgumentParser(prog="python -m companion.recheck", description=__doc__)
    parser.add_argument("experiments", nargs="+", choices=experiments.names(), metavar="experiment")
    parser.add_argument("--against", metavar="commit", help="the code that made the records")
    parser.add_argument("--minutes", type=float, default=5, help="at full size, with --against")
    args, failed = parser.parse_args(arguments), False
    for experiment in args.experiments:
        try:
            rerun = recheck(experiment, args.against, args.minutes)
            print(f"the same again: {', '.join(rerun) or 'nothing was left to run'}")
        except ValueError as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
