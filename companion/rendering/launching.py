"""Chapters that open elsewhere: a button for Colab and one for Binder, once the book has a public address.

The address stands in one place, ``repository: {url: ""}`` in ``_config.yml``. While it is empty nothing of
this is shown. With an address, the notebook that a page offers begins with a cell that fetches the book
where it is not installed.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from companion.rendering.builders import SITE, makes

Cell = dict[str, Any]

PLACE = "repository_url"  # among the theme's options: Jupyter Book puts the address there
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([\w-][\w.-]*?)(?:\.git)?/?", re.ASCII)
#: The branch with the pages; below ``_sources`` are the notebooks as they are taken away.
PAGES = "gh-pages"
WORDS = (
    "Where the book is not installed, as on Colab, the next cell fetches and installs it, which takes some "
    "minutes; elsewhere it does nothing. If it asks for a restart, restart and run all cells."
)
# A restart in the folder of the first start finds the book installed, and only changes to its chapters.
FETCHED = """\
import importlib.util, os, subprocess, sys
book, here = os.path.abspath("{name}"), importlib.util.find_spec("companion")
if not here:
    if not os.path.exists(book):
        subprocess.run(["git", "clone", "--depth", "1", "{address}", book], check=True)
    needs = "-r requirements.txt -c constraints.txt -e .".split()
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needs], cwd=book, check=True)
    sys.path.insert(0, book)
if os.path.isdir(book):
    os.chdir(os.path.join(book, "chapters"))
if not here and "numpy" in sys.modules:  # perhaps another version than the one just installed
    sys.exit("The book is installed: restart the session, then run all cells.")"""


@dataclass(frozen=True)
class Repository:
    """Where the book is public on GitHub: whose it is, and its name."""

    owner: str
    name: str

    @property
    def address(self) -> str:
        """The address as it is written: without ``.git``, without a slash behind it."""
        return f"https://github.com/{self.owner}/{self.name}"

    def colab(self, page: str) -> str:
        """Where Colab opens a ``page``, ``"chapters/double_cba"``: as it is taken away."""
        source = f"blob/{PAGES}/_sources/{page}.ipynb"
        return f"https://colab.research.google.com/github/{self.owner}/{self.name}/{source}"

    def binder(self, page: str) -> str:
        """Where Binder opens a ``page``: as it stands in the tree, in the environment of ``.binder``."""
        return f"https://mybinder.org/v2/gh/{self.owner}/{self.name}/HEAD?urlpath=lab/tree/{page}.ipynb"


def repository(url: object) -> Repository | None:
    """The repository of an address, with ``.git`` or a slash behind it or without; ``None`` if it is empty.

    Raises ``ValueError`` for everything else.
    """
    if url == "":
        return None
    found = ADDRESS.fullmatch(url) if isinstance(url, str) else None
    if not found:
        allowed = "'' or https://github.com/<owner>/<name>"
        raise ValueError(f"repository.url = {url!r} is not allowed; allowed: {allowed}")
    return Repository(*found.groups())


def of(config: Config) -> Repository | None:
    """The repository that the book's settings name. Raises ``ValueError`` as :func:`repository` does."""
    return repository(config.html_theme_options.get(PLACE, ""))


def fetching(notebook: Cell, where: Repository | None) -> Cell:
    """``notebook``, and before it the cell that fetches the book, with a sentence; as it is without address.

    The cell does nothing where ``companion`` can be imported.
    """
    if where is None:
        return notebook
    made = deepcopy(notebook)
    code = FETCHED.format(name=where.name, address=where.address)
    cells: list[Cell] = [
        {"cell_type": "markdown", "metadata": {}, "source": [WORDS]},
        {"cell_type": "code", "metadata": {}, "source": code.splitlines(keepends=True)},
    ]
    cells[1].update(execution_count=None, outputs=[])
    if (made["nbformat"], made["nbformat_minor"]) >= (4, 5):
        for cell, name in zip(cells, ("fetching-words", "fetching"), strict=True):
            cell["id"] = name
    made["cells"] = [*cells, *made["cells"]]
    return made


def launchers(where: Repository, page: str) -> dict[str, Any]:
    """The buttons of a page, in the form in which the theme makes its own."""
    icons = {"Colab": "logo_colab.png", "Binder": "logo_binder.svg"}
    links = {"Colab": where.colab(page), "Binder": where.binder(page)}
    buttons = [
        {
            "type": "link",
            "text": name,
            "tooltip": f"Launch on {name}",
            "icon": f"_static/images/{icons[name]}",
            "url": link,
        }
        for name, link in links.items()
    ]
    return {
        "type": "group",
        "tooltip": "Launch interactive content",
        "icon": "fas fa-rocket",
        "buttons": buttons,
        "label": "launch-buttons",
    }


def checked(app: Sphinx, config: Config) -> None:
    """Refuse an address that is none, before anything is rendered, and write the others alike."""
    where = of(config)
    if where is not None:
        config.html_theme_options[PLACE] = where.address


def show(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put the buttons of a chapter before the others, where the theme would have its own."""
    where = of(app.config) if makes(app, SITE) else None
    is_chapter = page.startswith("chapters/") and context.get("page_source_suffix") == ".ipynb"
    if where is not None and is_chapter:
        context["header_buttons"].insert(0, launchers(where, page))


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("config-inited", checked)
    app.connect("html-page-context", show, priority=502)  # the theme has its buttons by 501
