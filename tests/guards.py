"""What every chapter must keep to: each guard takes a notebook and returns what is wrong with it.

nbval compares nothing in a cell that never ran, papermill runs a misspelt parameter, and the book
renders whatever it is given; these guards see what those three let through.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from nbformat import NotebookNode
from papermill.translators import PythonTranslator

from companion.notation import SYMBOLS
from companion.pictures import VERSIONS

CHAPTERS = sorted((Path(__file__).resolve().parents[1] / "chapters").glob("*.ipynb"))
LISTS = {"scoreboard", "what_changed", "notation"}  # pages made from tables, without the six movements
PAPERS = [path for path in CHAPTERS if path.stem not in LISTS]
MOVEMENTS = [
    "The question",
    "The idea",
    "Try it",
    "The evidence",
    "Does it hold?",
    "Where we differ, and what to try next",
]
CELL_LINES, FUNCTION_LINES, ALT_LETTERS, EXERCISES = 12, 10, 40, 3

UNREPEATABLE = re.compile(  # a raw float, an address
    r"\d+\.\d{5,}|(?<![\w.])\d+(?:\.\d*)?[eE][-+]?\d+(?!\w)|\bat 0x\w+"
)
EXACT = {"0.77763"}  # derived in closed form, so the same on every machine
TYPED_NUMBER = re.compile(  # but "95 %" is the name of an interval
    r"(?<![\w.§])\d+\.\d+(?![\w.]*\d)|(?<![\w.])(?!95\s?%)\d+(?:\.\d+)?\s?(?:%|per ?cent)"
)
RANGE = re.compile(r"[<>≤≥]|\d to .*\d|\[.+,.+\]|\(.+,.+\]")
COMPARED = ("text/plain", "text/markdown", "text/html", "text/latex")
LIVE_OR_EXACT = ("image/svg+xml", "application/javascript", "application/vnd.", "record/image/")

MATHS = re.compile(
    r"```+\{math\}.*?```+|:::+\{math\}.*?:::+|\\begin\{(?P<env>align|equation|gather)\*?\}.*?"
    r"\\end\{(?P=env)\*?\}|\$\$.+?\$\$|(?<![\\$])\$[^$]+?\$",
    re.DOTALL,
)
VERBATIM = re.compile(
    r"```+(?:\{code[^}]*\})?(?![{`])[^\n]*\n.*?```+"  # fenced code; other directives hold prose
    r"|<!--.*?-->"
    r"|(?:\{[\w:]+\})?(?<!`)(?P<tick>`{1,2})(?!`)(?:(?!\n\s*\n).)+?(?P=tick)(?!`)"  # code, roles
    r"|\]\([^)]*\)|<https?://[^>]*>|https?://\S+"
    r"|^[ ]*:[\w-]+:[^\n]*$|^\([\w-]+\)=$",  # directive options, labels
    re.DOTALL | re.MULTILINE,
)
GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon "
    "Phi Psi Omega ell"
)
CONSTANTS = {"e", "d"}
NAMED = re.compile(r"\\(?:mathrm|text\w*|operatorname\*?|label|tag|eqref|begin|end)\s*\{[^}]*\}")
LOWERED = re.compile(r"_(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\\w+|\w)")
LETTER = re.compile(r"\\([A-Za-z]+)|([A-Za-z])")


def ran_in_order(notebook: NotebookNode) -> list[str]:
    """Every code cell has run, in order, once: counts 1..n."""
    return [
        f"{_named(cell)}: execution count {cell.execution_count}, not {expected}"
        for expected, cell in enumerate(_code(notebook), 1)
        if cell.execution_count != expected
    ]


def ran_clean(notebook: NotebookNode) -> list[str]:
    """No cell raised, and none wrote to stderr."""
    return [
        f"{_named(cell)}: {output.get('ename', 'stderr')}"
        for cell in _code(notebook)
        for output in cell.outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def runs_on_python3(notebook: NotebookNode) -> list[str]:
    """The kernel is the one that every installation has."""
    name = notebook.metadata.get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"kernel {name!r}, not 'python3': `make refresh` stores it so"]


def one_parameters_cell(notebook: NotebookNode) -> list[str]:
    """One cell tagged `parameters`: literals that papermill reads, each with a comment.

    The comment of a number says what it is and its range (`0 to 1`, `[0, 1]`, `≥ 0`), that of a
    text or a switch its allowed values; papermill cannot read a comment that holds an `=`.
    """
    cells = [cell for cell in _code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        return [f"{len(cells)} cells tagged 'parameters', one wanted"]
    seen = {one.name: one.help for one in PythonTranslator.inspect(cells[0])}
    wrong = []
    for node in ast.parse(cells[0].source).body:
        try:
            name, value = node.targets[0].id, ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            wrong.append(f"parameters: {ast.unparse(node)!r} is not a name and a literal")
            continue
        said = seen.get(name, "")
        if name not in seen:
            wrong.append(f"parameters: papermill cannot read {name!r} (an = in its comment?)")
        elif _is_number(value) and not (RANGE.search(said) and re.search(r"\w.*[,;(]", said)):
            wrong.append(f"parameters: {name!r} needs the comment '# meaning, unit, range'")
        elif not _is_number(value) and not re.search(r"\bor\b", said):
            wrong.append(f"parameters: {name!r} needs a comment with its allowed values, a or b")
    return wrong


def compares_only_what_repeats(notebook: NotebookNode) -> list[str]:
    """Outputs hold rounded numbers and no addresses: the rest differs from machine to machine."""
    return [
        f"{_named(cell)}: {match.group()} will not be the same elsewhere"
        for cell in _code(notebook)
        for text in _printed(cell)
        for match in UNREPEATABLE.finditer(text)
        if match.group() not in EXACT
    ]


def hides_nothing_from_nbval(notebook: NotebookNode) -> list[str]:
    """No cell is skipped, ignored or allowed to raise."""
    return [
        f"{_named(cell)}: hidden from the comparison"
        for cell in _code(notebook)
        if "NBVAL_" in cell.source
        or any("nbval" in tag or tag == "raises-exception" for tag in cell.metadata.get("tags", []))
    ]


def figures_speak(notebook: NotebookNode) -> list[str]:
    """A figure is a PNG with caption, name, alternative text and a printed number beside it.

    It carries its versions for a phone and for a dark page, as each does that `companion.plots` draws.
    """
    wrong = []
    for cell in _code(notebook):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if exact := [kind for kind in kinds if any(part in kind for part in LIVE_OR_EXACT)]:
            wrong.append(f"{_named(cell)}: {exact[0]}, only plain PNG output is compared fairly")
        if "image/png" not in kinds:
            continue
        if len(_shown(cell)) > 1:
            wrong.append(f"{_named(cell)}: {len(_shown(cell))} outputs would share one caption")
        carried = [set(o.get("metadata", {}).get("image/png", {})) for o in _shown(cell)]
        if lacking := [name for name in VERSIONS[1:] if not all(name in names for names in carried)]:
            wrong.append(f"{_named(cell)}: not drawn by companion.plots, without {', '.join(lacking)}")
        shown = cell.metadata.get("mystnb", {})
        for key in ("caption", "name"):
            if not shown.get("figure", {}).get(key):
                wrong.append(f"{_named(cell)}: no figure {key}")
        if len(shown.get("image", {}).get("alt", "")) < ALT_LETTERS:
            wrong.append(f"{_named(cell)}: image alt shorter than {ALT_LETTERS} letters")
        if not any(re.search(r"\d", text) for text in _printed(cell)):
            wrong.append(f"{_named(cell)}: a figure, and no number printed beside it")
    return wrong


def shows_what_is_meant(notebook: NotebookNode) -> list[str]:
    """A bar of hidden code has a name and something below it, and no line that is there for nbval alone."""
    wrong = []
    for cell in _code(notebook):
        tags = cell.metadata.get("tags", [])
        if "hide-input" not in tags:
            continue
        if not _shown(cell):
            wrong.append(f"{_named(cell)}: a bar over nothing, tag it 'remove-cell'")
        if any(output.get("name") == "stdout" for output in cell.outputs) and "remove-stdout" not in tags:
            wrong.append(f"{_named(cell)}: prints below hidden code, tag it 'remove-stdout'")
        if not cell.metadata.get("mystnb", {}).get("code_prompt_show"):
            wrong.append(f"{_named(cell)}: no mystnb.code_prompt_show, which names the bar")
    return wrong


def cells_are_short(notebook: NotebookNode) -> list[str]:
    """A code cell is read at a glance."""
    return [
        f"{_named(cell)}: {count} lines, {CELL_LINES} at most"
        for cell in _code(notebook)
        if (count := _lines(cell.source)) > CELL_LINES
    ]


def library_does_the_work(notebook: NotebookNode) -> list[str]:
    """No classes and no long functions in a chapter."""
    wrong = []
    for cell in _code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ClassDef):
                wrong.append(f"{_named(cell)}: defines the class {node.name}")
            if isinstance(node, ast.FunctionDef):
                count = _lines(ast.get_source_segment(cell.source, node) or "")
                if count > FUNCTION_LINES:
                    wrong.append(f"{_named(cell)}: {node.name} has {count} lines")
    return wrong


def numbers_have_a_source(notebook: NotebookNode) -> list[str]:
    """A decimal number or percentage in prose is glued, or stands in a paragraph that cites."""
    wrong = []
    for cell in _prose(notebook):
        for paragraph in re.split(r"\n\s*\n", _plain(cell.source)):
            match = TYPED_NUMBER.search(paragraph)
            if match and "{cite" not in paragraph:
                line = next(line for line in paragraph.splitlines() if match.group() in line)
                wrong.append(f"{_named(cell)}: typed number {match.group()!r} in {line.strip()!r}")
    return wrong


def has_six_movements(notebook: NotebookNode) -> list[str]:
    """The second-level headings are the six movements, in order."""
    found = [match for cell in _prose(notebook) for match in _headings(cell.source, 2)]
    return [] if found == MOVEMENTS else [f"sections {found}, wanted {MOVEMENTS}"]


def ends_in_exercises(notebook: NotebookNode) -> list[str]:
    """The last movement holds three exercises with folded answers."""
    text = "\n\n".join(cell.source for cell in _prose(notebook))
    last = re.split(r"^## ", text, flags=re.MULTILINE)[-1]
    count = len(re.findall(r"^:class:.*\bdropdown\b|\{dropdown\}", last, flags=re.MULTILINE))
    return [] if count == EXERCISES else [f"{count} folded answers at the end, not {EXERCISES}"]


def symbols_are_in_the_notation(notebook: NotebookNode) -> list[str]:
    """Every letter that carries a meaning in the maths stands in the notation table."""
    known = CONSTANTS.union(*(_letters(symbol.tex) for symbol in SYMBOLS))
    return [
        f"{_named(cell)}: {letter!r} in {maths.group().strip()!r} is not in the notation table"
        for cell in _prose(notebook)
        for maths in MATHS.finditer(cell.source)
        for letter in sorted(_letters(maths.group()) - known)
    ]


Guard = Callable[[NotebookNode], list[str]]

EVERYWHERE: list[Guard] = [
    ran_in_order,
    ran_clean,
    runs_on_python3,
    one_parameters_cell,
    compares_only_what_repeats,
    hides_nothing_from_nbval,
    figures_speak,
    shows_what_is_meant,
    cells_are_short,
    library_does_the_work,
    numbers_have_a_source,
    symbols_are_in_the_notation,
]
IN_PAPERS: list[Guard] = [has_six_movements, ends_in_exercises]


def _code(notebook: NotebookNode) -> Iterator[NotebookNode]:
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def _prose(notebook: NotebookNode) -> Iterator[NotebookNode]:
    return (cell for cell in notebook.cells if cell.cell_type == "markdown")


def _named(cell: NotebookNode) -> str:
    first = cell.source.strip().split("\n")[0][:60]
    return f"cell {cell.get('id', '?')} ({first})"


def _printed(cell: NotebookNode) -> Iterator[str]:
    """The texts that nbval compares; what stands in for a figure is not one."""
    for output in cell.outputs:
        data = output.get("data", {})
        if output.get("name") == "stdout":
            yield output.text
        if not any(kind.startswith("image/") for kind in data):
            yield from (
                re.sub(r"<[^>]*>", " ", text) if kind.endswith("html") else text
                for kind, text in data.items()
                if kind.endswith(COMPARED)
            )


def _shown(cell: NotebookNode) -> list[NotebookNode]:
    """Outputs that the page shows, streams apart; what is only glued is not shown."""
    glued = "application/papermill.record/"
    return [o for o in cell.outputs if any(not k.startswith(glued) for k in o.get("data", {}))]


def _lines(code: str) -> int:
    return sum(bool(line.strip()) for line in code.splitlines())


def _is_number(value: object) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, int | float) and not isinstance(first, bool)


def _plain(markdown: str) -> str:
    """Prose without maths, code, roles other than citations, addresses and directive options."""
    kept = re.sub(r"\{cite[^}]*\}`[^`]*`", "{cite}", MATHS.sub(" ", markdown))
    return VERBATIM.sub(" ", kept)


def _headings(markdown: str, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} +(.+?)\s*$", VERBATIM.sub(" ", markdown), re.MULTILINE)


def _letters(tex: str) -> set[str]:
    """The letters of `tex` that carry a meaning; indices and upright names do not count."""
    bare = LOWERED.sub(" ", NAMED.sub(" ", re.sub(r"\{math\}|^:\w+:.*$", " ", tex, flags=re.M)))
    return {
        command or letter for command, letter in LETTER.findall(bare) if letter or command in GREEK.split()
    }
