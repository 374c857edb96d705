"""What a chapter owes its readers: each guard takes a notebook and returns what is wrong with its prose.

`CONTRIBUTING.md`, *Prose*, has the rules; a machine sees only a part of them, and that is here.
"""

import re
from collections.abc import Callable, Iterator

from guards import MATHS, VERBATIM
from nbformat import NotebookNode

from companion.notation import ACRONYMS

NUMBERS, WORDS, SHARE, ANSWER, TAKEAWAYS, TYPED = 4, 30, 0.9, 40, 3, 12
WORDS_A_MINUTE = (120, 260)
BOX = ["Question", "Answer", "Needs", "Takes", "Run it"]

ROLE = re.compile(r"\{([\w:]+)\}`([^`]*)`")
NUMERAL = re.compile(r"(?<![\w.–-])(?!95\s?%)\d[\d,]*(?:\.\d+)?(?![\w–-]*\w)")
FOLDED = re.compile(r"^(:{3,})\{admonition\} Answer\n.*?^\1\n?", re.DOTALL | re.MULTILINE)
DIRECTIVE = re.compile(r"^[ ]*(?::{3,}|`{3,}).*$|^[ ]*:[\w-]+:.*$|^\([\w-]+\)=$", re.MULTILINE)
DISPLAY = re.compile(r"^\$\$\n.*?^\$\$[^\n]*$", re.DOTALL | re.MULTILINE)
END = re.compile(r"(?<=[.?!])[*\"”)\]_]*\s+(?=[*\"“(\[_`{$]*[A-ZΑ-Ω0-9])")


def opens_with_a_sentence_a_picture_and_a_box(notebook: NotebookNode) -> list[str]:
    """Before *The question*: a heading, prose, a figure, and the box with its five entries."""
    first = _markdown(notebook).partition("\n## ")[0]
    wrong = (
        [] if re.search(r"^[A-Z].{40,}", first, re.MULTILINE) else ["no sentence before the first section"]
    )
    if not re.search(r"^[ ]*[`:]{3,}\{figure\}", first, re.MULTILINE):
        wrong.append("no picture before the first section")
    box = _box(first)
    terms = re.findall(r"^([A-Z][\w ]*)\n: ", box, re.MULTILINE)
    if terms != BOX:
        return [*wrong, f"the box has the entries {terms}, wanted {BOX}"]
    answer = re.search(r"^Answer\n: (.*?)\n\n", box, re.DOTALL | re.MULTILINE)
    said = _words(answer[1]) if answer else []
    if not 5 <= len(said) <= ANSWER:
        wrong.append(f"the answer in the box has {len(said)} words, {ANSWER} at most")
    if answer and not (ROLE.search(answer[1]) or re.search(r"\d", answer[1])):
        wrong.append("the answer in the box has no number")
    if "make run CHAPTER=" not in box:
        wrong.append("the box has no command line")
    return wrong


def says_how_long_it_takes(notebook: NotebookNode) -> list[str]:
    """The minutes in the box suit the number of words, and it says the seconds of a run."""
    said = re.search(
        r"^Takes\n: (\d+) minutes? to read, (\d+) seconds to run", _box(_markdown(notebook)), re.M
    )
    if said is None:
        return ["the box does not say 'N minutes to read, M seconds to run'"]
    pace = sum(len(_words(paragraph)) for paragraph in paragraphs(notebook)) / int(said[1])
    slow, fast = WORDS_A_MINUTE
    return [] if slow <= pace <= fast else [f"{said[1]} minutes are {pace:.0f} words a minute"]


def keeps_numbers_few(notebook: NotebookNode) -> list[str]:
    """At most four numbers a paragraph, typed or glued; tables, figures and folded answers take the rest."""
    return [
        f"{count} numbers in {_start(paragraph)!r}"
        for paragraph in paragraphs(notebook)
        if (count := numbers(paragraph)) > NUMBERS
    ]


def keeps_sentences_short(notebook: NotebookNode) -> list[str]:
    """Nine in ten sentences have thirty words at most; those that have more are named, the longest first."""
    counted = [(len(_words(one)), one) for paragraph in paragraphs(notebook) for one in END.split(paragraph)]
    counted = [(count, one) for count, one in counted if count > 2]
    long = sorted((pair for pair in counted if pair[0] > WORDS), reverse=True)
    if len(long) <= (1 - SHARE) * len(counted):
        return []
    return [f"{count} words: {_start(sentence)!r}" for count, sentence in long]


def spells_acronyms_out(notebook: NotebookNode) -> list[str]:
    """Each acronym of the notation that the prose uses is spelt out somewhere in it."""
    text = " ".join(paragraphs(notebook))
    return [
        f"{short} is nowhere spelt out as {long!r}"
        for short, long in ACRONYMS.items()
        if re.search(rf"(?<![\w-]){short}(?![\w-])", text) and long.casefold() not in text.casefold()
    ]


def captions_begin_with_their_message(notebook: NotebookNode) -> list[str]:
    """The first sentence of a caption is bold, and settings stand in a paragraph of their own."""
    code = (cell.metadata.get("mystnb", {}).get("figure", {}).get("caption") for cell in notebook.cells)
    drawn = re.findall(
        r"\{figure\}[^\n]*\n(?:[ ]*:[^\n]*\n)+\n?(.*?)^[ ]*[`:]{3,}$",
        _markdown(notebook),
        re.DOTALL | re.MULTILINE,
    )
    return [
        f"caption {caption[:60]!r} does not begin with its message in bold"
        for caption in [*filter(None, code), *drawn]
        if not re.match(r"\s*\*\*[^*]+[.?!]\*\*", caption)
    ]


def equations_are_followed_by_a_number(notebook: NotebookNode) -> list[str]:
    """Between a displayed equation and the next, or the next section, stands a worked number."""
    text, wrong = _markdown(notebook), []
    for found in DISPLAY.finditer(FOLDED.sub("", text)):
        rest = FOLDED.sub("", text)[found.end() :]
        until = re.split(r"^\$\$\n|^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
        if (
            not re.search(r"\d", re.sub(r"\{(?!glue)[\w:]+\}`[^`]*`|_\{?\w+", " ", until))
            and "{glue" not in until
        ):
            wrong.append(f"no worked number after {found.group().split(chr(10))[1][:50]!r}")
    return wrong


def try_it_begins_with_what_one_types(notebook: NotebookNode) -> list[str]:
    """The first code below *Try it* is what one would type: shown, twelve lines at most, with imports."""
    below = _after(notebook, "## Try it")
    if not below:
        return ["no code below 'Try it'"]
    lines = [line for line in below[0].source.splitlines() if line.strip()]
    hidden = {"hide-input", "remove-cell", "remove-input", "parameters"} & set(
        below[0].metadata.get("tags", [])
    )
    if hidden or len(lines) > TYPED or "from cimlib" not in below[0].source:
        return [f"'Try it' begins with {lines[0]!r}, not with a few lines that use cimlib"]
    return []


def ends_with_take_aways(notebook: NotebookNode) -> list[str]:
    """Three take-aways before the exercises, for who builds chips and who trains networks."""
    found = re.search(
        r"^:::\{admonition\} Take away\n(?::class:[^\n]*\n)?(.*?)^:::", _markdown(notebook), re.M | re.DOTALL
    )
    count = len(re.findall(r"^- ", found[1], re.MULTILINE)) if found else 0
    return [] if count == TAKEAWAYS else [f"{count} take-aways, {TAKEAWAYS} wanted"]


Guard = Callable[[NotebookNode], list[str]]

IN_PAPERS: list[Guard] = [
    opens_with_a_sentence_a_picture_and_a_box,
    says_how_long_it_takes,
    keeps_numbers_few,
    keeps_sentences_short,
    spells_acronyms_out,
    captions_begin_with_their_message,
    equations_are_followed_by_a_number,
    try_it_begins_with_what_one_types,
    ends_with_take_aways,
]


def paragraphs(notebook: NotebookNode) -> Iterator[str]:
    """Prose, a paragraph or an item of a list at a time; no headings, tables, code, mathematics or answers.

    Roles are left as they are; a formula in a line becomes the word *it*.
    """
    yield from in_paragraphs(_markdown(notebook))


def in_paragraphs(markdown: str) -> Iterator[str]:
    """The same of Markdown text."""
    text = DISPLAY.sub("\n", FOLDED.sub("\n", markdown))
    roles = ROLE.sub(lambda found: f"\0{found[1]}\1{found[2]}\2", text)  # out of the way of what removes code
    bare = VERBATIM.sub(" it ", MATHS.sub(" it ", roles))
    bare = re.sub("\0(.*?)\1(.*?)\2", r"{\1}`\2`", bare, flags=re.DOTALL)
    for block in re.split(
        r"\n\s*\n|^[ ]*(?:[-*]|\d+\.)\s+|^: ", DIRECTIVE.sub("\n", bare), flags=re.MULTILINE
    ):
        if block.strip() and not re.match(r"\s*[|#]", block):
            yield " ".join(block.split())


def numbers(paragraph: str) -> int:
    """Numbers in a paragraph: glued ones, and numerals that are no part of a name."""
    glued = len(re.findall(r"\{glue:text\}", paragraph))
    return glued + len(NUMERAL.findall(ROLE.sub(" ", paragraph)))


def _words(sentence: str) -> list[str]:
    return re.findall(r"[\w’'–-]+", ROLE.sub(" it ", sentence))


def _start(text: str) -> str:
    return text[:70]


def _markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _box(text: str) -> str:
    found = re.search(
        r"^(:{3,})\{admonition\} At a glance\n:class: glance\n(.*?)^\1$", text, re.M | re.DOTALL
    )
    return f"{found[2]}\n\n" if found else ""


def _after(notebook: NotebookNode, heading: str) -> list[NotebookNode]:
    seen, found = False, list[NotebookNode]()
    for cell in notebook.cells:
        seen = seen or (cell.cell_type == "markdown" and heading in cell.source)
        if seen and cell.cell_type == "code":
            found.append(cell)
    return found
