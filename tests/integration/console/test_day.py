"""The agent's day, and what on-call does while a source is down: once with a keyboard only, and once with a mouse."""

import json
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, expect_json, open_case, read_case, read_detail
from tests.support.console.browser import settled
from tests.support.console.hands import Keyboard, Mouse, attach, write
from tests.support.console.samples import MEGABYTE, messages, open_waiting, overrides
from tests.support.events.dead_letters import give_up
from tests.support.events.webhooks import SECRET, store_deliveries
from tests.support.service import own_client

client = own_client

EVENT = '{"id": "e-1"}'
ORDER = [{"type": "order", "orderId": "ORD-1001"}]


@pytest.fixture(params=[pytest.param(Keyboard, marks=pytest.mark.long), Mouse])
def user(request):
    """Someone who uses one of them only."""
    return request.param()


@pytest.fixture
def environment(environment, endpoint, no_consumer):
    """A webhook, and no consumer, so that dead letters stay where they are."""
    hook = {"name": "desk", "url": str(endpoint.server.make_url("/hook")), "secret": SECRET}
    return environment | {"SUPPORT_WEBHOOKS": json.dumps([hook])}


async def test_agent_answers_a_case(upstream_services, payments, console, client, video, user):
    """The longest-waiting case: claimed, read while a source is down, answered, with note, file and link; resolved."""
    payments.fail_with(503)
    (longest,) = await open_waiting(client, "Where is my parcel?", customerId="customer-1", context=ORDER)
    duplicate = await open_case(client, subject="Parcel?", customerId="customer-1", context=ORDER)
    await open_waiting(client, "Another one")
    page = await console.open()
    await user.press(page.get_by_role("link", name="Waiting longest"))
    await expect(page.locator("tbody tr")).to_have_count(3)
    await user.press(page.locator("tbody tr").first.get_by_role("link", name="Where is my parcel?"))
    await user.press(page.get_by_role("button", name="Claim"))
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()

    problems = page.locator(".problems")
    await expect(problems).to_contain_text("Entries of payment are missing")
    await user.press(problems.get_by_role("button", name="Ask again"))
    await expect(problems).to_contain_text("Entries of payment are missing")
    await user.look_at(page)

    await write(user, page.locator("#composer"), "It is on its way.")
    await user.press(page.get_by_role("button", name="Send and set Pending"))
    await expect(page.locator(".timeline").get_by_text("It is on its way.")).to_be_visible()
    await expect(page.get_by_role("button", name="Status: Pending")).to_be_visible()
    await user.press(page.get_by_role("button", name="Internal note"))
    await write(user, page.locator("#composer"), "The carrier called.")
    await attach(user, page, video)
    await expect(page.locator(".uploads").get_by_text("stored, SHA-256 verified")).to_be_visible()
    await user.look_at(page)
    await user.press(page.get_by_role("button", name="Add note"))
    await expect(page.locator(".message[data-note]")).to_contain_text("The carrier called.")
    await expect(page.locator(".message[data-note]").get_by_role("link", name="video.mp4")).to_be_visible()

    await user.press(page.get_by_role("button", name="Link with Parcel?"))
    await user.choose(page.get_by_label("Kind of link"), "duplicated by")
    await user.press(page.locator(".link-form").get_by_role("button", name="Add"))
    await expect(page.get_by_label(f"Remove the link to {duplicate['id']}")).to_be_visible()
    await settled(page)
    await user.pick(page.get_by_role("button", name="Status: Pending"), "Resolved")
    await expect(page.get_by_role("button", name="Status: Resolved")).to_be_visible()

    detail = await read_detail(client, longest)
    assert (detail["status"], detail["assignedAgentId"]) == ("resolved", "anyone")
    written = [("It is on its way.", "public"), ("The carrier called.", "internal")]
    assert (await messages(client, longest))[1:] == written
    assert [each["sizeBytes"] for each in detail["attachments"]] == [20 * MEGABYTE]
    assert (await read_case(client, duplicate))["status"] == "closed"
    await user.press(page.get_by_role("link", name="Back to the queue"))
    await expect(page.locator(".subject a bdi")).to_have_text(["Another one"])


async def test_on_call_handles_a_source_that_is_down(upstream_services, payments, console, client, user, endpoint):
    """It is switched off with a reason; a dead letter and a webhook delivery are replayed, and others are dropped."""
    payments.fail_with(503)
    case = await open_case(client, context=ORDER)
    await read_detail(client, case)
    await give_up(client, "first", "second")
    failed = ("failed", datetime.now(UTC))
    await store_deliveries(client, failed, failed, event=EVENT)
    page = await console.open()
    await user.press(page.get_by_role("link", name="On-call"))
    payment = page.locator('[data-part="payment"]')
    await expect(payment.get_by_text("100%")).to_be_visible()
    await user.press(payment.get_by_role("button", name="Switch off"))
    dialog = page.get_by_role("dialog")
    await write(user, dialog.get_by_label("Reason"), "being restored")
    await user.look_at(page)
    await user.press(dialog.get_by_role("button", name="Switch off"))
    await expect(payment.get_by_text("no calls: switched off")).to_be_visible()
    assert await overrides(client) == {"payment": "being restored"}

    for name, count in (("letters", 2), ("deliveries", 2)):
        given_up = page.locator(f"[data-list={name}] li")
        await expect(given_up).to_have_count(count)
        await user.press(given_up.first.get_by_role("button", name="Replay"))
        await expect(given_up).to_have_count(count - 1)
        await user.press(given_up.first.get_by_role("button", name="Drop"))
        await user.press(given_up.first.get_by_role("button", name="Drop for good"))
        await expect(given_up).to_have_count(0)
    await expect(page.get_by_text("No delivery has failed.")).to_be_visible()
    await eventually(lambda: [body for _, body in endpoint.sent].count(EVENT.encode()) == 1)
    actions = [each["action"] for each in (await expect_json(client.get("/support/audit?limit=5")))["items"]]
    handled = [f"{kind}.{action}" for kind in ("webhook", "dead-letter") for action in ("dropped", "replayed")]
    assert actions == [*handled, "override.set"]
