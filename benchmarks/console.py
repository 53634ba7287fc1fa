"""Measure the console in Chromium with a CPU slowed down four times, against its budget.

    python -m benchmarks.console
    python -m benchmarks.console --seconds 3600

Of the queue and of a case: largest contentful paint, total blocking time and layout shift. The longest interaction
while moving through 200 rows and while writing, and the time of an update of 200 rows. Then 2,000 changes of cases are
made while the queue is open, in `--seconds`. Measured are the growth of the heap, the requests per second, and the
layout shift. The exit status is 1 if a figure is above its budget.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import CDPSession, Page, async_playwright
from tests.support.console.browser import EXECUTABLE

from benchmarks.environment import ROOT, free_port, running

ROWS = 200
ROW = "tbody tr[data-case]"
MESSAGES = 200
SLOWDOWN = 4
KEYS = 20
SETTLE = 1500  # ms after which a page is quiet
OBSERVE = """() => {
  window.found = { paint: 0, blocked: 0, interaction: 0, shift: 0 };
  const watch = (type, take, more = {}) =>
    new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type, buffered: true, ...more });
  watch("largest-contentful-paint", (entry) => (found.paint = entry.startTime));
  watch("longtask", (entry) => (found.blocked += Math.max(0, entry.duration - 50)));
  watch("layout-shift", (entry) => entry.hadRecentInput || (found.shift += entry.value));
  const slowest = (entry) => (found.interaction = Math.max(found.interaction, entry.duration));
  watch("event", slowest, { durationThreshold: 16 });
}"""
UPDATE = """async () => {
  const page = document.querySelector("queue-page");
  page.cases.set({ items: page.cases.items.map((item) => ({ ...item, priority: "urgent" })) });
  const from = performance.now();
  page.requestUpdate();
  await page.updateComplete;
  document.body.offsetHeight;
  return performance.now() - from;
}"""
MS, SHARE, MB, PER_SECOND = "{:.0f} ms", "{:.4f}", "{:.2f} MB", "{:.2f}/s"
BUDGET: dict[str, tuple[float, str]] = {
    "paint": (300.0, MS),
    "blocked": (50.0, MS),
    "interaction": (50.0, MS),
    "update": (50.0, MS),
    "shift": (0.02, SHARE),
    "heap growth": (1.0, MB),
    "requests": (1.0, PER_SECOND),
}
UPDATES = 2000
WARM_UP = 100  # updates after which the heap is measured first: the code of updates is compiled then
PRIORITIES = ("low", "normal", "high")  # their number must not divide ROWS: each change is one


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the console in Chromium with a slow CPU, against its budget.")
    parser.add_argument("--seconds", type=float, default=100.0, help=f"of the {UPDATES} changes (default: 100)")
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="console-") as name:
        folder = Path(name)
        serve = [sys.executable, "-m", "support_service", "serve"]
        settings = {"PYTHONPATH": str(ROOT / "src"), "SUPPORT_PORT": str(port), "SUPPORT_SHED_LAG": "0"}
        with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log"):
            figures = asyncio.run(_measure(f"http://127.0.0.1:{port}", arguments.seconds))
    for page, found in figures.items():
        print(page, *(_with_budget(name, value) for name, value in found.items()), sep="  ")
    return int(any(value > BUDGET[name][0] for found in figures.values() for name, value in found.items()))


def _with_budget(name: str, value: float) -> str:
    budget, unit = BUDGET[name]
    return f"{name} {unit.format(value)} (budget {unit.format(budget)})"


async def _measure(address: str, seconds: float) -> dict[str, dict[str, float]]:
    cases = await _fill(address)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        queue, devtools = await _open(await browser.new_page(), f"{address}/console/?view=all")
        while await queue.locator(ROW).count() < ROWS:
            await queue.locator(".more button").click()
            await queue.wait_for_timeout(SETTLE)
        for _ in range(KEYS):
            await queue.keyboard.press("j")
        queue_figures = await _figures(queue) | {"update": await queue.evaluate(UPDATE)}
        live_figures = await _follow_changes(queue, devtools, address, cases, seconds)
        detail, _ = await _open(await browser.new_page(), f"{address}/console/cases/{cases[-1]}")
        await detail.locator("#composer").click()  # the composer grows: no layout shift after a click
        await detail.keyboard.type("An answer of a few words.")
        case_figures = await _figures(detail)
        await browser.close()
    return {
        f"queue of {ROWS} rows": queue_figures,
        f"{UPDATES} changes in {seconds:.0f} s": live_figures,
        f"case of {MESSAGES} messages": case_figures,
    }


async def _follow_changes(
    page: Page, devtools: CDPSession, address: str, cases: list[str], seconds: float
) -> dict[str, float]:
    """Change cases while the queue shows them."""
    requests = 0

    def count(_: Any) -> None:
        nonlocal requests
        requests += 1

    changes = zip(itertools.cycle(cases), itertools.cycle(PRIORITIES), strict=False)
    async with aiohttp.ClientSession(address, raise_for_status=True) as session:

        async def change(number: int) -> None:
            begin = time.perf_counter()
            for done in range(1, number + 1):
                case, priority = next(changes)
                async with session.patch(f"/support/cases/{case}", json={"priority": priority}):
                    pass
                await asyncio.sleep(max(0.0, begin + done * seconds / UPDATES - time.perf_counter()))

        await change(WARM_UP)
        heap = await _used_heap(devtools)
        await page.evaluate("found.shift = 0")
        page.on("request", count)
        begin = time.perf_counter()
        await change(UPDATES)
        await page.wait_for_timeout(SETTLE)
        elapsed = time.perf_counter() - begin
        page.remove_listener("request", count)
    growth = (await _used_heap(devtools) - heap) / 1e6
    return {"heap growth": growth, "requests": requests / elapsed, "shift": await page.evaluate("found.shift")}


async def _used_heap(devtools: CDPSession) -> float:
    await devtools.send("HeapProfiler.enable")
    for _ in range(3):  # what finalizers release is collected later
        await devtools.send("HeapProfiler.collectGarbage")
    return float((await devtools.send("Runtime.getHeapUsage"))["usedSize"])


async def _fill(address: str) -> list[str]:
    """Open the cases, and return their ids; the last one has a long conversation."""
    cases: list[str] = []
    async with aiohttp.ClientSession(address, raise_for_status=True) as session:
        async with session.put("/support/sla-policies/all", json={"targets": {"firstResponse": "PT1H"}}):
            pass
        for number in range(ROWS):
            message = {"authorType": "customer", "message": "Where is my parcel?"}
            new = {"subject": f"Parcel {number}", "channel": "email", "tags": ["delivery"], "initialMessage": message}
            async with session.post("/support/cases", json=new) as response:
                cases.append((await response.json())["id"])
        for number in range(MESSAGES):
            body = {"authorType": "agent", "message": f"Message {number} with a sentence of some length."}
            async with session.post(f"/support/cases/{cases[-1]}/messages", json=body):
                pass
    return cases


async def _open(page: Page, url: str) -> tuple[Page, CDPSession]:
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWDOWN})
    await page.add_init_script(f"({OBSERVE})()")
    await page.wait_for_timeout(SETTLE)  # a new window's own start is not the page's
    await page.goto(url)
    await page.wait_for_timeout(SETTLE)
    return page, devtools


async def _figures(page: Page) -> dict[str, Any]:
    await page.wait_for_timeout(SETTLE)
    found: dict[str, Any] = await page.evaluate("found")
    return found


if __name__ == "__main__":
    sys.exit(main())
