"""The committed book, opened from disk in a browser: as a reader who was given the folder would."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize

#: Debian's; Playwright's own is a download that not every machine can make.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BOOK = Path(__file__).resolve().parents[1] / "_build" / "committed"
DESK, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)
LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
SETTLED = """async () => {
  if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
  for (const folded of document.querySelectorAll("details:is(.settings, .ablations)")) folded.open = true;
}"""
SERIOUS = """async (rules) => {
  const found = await axe.run({preload: false, resultTypes: ["violations"], ...rules});
  return found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).slice(0, 3).join(" · ")}`);
}"""


@contextmanager
def opened(
    browser: Browser, path: Path, size: ViewportSize, query: str = ""
) -> Iterator[tuple[Page, list[str]]]:
    """The page, settled, and what was wrong on the way: said by the console, or asked of other machines."""
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"{message.type}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            wrong.append(f"asks for {request.url}")

    with browser.new_context(viewport=size, color_scheme="light") as context:
        page = context.new_page()
        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("request", asked)
        page.on("requestfailed", lambda request: wrong.append(f"not there: {request.url}"))
        page.goto(path.as_uri() + query)
        page.evaluate(SETTLED)
        yield page, wrong


def laid_out(page: Page) -> list[str]:
    """What is wrong with the page as it is laid out in this window."""
    return list(page.evaluate(LOOK))


def barriers(page: Page, contrast: bool = True) -> list[str]:
    """What axe finds serious or critical on the page; colours, light and dark, if asked."""
    page.add_style_tag(content="* { transition: none !important }")  # colours are what they will be
    page.evaluate(AXE_SCRIPT)
    rules: dict[str, dict[str, object]] = {"light": {"rules": {"color-contrast": {"enabled": contrast}}}}
    if contrast:  # all else is the same in the dark
        rules["dark"] = {"runOnly": ["color-contrast"]}
    found = []
    for theme, asked in rules.items():
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        found += [f"{theme}: {one}" for one in page.evaluate(SERIOUS, asked)]
    return found
