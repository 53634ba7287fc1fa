"""Render the README's pictures of the console: the queue and a case with a stale source, from the demo."""

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

from playwright.async_api import async_playwright

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "images"
CASE = "Screen arrived cracked"  # the simulated fulfillment service has failed for its order
SIZE = {"width": 1280, "height": 800}


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
    """Write one picture of each page."""
    with urlopen(f"{address}/support/cases?limit=200") as response:
        cases = json.load(response)["items"]
    case = next(each["id"] for each in cases if each["subject"] == CASE)
    FOLDER.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/lib/chromium/chromium-headless-shell", args=["--no-sandbox"]
        )
        page = await browser.new_page(viewport=SIZE, locale="en-GB", color_scheme="light")
        for name, path in (("queue", ""), ("case", f"cases/{case}")):
            await page.goto(f"{address}/console/{path}", wait_until="load")
            await page.locator("main h1").wait_for()
            await page.locator(".timeline, tbody tr").first.wait_for()
            await page.locator("[aria-busy=true]").wait_for(state="detached")
            if name == "case":  # what its source said first is stale after a second
                await page.wait_for_timeout(1500)
                await page.reload()
                await page.locator(".problems").wait_for()
            await page.screenshot(path=FOLDER / f"console-{name}.png")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
