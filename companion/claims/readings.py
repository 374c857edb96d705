"""Records read: the values that a reading selects, and which images they are right about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion import experiments, records, sweeps
from companion.claims.intervals import Sample
from companion.claims.ledger import Reading
from companion.provenance import ADDED

Tables = Callable[[str], pd.DataFrame]  # experiment -> its records, as of `records.read`


class NotRunYet(LookupError):
    """No record fits, but a sweep asks for one that would."""


@dataclass(frozen=True, eq=False)
class Read:
    """What a reading has found: ``sample``, its values; ``unit``, what each is of, with the number of each;
    ``dataset``, whose images they share; ``stale``, whether older code made any; ``made``, digests of what
    was read; ``keys``, of which records, ``experiment/key``."""

    sample: Sample
    unit: str
    numbers: tuple[Any, ...]
    dataset: str
    stale: bool
    made: tuple[str, ...]
    keys: tuple[str, ...] = ()

    def only(self, numbers: list[Any]) -> Sample:
        """The values with these ``numbers``."""
        return self.sample.rows([self.numbers.index(number) for number in numbers])


def read(reading: Reading, tables: Tables = records.read, *, evidence: bool = True) -> Read:
    """Select the records and read them: those made as evidence (see :class:`~companion.sweeps.Sweep`), or the
    others.

    ``NotRunYet`` if a sweep asks for a record of them that is not there, else ``ValueError`` unless one
    record fits, or one for each value of ``over``, and has such a result, in finite numbers.
    """
    found = _found(reading, tables, evidence)
    first, right = found.iloc[0], _right(reading, found)
    if reading.over is not None:
        values = found[reading.value].map(np.mean).to_numpy(dtype=np.float64)
        unit, numbers = "trainings", tuple(found.index)
    else:
        values, start = np.asarray(first[reading.value], dtype=np.float64), int(first.get("first_chip", 0))
        unit = "seeds" if "seeds" in _parameters(reading.experiment) else "chips"
        numbers = tuple(range(start, start + len(values)))
    images = (kept.get(reading.value, "") for kept in found["right"])
    made = tuple(sorted(" ".join(both) for both in zip(found["content"], images, strict=True)))
    dataset, stale = str(first.get("dataset", "")), bool(found["stale"].any())
    keys = tuple(f"{reading.experiment}/{key}" for key in found["key"])
    return Read(Sample(values, right), unit, numbers, dataset, stale, made, keys)


def _ruler(reading: Reading, evidence: bool) -> dict[str, Any]:
    """The parameters of the records on which claims rest, or, where those are not run yet, of the others."""
    wanted = sweeps.evidence(reading.experiment)
    plain = experiments.resolve(reading.experiment, {"scale": reading.given.get("scale", "quick")})
    return wanted if evidence else {name: getattr(plain, name) for name in wanted}


def _found(reading: Reading, tables: Tables, evidence: bool) -> pd.DataFrame:
    """The records that the reading selects, indexed by ``over`` if there is one."""
    given, over = {**_ruler(reading, evidence), **reading.given}, reading.over
    for name in given:
        _among("given", name, _parameters(reading.experiment))
    asked = _asked(reading.experiment, given)
    try:
        table = tables(reading.experiment)
        found = records.select(table, **given)
    except (ValueError, FileNotFoundError) as error:
        if asked:
            raise NotRunYet(str(error)) from error
        _valid(reading.experiment, given)
        raise ValueError(str(error)) from error
    several = reading.tuned is not None or over is not None
    if several and (missing := asked - set(found["key"])):
        raise NotRunYet(f"{len(missing)} of {len(asked)} records with {given} are not there")
    _among("value", reading.value, set(table) - _parameters(reading.experiment) - {*ADDED})
    if found[reading.value].isna().any():
        told = f"not every record of {reading.experiment} with {given} has {reading.value!r}"
        raise (ValueError if evidence else NotRunYet)(told)
    if reading.tuned is not None:
        _among("tuned", reading.tuned, set(table))
        found = records.tuned(found, reading.tuned)
    for each in found[reading.value]:
        _finite(each, reading.value)
    if over is not None:
        _among("over", over, set(table))
        found = found.set_index(over).sort_index()
        if not found.index.is_unique:
            raise ValueError(f"records of {reading.experiment} with {given} differ not only in {over}")
    elif len(found) != 1:
        raise ValueError(f"{len(found)} records of {reading.experiment} have {given}; one is needed")
    return found


def _right(reading: Reading, found: pd.DataFrame) -> NDArray[np.float32] | None:
    """Shares of right predictions, %, (n, images), of its values, if all records keep them."""
    if not all(reading.value in kept for kept in found["right"]):
        return None
    shares = [100 * records.right(row, reading.value).astype(np.float32) for _, row in found.iterrows()]
    if len({each.shape[1] for each in shares}) > 1:
        return None
    return shares[0] if reading.over is None else np.stack([each.mean(0) for each in shares])


@cache
def _parameters(experiment: str) -> set[str]:
    """The columns of a table of records that are parameters."""
    return {field.name for field in fields(experiments.resolve(experiment, {}))}


def _finite(values: Any, name: str) -> None:
    """Raises ``ValueError`` unless ``values`` are finite numbers, at least one, in one list."""
    found = np.asarray(values) if isinstance(values, list) else np.empty(0)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "if" or not np.isfinite(found).all():
        what = f"{found.shape} values" if found.ndim > 1 else repr(values)[:80]
        raise ValueError(f"value = {name!r} is not allowed: {what}; allowed: a list of finite numbers")


def _among(field: str, name: str, known: set[Any]) -> None:
    if name not in known:
        raise ValueError(f"{field} = {name!r} is not allowed; allowed: {', '.join(sorted(known))}")


def _valid(experiment: str, given: dict[str, Any]) -> None:
    """Raises ``ValueError`` unless the experiment takes these parameters: no record can have others."""
    try:
        experiments.resolve(experiment, given)
    except ValueError as error:
        raise ValueError(f"given: {error}") from error


@cache
def _points(experiment: str) -> list[tuple[str, dict[str, Any]]]:
    """What the sweep of that experiment asks for: keys and parameters."""
    path = sweeps.SWEEPS / f"{experiment}.yml"
    asked = sweeps.points(path) if path.exists() else []
    return [(point.key, asdict(point.params)) for point in asked]


def _asked(experiment: str, given: dict[str, Any]) -> set[str]:
    """The keys of the records with these parameters that the sweep asks for."""
    return {key for key, params in _points(experiment) if given.items() <= params.items()}
