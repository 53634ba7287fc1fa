"""Sign-in by a token, through the page."""

from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from support_service.platform.access.tokens import edit_token_file
from tests.support.calls import eventually
from tests.support.console.browser import choose, expect_good_looks, settled, sign_in
from tests.support.console.people import client_with_tokens
from tests.support.console.samples import case_path

shared_client = client_with_tokens

# Where the sign-in page goes when the address that led there is the argument.
NEXT = """(next) => {
  history.replaceState(null, "", `/console/sign-in?next=${encodeURIComponent(next)}`);
  return document.querySelector("sign-in-page").next();
}"""
# The new cases that wait behind a button.
WAITING = "[...document.querySelector('queue-page').cases.waiting]"


async def test_sign_in_leads_back_to_the_page(tokens, owned_case, console):
    """The token is not kept in the page; after signing out, the page asks for it again, and keeps preferences alone."""
    page = await sign_in(console, tokens["agent"], case_path(owned_case))
    await expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert tokens["agent"] not in await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    preferences = {"support-console:language": '"en"', "support-console:working-as": '"Lan"'}
    await page.evaluate("(kept) => Object.assign(localStorage, kept)", preferences)
    await page.locator("#composer").fill("A draft")
    await page.locator(".account summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Token or JWT")).to_be_visible()
    assert await page.evaluate("({...localStorage})") == preferences
    await page.goto("/console/")
    await expect(page.get_by_label("Token or JWT")).to_be_visible()


async def test_wrong_token_is_refused_in_plain_words(tokens, console):
    """The page stays, and is accessible in both modes and widths.

    After the sign-in, `next` leads to another page of the console only, also if it is not an address.
    """
    console.refused = {401}
    page = await console.open("/console/sign-in")
    foreign = ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "/docs")
    for address in ("", *foreign, "http://[", "//", "/console/sign-in?next=/console/audit"):
        assert await page.evaluate(NEXT, address) == "/console/"
    assert await page.evaluate(NEXT, "/console/?view=mine") == "/console/?view=mine"
    await page.goto("/console/sign-in?next=https://evil.example/")
    for token in ("sup_wrong", tokens["supervisor"]):
        await page.get_by_label("Token or JWT").fill(token)
        await page.keyboard.press("Enter")
        if token == "sup_wrong":
            await expect(page.get_by_text("The service does not accept this token.")).to_be_visible()
            await expect_good_looks(page)
    await expect(page.get_by_role("banner")).to_be_visible()
    assert page.url == f"{console.address}/console/"


async def test_page_asks_for_a_new_sign_in_when_the_token_is_revoked(tokens, token_file, owned_case, console):
    """Without a key or a click if its stream ends, as it would not show changes any more; otherwise with a change."""
    console.refused = {401}
    page = await sign_in(console, tokens["leaver"])
    await expect(page.locator(".live")).to_contain_text("live")
    profile = await console.profile()
    await profile.route("**/support/stream", lambda _: None)  # it never answers, so that the page hears of nothing
    await profile.route("**/presence", lambda route: route.fulfill(status=204))
    other = await sign_in(console, tokens["leaver"], case_path(owned_case), profile=profile)
    await expect(other.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    await settled(other)
    with edit_token_file(token_file) as entries:
        gone = {"revoked": datetime.now(UTC)}
        entries[:] = [each.model_copy(update=gone) if each.name == "leaver" else each for each in entries]
    await expect(page.get_by_label("Token or JWT")).to_be_visible()
    await choose(other, "Status: Open", "Resolved")
    await expect(other.get_by_label("Token or JWT")).to_be_visible()


@pytest.mark.long
async def test_users_of_one_browser_share_neither_stream_nor_drafts(tokens, headers, owned_case, console, client):
    """A supervisor's tab is open while an agent signs in in another one, who sees only what an agent may see.

    The tab becomes the agent's: its draft is not sent in the name of the agent.
    """
    first = await sign_in(console, tokens["supervisor"], case_path(owned_case))
    await expect(first.locator(".account summary")).to_have_text("supervisor")
    await first.locator("#composer").fill("A draft of the supervisor")
    queue = await console.open(profile=first.context)
    await expect(queue.locator(".live")).to_contain_text("live")
    second = await sign_in(console, tokens["agent"], "/console/sign-in?next=/console/?view=all", profile=first.context)
    await expect(second.locator(".live")).to_contain_text("live")
    await expect(second.locator("tbody tr")).to_have_count(1)
    await expect(first.locator(".account summary")).to_have_text("agent-1")
    await expect(first.locator("#composer")).to_have_value("")
    opened = []
    for agent in ("agent-9", "agent-1"):
        new = {"subject": f"For {agent}", "channel": "email", "assignedAgentId": agent}
        opened.append(await (await client.post("/support/cases", json=new, headers=headers)).json())
    assert await eventually(lambda: second.evaluate(WAITING)) == [opened[1]["id"]]
    await second.goto(case_path(owned_case))
    await expect(second.locator("#composer")).to_have_value("")


@pytest.mark.long
async def test_sign_out_in_a_tab_ends_the_others(tokens, owned_case, console):
    """They keep no draft, and nothing that can be sent. Without an answer, the session lasts, and drafts with it."""
    console.loses_connections = True
    console.refused = {401}
    first = await sign_in(console, tokens["agent"], case_path(owned_case))
    second = await console.open("/console/", profile=first.context)
    await first.locator("#composer").fill("Half a thought")
    await second.context.set_offline(True)
    await second.locator(".account summary").click()
    await second.get_by_role("button", name="Sign out").click()
    await expect(second.locator(".toast")).to_contain_text("did not answer")
    await second.context.set_offline(False)
    await first.reload()
    await expect(first.locator("#composer")).to_have_value("Half a thought")
    await second.get_by_role("button", name="Sign out").click()
    await expect(first.get_by_label("Token or JWT")).to_be_visible()
    assert "thought" not in await first.evaluate("JSON.stringify(localStorage)")
