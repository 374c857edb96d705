"""A digest of the code that a function reaches: it follows definitions, wherever they live.

A record is as good as the code that made it. That code is the function that made the record and, from name
to name, every function, class and constant that it can reach by them. So a definition that moves to another
module, or gets a new neighbour, makes no record stale; one that changes does, and so does what it calls. A
class counts as a whole. Of what is not ours only the name counts, `torch.nn.functional`, say.

Names are followed as Python binds them (`symtable`), through imports and what packages pass on, without
importing anything. What is reached by a name put together at run time is not seen. This module is never part
of a digest: the ruler changes no number.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import symtable
from collections.abc import Iterator
from typing import Any, NamedTuple

from companion import sources

WHOLE = ""  # in place of a name: everything in the module


class Definition(NamedTuple):
    """A name and the module that defines it; ``WHOLE`` stands for the module."""

    module: str
    name: str


class _Statement(NamedTuple):
    """One statement of a module, the names that it binds there, and those that it refers to."""

    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    attributes: frozenset[tuple[str, str]]
    imports: frozenset[Definition]  # of ours, inside a function


def digest(module: str, *names: str) -> str:
    """Sixteen hex digits that change when a definition changes that ``names`` of ``module`` reach.

    Comments, docstrings and layout do not count, nor where a definition stands, nor the Python version that
    reads it. Raises ``ValueError`` for a module that is not ours and a name that it does not define.
    """
    links = reached(module, *names)
    told = sorted([_own(one), sorted({*map(_told, named)})] for one, named in links.items())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def reached(module: str, *names: str) -> dict[Definition, set[tuple[str, Definition | str]]]:
    """Every definition that ``names`` of ``module`` reach, with what it calls by which name.

    Raises as :func:`digest` does.
    """
    if module not in sources.all_modules():
        raise ValueError(f"module={module!r}: none of ours; known: {sorted(sources.all_modules())}")
    starts = [_resolve(module, name) for name in names]
    unknown = [n for n, start in zip(names, starts, strict=True) if not isinstance(start, Definition)]
    if unknown:
        raise ValueError(f"names={unknown}: not defined in {module}")
    links: dict[Definition, set[tuple[str, Definition | str]]] = {}
    waiting = [start for start in starts if isinstance(start, Definition)]
    while waiting:
        one = waiting.pop()
        if one not in links and one.module != __name__:
            links[one] = _links(one)
            waiting += [target for _, target in links[one] if isinstance(target, Definition)]
    return links


@functools.cache
def _links(one: Definition) -> set[tuple[str, Definition | str]]:
    return {link for statement in _defining(one) for link in _followed(one.module, statement)}


def _told(link: tuple[str, Definition | str]) -> tuple[str, str]:
    name, target = link
    return name, _own(target) if isinstance(target, Definition) else target


@functools.cache
def _own(one: Definition) -> str:
    """Digest of a definition's own statements."""
    syntax = [_syntax(statement.node) for statement in _defining(one)]
    return hashlib.sha256(json.dumps(syntax).encode()).hexdigest()[:16]


def _defining(one: Definition) -> list[_Statement]:
    """The statements that make ``one`` what it is: those that bind it, and those that bind nothing but
    speak of it, as a registration does."""
    every = _statements(one.module)
    if one.name == WHOLE:
        return [s for s in every if not isinstance(s.node, ast.Import | ast.ImportFrom)]
    return [s for s in every if one.name in s.binds or (not s.binds and one.name in s.uses)]


def _followed(module: str, statement: _Statement) -> Iterator[tuple[str, Definition | str]]:
    """What a statement of ``module`` refers to: (name there, definition of ours or name of another's)."""
    yield from ((one.name, one) for one in statement.imports)
    for name in statement.uses - statement.binds:
        target = _resolve(module, name)
        if target is None:  # a builtin
            continue
        if isinstance(target, str) or target.name != WHOLE:
            yield name, target
            continue
        attributes = sorted(attribute for owner, attribute in statement.attributes if owner == name)
        found = [(attribute, _resolve(target.module, attribute)) for attribute in attributes]
        if not found or any(one is None for _, one in found):
            yield name, target
        yield from ((f"{name}.{attribute}", one) for attribute, one in found if one is not None)


def _resolve(module: str, name: str) -> Definition | str | None:
    """What ``name`` stands for in ``module``: a definition of ours, wherever it is; the full name of
    another's; ``None`` if the module does not bind it."""
    if f"{module}.{name}" in sources.all_modules():
        return Definition(f"{module}.{name}", WHOLE)
    for statement in reversed(_statements(module)):
        if name not in statement.binds:
            continue
        node = statement.node
        if isinstance(node, ast.ImportFrom):
            (alias,) = (a for a in node.names if name == (a.asname or a.name))
            base = node.module or ""
            return _resolve(base, alias.name) if sources.is_ours(base) else f"{base}.{alias.name}"
        if isinstance(node, ast.Import):
            (alias,) = (a for a in node.names if name == (a.asname or a.name.split(".")[0]))
            full = alias.name if alias.asname else name
            return Definition(full, WHOLE) if sources.is_ours(full) else full
        return Definition(module, name)
    return None


@functools.cache
def _statements(module: str) -> tuple[_Statement, ...]:
    """The statements of ``module``, docstrings and imports from the future left out."""
    tree = ast.parse(sources.file_of(module).read_text(encoding="utf-8"))
    kept = [node for node in tree.body if not _bare_string(node)]
    return tuple(
        _statement(node)
        for node in kept
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    )


def _statement(node: ast.stmt) -> _Statement:
    table = symtable.symtable(ast.unparse(node), "statement", "exec")
    symbols = table.get_symbols()
    binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    inside = [one for one in ast.walk(node) if one is not node]
    owners = [one for one in inside if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)]
    attributes = {(one.value.id, one.attr) for one in owners if isinstance(one.value, ast.Name)}
    imports = {
        target
        for one in inside
        if isinstance(one, ast.ImportFrom) and sources.is_ours(one.module or "")
        for alias in one.names
        if isinstance(target := _resolve(one.module or "", alias.name), Definition)
    }
    return _Statement(
        node,
        frozenset(binds),
        frozenset(_uses(table)),
        frozenset(attributes),
        frozenset(imports),
    )


def _uses(table: symtable.SymbolTable) -> Iterator[str]:
    """Names of the module's scope that ``table`` and the scopes in it refer to."""
    outermost = table.get_type() == "module"
    yield from (
        s.get_name() for s in table.get_symbols() if s.is_referenced() and (outermost or s.is_global())
    )
    for inner in table.get_children():
        yield from _uses(inner)


def _syntax(node: Any) -> Any:
    """The syntax tree as plain lists, without docstrings, imports of ours and empty fields."""
    if isinstance(node, ast.AST):
        told = [[name, _syntax(value)] for name, value in ast.iter_fields(node)]
        return [type(node).__name__, *(field for field in told if field[1] not in (None, []))]
    if isinstance(node, list):
        return [_syntax(item) for item in node if not _bare_string(item) and not _our_import(item)]
    return None if node is None else repr(node)


def _bare_string(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _our_import(node: Any) -> bool:
    return isinstance(node, ast.ImportFrom) and sources.is_ours(node.module or "")
