"""What is printed is looked at first: images, torn equations and what is wider than paper do not pass."""

import subprocess
import sys
from pathlib import Path

import pytest
from pypdf import PdfReader
from reader import CHROMIUM

ROOT = Path(__file__).resolve().parents[2]
DRAWING = "<svg xmlns='http://www.w3.org/2000/svg' width='90' height='20'><rect width='80' height='9'/></svg>"
STYLE = "<style>div.math { break-inside: avoid } pre { font-size: 14px }</style>"
MATHS = "<div class=math><mjx-container>a = b</mjx-container></div>"
GOOD = f"""<!doctype html><html lang=en><title>Book</title>{STYLE}
<h1>Book</h1>
<span id="document-chapters/one"></span><section><h1>One</h1>
<a href="intro.html#document-chapters/two">to the second</a> <a href="gone.html">nowhere</a>{DRAWING}{MATHS}
<pre>code</pre><details><summary>Answer</summary>folded words</details></section>
<span id="document-chapters/two"></span><section><h1>Two</h1></section>"""


def printed(folder: Path, page: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What printing this page says, and where the PDF is."""
    (folder / "intro.html").write_text(page, encoding="utf-8")
    command = [sys.executable, "tools/printed.py", folder / "intro.html", folder / "book.pdf"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    return ran, folder / "book.pdf"


@pytest.fixture(autouse=True)
def there_is_a_browser() -> None:
    if CHROMIUM is None:
        pytest.skip("no chromium here")


def test_a_good_page_becomes_a_pdf_with_contents_open_answers_and_links_within(tmp_path: Path) -> None:
    ran, path = printed(tmp_path, GOOD)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    pdf = PdfReader(path)
    assert [entry.title for entry in pdf.outline if not isinstance(entry, list)] == ["Book", "One", "Two"]
    text = "\n".join(page.extract_text() for page in pdf.pages)
    assert "folded words" in text and "1 / 3" in text and "3 / 3" in text
    links = [note.get_object() for page in pdf.pages for note in page.get("/Annots") or []]
    assert len(links) == 1 and "file:" not in str(links)


def test_what_is_wrong_on_paper_is_told_and_fails(tmp_path: Path) -> None:
    page = (
        GOOD.replace("break-inside: avoid", "")
        .replace("14px", "6px")
        .replace("<pre>code</pre>", f"<pre>{'code ' * 80}</pre><div class=math>x</div>")
        .replace(DRAWING, f"<img alt='' src='file://{ROOT}/tests/browser/gone.png'>")
    )
    ran, _ = printed(tmp_path, page)
    assert ran.returncode == 1, ran.stderr
    for fault in ("may be torn", "too small", "px wide", "not typeset", "no image"):
        assert fault in ran.stdout, (fault, ran.stdout)


def test_a_figure_that_is_no_drawing_is_told(tmp_path: Path) -> None:
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    ran, _ = printed(
        tmp_path, GOOD.replace(DRAWING, f"<img alt='' width=99 src='data:image/png;base64,{dot}'>")
    )
    assert ran.returncode == 1 and "no drawing: data:image/png" in ran.stdout, ran.stdout + ran.stderr
