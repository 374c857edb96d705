"""A chapter's notebook as its reader takes it away: plain Markdown, which Jupyter shows without the book.

Roles, directives, labels and links without text of MyST become words; glued values are those of the
notebook's own outputs, and drawings travel in their cells. The page's download button offers this notebook,
and so do the zips of ``make zips``.
"""

from __future__ import annotations

import ast
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from pybtex.database import Entry, parse_file
from sphinx.application import Sphinx

from companion.rendering import launching
from companion.rendering.builders import SITE, makes

Cell = dict[str, Any]

ROLE = re.compile(r"\{([a-z][\w:+.-]*)\}(`+)(.+?)\2", re.DOTALL)
FENCE = re.compile(r"^(:{3,}|`{3,})\{([\w:-]+)\}([^\n]*)\n(.*?)^\1[ ]*$", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"\A:([\w-]+):[ ]*([^\n]*)\n")
LINK = re.compile(r"(?<!!)\[\]\(([^()\s]+)\)")
EQUATION = re.compile(r"^\$\$ ?\(([\w-]+)\)[ ]*$", re.MULTILINE)
NAMED = re.compile(r"^:name: (\S+)", re.MULTILINE)
EXPLICIT = re.compile(r"(.+?)\s*<([^<>]+)>\Z", re.DOTALL)
DEFINITION = re.compile(r"^(\S[^\n]*)\n:[ ]+", re.MULTILINE)
GLOSSED = re.compile(r"^(\S[^\n]*)\n[ ]{2}(?=\S)", re.MULTILINE)
HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
GLUED = "application/papermill.record/text/"
#: What a cell's tags hide on the page is hidden in Jupyter, too.
HIDDEN = {
    "remove-cell": {"source_hidden": True, "outputs_hidden": True},
    "hide-input": {"source_hidden": True},
}


def readable(notebook: Cell, book: Path) -> Cell:
    """``notebook`` in plain Markdown; ``book`` is the folder of ``chapters``, ``pages`` and the bibliography.

    Raises ``KeyError`` for a glued value, a publication or a page that is not there, and for a role or a
    directive without words here.
    """
    made = deepcopy(notebook)
    words = _Words(made, book)
    made["cells"] = [each for cell in made["cells"] for each in _told(cell, words)]
    return made


def glued(notebook: Cell) -> dict[str, str]:
    """What a notebook's own outputs glue, by name."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                markdown, plain = ("".join(output["data"].get(GLUED + k, "")) for k in ("markdown", "plain"))
                quoted = not markdown and plain[:1] in ("'", '"')
                found[name] = str(ast.literal_eval(plain)) if quoted else markdown or plain
    return found


def raw(notebook: Cell) -> list[str]:
    """Roles, directives and links without text that a notebook still shows as they are written."""
    texts = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    texts += [text for cell in notebook["cells"] for text in _texts(cell)]
    kinds = ROLE, FENCE, LINK, EQUATION
    return [found[0] for text in texts for kind in kinds for found in kind.finditer(text)]


class _Words:
    """What roles and directives of one notebook say in words."""

    def __init__(self, notebook: Cell, book: Path) -> None:
        self.book = book
        self.glued = glued(notebook)
        figures, equations = _labels(notebook)
        self.figures = {name: number for number, name in enumerate(figures, 1)}
        self.equations = {name: number for number, name in enumerate(equations, 1)}
        self.images: dict[str, Any] = {}  # those of the cell at hand

    def __call__(self, text: str) -> str:
        text = FENCE.sub(self._directive, text)
        text = EQUATION.sub(lambda found: rf"\tag{{{self.equations[found[1]]}}}" + "\n$$", text)
        text = LINK.sub(lambda found: f"*{title(self.book, found[1])}*", text)
        return ROLE.sub(self._role, text)

    def _role(self, found: re.Match[str]) -> str:
        role, text = found[1], " ".join(found[3].split())
        explicit = EXPLICIT.match(text)
        shown, target = (explicit[1], explicit[2]) if explicit else ("", text)
        say: dict[str, Callable[[], str]] = {
            "glue:text": lambda: self.glued[target.rpartition(":")[0]],
            "term": lambda: shown or target,
            "from": lambda: f"[{target}]",
            "eq": lambda: self._numbered(target, self.equations, "", "an equation"),
            "numref": lambda: shown or self._numbered(target, self.figures, "figure ", "a figure"),
            "doc": lambda: f"*{shown or title(self.book, target)}*",
            "ref": lambda: f"*{shown or section(self.book, target)}*",
            "cite": lambda: f"[{'; '.join(cited(self.book, key, ', {}') for key in target.split(','))}]",
            "cite:t": lambda: ", ".join(cited(self.book, key, " [{}]") for key in target.split(",")),
        }
        if role.startswith("py:"):
            return f"`{shown or (target.rpartition('.')[2] if target.startswith('~') else target)}`"
        return say[role]()

    def _numbered(self, name: str, known: dict[str, int], before: str, one: str) -> str:
        if name in known:
            return f"{before}{known[name]}" if before else f"({known[name]})"
        return f"{one} of *{elsewhere(self.book)[name]}*"

    def _directive(self, found: re.Match[str]) -> str:
        kind, argument, body = found[2], found[3].strip(), found[4]
        options = dict[str, str]()
        while option := OPTION.match(body):
            options[option[1]] = option[2]
            body = body[option.end() :]
        body = FENCE.sub(self._directive, body.strip())
        say: dict[str, Callable[[], str]] = {
            "figure": lambda: self._figure(argument, body, options),
            "admonition": lambda: _boxed(argument, body, options.get("class", "")),
            "margin": lambda: _boxed(argument, body, ""),
            "glossary": lambda: GLOSSED.sub(r"**\1**: ", body),
            "glue:md": lambda: self.glued[argument],
        }
        return say[kind]()

    def _figure(self, path: str, caption: str, options: dict[str, str]) -> str:
        image = self.book / "chapters" / path
        held = b64encode(image.read_bytes()).decode("ascii")
        self.images[image.name] = {f"image/{'svg+xml' if image.suffix == '.svg' else image.suffix[1:]}": held}
        shown = f"![{options.get('alt', '')}](attachment:{image.name})"
        number = self.figures.get(options.get("name", ""))
        return f"{shown}\n\n*Figure {number}.* {caption}" if number else f"{shown}\n\n{caption}"


def _told(cell: Cell, words: _Words) -> Iterator[Cell]:
    """The cell in plain Markdown, and behind a figure its caption."""
    for output in cell.get("outputs", []):
        output.get("metadata", {}).pop("image/png", None)  # what the page alone shows: narrow, dark, moving
        if "text/markdown" in output.get("data", {}):
            output["data"]["text/markdown"] = words("".join(output["data"]["text/markdown"]))
    if cell["cell_type"] == "markdown":
        words.images = {}
        cell["source"] = words("".join(cell["source"])).splitlines(keepends=True)
        yield {**cell, "attachments": words.images} if words.images else cell
        return
    hidden = [how for tag, how in HIDDEN.items() if tag in cell["metadata"].get("tags", [])]
    if hidden:
        cell["metadata"]["jupyter"] = hidden[0]
    figure = cell["metadata"].get("mystnb", {}).pop("figure", None)
    yield cell
    if figure and "caption" in figure:
        caption = f"*Figure {words.figures[figure['name']]}.* {words(figure['caption'])}"
        named = {"id": f"{cell['id']}-caption"} if "id" in cell else {}
        yield {"cell_type": "markdown", **named, "metadata": {}, "source": caption.splitlines(keepends=True)}


def _boxed(title: str, body: str, kind: str) -> str:
    if "dropdown" in kind:
        return f"<details><summary><b>{title}</b></summary>\n\n{body}\n\n</details>"
    return f"**{title}**\n\n{_defined(body)}"


def _defined(body: str) -> str:
    """A list of definitions as paragraphs."""
    if not DEFINITION.search(body):
        return body
    told = DEFINITION.sub(r"**\1**: ", body).replace("**: ```", "**:\n\n```")
    return re.sub(r"^  ", "", told, flags=re.MULTILINE)


def _labels(notebook: Cell) -> tuple[list[str], list[str]]:
    """Names of the figures and of the equations of a notebook, in their order."""
    figures, equations = list[str](), list[str]()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            figures += NAMED.findall("".join(cell["source"]))
            equations += EQUATION.findall("".join(cell["source"]))
        elif name := cell["metadata"].get("mystnb", {}).get("figure", {}).get("name"):
            figures.append(name)
    return figures, equations


def _texts(cell: Cell) -> list[str]:
    outputs = [output.get("data", {}).get("text/markdown") for output in cell.get("outputs", [])]
    return ["".join(text) for text in outputs if text]


@cache
def elsewhere(book: Path) -> dict[str, str]:
    """The title of the chapter of each figure and equation that has a name."""
    found = {}
    for path in sorted((book / "chapters").glob("*.ipynb")):
        for names in _labels(json.loads(path.read_text(encoding="utf-8"))):
            found.update(dict.fromkeys(names, title(book, path.stem)))
    return found


@cache
def title(book: Path, page: str) -> str:
    """The title of a page that a chapter names, ``"double_cba"`` or ``"../pages/limits"``."""
    path = book / "chapters" / page.removeprefix("/")
    if path.with_suffix(".ipynb").exists():
        cells = json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
        text = "".join(cells[0]["source"])
    else:
        text = path.with_suffix(".md").read_text(encoding="utf-8")
    found = HEADING.search(text)
    return found[1] if found else page


@cache
def section(book: Path, label: str) -> str:
    """The heading below a label of the book's pages."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((book / "pages").glob("*.md")))
    found = (re.search(rf"^\({re.escape(label)}\)=\n+#+ (.+)$", text, re.MULTILINE) for text in texts)
    return next(heading[1] for heading in found if heading)


def cited(book: Path, key: str, year: str) -> str:
    """Authors of a publication, or its title, and if it is known its ``year``, in these words."""
    entry = _bibliography(book)[key.strip()]
    people = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
    names = people[0] + " et al." if len(people) > 2 else " and ".join(people)
    said = names or entry.fields["title"]
    when = year.format(entry.fields["year"]) if "year" in entry.fields else ""
    return said.replace("{", "").replace("}", "") + when


@cache
def _bibliography(book: Path) -> dict[str, Entry]:
    return dict(parse_file(str(book / "references.bib"), bib_format="bibtex").entries)


def write(app: Sphinx, exception: Exception | None) -> None:
    """Offer the readable notebook where the page's download button leads; if the book has a public address,
    with the cell that fetches it."""
    if exception is not None or not makes(app, SITE):
        return
    for path in Path(app.outdir, "_sources").rglob("*.ipynb"):
        source = Path(app.srcdir, path.relative_to(Path(app.outdir, "_sources")))
        notebook = json.loads(source.read_text(encoding="utf-8"))
        made = launching.fetching(readable(notebook, Path(app.srcdir)), launching.of(app.config))
        path.write_text(dumped(made), encoding="utf-8")


def dumped(notebook: Cell) -> str:
    """The text of a notebook's file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("build-finished", write)
