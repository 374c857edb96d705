"""Names of all committed records: what was run, and nothing else, decides them, today as when they were made.

A name is computed from the parameters that the record says, so a parameter that gets another default, type
or spelling is seen here. ``golden_names.json`` is how many records each experiment has and one hash over
their sorted names, so that names are also held when all of them change at once with their files. Whoever
adds records puts the line that the failing test says in place of the old one.
"""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from companion import experiments, records, sweeps

GOLDEN = json.loads((Path(__file__).parent / "golden_names.json").read_text(encoding="utf-8"))
EXPERIMENTS = experiments.names()


@cache
def committed(experiment: str) -> dict[str, dict[str, Any]]:
    """The records on disk by file name, each whole: :func:`companion.records.load` refuses others."""
    paths = sorted((records.RESULTS / experiment).glob("*.json"))
    return {path.stem: records.load(path) for path in paths}


def test_every_folder_of_records_is_that_of_an_experiment_and_has_a_line_in_the_golden_file() -> None:
    folders = sorted(path.name for path in records.RESULTS.iterdir() if path.is_dir())
    assert folders == sorted(GOLDEN) and set(folders) <= set(EXPERIMENTS)


@pytest.mark.parametrize("experiment", GOLDEN)
def test_every_name_is_the_hash_of_its_parameters(experiment: str) -> None:
    for name, record in committed(experiment).items():
        assert records.key_of(experiment, record["params"]) == name and record["experiment"] == experiment


@pytest.mark.parametrize("experiment", GOLDEN)
def test_parameters_resolve_to_themselves_type_by_type(experiment: str) -> None:
    """A float that became an int, or a parameter that is no more, would not."""
    for name, record in committed(experiment).items():
        resolved = asdict(experiments.resolve(experiment, record["params"]))
        said = {**resolved, **record["params"]}
        assert json.dumps(resolved) == json.dumps({field: said[field] for field in resolved}), name
        assert set(record["params"]) <= set(resolved), name


@pytest.mark.parametrize("experiment", GOLDEN)
def test_a_sweep_asks_for_every_record(experiment: str) -> None:
    files = [records.RESULTS.parent / folder / f"{experiment}.yml" for folder in ("sweeps", "paper")]
    asked = {point.key for path in files if path.exists() for point in sweeps.points(path)}
    assert set(committed(experiment)) <= asked


@pytest.mark.parametrize("experiment", GOLDEN)
def test_names_are_those_of_the_golden_file(experiment: str) -> None:
    names = sorted(records.key_of(experiment, record["params"]) for record in committed(experiment).values())
    found = {"records": len(names), "names": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    assert GOLDEN[experiment] == found, f"{json.dumps(experiment)}: {json.dumps(found)}"
