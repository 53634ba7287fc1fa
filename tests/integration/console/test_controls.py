"""Each page and state: every control has a name in the accessibility tree, and is reached by keyboard."""

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, expect

from tests.support.calls import add_message, open_case, upload
from tests.support.console.browser import NARROW, WIDE, expect_accessible, settled
from tests.support.console.samples import case_path

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


async def press(page: Page, *keys: str) -> None:
    """Press keys, one after the other."""
    for key in keys:
        await page.keyboard.press(key)


def pressing(*keys: str, shows: str) -> Callable[[Page], Awaitable[None]]:
    """Return a step that presses keys, and waits until something is shown."""

    async def step(page: Page) -> None:
        await press(page, *keys)
        await expect(page.locator(shows).first).to_be_visible()

    return step


def pushing(name: str, shows: str) -> Callable[[Page], Awaitable[None]]:
    """Return a step that presses a button by the keyboard, and waits until something is shown."""

    async def step(page: Page) -> None:
        await page.get_by_role("button", name=re.compile(name)).first.focus()
        await pressing("Enter", shows=shows)(page)

    return step


async def nothing(_: Page) -> None:
    """Leave the page as it has opened."""


async def write_macro(page: Page) -> None:
    """Begin a note, and look at the macros."""
    await press(page, "n")
    await page.keyboard.type("A note ;")
    await expect(page.locator("#suggestions")).to_be_visible()
    await press(page, "Escape")
    await page.locator("#composer").focus()


STATES = {
    "queue": ("/console/?view=all", nothing),
    "queue, selected rows": ("/console/?view=all", pressing("x", "J", shows=".bulk")),
    "queue, menu": ("/console/?view=all", pressing("a", shows=".choices")),
    "queue, filter": ("/console/?view=all", pushing("^Tag", ".choices")),
    "queue, search": ("/console/?view=mine&q=parcel", nothing),
    "queue, save view": ("/console/?view=all", pushing("^Save view", "dialog[open]")),
    "palette": ("/console/", pressing("Control+k", shows=".palette")),
    "help": ("/console/", pressing("?", shows="dialog[open]")),
    "account": ("/console/", lambda page: page.locator(".account summary").press("Enter")),
    "case": ("case", nothing),
    "case, everything": ("case", pushing("^Everything", ".timeline .fact")),
    "case, reply": ("case", pressing("r", shows=".composer[data-open]")),
    "case, note": ("case", write_macro),
    "case, menu": ("case", pressing("s", shows=".choices")),
    "case, snooze": ("case", pressing("h", shows="dialog[open]")),
    "case, merge": ("case", lambda page: choose_action(page, "Merge into another case")),
    "case, split": ("case", lambda page: choose_action(page, "Split off messages")),
    "customer": ("/console/customers/customer-17", nothing),
    "customer, form": ("/console/customers/customer-17", pushing("^Edit", "form.fields")),
    "team": ("/console/team", nothing),
    "on-call": ("/console/oncall", nothing),
    "audit": ("/console/audit", nothing),
}


async def choose_action(page: Page, name: str) -> None:
    """Choose from the menu of the case."""
    await pushing("^More actions", ".choices")(page)
    await page.keyboard.type(name)
    await press(page, "Enter")
    await expect(page.locator("dialog[open]")).to_be_visible()


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


@pytest.fixture
async def desk(client, case):
    """A case with messages, a file, a link, a colleague, a macro, and others in the list."""
    await client.put("/support/agents/linh", json={"displayName": "Linh Trần", "teams": ["returns"], "role": "agent"})
    await client.put(
        "/support/macros/sorry", json={"text": "Sorry, {customer}.", "status": "pending", "tags": ["late"]}
    )
    await client.put(
        "/support/customers/customer-17", json={"name": "Ann", "contacts": [{"kind": "email", "value": "a@b.example"}]}
    )
    await upload(client, case, filename="tracking.txt")
    await add_message(client, case, "See https://example.org/a and ORD-1001\n> quoted")
    other = await open_case(client, subject="Another", customerId="customer-17", tags=["a", "b", "c"])
    await client.post(f"/support/cases/{case['id']}/links", json={"kind": "related", "caseId": other["id"]})
    await client.put("/support/overrides/payment", json={"reason": "maintenance", "duration": "PT30M"})
    return case


@pytest.mark.parametrize("size", [WIDE, pytest.param(NARROW, marks=pytest.mark.long)], ids=["wide", "narrow"])
@pytest.mark.parametrize("state", STATES)
async def test_every_control_has_a_name_and_is_reached(upstream_services, console, client, desk, state, size):
    """A name has a letter: a sign alone, such as a cross, says nothing.

    Tab and Shift+Tab leave none out. What opens around a focused text box is reached with Shift+Tab.
    """
    address, prepare = STATES[state]
    page = await console.open(case_path(desk) if address == "case" else address, viewport=size)
    await page.locator("main h1, main h2").first.wait_for()
    await settled(page)
    await prepare(page)
    await settled(page)
    found = await names(page)
    assert [each for each in found if not re.search(r"[^\W\d_]", each[1])] == []
    assert {role for role, _ in found} & {"button", "option"}
    await page.evaluate(NOTE_FOCUS)
    for key in ["Tab"] * 6 + ["Shift+Tab"] * 6:
        for _ in range(30):
            await page.keyboard.press(key)
        if not (left_out := await page.evaluate(LEFT_OUT)):
            break
    assert left_out == []


@pytest.mark.long
async def test_long_list_of_people_is_accessible(console, client, case):
    """It is higher than its box, which scrolls."""
    for number in range(20):
        name = f"Person {number} of the team that answers in the evening"
        await client.put(f"/support/agents/person-{number}", json={"displayName": name})
    page = await console.open(case_path(case), viewport=NARROW)
    await page.keyboard.press("n")
    await page.keyboard.type("@")
    suggestions = page.locator("#suggestions")
    await expect(suggestions).to_be_visible()
    assert await suggestions.evaluate("(list) => list.scrollHeight > list.clientHeight")
    await expect_accessible(page)
