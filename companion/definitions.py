"""A digest of the code that a function reaches: it follows definitions, wherever they live.

A record is as good as the code that made it. That code is the function that made the record and, from name
to name, every function, class and constant that it can reach by them. So a definition that moves to another
module, or gets a new neighbour, makes no record stale; one that changes does, and so does what it calls. A
class counts as a whole. Of what is not ours only the name counts, `torch.nn.functional`, say.

Names are followed as Python binds them (`symtable`), through imports and what packages pass on, without
importing anything. What a module says of a definition of its own counts as part of it, as a registration
does. Two things are not seen: what is reached by a name put together at run time, and what one module does
to a definition of another when it is imported. This module is never part of a digest: the ruler changes no
number.
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


Target = Definition | str  # a definition of ours; the full name of another's
Import = ast.Import | ast.ImportFrom


class _Statement(NamedTuple):
    """One statement of a module and the names of the module's scope that it binds and refers to.

    chains: dotted names in it, taken apart: ``("np", "pi")``. inside: what imports in it bring in.
    """

    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    chains: frozenset[tuple[str, ...]]
    inside: frozenset[tuple[str, Target]]


def digest(module: str, *names: str) -> str:
    """Sixteen hex digits that change when a definition changes that ``names`` of ``module`` reach.

    Comments, docstrings and layout do not count, nor where a definition stands, nor the Python version that
    reads it. Raises ``ValueError`` for a module that is not ours and a name that it does not define.
    """
    links = reached(module, *names)
    number = {one: i for i, one in enumerate(links)}
    told = [
        [_own(one), [(name, target if isinstance(target, str) else number[target]) for name, target in named]]
        for one, named in links.items()
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def reached(module: str, *names: str) -> dict[Definition, list[tuple[str, Target]]]:
    """Every definition that ``names`` of ``module`` reach, with what it calls by which name.

    In the order in which they are met, which depends on names alone. Raises as :func:`digest` does.
    """
    if module not in sources.all_modules():
        raise ValueError(f"module={module!r}: none of ours; known: {sorted(sources.all_modules())}")
    starts = [_resolve(module, name) for name in names]
    unknown = [n for n, start in zip(names, starts, strict=True) if not isinstance(start, Definition)]
    if unknown:
        raise ValueError(f"names={unknown}: not defined in {module}")
    links: dict[Definition, list[tuple[str, Target]]] = {}
    waiting = [start for start in starts if isinstance(start, Definition)]
    while waiting:
        one = waiting.pop()
        if one not in links:
            links[one] = _links(one)
            waiting += [target for _, target in links[one] if isinstance(target, Definition)]
    return links


@functools.cache
def _own(one: Definition) -> str:
    """Digest of a definition's own statements."""
    syntax = [
        _syntax(statement.node) for statement in _defining(one) if not isinstance(statement.node, Import)
    ]
    return hashlib.sha256(json.dumps(syntax).encode()).hexdigest()[:16]


@functools.cache
def _links(one: Definition) -> list[tuple[str, Target]]:
    """What a definition refers to, sorted by its names there."""
    found = {link for statement in _defining(one) for link in _followed(one, statement)}
    ruler = {link for link in found if isinstance(link[1], Definition) and link[1].module == __name__}
    named = {(name, __name__) for name, _ in ruler}

    def by_name(link: tuple[str, Target]) -> tuple[str, str]:
        name, target = link
        return name, target if isinstance(target, str) else _own(target)

    return sorted((found - ruler) | named, key=by_name)


def _defining(one: Definition) -> list[_Statement]:
    """The statements that make ``one`` what it is: those that bind it, and those that do something to it."""
    every = _statements(one.module)
    if one.name == WHOLE:
        return list(every)
    return [s for s in every if one.name in s.binds or (one.name in s.uses and _does_something(s, one.name))]


def _does_something(statement: _Statement, name: str) -> bool:
    """Whether a statement is there for what it does: it binds nothing, is a block, or has a method of
    ``name`` as a decorator."""
    node = statement.node
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return any(len(c) > 1 and c[0] == name for item in node.decorator_list for c in _chains(item))
    return not statement.binds or isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try)


def _followed(one: Definition, statement: _Statement) -> Iterator[tuple[str, Target]]:
    """What a statement refers to: (name there, what it stands for)."""
    if isinstance(statement.node, Import):
        names = statement.binds if one.name == WHOLE else {one.name}
        found = [(name, _imported(one.module, statement.node, name)) for name in names]
    else:
        found = [*statement.inside, *((n, _resolve(one.module, n)) for n in statement.uses - statement.binds)]
    for name, target in found:
        if target is None:  # a builtin
            continue
        for chain in [chain for chain in statement.chains if chain[0] == name] or [(name,)]:
            yield _along(chain, target)


def _along(chain: tuple[str, ...], target: Target) -> tuple[str, Target]:
    """The part of a dotted name that leads through modules of ours to what it stands for."""
    done = 1
    while done < len(chain) and isinstance(target, Definition) and target.name == WHOLE:
        if (following := _resolve(target.module, chain[done])) is None:
            break
        target, done = following, done + 1
    return ".".join(chain[:done]), target


def _resolve(module: str, name: str) -> Target | None:
    """What ``name`` stands for in ``module``; ``None`` if the module neither binds nor has it."""
    for statement in reversed(_statements(module)):
        if name in statement.binds:
            if isinstance(statement.node, Import):
                return _imported(module, statement.node, name)
            return Definition(module, name)
    return _submodule(module, name)


def _submodule(module: str, name: str) -> Definition | None:
    full = f"{module}.{name}"
    return Definition(full, WHOLE) if full in sources.all_modules() else None


def _imported(module: str, node: Import, name: str) -> Target | None:
    """What an import statement of ``module`` brings in as ``name``."""
    if isinstance(node, ast.ImportFrom):
        (alias,) = (a for a in node.names if name == (a.asname or a.name))
        base = node.module or ""
        if not sources.is_ours(base):
            return f"{base}.{alias.name}"
        return _submodule(base, alias.name) if base == module else _resolve(base, alias.name)
    alias = next(a for a in node.names if name == (a.asname or a.name.split(".")[0]))
    full = alias.name if alias.asname else name
    return Definition(full, WHOLE) if sources.is_ours(full) else full


@functools.cache
def _statements(module: str) -> tuple[_Statement, ...]:
    """The statements of ``module``, docstrings and imports from the future left out."""
    tree = ast.parse(sources.file_of(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or node.names[0].name == "*"):
            raise ValueError(f"{module}, line {node.lineno}: name what is imported and from which package")
    kept = [node for node in tree.body if not _bare_string(node)]
    return tuple(
        _statement(module, node)
        for node in kept
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    )


def _statement(module: str, node: ast.stmt) -> _Statement:
    table = symtable.symtable(ast.unparse(node), "statement", "exec")
    symbols = table.get_symbols()
    binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}
    imports = [one for one in ast.walk(node) if isinstance(one, Import) and _is_ours(one) and one is not node]
    inside = {
        (name, target)
        for one in imports
        for alias in one.names
        for name in [alias.asname or alias.name.split(".")[0]]
        if (target := _imported(module, one, name)) is not None
    }
    return _Statement(
        node, frozenset(binds), frozenset(_uses(table)), frozenset(_chains(node)), frozenset(inside)
    )


def _uses(table: symtable.SymbolTable) -> Iterator[str]:
    """Names of the module's scope that ``table`` and the scopes in it refer to."""
    open_ = table.get_type() in ("module", "class")  # what is not bound there yet is the module's
    for s in table.get_symbols():
        if (s.is_referenced() and (open_ or s.is_global())) or s.is_declared_global():
            yield s.get_name()
    for inner in table.get_children():
        yield from _uses(inner)


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Dotted names in ``node``, each as far as it goes."""
    names, owner = list[str](), node
    while isinstance(owner, ast.Attribute):
        names, owner = [owner.attr, *names], owner.value
    if isinstance(owner, ast.Name):
        yield owner.id, *names
        return
    for child in ast.iter_child_nodes(owner):
        yield from _chains(child)


def _syntax(node: Any) -> Any:
    """The syntax tree as plain lists, without docstrings, imports of ours and empty fields."""
    if isinstance(node, ast.AST):
        told = [[name, _syntax(value)] for name, value in ast.iter_fields(node)]
        return [type(node).__name__, *(field for field in told if field[1] not in (None, []))]
    if isinstance(node, list):
        return [
            _syntax(item)
            for item in node
            if not (_bare_string(item) or (isinstance(item, Import) and _is_ours(item)))
        ]
    return None if node is None else repr(node)


def _bare_string(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_ours(node: Import) -> bool:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    return all(map(sources.is_ours, names))
