"""Print the book: one page of everything becomes a PDF, which is looked at before it is kept.

``python tools/printed.py PAGE PDF``; used by ``make pdf``. Figures and equations are drawings in it, not
images; no equation is torn, and nothing is wider than the paper. Says what is wrong otherwise, with status 1.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pikepdf
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCALE = 0.75  # of the letters of a page on paper
SMALLEST = 6.5  # points, of code
A4, MARGIN = (210.0, 297.0), 16.0  # mm
MM = 96 / 25.4  # CSS pixels
WIDTH, HEIGHT = ((side - 2 * MARGIN) * MM / SCALE for side in A4)
LINE = (
    '<div style="width: 100%; margin: 0 16mm; font: 8px sans-serif;'
    ' display: flex; justify-content: space-between">'
    "<span>Computing-in-Memory, Reproduced · version {version}</span>"
    '<span><span class="pageNumber"></span> / <span class="totalPages"></span></span></div>'
)
#: Of chapters and other pages: Sphinx puts a place with the page's name before each.
TITLES = "[id^='document-'] + section > :is(h1, h2, h3)"
READY = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def laid_out(page: Page) -> list[str]:
    """What is wrong with the page on paper, for which it is made ready."""
    page.emulate_media(media="print")
    return list(page.evaluate(READY, [HEIGHT, SMALLEST, SCALE]))


def contents(pdf: PdfReader, titles: list[str]) -> Iterator[str]:
    """What is wrong with the PDF: titles of chapters that its contents lack."""
    listed = set(_flat(pdf.outline))
    yield from (f"its contents lack {title!r}" for title in titles if _letters(title) not in listed)


def _flat(outline: list[Any]) -> Iterator[str]:
    """The titles of the contents at all levels, in letters."""
    for entry in outline:
        if isinstance(entry, list):
            yield from _flat(entry)
        else:
            yield _letters(str(entry.title))


def _letters(title: str) -> str:
    """A title without its spaces, which are lost where it fills two lines."""
    return "".join(title.split())


def main(source: Path, target: Path) -> int:
    """Print ``source`` to ``target``; the status for the shell."""
    found = [path for path in map(shutil.which, BROWSERS) if path is not None]
    if not found:
        print(f"no browser here that prints; any of {', '.join(BROWSERS)} does: apt-get install chromium")
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": round(WIDTH), "height": round(HEIGHT)})
        page.goto(source.resolve().as_uri(), timeout=300_000)
        wrong = laid_out(page)
        titles = [" ".join(title.split()) for title in page.locator(TITLES).all_inner_texts()]
        margin = dict.fromkeys(("top", "right", "bottom", "left"), f"{MARGIN}mm")
        page.pdf(
            path=target,
            format="A4",
            scale=SCALE,
            margin=margin,  # type: ignore[arg-type]
            outline=True,
            tagged=True,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=LINE.replace("{version}", version("cimlib")),
        )
        browser.close()
    with pikepdf.open(target, allow_overwriting_input=True) as whole:  # half as large with its parts packed
        whole.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    pdf = PdfReader(target)
    wrong += contents(pdf, titles)
    print(*wrong, f"{len(pdf.pages)} pages", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
