"""Declared fields: types, ranges and choices, checked by pydantic.

Errors name the field, its value and what is allowed. A parameter object declares its fields with the
types below, as a frozen pydantic dataclass; so do sweeps and ledgers, which derive from :class:`Filed`::

    @dataclass(frozen=True, config=STRICT)
    class Params:
        sigma: NonNegative = 0.1
        chips: Count = 20

Strict: no text becomes a number and no real number a whole one; a whole number does for a real one. What
needs several fields at once is checked in ``__post_init__``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, PydanticCustomError

STRICT = ConfigDict(strict=True, extra="forbid")

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Text = Annotated[str, Field(pattern=r"\S")]
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
    "string_pattern_mismatch": "a text that says something",
    "literal_error": "{expected}",
    "unexpected_keyword_argument": "no field of that name",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "tuple_type": "a list",
    "too_short": "at least {min_length}",
}
_T = TypeVar("_T")


def _whole(value: Any) -> Any:
    if type(value) is not int:
        raise PydanticCustomError("int_type", "an int")
    return value


#: A choice of numbers takes true and 1.0 for 1; this one does not.
Sign = Annotated[Literal[-1, 1], BeforeValidator(_whole)]


def one_of(choices: Iterable[str]) -> AfterValidator:
    """Annotation of a text that must be one of ``choices``, for choices that are keys of a table."""
    known = tuple(choices)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(", ".join(map(repr, known)))
        return value

    return AfterValidator(check)


@dataclass(frozen=True)
class Filed:
    """Base of what stands in a file: a mapping there, with lists and further mappings in it.

    Its numbers have to be declared strict, as `Number` is.
    """

    @model_validator(mode="before")
    @classmethod
    def _of_known_fields(cls, given: Any) -> Any:
        names = given.kwargs if isinstance(given, ArgsKwargs) else given
        known = [field.name for field in dataclasses.fields(cls)]
        for name in names if isinstance(names, Mapping) else ():
            if name not in known:
                raise ValueError(f"key = {name!r} is not allowed; allowed: {', '.join(known)}")
        return given


def filed(kind: type[_T], content: Any, where: str) -> _T:
    """``content``, as a file has it, as the dataclass ``kind``, a :class:`Filed`.

    Raises ``ValueError`` that begins with ``where`` and names each wrong field, its value and what is
    allowed; items of a list count from one.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{where}: {explained(error)}") from error


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
    name = ".".join(str(part + 1 if isinstance(part, int) else part) for part in one["loc"])
    if " is not allowed; allowed: " in message:  # by a check of several fields
        return f"{name}.{message}" if name else str(message)
    if one["type"] == "missing":
        return f"{name} is missing"
    allowed = _SIGNS[one["type"]].format(**context) if one["type"] in _SIGNS else message
    return f"{name or 'this'} = {one['input']!r} is not allowed; allowed: {allowed}"
