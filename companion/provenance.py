"""What a record holds, field by field, and the digests that hold it together.

A record that lacks a field, has another, or has one that cannot be, is refused; so is one whose parameters,
results or provenance are not those that were written together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import AfterValidator, Strict
from pydantic.dataclasses import dataclass

from companion.fields import Count, Filed, NonNegative, filed


def _like(pattern: str, words: str) -> AfterValidator:
    """Annotation of a text of that pattern, which is ``words`` in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


#: Columns of a table of records that are neither parameters nor results; ``right``: digests of images.
ADDED = ("key", "stale", "experiment", "content", "right")

Text = Annotated[str, Strict()]
Number = Annotated[Count, Strict()]
Digest = Annotated[Text, _like("[0-9a-f]{16}", "16 hexadecimal digits")]
DataDigest = Annotated[Text, _like("[0-9a-f]{64}", "64 hexadecimal digits")]
Commit = Annotated[Text, _like("[0-9a-f]{40}(-dirty)?", "40 hexadecimal digits, with or without -dirty")]


@dataclass(frozen=True)
class Used(Filed):
    """A data set: its digest, and the number of training samples."""

    digest: DataDigest
    n_train: Number


@dataclass(frozen=True)
class Rechecked(Filed):
    """A recheck that accepted the record: the digest of the code before, the commit of the code that agreed,
    the records that were run again at full size, and how many were compared at a small one."""

    digest: Digest
    commit: Commit | None
    rerun: tuple[Digest, ...]
    small: Number = 1


@dataclass(frozen=True)
class Record(Filed):
    """A whole record; see :mod:`companion.records`.

    Args:
        data: the data sets used, by name.
        seconds: wall time on ``threads`` cores.
        right: of each accuracy whose images are kept beside the record, their digest.
        digest: of the code that made it, or that makes the same.
        commit: of that code, if it was in a checkout.
        content: digest of experiment, parameters and results.
        rechecked: every recheck that accepted it.
        provenance: digest of everything else; records made before there was one lack it.
    """

    experiment: Text
    params: dict[Text, Any]
    result: dict[Text, Any]
    data: dict[Text, Used]
    seconds: Annotated[NonNegative, Strict()]
    threads: Number
    digest: Digest
    commit: Commit | None
    versions: dict[Text, Text]
    platform: Text
    content: Digest
    rechecked: tuple[Rechecked, ...] = ()
    right: dict[Text, Digest] = field(default_factory=dict)
    provenance: Digest | None = None

    def __post_init__(self) -> None:
        twice = {*self.params, *ADDED} & set(self.result)
        if twice:
            raise ValueError(f"result = {sorted(twice)} is not allowed; allowed: what no parameter is called")


def parsed(text: str) -> dict[str, Any]:
    """The record in ``text``, which is JSON.

    Raises ``ValueError`` for a key that is there twice, and for a field that is missing, unknown or cannot
    be, with its name, its value and what is allowed.
    """
    record: dict[str, Any] = json.loads(text, object_pairs_hook=_once)
    filed(Record, record, "record")
    return record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of JSON. Raises ``ValueError`` for a key that is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"keys that are there twice: {sorted(n for n in found if names.count(n) > 1)}")
    return found


def digest(content: Any) -> str:
    """Sixteen hexadecimal digits of ``content``, which is what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with the digests of what it says and of how it came about."""
    said = {name: record[name] for name in ("experiment", "params", "result")}
    rest = {name: value for name, value in record.items() if name not in {*said, "content", "provenance"}}
    return {**record, "content": digest(list(said.values())), "provenance": digest(rest)}
