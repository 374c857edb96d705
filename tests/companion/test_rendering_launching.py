"""One public address, and chapters open on Colab and Binder; without one nothing of it is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell, new_notebook
from ruamel.yaml import YAML
from sphinx.application import Sphinx
from sphinxed import made

from companion.rendering import PARTS, launching

ROOT = Path(__file__).resolve().parents[2]
URL = "https://github.com/some-one/the.book"
WHERE = launching.Repository("some-one", "the.book")
LINKS = {
    "Colab": "https://colab.research.google.com/github/some-one/the.book"
    "/blob/gh-pages/_sources/chapters/one.ipynb",
    "Binder": "https://mybinder.org/v2/gh/some-one/the.book/HEAD?urlpath=lab/tree/chapters/one.ipynb",
}
#: Programs that write down how they were called; the first makes the folder that it would have fetched.
GIT = """#!/bin/sh
echo git "$@" >> "$CALLS"
for last; do :; done
mkdir -p "$last/chapters"
"""
PIP = """import os, sys
with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
    print("pip", *sys.argv[1:], "in", os.getcwd(), file=calls)
sys.exit(int(os.environ.get("FAILS", "0")))
"""


@pytest.mark.parametrize("behind", ["", "/", ".git", ".git/"])
def test_an_address_is_known_with_what_may_stand_behind_it(behind: str) -> None:
    found = launching.repository(URL + behind)
    assert found == WHERE and found.address == URL


@pytest.mark.parametrize(
    "url",
    [
        None,
        " ",
        "https://github.com",
        "https://github.com/some-one",
        "https://github.com/some-one/book/tree/main",
        'https://github.com/some-one/bo"ok',
        "https://github.com/some-one/..",
        "http://github.com/some-one/book",
        "git@github.com:some-one/book.git",
        "https://gitlab.com/some-one/book",
        "https://example.org/github.com/book",
    ],
)
def test_any_other_address_is_refused_by_name(url: object) -> None:
    said = f"repository.url = {url!r} is not allowed; allowed: '' or https://github.com/<owner>/<name>"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        launching.repository(url)


def test_the_book_s_own_settings_have_an_address_or_none() -> None:
    settings = YAML(typ="safe").load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    found = launching.repository(settings["repository"]["url"])
    assert found is None or found.address.startswith("https://github.com/")
    assert launching in PARTS


@pytest.mark.parametrize("minor", [4, 5])
def test_a_notebook_begins_with_the_cell_if_there_is_an_address(minor: int) -> None:
    only = {"cell_type": "markdown", "metadata": {}, "source": "# One"} | ({"id": "one"} if minor > 4 else {})
    notebook = {"cells": [only], "metadata": {}, "nbformat": 4, "nbformat_minor": minor}
    assert launching.fetching(notebook, None) is notebook
    made = launching.fetching(notebook, WHERE)
    nbformat.validate(nbformat.from_dict(made))
    words, code, last = made["cells"]
    assert (words["cell_type"], code["cell_type"]) == ("markdown", "code")
    assert len(code["source"]) <= 12 and URL in "".join(code["source"])
    assert last == only and notebook["cells"] == [only]


def cell(folder: Path, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the cell in a folder, and prints where it ends."""
    code = "".join(launching.fetching(new_notebook(), WHERE)["cells"][1]["source"])
    ran = f"{before}\n{code}\nprint(os.getcwd(), sys.path[0], sep=os.linesep)"
    return subprocess.run(
        [sys.executable, "-S", "-c", ran],  # without the environment's packages, so without the book
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """A machine without the book, whose git and pip write down their calls."""
    programs, packages = tmp_path / "programs", tmp_path / "packages"
    programs.mkdir()
    packages.mkdir()
    (programs / "git").write_text(GIT, encoding="utf-8")
    (programs / "git").chmod(0o755)
    (packages / "pip.py").write_text(PIP, encoding="utf-8")
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    (tmp_path / "work").mkdir()
    return {"PATH": path, "PYTHONPATH": str(packages), "CALLS": str(tmp_path / "calls")}


def calls(variables: dict[str, str]) -> list[str]:
    path = Path(variables["CALLS"])
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_where_the_book_is_installed_the_cell_does_nothing(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    folder = tmp_path / "work"
    elsewhere["PYTHONPATH"] += os.pathsep + str(ROOT)
    ran = cell(folder, "import sys; sys.modules['numpy'] = sys", **elsewhere)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(folder), ""] and not calls(elsewhere)
    assert list(folder.iterdir()) == []


def test_elsewhere_the_cell_fetches_installs_and_goes_to_the_chapters(
    tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    folder, book = tmp_path / "work", tmp_path / "work" / "the.book"
    ran = cell(folder, **elsewhere)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [str(book / "chapters"), str(book)]
    installed = f"pip install -q -r requirements.txt -c constraints.txt -e . in {book}"
    assert calls(elsewhere) == [f"git clone --depth 1 {URL} {book}", installed]
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        assert (ROOT / name).exists()


def test_after_a_restart_the_cell_only_goes_to_the_chapters(
    tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    """What is loaded already may have another version: then the cell asks for a restart."""
    folder, loaded = tmp_path / "work", "import sys; sys.modules['numpy'] = sys"
    ran = cell(folder, loaded, **elsewhere)
    assert ran.returncode == 1 and "restart the session" in ran.stderr and len(calls(elsewhere)) == 2
    elsewhere["PYTHONPATH"] += os.pathsep + str(ROOT)
    ran = cell(folder, loaded, **elsewhere)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == str(folder / "the.book" / "chapters")
    assert len(calls(elsewhere)) == 2


def test_an_installation_that_fails_stops_the_cell_and_can_be_tried_again(
    tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    assert "CalledProcessError" in cell(tmp_path / "work", FAILS="1", **elsewhere).stderr
    assert cell(tmp_path / "work", **elsewhere).returncode == 0
    assert [call.split()[0] for call in calls(elsewhere)] == ["git", "pip", "pip"]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of a first page and a chapter, rendered with an address."""
    source = tmp_path_factory.mktemp("book") / "source"
    (source / "chapters").mkdir(parents=True)
    (source / "index.md").write_text("# Book\n\n```{toctree}\nchapters/one\n```\n", encoding="utf-8")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# One")]), source / "chapters" / "one.ipynb")
    parts = "companion.rendering.launching,companion.rendering.notebooks"
    settings = [f"extensions=myst_nb,sphinx_book_theme,{parts}", "nb_execution_mode=off"]
    settings += ["html_theme=sphinx_book_theme", f"html_theme_options.repository_url={URL}.git/"]
    return made(source, "html", source.parent / "html", settings, strict=False)


def links(page: Path) -> dict[str, str]:
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return {
        link.get_text(strip=True): str(link["href"]) for link in soup.select(".dropdown-launch-buttons a")
    }


def test_a_chapter_has_both_buttons_and_other_pages_none(book: Path) -> None:
    assert links(book / "chapters" / "one.html") == LINKS and links(book / "index.html") == {}
    for icon in ("logo_colab.png", "logo_binder.svg"):
        assert (book / "_static" / "images" / icon).exists()


def test_the_notebook_that_a_page_offers_fetches_the_book(book: Path) -> None:
    made = json.loads((book / "_sources" / "chapters" / "one.ipynb").read_text(encoding="utf-8"))
    assert [each["cell_type"] for each in made["cells"]] == ["markdown", "code", "markdown"]


def app(builder: str, url: str) -> Any:
    config = SimpleNamespace(html_theme_options={launching.PLACE: url})
    return SimpleNamespace(builder=SimpleNamespace(name=builder), config=config)


@pytest.mark.parametrize(("builder", "url", "count"), [("html", URL, 1), ("html", "", 0), ("epub", URL, 0)])
def test_buttons_are_on_pages_for_a_browser_if_there_is_an_address(
    builder: str, url: str, count: int
) -> None:
    context: dict[str, Any] = {"header_buttons": [], "page_source_suffix": ".ipynb"}
    launching.show(app(builder, url), "chapters/one", "page.html", context, None)
    assert len(context["header_buttons"]) == count


def test_another_address_is_refused_before_anything_is_rendered() -> None:
    connected = dict[str, Any]()
    sphinx = SimpleNamespace(connect=lambda event, do, **_: connected.update({event: do}))
    launching.setup(cast(Sphinx, sphinx))
    other = app("html", "https://gitlab.com/some-one/book")
    with pytest.raises(
        ValueError, match="repository.url = 'https://gitlab.com/some-one/book' is not allowed"
    ):
        connected["config-inited"](other, other.config)


def test_binder_installs_what_the_book_names() -> None:
    folder = ROOT / ".binder"
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    named = [line.split()[1] for line in lines if line.startswith(("-r ", "-c "))]
    assert [(folder / name).resolve() for name in named] == [
        ROOT / "requirements.txt",
        ROOT / "constraints.txt",
    ]
    assert re.fullmatch(r"python-3\.\d+\n", (folder / "runtime.txt").read_text(encoding="utf-8"))
    script = folder / "postBuild"
    assert os.access(script, os.X_OK) and "--no-deps" in script.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
