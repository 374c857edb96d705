"""Declared fields: types, ranges and choices, checked by pydantic; errors that name field, value and what is allowed.

A parameter object, a sweep and an entry of a ledger declare their fields with the types below, as a frozen
pydantic dataclass::

    @dataclass(frozen=True, config=STRICT)
    class Params:
        sigma: NonNegative = 0.1
        chips: Count = 20

Strict: no text becomes a number and no real number a whole one; a whole number does for a real one. What
needs several fields at once is checked in ``__post_init__``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

STRICT = ConfigDict(strict=True, extra="forbid")

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Scale = Literal["quick", "desk", "paper"]
TorchDevice = Literal["cpu", "cuda"]

_SIGNS = {
    "greater_than_equal": "≥ {ge:g}",
    "greater_than": "> {gt:g}",
    "less_than_equal": "≤ {le:g}",
    "less_than": "< {lt:g}",
    "finite_number": "a finite number",
    "int_type": "an int",
    "int_from_float": "an int",
    "float_type": "a float",
    "bool_type": "a bool",
    "string_type": "a str",
    "literal_error": "{expected}",
    "missing": "a value",
    "unexpected_keyword_argument": "no field of that name",
}
_T = TypeVar("_T")


def one_of(choices: Iterable[str]) -> AfterValidator:
    """Annotation of a text that must be one of ``choices``, for choices that are keys of a table."""
    known = tuple(choices)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(", ".join(map(repr, known)))
        return value

    return AfterValidator(check)


def checked(make: Callable[..., _T], **given: Any) -> _T:
    """``make(**given)``. Raises ``ValueError`` that names each wrong field, its value and what is allowed."""
    try:
        return make(**given)
    except ValidationError as error:
        raise ValueError(explained(error)) from error


def explained(error: ValidationError) -> str:
    """What is wrong in terms of the book: field = value is not allowed; allowed: …"""
    return "; ".join(_said(one) for one in error.errors(include_url=False))


def _said(one: Any) -> str:
    message, context = one["msg"].removeprefix("Value error, "), one.get("ctx", {})
    if " is not allowed; allowed: " in message:  # by a check of several fields
        return str(message)
    name = ".".join(str(part) for part in one["loc"]) or "this"
    allowed = _SIGNS[one["type"]].format(**context) if one["type"] in _SIGNS else message
    return f"{name} = {one['input']!r} is not allowed; allowed: {allowed}"
