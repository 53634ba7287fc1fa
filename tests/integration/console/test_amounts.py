"""A large company: hundreds of agents, dozens of tags and a hundred orders in menus and beside a case."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.support.calls import open_case, read_case
from tests.support.console.browser import NARROW, expect_accessible, expect_good_looks, press
from tests.support.console.samples import LONG_WORD

pytestmark = pytest.mark.long

AGENTS, TAGS, ORDERS = 200, 50, 100


@pytest.fixture
async def agents(client):
    """People of the directory; one has a very long name."""
    for first in range(0, AGENTS, 20):
        await asyncio.gather(*(add_agent(client, number) for number in range(first, first + 20)))


async def add_agent(client, number):
    name = LONG_WORD[:100] if number == 7 else f"Person {number:03}"
    path, person = f"/support/agents/agent-{number:03}", {"displayName": name, "teams": [f"team-{number % 30}"]}
    async with client.put(path, json=person | {"role": "agent"}) as response:
        assert response.status in (200, 201), await response.text()


@pytest.fixture
async def large_case(client):
    """A case with as many tags as it may have, and many orders."""
    return await open_case(
        client,
        subject="Large",
        tags=[f"tag-{number:02}" if number else LONG_WORD[:64] for number in range(TAGS)],
        context=[{"type": "order", "orderId": f"ORD-{1000 + number}"} for number in range(ORDERS)],
        initialMessage={"authorType": "customer", "message": "Where are my parcels?"},
    )


async def expect_in_window(page, part):
    box, size = await part.bounding_box(), page.viewport_size
    ends = [(box[name], box[name] + box[length], size[length]) for name, length in (("x", "width"), ("y", "height"))]
    assert [first for first, last, most in ends if first < 0 or last > most] == [], (box, size)


async def test_many_people_tags_and_orders_have_room(agents, large_case, console, client):
    """No id is missing; each leads to the cases that name it.

    A list scrolls in the window, also on a phone, and the arrow keys keep the marked one in view.
    """
    page = await console.open(large_case)
    aside, choices = page.get_by_role("complementary"), page.locator(".choices")
    await expect(aside.locator(".tag")).to_have_count(TAGS)
    for number in (0, 4, 5, 99):
        link = aside.get_by_role("link", name=f"ORD-{1000 + number}")
        await expect(link).to_have_attribute("href", f"/console/?view=all&q=ORD-{1000 + number}")
    await expect_good_looks(page)
    for size in (NARROW, page.viewport_size):
        await page.set_viewport_size(size)
        await page.keyboard.press("a")
        await expect(choices.get_by_role("option")).to_have_count(AGENTS + 2)
        await expect_in_window(page, choices)
        await press(page, "ArrowUp", "ArrowUp")  # from "unassigned" over the first one to the last
        await expect(choices.get_by_role("option").last).to_be_in_viewport()
        await expect(choices.locator(".active")).to_contain_text("Person 199")
        await expect_accessible(page)
        await page.keyboard.press("Escape")
    await press(page, "a", "person 133", "Enter")
    await expect(page.get_by_role("button", name="Person 133")).to_be_visible()
    assert (await read_case(client, large_case))["assignedAgentId"] == "agent-133"
    await page.goto("/console/?view=all")
    await expect(page.locator("tbody .tags .tag").last).to_have_text("+48")
    await page.get_by_role("group", name="Filters").get_by_role("button", name="Tag").click()
    await expect(choices.get_by_role("option")).to_have_count(TAGS)
    await expect_in_window(page, choices)
    await expect_accessible(page)
    await page.keyboard.press("Escape")
    await expect_good_looks(page)
