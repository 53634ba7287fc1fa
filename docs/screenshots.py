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

from playwright.async_api import Browser, Error, Page, Route, async_playwright

ROOT = Path(__file__).parent.parent
README_FOLDER = ROOT / "docs" / "images"
SHEET_FOLDER = ROOT / "build" / "screenshots"
EXECUTABLE = "/usr/lib/chromium/chromium-headless-shell"
README_SIZE = {"width": 1440, "height": 900}
WIDE, WIDEST, NARROW = ({"width": width, "height": height} for width, height in ((1440, 900), (1920, 1080), (390, 844)))
LONGEST = "Any news? The 48 hours are over."  # the last message of the longest conversation
STATED = 2000  # ms after which the counts of the views are there
SETTLE = 400  # ms after which nothing moves
LONG_TEXT = "We have asked the carrier, and send a second parcel today."


@dataclass(frozen=True, slots=True)
class Look:
    """How states are shown: all states, or the states of each page only."""

    name: str
    size: dict[str, int]
    theme: str = "light"
    locale: str = "en-GB"
    direction: str = "ltr"
    is_of_all: bool = False


LOOKS = [
    Look("light", WIDE, is_of_all=True),
    Look("dark", WIDE, "dark", is_of_all=True),
    Look("narrow", NARROW, is_of_all=True),
    Look("narrow-dark", NARROW, "dark"),
    Look("widest", WIDEST),
    Look("vietnamese", WIDE, locale="vi-VN", is_of_all=True),
    Look("from-the-right", WIDE, direction="rtl"),
]

Act = Callable[[Page], Coroutine[Any, Any, None]]


async def nothing(_: Page) -> None:
    """Leave the page as it is."""


def keys(*pressed: str) -> Act:
    """Return what presses keys one after the other."""

    async def act(page: Page) -> None:
        for key in pressed:
            await page.keyboard.press(key)
            await page.wait_for_timeout(100)

    return act


def click(*selectors: str) -> Act:
    """Return what clicks one thing after the other."""

    async def act(page: Page) -> None:
        for selector in selectors:
            await page.locator(selector).first.click()
            await page.wait_for_timeout(100)

    return act


def write(key: str, text: str) -> Act:
    """Return what begins a message, and writes it."""

    async def act(page: Page) -> None:
        await page.keyboard.press(key)
        await page.keyboard.type(text)

    return act


async def open_from_list(page: Page) -> None:
    """Open the second case of the list, which then stands beside it where there is room."""
    await keys("j", "j", "Enter")(page)
    await page.locator(".case-head").wait_for()


async def collide(page: Page) -> None:
    """Send a reply to a case that has changed meanwhile."""
    await write("r", LONG_TEXT)(page)
    path = page.url.rpartition("/")[2]
    body = {"authorType": "customer", "message": "It has just arrived, thank you!"}
    await page.request.post(f"/support/cases/{path}/messages", data=body)
    await page.keyboard.press("Control+Enter")
    await page.locator("dialog[open], .change-question").first.wait_for()


async def sign_in(page: Page) -> None:
    """Show the sign-in, which the demo does not ask for."""
    await page.evaluate("history.pushState(null, '', '/console/sign-in'); dispatchEvent(new PopStateEvent('popstate'))")


async def go_offline(page: Page) -> None:
    """Lose the network, and ask for another view."""
    await page.context.set_offline(True)
    await page.keyboard.press("g")
    await page.keyboard.press("u")


def answering(pattern: str, answer: Callable[[Route], Coroutine[Any, Any, None]]) -> Act:
    """Return what answers some requests of a page."""

    async def prepare(page: Page) -> None:
        await page.route(pattern, answer)

    return prepare


async def _never(_: Route) -> None:
    """Let the page wait."""


async def _fail(route: Route) -> None:
    problem = {"type": "about:blank", "status": 503, "code": "database_unavailable", "detail": "No answer."}
    await route.fulfill(status=503, content_type="application/problem+json", json=problem)


async def _all_well(route: Route) -> None:
    answer = await route.fetch()
    state = await answer.json()
    for source in state["sources"]["items"]:
        source |= {"override": None, "breaker": "closed", "errorShare": 0}
    state["sources"] |= {"status": "ok", "error": None}
    await route.fulfill(response=answer, json=state)


@dataclass(frozen=True, slots=True)
class State:
    """A page in a state: its path below `/console/`, what is prepared before it is opened, and what is done there."""

    name: str
    path: str
    act: Act = nothing
    prepare: Act = nothing
    is_main: bool = False
    is_complete: bool = True


LISTS = "**/support/cases?*"


def states(cases: dict[str, Any]) -> list[State]:
    """Return what the sheet shows. `cases` are the cases of the demo by their subjects and last messages."""
    stale = cases["Screen arrived cracked"]["id"]
    case = f"cases/{cases[LONGEST]['id']}"
    unassigned = f"cases/{cases['Parcel has not arrived']['id']}"
    customer = f"customers/{cases['Parcel has not arrived']['customerId']}"
    return [
        State("queue", "", is_main=True),
        State("queue-selection", "", keys("j", "x", "j", "x"), is_main=True),
        State("queue-bulk-menu", "", keys("j", "x", "j", "x", "a")),
        State("queue-filter", "", click(".queue-filters choice-menu button")),
        State("queue-search", "?q=parcel"),
        State("queue-nothing-found", "?view=unassigned&q=qwertz"),
        State("queue-empty", "?view=drafts"),
        State("queue-at-risk", "?view=due"),
        State("queue-loading", "", prepare=answering(LISTS, _never), is_complete=False),
        State("queue-failing", "", prepare=answering(LISTS, _fail), is_complete=False),
        State("queue-offline", "", go_offline),
        State("palette", "", write("Control+k", "order")),
        State("keys", "", keys("?")),
        State("menu", "", click(".account summary")),
        State("case", case, is_main=True),
        State("case-from-list", "", open_from_list, is_main=True),
        State("case-stale", f"cases/{stale}"),
        State("case-unassigned", unassigned),
        State("case-everything", case, click(".segments button:nth-of-type(2)")),
        State("case-composer", case, write("r", LONG_TEXT), is_main=True),
        State("case-note", case, write("n", "@")),
        State("case-macros", case, write("r", ";")),
        State("case-assignee", case, keys("a")),
        State("case-actions", case, click(".of-actions button")),
        State("case-snooze", case, keys("h")),
        State("case-merge", case, click(".of-actions button", ".of-actions [role=option]:nth-of-type(2)")),
        State("case-split", case, click(".of-actions button", ".of-actions [role=option]:nth-of-type(3)")),
        State("case-collision", unassigned, collide),
        State("case-loading", case, prepare=answering("**/support/cases/*", _never), is_complete=False),
        State("case-missing", "cases/none", is_complete=False),
        State("customer", customer, is_main=True),
        State("customer-edit", customer, click(".edit")),
        State("team", "team", is_main=True),
        State("team-toast", "team", click("[data-person] td button")),
        State("oncall", "oncall", is_main=True),
        State("oncall-well", "oncall", prepare=answering("**/support/oncall", _all_well)),
        State("oncall-database-down", "oncall", prepare=answering("**/support/oncall", _fail), is_complete=False),
        State("oncall-override", "oncall", click("[data-part] button")),
        State("audit", "audit", is_main=True),
        State("sign-in", "", sign_in),
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
        waiting = [case for case in json.load(response)["items"] if case["status"] in ("open", "pending")]
    said = {case["lastCustomerMessage"]["text"]: case for case in waiting if case["lastCustomerMessage"]}
    cases = {case["subject"]: case for case in waiting} | said
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        await take_readme_pictures(browser, address, cases)
        _set_override(address)
        await take_sheet(browser, address, states(cases))
        await browser.close()


async def take_readme_pictures(browser: Browser, address: str, cases: dict[str, Any]) -> None:
    """Write one picture of the queue, and one of a case."""
    README_FOLDER.mkdir(exist_ok=True)
    page = await browser.new_page(viewport=README_SIZE, locale="en-GB", color_scheme="light", base_url=address)  # type: ignore[arg-type]
    for name, path in (("queue", ""), ("case", f"cases/{cases[LONGEST]['id']}")):
        await show(page, path)
        await page.wait_for_timeout(STATED)
        await page.screenshot(path=README_FOLDER / f"console-{name}.png")
    await page.close()


async def show(page: Page, path: str, *, is_complete: bool = True) -> None:
    """Open a page, and wait until it is complete."""
    await page.goto(f"/console/{path}", wait_until="load")
    if is_complete:
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
    wanted = [(look, [state for state in shown if look.is_of_all or state.is_main]) for look in LOOKS]
    total, rows = sum(len(each) for _, each in wanted), []

    async def take(look: Look, chosen: list[State]) -> None:
        for state in chosen:
            await take_picture(browser, address, look, state)
            rows.append((state.name, look.name, f"{state.name}-{look.name}.png"))
            print(f"\r{len(rows)} of {total} ", end="", file=sys.stderr, flush=True)

    await asyncio.gather(*(take(look, chosen) for look, chosen in wanted))
    (SHEET_FOLDER / "index.html").write_text(sheet(rows))
    print(f"\rThe sheet is {SHEET_FOLDER / 'index.html'}.", file=sys.stderr)


async def take_picture(browser: Browser, address: str, look: Look, state: State) -> None:
    """Write a state in a look, in a browser profile of its own."""
    theme: Any = look.theme
    size: Any = look.size
    context = await browser.new_context(viewport=size, locale=look.locale, color_scheme=theme, base_url=address)
    page = await context.new_page()
    await state.prepare(page)
    await show(page, state.path, is_complete=state.is_complete)
    await page.evaluate(f"document.documentElement.dir = {look.direction!r}")
    try:
        await state.act(page)
    except Error as failure:
        raise RuntimeError(f"{state.name} in {look.name} can't be shown: {failure}") from failure
    await page.wait_for_timeout(SETTLE)
    await page.screenshot(path=SHEET_FOLDER / f"{state.name}-{look.name}.png")
    await page.unroute_all(behavior="ignoreErrors")
    await context.close()


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
