"""Debian's Chromium, driven by Playwright. An error in a page, such as a violation of its policy, fails the test.

It is the build without windows, which spends 40 % of the CPU time of the other one on a page.
"""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, async_playwright, expect

from tests.support.calls import GENEROUS_TIMEOUT, Case, eventually
from tests.support.console.samples import case_path
from tests.support.service import empty

AXE = Path(__file__).parent / "vendor/axe-core/axe.min.js"
EXECUTABLE = "/usr/lib/chromium/chromium-headless-shell"  # killing the script in /usr/bin would not end it
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
START_TIMEOUT = 60.0  # seconds
ROW_STEP, ENTRY_STEP = 12, 25  # rows of the queue, and entries of a case, that the console renders at once
# Chromium logs every refused request as an error; a test that expects refusals names their statuses.
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")
LOST = "net::ERR_"  # what Chromium calls a connection that broke
KEY = re.compile(r".|Enter|Escape|Tab|Backspace|Arrow\w+|(?:(?:Control|Alt|Shift)\+)+\w+")  # all else is a text
CONTENT = "main:not(.notice:has(> [role=status]))"  # of a page, once it is no note that the page is loading
# Roles of the accessibility tree that a person acts on.
ROLES = (
    *("button", "link", "textbox", "searchbox", "combobox", "checkbox", "radio", "option", "menuitem", "slider"),
    *("spinbutton", "switch", "tab", "DisclosureTriangle", "listbox", "dialog", "log", "navigation", "img"),
)
# Notes what gets the focus; and what is shown in the dialog, if one is open, and has not had it.
NOTE_FOCUS = "() => { window.had = new WeakSet(); addEventListener('focusin', ({target}) => had.add(target)); }"
LEFT_OUT = """() => {
  const all = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const top = [...document.querySelectorAll("dialog[open], :popover-open")].pop() ?? document;
  return [...top.querySelectorAll(all)].filter((each) => {
    if (had.has(each) || each.disabled || each.closest("[inert]")) return false;
    return each.checkVisibility({visibilityProperty: true}) && each.getClientRects().length;
  }).map((each) => each.outerHTML.slice(0, 200));
}"""

expect.set_options(timeout=GENEROUS_TIMEOUT * 1000)


@pytest.fixture(scope="session")
def chromium(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which a Chromium of this run is driven."""
    profile = tmp_path_factory.mktemp("chromium")
    command = [EXECUTABLE, "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(
            found[1] for line in process.stderr if (found := re.search(r"DevTools listening on (\S+)", line))
        )
        yield address
        process.kill()


@pytest.fixture
def _function_scoped_runner(_session_scoped_runner: asyncio.Runner) -> asyncio.Runner:
    """The event loop of a test and of its fixtures: that of the session, on which `browser` stays connected."""
    return _session_scoped_runner


@pytest.fixture(scope="module")
def _module_scoped_runner(_session_scoped_runner: asyncio.Runner) -> asyncio.Runner:
    """The event loop of a module's shared service: the same."""
    return _session_scoped_runner


@pytest.fixture
async def emptied_client(shared_client: TestClient) -> TestClient:
    """A client of the service that a module shares, in which the test finds no data of others."""
    await empty(shared_client)
    return shared_client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """A connection to the browser, whose driver takes half a second of CPU to start."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        yield browser
        await browser.close()


class WarmProfile:
    """A browser profile that the tests of a shared service use one after the other: its cache has the console's files.

    Nothing else of a test is left in it, unless the test installs a clock or a script there.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._address = ""
        self._context: BrowserContext | None = None

    async def of(self, address: str) -> BrowserContext:
        """Return the profile for a service."""
        if self._context is None or self._address != address:
            await self.close()
            self._context, self._address = await new_profile(self._browser, address), address
        return self._context

    async def clean(self) -> None:
        """Close the pages, and delete what they stored."""
        if self._context is None:
            return
        session = await self._context.new_cdp_session(await self._context.new_page())
        await session.send("Storage.clearDataForOrigin", {"origin": self._address, "storageTypes": "local_storage"})
        for page in self._context.pages:
            await page.close()
        await self._context.unroute_all()
        await self._context.clear_cookies()
        await self._context.set_offline(False)

    async def close(self) -> None:
        if self._context is not None:
            await self._context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def warm_profile(browser: Browser) -> AsyncIterator[WarmProfile]:
    warm_profile = WarmProfile(browser)
    yield warm_profile
    await warm_profile.close()


async def new_profile(browser: Browser, address: str, **options: Any) -> BrowserContext:
    context = await browser.new_context(**{"viewport": WIDE, "locale": "en-GB", "base_url": address} | options)
    context.set_default_timeout(GENEROUS_TIMEOUT * 1000)
    return context


class Console:
    """Opens pages of the console at an address, each in a browser profile of its own, and watches their errors."""

    def __init__(self, browser: Browser, address: str, warm_profile: WarmProfile | None = None) -> None:
        self._browser = browser
        self._warm = warm_profile
        self.address = address
        self.errors: list[str] = []
        self.refused: set[int] = set()  # statuses that the test expects
        self.loses_connections = False  # whether the test breaks connections
        self._contexts: list[BrowserContext] = []
        self._uses_warm = False

    async def profile(self, **options: Any) -> BrowserContext:
        """Return a new profile: cookies, storage and preferences of one user."""
        context = await new_profile(self._browser, self.address, **options)
        self._contexts.append(context)
        return context

    async def _any_profile(self, **options: Any) -> BrowserContext:
        """Return the warm profile to the first who needs no other one, and a new one to others."""
        if options or self._warm is None or self._uses_warm:
            return await self.profile(**options)
        self._uses_warm = True
        return await self._warm.of(self.address)

    async def open(
        self,
        path: str | Case = "/console/",
        profile: BrowserContext | None = None,
        *,
        loads: bool = True,
        **options: Any,
    ) -> Page:
        """Open a page or a case, and wait until it is there; unless `loads` is false, also with what it loads."""
        page = await (profile or await self._any_profile(**options)).new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        await page.goto(path if isinstance(path, str) else case_path(path))
        await page.locator(CONTENT).wait_for()
        if loads:
            await settled(page)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        found = REFUSED.search(message.text)
        is_expected = (found and int(found[1]) in self.refused) or (self.loses_connections and LOST in message.text)
        if message.type == "error" and not is_expected:
            self.errors.append(f"{message.text} {message.location}")

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()
        if self._warm and self._uses_warm:
            await self._warm.clean()


@pytest.fixture
async def console(browser: Browser, client: TestClient, warm_profile: WarmProfile) -> AsyncIterator[Console]:
    """The console of the service that `client` talks to."""
    async with watched_console(browser, address_of(client), warm_profile) as console:
        yield console


async def sign_in(console: Console, token: str, address: str = "/console/", **options: Any) -> Page:
    """Open a page without a session, and sign in there with a token; return the page."""
    page = await console.open(address, **options)
    await page.get_by_label("Token or JWT").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("banner")).to_be_visible()
    return page


def address_of(client: TestClient) -> str:
    return str(client.make_url("")).rstrip("/")


@asynccontextmanager
async def watched_console(
    browser: Browser, address: str, warm_profile: WarmProfile | None = None
) -> AsyncIterator[Console]:
    """Yield the console at an address; at the end no page may have had an error."""
    console = Console(browser, address, warm_profile)
    yield console
    await console.close()
    assert console.errors == []


async def expect_good_looks(page: Page) -> None:
    """Fail if a page is not accessible, or wider than its window: wide in light mode, and narrow in dark mode."""
    for scheme, size in (("light", WIDE), ("dark", NARROW)):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await page.set_viewport_size(size)  # type: ignore[arg-type]
        await expect_accessible(page)
        await expect_no_sideways_scrolling(page)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(WIDE)  # type: ignore[arg-type]


async def expect_accessible(page: Page) -> None:
    """Fail for each violation that axe-core finds on a page, with its element."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(f"() => {{ {AXE.read_text()} }}")
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    problems = [
        f"{violation['id']} {node['target']}: {' '.join(node['failureSummary'].split())}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]
    assert not problems, "\n".join(problems)


async def expect_named_and_reached(page: Page) -> None:
    """Fail if a control of a page, or of its dialog, has no name or is not reached by keyboard.

    The name has a letter: a sign alone, such as a cross, says nothing. Tab and Shift+Tab leave no control out. What
    opens around a focused text box is reached with Shift+Tab.
    """
    found = await names(page)
    assert [each for each in found if not re.search(r"[^\W\d_]", each[1])] == []
    assert {role for role, _ in found} & {"button", "option"}
    await page.evaluate(NOTE_FOCUS)
    for key in ["Tab"] * 6 + ["Shift+Tab"] * 6:
        await press(page, *[key] * 30)
        if not (left_out := await page.evaluate(LEFT_OUT)):
            break
    assert left_out == []


async def names(page: Page) -> list[tuple[str, str]]:
    """Return the roles and names of what the accessibility tree has for a person to act on."""
    session = await page.context.new_cdp_session(page)
    nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    await session.detach()
    shown = [each for each in nodes if not each["ignored"] and each.get("role")]
    return [
        (each["role"]["value"], each.get("name", {}).get("value", "").strip())
        for each in shown
        if each["role"]["value"] in ROLES
    ]


async def expect_no_sideways_scrolling(page: Page) -> None:
    """Fail if the page is wider than the window."""
    wide = await page.evaluate(
        """[...document.querySelectorAll("main *")]
          .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
          .map((each) => each.outerHTML.slice(0, 200))"""
    )
    sizes = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert sizes[0] <= sizes[1], wide


async def record_numbers(profile: BrowserContext, selector: str) -> None:
    """Record, from now on, how many elements each page of a profile has after each time that it renders."""
    await profile.add_init_script(
        f"""window.numbers = [0];
        new MutationObserver(() => numbers.push(document.querySelectorAll({selector!r}).length))
          .observe(document, {{childList: true, subtree: true}});"""
    )


async def largest_step(page: Page) -> int:
    """Return how many elements were added at most in one go, after `record_numbers`."""
    numbers: list[int] = await page.evaluate("numbers")
    return max(after - before for before, after in pairwise(numbers))


async def record_shifts(profile: BrowserContext) -> None:
    """Record, from now on, how much the layout of each page of a profile shifts, as browsers score it.

    They count a timeline that scrolls by as much as it grows above. So for it, `ends` has where its last message ends.
    """
    await profile.add_init_script(
        """window.shifts = [];
        const element = (node) => node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
        const named = (node) => node ? element(node).tagName + "." + element(node).className : "gone";
        const place = ({x, y, width, height}) => [x, y, width, height].map(Math.round).join(" ");
        new PerformanceObserver((list) => list.getEntries().forEach(({value, startTime, sources}) => {
          const moved = sources.filter(({node}) => node?.parentElement && !node.parentElement.closest(".timeline"));
          const moves = sources.map(({node, previousRect, currentRect}) =>
            `${named(node)}: ${place(previousRect)} -> ${place(currentRect)}`);
          if (moved.length) shifts.push([value, Math.round(startTime), ...moves]);
        })).observe({type: "layout-shift", buffered: true});
        window.ends = new Set();
        (function look() {
          const last = [...document.querySelectorAll(".timeline .message")].pop();
          if (last) ends.add(Math.round(last.getBoundingClientRect().bottom));
          requestAnimationFrame(look);
        })();"""
    )


async def expect_no_shift(page: Page, most: float) -> None:
    """Fail if the layout has shifted by more than a score, after `record_shifts`, with what moved.

    A place is left, top, width and height.
    """
    shifts: list[list[Any]] = await page.evaluate("shifts")
    lines = "\n".join(" | ".join(map(str, each)) for each in shifts)
    assert sum(each[0] for each in shifts) <= most, lines


async def settled(page: Page) -> None:
    """Wait until the page is there, and nothing is being loaded."""
    await page.locator(CONTENT).wait_for()

    async def is_quiet() -> bool:
        return await page.locator("[aria-busy=true]").count() == 0

    await eventually(is_quiet)


async def press(page: Page, *keys: str) -> None:
    """Press keys, one after the other; a text is typed."""
    for key in keys:
        if KEY.fullmatch(key):
            await page.keyboard.press(key)
        else:
            await page.keyboard.type(key)


async def choose(page: Page, menu: str | re.Pattern[str], option: str) -> None:
    """Open a menu by its button, and choose an option by its name."""
    await page.get_by_role("button", name=menu).click()
    await page.get_by_role("option", name=option).click()


async def follow(page: Page, subject: str) -> None:
    """Click the first link with a text, and wait for the page that has it as its heading."""
    await page.get_by_role("link", name=subject).first.click()
    await expect(page.get_by_role("heading", name=subject)).to_be_visible()


async def send(page: Page, text: str, *, is_sent: bool = False) -> None:
    """Write into the composer, and press the key that sends; wait until `is_sent`."""
    await page.locator("#composer").fill(text)
    await page.locator("#composer").press("Control+Enter")
    if is_sent:
        await expect(page.locator("#composer")).to_have_value("")


async def undo_by_key(page: Page) -> None:
    """Press the key that undoes what was done last, once the page offers it."""
    await expect(page.locator(".toast button")).to_be_visible()
    await page.keyboard.press("z")


async def held(
    target: Page | BrowserContext, pattern: str, method: str = "", outcome: str = "fallback"
) -> asyncio.Event:
    """Hold the requests that match until the returned event is set."""
    released = asyncio.Event()

    async def hold(route: Route) -> None:
        if method in {"", route.request.method}:
            await released.wait()
            await getattr(route, outcome)()
        else:
            await route.fallback()

    await target.route(pattern, hold)
    return released


async def lose(
    target: Page | BrowserContext, pattern: str, method: str = "POST", *, arrives: bool = True
) -> list[Request]:
    """Break the connection of the first request to each address that matches; if it `arrives`, before its answer.

    Returns the list of lost requests, which grows.
    """
    lost: list[Request] = []

    async def handle(route: Route) -> None:
        if route.request.method != method or route.request.url in [each.url for each in lost]:
            await route.fallback()
            return
        lost.append(route.request)
        if arrives:
            await route.fetch()
        await route.abort()

    await target.route(pattern, handle)
    return lost
