"""A chapter as a zip that runs by itself: `python tools/bundle.py CHAPTER ZIP`.

In it are the notebook in plain Markdown, the library, the book's machinery and the data that the chapter
draws, with pinned versions of what all that needs. `make zips` makes one of each chapter.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from companion import drawn, sources
from companion.rendering import notebooks

ROOT = Path(__file__).resolve().parents[1]
#: What a chapter runs on; their versions are the book's own.
LIBRARY = ["filelock", "numpy", "pandas", "platformdirs", "scikit-learn", "scipy", "threadpoolctl", "torch"]
BOOK = ["joblib", "matplotlib", "myst-nb", "pybtex", "pydantic", "ruamel.yaml", "tabulate", "torchvision"]
JUPYTER = ["ipykernel", "papermill"]
LAB = "jupyterlab==4.6.6"
#: Chapters that read images of MNIST at their defaults; the others have them fetched once they are asked for.
WITH_IMAGES = {"imperfection_tolerant", "negative_feedback"}
#: What some modules read besides what a chapter draws by its imports.
BESIDES = {
    "companion.claims.ledger": ["data/turned.json", "data/sweeps/*.yml"],
    "companion.claims.scoreboard": ["references.bib"],
}
ALWAYS = ["companion/**/*.py", "cimlib/**/*.py", "cimlib/py.typed", "cimlib/datasets/splits.json"]
LICENCES = ["LICENSE", "LICENSE-text", "data/README.md"]
BEGINNING = (1980, 1, 1, 0, 0, 0)  # the same zip from the same files
README = """{title}: a chapter of "Computing-in-Memory, Reproduced". Here, with Python 3.11.5 or later:
pip install -r requirements.txt
jupyter lab {chapter}.ipynb   # or, without a window: papermill {chapter}.ipynb executed.ipynb -k python3
"""


def bundle(chapter: str, path: Path, level: int = 9) -> None:
    """Write the zip of a chapter; the higher the ``level``, the smaller and slower."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in sorted(contents(chapter)):
            info = zipfile.ZipInfo(f"{chapter}/{name}", BEGINNING)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            made.writestr(info, content, compresslevel=level)
    partial.replace(path)


def contents(chapter: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the zip."""
    notebook = ROOT / "chapters" / f"{chapter}.ipynb"
    for path in files(chapter):
        yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    made = placed(notebooks.readable(json.loads(notebook.read_text(encoding="utf-8")), ROOT))
    texts = {
        f"{chapter}.ipynb": notebooks.dumped(made),
        "requirements.txt": "\n".join(["-c constraints.txt", *pinned(), LAB, ""]),
        "constraints.txt": (ROOT / "constraints.txt").read_text(encoding="utf-8"),
        "README.txt": README.format(chapter=chapter, title=notebooks.title(ROOT, chapter)),
    }
    for name, text in texts.items():
        yield name, text.encode()


def files(chapter: str) -> set[Path]:
    """Files of the tree that go along as they are."""
    notebook = ROOT / "chapters" / f"{chapter}.ipynb"
    reached = sources.notebook_sources(notebook)
    besides = [p for module, some in BESIDES.items() if sources.file_of(module) in reached for p in some]
    found = {path for pattern in (*ALWAYS, *LICENCES, *besides) for path in ROOT.glob(pattern)}
    for path in drawn.data_of(notebook):
        found |= set(path.iterdir()) if path.is_dir() else {path}
    images = found & set(ROOT.glob("data/*.npz"))
    return {path for path in found if path.is_file()} - (set() if chapter in WITH_IMAGES else images)


def placed(notebook: notebooks.Cell) -> notebooks.Cell:
    """The notebook as it stands beside its data, and not in a folder of chapters."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = [line.replace('"../data/', '"data/') for line in cell["source"]]
    return notebook


def pinned() -> list[str]:
    """What the chapters need, in the versions of the book. Raises `KeyError` for what is not pinned."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.txt", "constraints.txt")]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", "\n".join(texts), re.MULTILINE))
    return [f"{name}=={pins[name]}" for name in (*LIBRARY, *BOOK, *JUPYTER)]


if __name__ == "__main__":
    bundle(sys.argv[1], Path(sys.argv[2]))
