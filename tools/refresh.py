"""Store executed chapters as the committed ones: `python tools/refresh.py _build/executed/*.ipynb`.

What differs from run to run or from machine to machine is left out (timings, the interpreter's
version, how a stream was cut into pieces), so a chapter whose results are unchanged is not
written at all. The kernel is the one that ran it, `python3`, with whichever it was saved.
"""

import sys
from pathlib import Path

import nbformat
from nbstripout import strip_output

TRANSIENT = [
    "metadata.papermill",
    "metadata.widgets",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
    "cell.metadata.exception",
]


KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def stored(executed: Path) -> str:
    """The text of the notebook at `executed` as it is committed: outputs and counts kept."""
    notebook = nbformat.read(executed, as_version=4)
    if notebook.metadata.get("kernelspec", {}).get("name") != KERNEL["name"]:
        notebook.metadata["kernelspec"] = KERNEL
    for cell in notebook.cells:
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = _merged(cell.outputs)
    notebook = strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=TRANSIENT)
    return nbformat.writes(notebook) + "\n"


def refresh(executed: Path, chapter: Path) -> bool:
    """Bring `chapter` up to date; says whether there was anything to write."""
    text = stored(executed)
    if chapter.read_text(encoding="utf-8") == text:
        return False
    chapter.write_text(text, encoding="utf-8")
    executed.touch()  # it is the execution of the chapter as now stored
    return True


def _merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output.output_type == "stream" and output.name == last.get("name"):
            last.text += output.text
        else:
            merged.append(output)
    return merged


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        target = Path("chapters", path.name)
        print(f"{target}: {'stored' if refresh(path, target) else 'unchanged'}")
