"""Two users of a page: one has a keyboard only, and one uses the mouse for everything but text."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import FilePayload, Locator, Page, expect

from tests.support.console.browser import expect_accessible

MOST_STEPS = 80  # controls between two that are used one after the other


class Keyboard:
    """Moves the focus with the Tab key, and presses what has it."""

    async def reach(self, control: Locator) -> None:
        """Move the focus to a control, backward where it comes before the control in use.

        Fails if the Tab key can't.
        """
        await control.wait_for()
        backward = await control.evaluate(
            "each => Boolean(each.compareDocumentPosition(document.activeElement) & Node.DOCUMENT_POSITION_FOLLOWING)"
        )
        for _ in range(MOST_STEPS):
            if await control.evaluate("each => each === document.activeElement"):
                return
            await control.page.keyboard.press("Shift+Tab" if backward else "Tab")
        raise AssertionError(f"{control} can't be reached with the Tab key")

    async def press(self, control: Locator) -> None:
        """Press a button, or follow a link."""
        await self.reach(control)
        await control.page.keyboard.press("Enter")

    async def choose(self, control: Locator, label: str) -> None:
        await self.reach(control)
        await control.page.keyboard.type(label)

    async def pick(self, menu: Locator, label: str) -> None:
        """Open a menu, and choose by typing."""
        await self.press(menu)
        await expect(menu.page.locator(".choices input")).to_be_focused()
        await menu.page.keyboard.type(label)
        await menu.page.keyboard.press("Enter")

    async def look_at(self, page: Page) -> None:
        await expect_accessible(page)


class Mouse:
    async def reach(self, control: Locator) -> None:
        """Put the cursor into a field."""
        await control.click()
        await expect(control).to_be_focused()

    async def press(self, control: Locator) -> None:
        await control.click()

    async def choose(self, control: Locator, label: str) -> None:
        """Choose an option; Chromium draws the list outside of the page."""
        await control.select_option(label=label)

    async def pick(self, menu: Locator, label: str) -> None:
        await menu.click()
        await menu.page.get_by_role("option", name=label).click()

    async def look_at(self, page: Page) -> None:
        """Expect nothing: the page looks as it does for the other user."""


class Counter:
    """Presses keys and clicks, and counts them. A text that is typed into a field counts once, whatever its length."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.count = 0

    async def keys(self, *keys: str) -> None:
        for key in keys:
            await self._page.keyboard.press(key)
            self.count += 1

    async def click(self, control: Locator, modifiers: list[Any] | None = None) -> None:
        """Click, perhaps with keys held."""
        await control.click(modifiers=modifiers)
        self.count += 1

    async def type(self, text: str) -> None:
        await expect(self._page.locator("input:focus, textarea:focus")).to_have_count(1)
        await self._page.keyboard.type(text)
        self.count += 1

    async def find(self, words: str) -> None:
        """Open the palette by its key, and take what it finds first."""
        await self.keys("Control+k")
        await self.type(words)
        await expect(self._page.locator(".palette [aria-selected=true]")).to_be_visible()
        await self.keys("Enter")

    async def choose_file(self, files: list[FilePayload], press: Callable[[], Awaitable[None]]) -> None:
        """Open the browser's dialog for files by a press, and choose files there, which counts once."""
        async with self._page.expect_file_chooser() as chooser:
            await self._page.evaluate("0")  # answered once the browser tells of dialogs instead of opening them
            await press()
        await (await chooser.value).set_files(files)
        self.count += 1


User = Keyboard | Mouse


async def write(user: User, field: Locator, text: str) -> None:
    await user.reach(field)
    await field.page.keyboard.type(text)


async def set_file(page: Page, file: Path) -> None:
    """Give the file input a file of this machine, without sending its bytes through the test."""
    session = await page.context.new_cdp_session(page)
    root = (await session.send("DOM.getDocument"))["root"]["nodeId"]
    found = await session.send("DOM.querySelector", {"nodeId": root, "selector": "input[type=file]"})
    await session.send("DOM.setFileInputFiles", {"files": [str(file)], "nodeId": found["nodeId"]})
    await session.detach()


async def attach(user: User, page: Page, file: Path) -> None:
    """Open the browser's dialog for files, and choose one there."""
    async with page.expect_file_chooser():
        await user.press(page.locator("input[type=file]"))
    await set_file(page, file)
