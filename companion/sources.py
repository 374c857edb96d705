"""Which files of ours a module or a notebook stands on.

A chapter is out of date when a file it reaches has changed; which those are is answered here, from
import statements, without importing anything. A name that a package passes on counts for the module
that defines it. Only the standard library is used, so that the build can load this file on its own:

    runpy.run_path("companion/sources.py")["notebook_sources"]
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("cimlib", "companion")
BY_NAME = "companion.experiments"  # the package that imports its modules by their names
LEDGER = "companion.claims.ledger"
ROOT = Path(__file__).resolve().parents[1]


def sources(*modules: str) -> list[Path]:
    """Files that `modules` reach through imports, their own included, sorted.

    modules: dotted names of modules or packages, e.g. `"companion.experiments.double_cba"`.
    The `__init__.py` of a package counts only where the package itself is imported.
    Raises `ValueError` for a name that is no module of ours.
    """
    if unknown := sorted(set(modules) - all_modules()):
        raise ValueError(f"modules={unknown}: none of ours; known: {sorted(all_modules())}")
    reached, waiting = set[str](), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imports(module)
    return sorted(map(file_of, reached))


def notebook_sources(path: str | Path) -> list[Path]:
    """Files of ours that the import statements of the notebook at `path` reach, sorted.

    A notebook that reaches `companion.experiments` reaches the experiments that it names in a
    string, and all of them if it names none or draws from the ledger of claims. Raises `ValueError` for a
    file that is not a notebook with Python in its cells.
    """
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        trees = [ast.parse(_without_magics(cell)) for cell in code]
    except (ValueError, LookupError, TypeError, SyntaxError) as error:
        raise ValueError(f"{path} is not a notebook of Python cells: {error}") from error
    modules = {module for tree in trees for module in _imported(tree)}
    reached = sources(*modules)
    if file_of(BY_NAME) not in reached:
        return reached
    experiments = {module for module in all_modules() if module.startswith(f"{BY_NAME}.")}
    nodes = (node for tree in trees for node in ast.walk(tree))
    words = {node.value for node in nodes if isinstance(node, ast.Constant)}
    named = {module for module in experiments if module.rpartition(".")[2] in words}
    return sources(*modules, *(experiments if file_of(LEDGER) in reached or not named else named))


@functools.cache
def all_modules() -> frozenset[str]:
    """Dotted names of all our modules and packages."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return frozenset(name.removesuffix(".__init__") for name in names)


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(_imported(ast.parse(file_of(module).read_text(encoding="utf-8"))))


def file_of(module: str) -> Path:
    """The file of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _without_magics(code: str) -> str:
    return "\n".join("" if line.startswith(("%", "!")) else line for line in code.splitlines())


def _imported(tree: ast.AST) -> Iterator[str]:
    """Names of our modules that the import statements in `tree` bring in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            yield from (_home(node.module, alias.name) for alias in node.names)


def is_ours(module: str) -> bool:
    """Whether a dotted name is of one of our packages."""
    return module.split(".")[0] in PACKAGES


def _home(module: str, name: str) -> str:
    """The module that `name` comes from when imported from `module`, re-exports followed."""
    if f"{module}.{name}" in all_modules():
        return f"{module}.{name}"
    if (path := file_of(module)).name == "__init__.py":
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return _home(node.module, alias.name)
    return module
