"""What supervisors and on-call do: each task by keyboard alone and by mouse alone, with a limit of presses.

A press is a key or a click. A text that is typed, such as a reason, is one more.
"""

import pytest
from playwright.async_api import expect

from tests.support.calls import expect_json, open_case
from tests.support.console.browser import choose, expect_good_looks, undo_by_key
from tests.support.console.hands import Counter
from tests.support.console.samples import case_path, open_waiting
from tests.support.service import own_client

client = own_client  # whose audit log has no other entries


@pytest.fixture
async def team(client):
    """Two people, of whom one has a case at risk and one has two others."""
    for name, shown in (("ann", "Ann Lee"), ("bob", "Bob Berg")):
        await client.put(f"/support/agents/{name}", json={"displayName": shown, "teams": ["returns"]})
    policy = {"match": {"priority": ["urgent"]}, "targets": {"firstResponse": "PT1H"}}
    await client.put("/support/sla-policies/urgent", json=policy)
    await open_waiting(client, "One", assignedAgentId="ann", priority="urgent", team="returns")
    await open_waiting(client, "Two", "Three", assignedAgentId="bob", team="returns")


def figures(page, person):
    """Return the figures of a person: open, pending, at risk, oldest wait, solved, breaches."""
    return page.locator(f'[data-person="{person}"] .figure')


@pytest.mark.parametrize("hand", [pytest.param("keys", marks=pytest.mark.long), "mouse"])
async def test_load_and_risk_of_the_team_are_found(team, console, client, hand):
    """Two presses: who has how much, and who is at risk first.

    A person is set away and back: the focus stays on the button, and `z` undoes it.
    """
    page = await console.open()
    user, ann, bob = Counter(page), figures(page, "ann"), figures(page, "bob")
    await (user.keys("g", "t") if hand == "keys" else user.click(page.get_by_role("link", name="Team").first))
    await expect(page.locator("tbody [data-person]")).to_have_count(3)
    await expect(page.locator("tbody [data-person]").nth(1)).to_have_attribute("data-person", "ann")
    for figure, text in ((ann.nth(0), "1"), (ann.nth(2), "1"), (bob.nth(0), "2")):
        await expect(figure).to_have_text(text)
    await expect(bob.nth(3).locator("time")).to_be_visible()
    assert user.count <= 3
    await expect(page.locator(".chart")).to_have_count(4)
    await expect_good_looks(page)
    row = page.locator('[data-person="ann"]')
    await row.get_by_role("button", name="Set away").press("Enter")
    await expect(row.locator(".state")).to_have_text("away")
    await expect(row.get_by_role("button", name="Set back")).to_be_focused()
    await expect(page.get_by_text("Ann Lee is away")).to_be_visible()
    await undo_by_key(page)
    await expect(row.locator(".state")).to_have_text("not here")
    assert (await expect_json(client.get("/support/agents/ann")))["away"] is False
    await user.click(ann.get_by_role("link", name="SLA at risk: 1"))
    await expect(page.locator(".subject a bdi")).to_have_text(["One"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("SLA at risk")
    assert user.count <= 3


@pytest.mark.long
async def test_team_page_follows_its_choices(team, console, client):
    """The period, the team and the channel are in the address; a person leads to the person's cases."""
    await open_case(client, subject="Four", team="billing", assignedAgentId="carl")
    page = await console.open("/console/team")
    opened = page.locator(".tiles dd").first
    await expect(opened).to_have_text("4")
    await expect(page.get_by_text("The file has the cases of all teams")).to_have_count(0)
    await choose(page, "Team: All teams", "billing")
    await expect(opened).to_have_text("1")
    await expect(page.get_by_text("The file has the cases of all teams")).to_be_visible()
    await expect(page.locator("tbody [data-person]")).to_have_count(1)
    await page.get_by_role("button", name="90 days").click()
    await expect(page).to_have_url(f"{console.address}/console/team?days=90&team=billing")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Cases as CSV").click()
    assert "carl" in (await (await download.value).path()).read_text()
    await page.goto("/console/team")
    await choose(page, "Channel: All channels", "E-mail")
    await expect(page.get_by_role("button", name="Channel: E-mail")).to_be_visible()
    await page.goto("/console/team")
    await page.get_by_role("button", name="Open", exact=True).click()
    await expect(page.locator("tbody [data-person]").nth(1)).to_have_attribute("data-person", "bob")
    await page.get_by_role("link", name="Bob Berg").click()
    await expect(page).to_have_url(f"{console.address}/console/?view=all&assignedAgentId=bob&status=open%2Cpending")


@pytest.mark.parametrize("hand", ["keys", pytest.param("mouse", marks=pytest.mark.long)])
async def test_who_changed_and_closed_things_is_found(console, client, case, hand):
    """Who closed things today, from any page; from the case, who changed what, with the values before and after.

    Three presses at most.
    """
    await client.put("/support/agents/anyone", json={"displayName": "Ann Lee"})
    await client.patch(f"/support/cases/{case['id']}", json={"priority": "urgent"})
    closed = await open_case(client, subject="Done")
    await client.post(f"/support/cases/{closed['id']}/close", json={})
    page = await console.open()
    user, entries = Counter(page), page.locator(".audit li")
    if hand == "keys":
        await user.find("closed today")
    else:
        await user.click(page.get_by_role("link", name="Audit"))
        await user.click(page.get_by_role("link", name="Closed today"))
    await expect(page.get_by_role("link", name="Closed today")).to_have_attribute("aria-current", "true")
    await expect(entries).to_have_count(1)
    await expect(entries).to_contain_text("Case closed")
    assert user.count <= 3

    await page.goto(case_path(case))
    await expect(page.get_by_role("heading", name=case["subject"])).to_be_visible()
    user = Counter(page)
    if hand == "keys":
        await user.find("audit")
    else:
        await user.click(page.get_by_role("button", name="Find and do").first)
        await user.click(page.get_by_role("option", name="Audit entries of this case").first)
    await expect(page).to_have_url(f"{console.address}/console/audit?case={case['id']}")
    await expect(page.get_by_text("Normal → Urgent")).to_be_visible()
    await expect(entries.get_by_text("Ann Lee").first).to_be_visible()
    await expect(entries.get_by_text("Case opened")).to_have_count(1)
    assert user.count <= 3


@pytest.mark.parametrize("hand", ["keys", pytest.param("mouse", marks=pytest.mark.long)])
async def test_customer_of_a_call_is_found(console, client, case, hand):
    """Three presses from any page: by name or number, with contacts, cases and what staff know."""
    contacts = [{"kind": "phone", "value": "+49 30 1234567"}]
    record = {"name": "Anna Berger", "contacts": contacts, "notes": "Call in the morning."}
    await client.put("/support/customers/customer-17", json=record)
    for sought in ("berg", "+49301234567"):
        page = await console.open()
        user = Counter(page)
        await (user.keys("Control+k") if hand == "keys" else user.click(page.get_by_role("button", name="Find and do")))
        await user.type(sought)
        found = page.get_by_role("option", name="Anna Berger")
        await expect(found).to_have_attribute("aria-selected", "true")
        await (user.keys("Enter") if hand == "keys" else user.click(found))
        for text in ("Anna Berger", "+49 30 1234567", "Call in the morning.", case["subject"]):
            await expect(page.locator("main").get_by_text(text)).to_be_visible()
        assert user.count <= 3
