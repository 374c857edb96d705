"""A chapter as a zip: whole, in plain Markdown, and it runs where nobody has the tree."""

import importlib.util
import json
import os
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from companion import drawn, sources
from companion.rendering import notebooks

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
RUN = "a_chip_is_a_seed"  # the fastest
WHERE = "import cimlib, companion; print(cimlib.__file__, companion.__file__, sep='\\n')"


@pytest.fixture(scope="module")
def bundle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle", ROOT / "tools" / "bundle.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_zip_holds_all_that_its_chapter_draws_on(bundle: ModuleType, chapter: str) -> None:
    notebook = ROOT / "chapters" / f"{chapter}.ipynb"
    held = bundle.files(chapter)
    assert set(sources.notebook_sources(notebook)) <= held
    for path in drawn.data_of(notebook):
        for each in path.iterdir() if path.is_dir() else [path]:
            asked = each.parent != ROOT / "data" or each.suffix != ".npz" or chapter in bundle.WITH_IMAGES
            assert each.is_dir() or (each in held) == asked, each


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_notebook_in_it_shows_words_where_the_book_has_roles(bundle: ModuleType, chapter: str) -> None:
    written = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    made = bundle.placed(notebooks.readable(written, ROOT))
    assert notebooks.raw(written) and notebooks.raw(made) == []
    code = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
    assert len(code) == sum(cell["cell_type"] == "code" for cell in written["cells"])
    assert "../" not in "".join(code)


def test_a_chapter_from_its_zip_makes_the_book_s_numbers_without_the_tree(
    bundle: ModuleType, tmp_path: Path
) -> None:
    bundle.bundle(RUN, tmp_path / "chapter.zip", level=1)
    with zipfile.ZipFile(tmp_path / "chapter.zip") as packed:
        packed.extractall(tmp_path)
    folder, prefix = tmp_path / RUN, tmp_path / "environment"
    readme = (folder / "README.txt").read_text(encoding="utf-8").splitlines()
    assert len(readme) == 3 and f"papermill {RUN}.ipynb" in readme[2]
    venv.create(prefix, symlinks=True)
    paths = sysconfig.get_paths("venv", {"base": str(prefix), "platbase": str(prefix)})
    # what is installed, without the tree: a path file in a folder that a path file adds is not read
    Path(paths["purelib"], "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = Path(paths["scripts"], "python")
    mine = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    env = mine | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "MPLBACKEND": "Agg"}

    def call(*words: str) -> str:
        done = subprocess.run([python, *words], cwd=folder, env=env, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for file in call("-c", WHERE).splitlines():
        assert folder in Path(file).parents
    call("-m", "papermill", f"{RUN}.ipynb", "executed.ipynb", "-k", "python3", "--no-progress-bar")
    executed = json.loads((folder / "executed.ipynb").read_text(encoding="utf-8"))
    committed = json.loads((ROOT / "chapters" / f"{RUN}.ipynb").read_text(encoding="utf-8"))
    assert notebooks.glued(executed) == notebooks.glued(committed)


def test_versions_are_the_book_s(bundle: ModuleType) -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.txt", "constraints.txt")]
    assert set(bundle.pinned()) <= set("\n".join(texts).splitlines())
