"""A notebook as its reader takes it away: words in place of roles, drawings in their cells."""

import json
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from companion.rendering import notebooks

BIB = """@article{one2020, author = {Ann {One} and Bo Two and Cy Three}, title = {T}, year = 2020}
@misc{two, author = {Bo Two}, title = {U}, year = 2021}
@misc{site, title = {A Site}}
"""
TEXT = """# First

It is {glue:text}`gain:s` by {eq}`eq-one`, see {numref}`fig-cell`, {numref}`fig-two` and {doc}`second`
{from}`derived here`, in {ref}`sec-rules`, {term}`cells <cell>`, {py:func}`~cimlib.fit`,
{py:mod}`cimlib.chip`. {cite:t}`one2020` and others {cite}`two,site`; {numref}`fig-far`.
More in [](second).

$$
a = b
$$ (eq-one)

:::{figure} ../pages/images/cell.svg
:name: fig-cell
:alt: A cell

**The message.** More.
:::

:::{admonition} At a glance
:class: glance

Question
: Why?

Run it
: ```bash
  make run
  ```
:::

:::{admonition} Derivation
:class: dropdown
```{glue:md} table
:format: myst
```
:::
"""
TOLD = """# First

It is +3 by (1), see figure 1, figure 2 and *The second*
[derived here], in *The rules*, cells, `fit`,
`cimlib.chip`. One et al. [2020] and others [Two, 2021; A Site]; a figure of *The second*.
More in *The second*.

$$
a = b
\\tag{1}
$$

![A cell](attachment:cell.svg)

*Figure 1.* **The message.** More.

**At a glance**

**Question**: Why?

**Run it**:

```bash
make run
```

<details><summary><b>Derivation</b></summary>

| a |
|---|

</details>
"""


def glued(name: str, kind: str, text: str) -> dict[str, Any]:
    data = {f"application/papermill.record/text/{kind}": text}
    return {"output_type": "display_data", "data": data, "metadata": {"scrapbook": {"name": name}}}


def notebook(text: str, *code: dict[str, Any]) -> dict[str, Any]:
    cells = [
        {"cell_type": "markdown", "id": "text", "metadata": {}, "source": text.splitlines(keepends=True)}
    ]
    return {"cells": [*cells, *code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def drawing(name: str) -> dict[str, Any]:
    how = {"figure": {"name": name, "caption": "**It is {glue:text}`gain:s`.**"}}
    shown = {
        "data": {"image/png": "", "text/markdown": "{term}`cell`"},
        "metadata": {"image/png": {"dark": ""}},
    }
    outputs = [glued("gain", "plain", "'+3'"), glued("table", "markdown", "| a |\n|---|"), {**shown}]
    outputs[-1]["output_type"] = "display_data"
    tags = {"mystnb": how, "tags": ["hide-input"]}
    return {
        "cell_type": "code",
        "id": "draw",
        "execution_count": 1,
        "metadata": tags,
        "source": [],
        "outputs": outputs,
    }


@pytest.fixture
def book(tmp_path: Path) -> Path:
    for folder in ("chapters", "pages/images"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pages" / "images" / "cell.svg").write_text("<svg/>", encoding="utf-8")
    (tmp_path / "pages" / "rules.md").write_text("# Page\n\n(sec-rules)=\n## The rules\n", encoding="utf-8")
    (tmp_path / "references.bib").write_text(BIB, encoding="utf-8")
    written = {
        "first": notebook(TEXT, drawing("fig-two")),
        "second": notebook("# The second", drawing("fig-far")),
    }
    for name, content in written.items():
        (tmp_path / "chapters" / f"{name}.ipynb").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_roles_and_directives_become_words_and_a_figure_gets_its_caption(book: Path) -> None:
    written = json.loads((book / "chapters" / "first.ipynb").read_text(encoding="utf-8"))
    made = notebooks.readable(written, book)
    nbformat.validate(nbformat.from_dict(made))
    text, code, caption = made["cells"]
    assert "".join(text["source"]) == TOLD
    assert b64decode(text["attachments"]["cell.svg"]["image/svg+xml"]) == b"<svg/>"
    assert "".join(caption["source"]) == "*Figure 2.* **It is +3.**"
    assert code["metadata"]["jupyter"] == {"source_hidden": True}
    assert code["outputs"][-1]["data"]["text/markdown"] == "cell" and not code["outputs"][-1]["metadata"]
    assert notebooks.raw(made) == [] and len(notebooks.raw(written)) > 10


def test_a_role_without_words_here_is_refused(book: Path) -> None:
    with pytest.raises(KeyError, match="kbd"):
        notebooks.readable(notebook("{kbd}`Enter`"), book)


@pytest.mark.parametrize(("built", "words"), [("html", "+3"), ("epub", "old")])
def test_a_page_s_download_is_the_readable_notebook(book: Path, built: str, words: str) -> None:
    offered = book / "out" / "_sources" / "chapters" / "first.ipynb"
    offered.parent.mkdir(parents=True)
    offered.write_text("old", encoding="utf-8")
    config = SimpleNamespace(html_theme_options={})
    builder = SimpleNamespace(name=built)
    app: Any = SimpleNamespace(builder=builder, config=config, outdir=book / "out", srcdir=book)
    notebooks.write(app, None)
    assert words in offered.read_text(encoding="utf-8")
