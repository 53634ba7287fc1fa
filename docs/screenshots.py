"""Render pictures of the console from the demo: the README's, and one sheet of all pages for a review.

    python docs/screenshots.py

The sheet is `build/screenshots/index.html`: each page and state in both themes, in English and Vietnamese, from the
right, wide and narrow. It is not committed.
"""

import asyncio
import html
import json
import re
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from playwright.async_api import Browser, Page, async_playwright

ROOT = Path(__file__).parent.parent
README_FOLDER = ROOT / "docs" / "images"
SHEET_FOLDER = ROOT / "build" / "screenshots"
EXECUTABLE = "/usr/lib/chromium/chromium-headless-shell"
CASE = "Screen arrived cracked"  # the simulated fulfillment service has failed for its order
README_SIZE = {"width": 1280, "height": 800}
WIDE, WIDEST, NARROW = ({"width": width, "height": height} for width, height in ((1440, 900), (1920, 1080), (390, 844)))
# How each state is shown: name, window, theme, language and direction.
LOOKS: list[tuple[str, dict[str, int], Any, str, str]] = [
    ("light", WIDE, "light", "en-GB", "ltr"),
    ("dark", WIDE, "dark", "en-GB", "ltr"),
    ("vietnamese", WIDE, "light", "vi-VN", "ltr"),
    ("widest", WIDEST, "light", "en-GB", "ltr"),
    ("narrow", NARROW, "light", "en-GB", "ltr"),
    ("narrow-dark", NARROW, "dark", "en-GB", "ltr"),
    ("from-the-right", WIDE, "light", "en-GB", "rtl"),
]
STALE = 1500  # ms after which what a source said first is stale
SETTLE = 500  # ms after which nothing moves


async def _nothing(_: Page) -> None:
    """Leave the page as it is."""


async def _palette(page: Page) -> None:
    await page.keyboard.press("Control+k")
    await page.keyboard.type("order")


async def _keys(page: Page) -> None:
    await page.keyboard.press("?")


async def _composer(page: Page) -> None:
    await page.keyboard.press("r")


async def _selection(page: Page) -> None:
    for key in "jxjx":
        await page.keyboard.press(key)


async def _override(page: Page) -> None:
    await page.locator("[data-part] button").first.click()


async def _away(page: Page) -> None:
    await page.locator("[data-person] td button").first.click()


@dataclass(frozen=True, slots=True)
class State:
    """A page in a state: its path below `/console/`, and what is done there."""

    name: str
    path: str
    act: Callable[[Page], Coroutine[Any, Any, None]] = _nothing


def states(case: str, customer: str) -> list[State]:
    """Return what the sheet shows."""
    return [
        State("queue", ""),
        State("queue-selection", "", _selection),
        State("queue-empty", "?view=drafts"),
        State("palette", "", _palette),
        State("keys", "", _keys),
        State("case", f"cases/{case}"),
        State("case-composer", f"cases/{case}", _composer),
        State("case-missing", "cases/none"),
        State("customer", f"customers/{customer}"),
        State("team", "team"),
        State("team-toast", "team", _away),
        State("oncall", "oncall"),
        State("oncall-override", "oncall", _override),
        State("audit", "audit"),
    ]


async def main() -> None:
    """Start the demo in a folder of its own, and take the pictures."""
    command = [Path(sys.executable).parent / "support-service", "demo", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        demo = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE)
        try:
            await take_pictures(await read_address(demo))
        finally:
            demo.terminate()
            await demo.wait()


async def read_address(demo: asyncio.subprocess.Process) -> str:
    """Return the address that the demo prints. Raises RuntimeError if it ends first."""
    assert demo.stdout is not None
    async for line in demo.stdout:
        if found := re.search(rb"Console +(http://\S+)/console/", line):
            return found[1].decode()
    raise RuntimeError("The demo has ended.")


async def take_pictures(address: str) -> None:
    """Write the pictures of the README, and then the sheet."""
    with urlopen(f"{address}/support/cases?limit=200") as response:
        cases = json.load(response)["items"]
    case = next(each for each in cases if each["subject"] == CASE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        await take_readme_pictures(browser, address, case["id"])
        _set_override(address)
        await take_sheet(browser, address, states(case["id"], case["customerId"]))
        await browser.close()


async def take_readme_pictures(browser: Browser, address: str, case: str) -> None:
    """Write one picture of the queue, and one of a case."""
    README_FOLDER.mkdir(exist_ok=True)
    page = await browser.new_page(viewport=README_SIZE, locale="en-GB", color_scheme="light")  # type: ignore[arg-type]
    for name, path in (("queue", ""), ("case", f"cases/{case}")):
        await show(page, f"{address}/console/{path}")
        if name == "case":
            await page.wait_for_timeout(STALE)
            await show(page, f"{address}/console/{path}")
            await page.locator(".problems").wait_for()
        await page.screenshot(path=README_FOLDER / f"console-{name}.png")
    await page.close()


async def show(page: Page, address: str) -> None:
    """Open a page, and wait until it is complete."""
    await page.goto(address, wait_until="load")
    await page.locator("main h1").first.wait_for()
    await page.locator("[aria-busy=true]").first.wait_for(state="detached")
    await page.wait_for_timeout(SETTLE)


def _set_override(address: str) -> None:
    body = json.dumps({"reason": "being restored", "duration": "PT30M"}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{address}/support/overrides/payment", body, headers, method="PUT")):
        pass


async def take_sheet(browser: Browser, address: str, shown: list[State]) -> None:
    """Write each state in each look, and a page that lists them."""
    SHEET_FOLDER.mkdir(parents=True, exist_ok=True)
    rows = []
    for look, size, theme, locale, direction in LOOKS:
        context = await browser.new_context(viewport=size, locale=locale, color_scheme=theme)  # type: ignore[arg-type]
        for number, state in enumerate(shown, 1):
            print(f"\r{look}: {number} of {len(shown)} ", end="", file=sys.stderr, flush=True)
            page = await context.new_page()
            await show(page, f"{address}/console/{state.path}")
            await page.evaluate(f"document.documentElement.dir = {direction!r}")
            await state.act(page)
            await page.wait_for_timeout(SETTLE)
            file = f"{state.name}-{look}.png"
            await page.screenshot(path=SHEET_FOLDER / file)
            rows.append((state.name, look, file))
            await page.close()
        await context.close()
    (SHEET_FOLDER / "index.html").write_text(sheet(rows))
    print(f"\rThe sheet is {SHEET_FOLDER / 'index.html'}.", file=sys.stderr)


def sheet(rows: list[tuple[str, str, str]]) -> str:
    """Return the page of all pictures, by state."""
    figures = "".join(
        f'<figure><a href="{file}"><img src="{file}" loading="lazy"></a>'
        f"<figcaption>{html.escape(f'{name}, {look}')}</figcaption></figure>"
        for name, look, file in sorted(rows)
    )
    style = "body{display:flex;flex-wrap:wrap;gap:16px;font:14px sans-serif}figure{margin:0}img{height:320px}"
    return f"<!doctype html><meta charset=utf-8><title>Console</title><style>{style}</style>{figures}"


if __name__ == "__main__":
    asyncio.run(main())
