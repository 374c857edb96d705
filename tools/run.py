"""Run one chapter with other parameters: `python tools/run.py CHAPTER [-p NAME VALUE]...`.

Papermill runs a notebook even if a parameter is misspelt or of the wrong type; here nothing runs
until every name and value fits the chapter's `parameters` cell: its names, the types of its values
and the ranges in its comments. Values are YAML 1.2: `1e-3` is a number, `no` a text, and `010`, which
is eight or ten, is refused. The kernel is `python3`, with whichever a chapter was saved.
"""

import ast
import difflib
import hashlib
import json
import math
import operator
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.translators import PythonTranslator

from companion import yaml_files

ROOT = Path(__file__).resolve().parents[1]
USAGE = 'usage: make run CHAPTER=name ARGS="-p name value -p name value ..."'
Parameters = dict[str, tuple[Any, str]]  # name -> (default, comment)

SIGNS = {"≥": operator.ge, ">": operator.gt, "≤": operator.le, "<": operator.lt}
N = r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
RANGE = re.compile(rf"([≥>≤<]) ?{N}|{N} to {N}|\[{N}, ?{N}\]")
EXAMPLE = re.compile(r'(such as|for example|e\.g\.),? "')


def opened(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path`; raises `ValueError` if it is none, or none in Python."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        kernel, said = (notebook.metadata.get(name, {}) for name in ("kernelspec", "language_info"))
        language = said.get("name") or kernel.get("language") or "python"
    except (ValueError, LookupError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} is not a notebook: {str(error)[:80]}") from error
    if language.lower() not in ("python", "ipython"):
        raise ValueError(
            f"{path} was saved with kernel {kernel.get('name')!r} for {language}: choose one for Python"
        )
    return notebook


def parameters(path: Path) -> Parameters:
    """What the `parameters` cell of the notebook at `path` declares.

    Raises `ValueError` naming notebook, cells (counted from one) and lines unless there is one such cell,
    of names and literals, and none that papermill has added to an executed notebook.
    """
    cells = dict(enumerate(opened(path).cells, 1))
    tagged = {
        tag: [number for number, cell in cells.items() if tag in cell.metadata.get("tags", [])]
        for tag in ("parameters", "injected-parameters")
    }
    if len(tagged["parameters"]) != 1:
        where = " and ".join(map(str, tagged["parameters"])) or "none"
        raise ValueError(f"{path}: cells tagged 'parameters': {where}; allowed: exactly one")
    if added := tagged["injected-parameters"]:
        raise ValueError(f"{path}: cell {added[0]} holds the parameters of an earlier run: delete it")
    (number,) = tagged["parameters"]
    return declared(cells[number], f"{path}: cell {number}")


def declared(cell: nbformat.NotebookNode, where: str) -> Parameters:
    """The parameters in that cell: each a name and a literal, once, on a line that papermill can read."""
    comments = {one.name: one.help for one in PythonTranslator.inspect(cell)}
    found: Parameters = {}
    try:
        for node in ast.parse(cell.source).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    if name in found:
                        raise ValueError(f"{name} is there twice")
                    if name not in comments:
                        raise ValueError(f"papermill cannot read {name} (an = in its comment?)")
                    found[name] = ast.literal_eval(node.value), comments[name]
                case _:
                    raise ValueError(f"{ast.unparse(node)!r} is not a name and a literal")
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{where}, tagged 'parameters': {error}") from error
    return found


def listing(known: Parameters) -> str:
    """The parameters, one a line, with type, default and comment."""
    rows = ((name, type(value).__name__, value, said) for name, (value, said) in known.items())
    return "\n".join(f"  {name}: {kind} = {value!r}  # {said}" for name, kind, value, said in rows)


def read(text: str) -> Any:
    """The value that `text` is; raises `ValueError` if it can be read in two ways, or in part."""
    value = yaml_files.parse(text)
    if str(value).count("#") != text.count("#"):
        raise ValueError("what follows # is a comment; quote a text that holds one")
    return value


def fitting(value: Any, default: Any) -> Any:
    """`value` as what `default` is; raises `ValueError` if it is of another type, or not finite."""
    if isinstance(default, list) and isinstance(value, list):
        like = [item for item in default if type(item) is float] or default  # numbers: real if any is
        return [fitting(item, like[0]) for item in value] if default else value
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ValueError(f"of type {type(value).__name__}, not {type(default).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def within(value: Any, said: str) -> None:
    """Raises `ValueError` if `value` breaks a range, or is none of the texts, in the comment."""
    if isinstance(value, list):
        for item in value:
            within(item, said)
    elif isinstance(value, str):
        texts = [] if EXAMPLE.search(said) else re.findall(r'"([^"]*)"', said)
        if texts and value not in texts:
            raise ValueError(f"none of {', '.join(map(repr, texts))}")
    else:
        for stated in RANGE.finditer(said):
            low, high = filter(None, stated.groups())  # or a sign and its bound
            bounds = [(low, high)] if low in SIGNS else [("≥", low), ("≤", high)]
            if not all(SIGNS[sign](value, float(bound)) for sign, bound in bounds):
                raise ValueError(f"outside the range {stated.group()}")


def among(name: str, known: Iterable[str], kind: str) -> None:
    """Raises `ValueError` unless `name` is known, with the likeliest of the known names."""
    if name not in known:
        near = difflib.get_close_matches(name, list(known), 1)
        raise ValueError(f"no {kind} {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))


def checked(given: list[str], known: Parameters) -> dict[str, Any]:
    """The command line's `-p name value` triples as values that fit; raises `ValueError`."""
    if len(given) % 3 or any(flag != "-p" for flag in given[::3]):
        raise ValueError(USAGE)
    values: dict[str, Any] = {}
    for name, text in zip(given[1::3], given[2::3], strict=True):
        among(name, known, "parameter")
        if name in values:
            raise ValueError(f"{name} is given twice, the second time as {text}: give it once")
        try:
            default, said = known[name]
            values[name] = fitting(read(text), default)
            within(values[name], said)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{name} = {text}: {error}") from None
    return values


def main(chapter: str, given: list[str], root: Path = ROOT) -> int:
    """Check, run, say where the executed notebook is; returns the exit code."""
    chapters = {path.stem: path for path in sorted((root / "chapters").glob("*.ipynb"))}
    valid = f"chapters: {', '.join(chapters)}"
    try:
        if not chapter:
            raise ValueError(USAGE)
        among(chapter, chapters, "chapter")
        known = parameters(chapters[chapter])
        valid = f"parameters of {chapter}:\n{listing(known)}"
        values = checked(given, known)
    except ValueError as error:
        print(f"{error}\n{valid}", file=sys.stderr)
        return 2
    resolved = {name: values.get(name, default) for name, (default, _) in known.items()}
    digest = hashlib.sha256(json.dumps(resolved).encode()).hexdigest()[:10]
    output = root / "_build" / "runs" / f"{chapter}-{digest}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    path, folder = str(chapters[chapter]), str(root / "chapters")
    try:
        papermill.execute_notebook(
            path, str(output), values, cwd=folder, kernel_name="python3", language="python"
        )
    except papermill.PapermillExecutionError as error:
        print(f"{error}\nstopped; what ran is in {output}", file=sys.stderr)
        return 1
    print(f"the chapter as run: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]))
