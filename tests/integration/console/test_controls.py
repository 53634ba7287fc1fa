"""Each page and state: it is accessible, every control has a name, and is reached by keyboard."""

from collections.abc import Awaitable, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.support.calls import add_message, open_case, upload
from tests.support.console.browser import (
    NARROW,
    WIDE,
    expect_accessible,
    expect_named_and_reached,
    expect_no_sideways_scrolling,
    press,
    settled,
)
from tests.support.console.samples import case_path
from tests.support.timeline.harness import open_services
from tests.support.upstream import url_variables


def pressing(*keys: str, shows: str) -> Callable[[Page], Awaitable[None]]:
    """Return a step that presses keys, and waits until something is shown."""

    async def step(page: Page) -> None:
        await press(page, *keys)
        await expect(page.locator(shows).first).to_be_visible()

    return step


def pushing(*buttons: str, shows: str) -> Callable[[Page], Awaitable[None]]:
    """Return a step that presses buttons by the keyboard, and waits until something is shown."""

    async def step(page: Page) -> None:
        for button in buttons:
            await page.locator(button).first.focus()
            await pressing("Enter", shows=shows)(page)

    return step


def acting(number: int) -> Callable[[Page], Awaitable[None]]:
    async def step(page: Page) -> None:
        await pushing(ACTIONS, shows=".choices")(page)
        await page.locator(f".of-actions [role=option]:nth-of-type({number})").click()
        await expect(page.locator("dialog[open]")).to_be_visible()

    return step


async def write_note(page: Page) -> None:
    """Begin a note after an open run of the timeline, and look at the macros."""
    await page.locator(".run summary").first.click()
    await press(page, "n", "A note ;")
    await expect(page.locator("#suggestions")).to_be_visible()
    await press(page, "Escape")
    await page.locator("#composer").focus()


ALL, CUSTOMER, ACTIONS = "/console/?view=all", "/console/customers/customer-17", ".of-actions button"
STATES = {
    "queue": {
        "rows": (ALL, pressing("j", shows=".subject a:focus")),
        "selected rows": (ALL, pressing("x", "J", shows=".bulk")),
    },
    "menus of the queue": {
        "menu": (ALL, pressing("x", "a", shows=".choices")),
        "filter": (ALL, pushing(".queue-filters choice-menu button", shows=".choices")),
    },
    "view": {
        "search": ("/console/?view=mine&q=parcel", None),
        "no rows": ("/console/?view=mine", None),
        "save": (ALL, pushing(".views .plain:visible, .save:visible", shows="dialog[open]")),
        "drafts": ("/console/?view=drafts", None),
    },
    "bar": {
        "palette": ("/console/", pressing("Control+k", "a", shows=".palette")),
        "help": ("/console/", pressing("?", shows="dialog[open]")),
        "account": ("/console/", pushing(".account summary", shows=".account select")),
    },
    "case": {
        "conversation": ("case", None),
        "everything": ("case", pushing(".segments button:nth-of-type(2)", shows=".timeline .fact")),
    },
    "menus of a case": {
        "assignee": ("case", pressing("a", shows=".choices")),
        "actions": ("case", pushing(ACTIONS, shows=".choices")),
    },
    "composer": {
        "reply": ("case", pressing("r", "H", shows=".composer[data-open]")),
        "macros": ("case", pressing("r", " ", ";", shows="#suggestions")),
    },
    "note": {"note": ("case", write_note), "people": ("case", pressing("n", " ", "@", shows="#suggestions"))},
    "dialog": {
        "snooze": ("case", pressing("h", shows="dialog[open]")),
        "merge": ("case", acting(2)),
        "split": ("case", acting(3)),
        "missing case": ("/console/cases/none", None),
    },
    "customer": {
        "record": (CUSTOMER, None),
        "form": (CUSTOMER, pushing(".edit", shows="form.fields")),
        "nobody": ("/console/customers/none", None),
    },
    "others": {
        "team, toast": ("/console/team", pushing("[data-person] td button", shows=".toast")),
        "on-call": ("/console/oncall", None),
        "override": ("/console/oncall", pushing('[data-part="order"] button', shows="dialog[open]")),
        "audit": ("/console/audit", None),
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(make_shared_client):
    """A client of a service with all upstream services."""
    async with open_services() as upstreams:
        yield await make_shared_client(**url_variables(upstreams))


@pytest.fixture
async def desk(client, case):
    """A case with messages, a file, a link, a colleague, a macro, and others in the list."""
    await client.put("/support/agents/linh", json={"displayName": "Linh Trần", "teams": ["returns"], "role": "agent"})
    macro = {"text": "Sorry, {customer}.", "status": "pending", "tags": ["late"]}
    await client.put("/support/macros/sorry", json=macro)
    record = {"name": "Ann", "contacts": [{"kind": "email", "value": "a@b.example"}]}
    await client.put("/support/customers/customer-17", json=record)
    await upload(client, case, filename="tracking.txt")
    await add_message(client, case, "See https://example.org/a and ORD-1001\n> quoted")
    await add_message(client, case, "A note", visibility="internal")
    other = await open_case(client, customerId="customer-17", tags=["a", "b", "c"], priority="urgent")
    await client.post(f"/support/cases/{case['id']}/links", json={"kind": "related", "caseId": other["id"]})
    await client.put("/support/overrides/payment", json={"reason": "maintenance", "duration": "PT30M"})
    return case


LOOKS = [("en-GB", WIDE, ["light"]), pytest.param("vi", NARROW, ["dark", "light"], marks=pytest.mark.long)]


@pytest.mark.parametrize(("locale", "size", "schemes"), LOOKS, ids=["wide", "narrow"])
@pytest.mark.parametrize("group", STATES)
async def test_every_state_is_accessible(console, desk, group, locale, size, schemes, subtests):
    """In light and in dark colours, wide and narrow, in both languages. No page is wider than its window.

    Each control has a name, and is reached by keyboard.
    """
    console.refused = {404}
    page = await (console.open() if locale == "en-GB" else console.open(locale=locale))
    await page.set_viewport_size(size)
    for state, (address, prepare) in STATES[group].items():
        with subtests.test(state):
            await page.goto(case_path(desk) if address == "case" else address)
            await page.locator("main h1, main h2").first.wait_for()
            await settled(page)
            if prepare:
                await prepare(page)
                await settled(page)
            for scheme in schemes:
                await page.emulate_media(color_scheme=scheme)
                await expect_accessible(page)
            await expect_no_sideways_scrolling(page)
            await expect_named_and_reached(page)


@pytest.mark.long
async def test_long_list_of_people_is_accessible(console, client, case):
    """It is higher than its box, which scrolls."""
    for number in range(20):
        name = f"Person {number} of the team that answers in the evening"
        await client.put(f"/support/agents/person-{number}", json={"displayName": name})
    page = await console.open(case, viewport=NARROW)
    await press(page, "n", "@")
    suggestions = page.locator("#suggestions")
    await expect(suggestions).to_be_visible()
    assert await suggestions.evaluate("(list) => list.scrollHeight > list.clientHeight")
    await expect_accessible(page)
