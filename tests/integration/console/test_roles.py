"""What each role sees, and what each view has."""

import pytest
from playwright.async_api import expect

from tests.support.console.browser import held, press, settled, sign_in
from tests.support.console.people import client_with_tokens
from tests.support.console.samples import case_path

shared_client = client_with_tokens

ROLES = {  # what each sees of the case, and what it does not see
    "agent": (["The customer is cross.", "Send and set Pending"], ["Audit", "On-call", "Claim"]),  # who has the case
    "supervisor": (["The customer is cross.", "Claim", "Send and set Pending", "Audit", "On-call"], []),
    "analyst": ([], ["Send reply", "Send and set Pending", "Claim", "customer-1", "Audit", "On-call", "Add files"]),
    "customer": (
        ["Send reply"],
        ["The customer is cross.", "Claim", "Internal note", "Audit", "On-call", "More actions"],
    ),
}


@pytest.mark.parametrize(("role", "seen", "unseen"), [(role, *texts) for role, texts in ROLES.items()], ids=ROLES)
async def test_role_sees_only_what_it_may(tokens, owned_case, console, role, seen, unseen):
    """Controls that the service would refuse are not shown, and nothing is asked that it would refuse.

    A customer begins no note by its key, and the keys of agents do nothing.
    """
    page = await sign_in(console, tokens[role], case_path(owned_case))
    await expect(page.locator(".case-head")).to_be_visible()
    await settled(page)
    if role == "customer":
        await press(page, *"ncsphx")
        await expect(page.locator("section.composer")).to_have_attribute("data-mode", "public")
        await expect(page.get_by_role("dialog")).to_have_count(0)
    if role != "analyst":
        await page.locator("#composer").click()
    for text in seen:
        await expect(page.get_by_text(text, exact=True).first).to_be_visible()
    for text in unseen:
        await expect(page.get_by_text(text, exact=True)).to_have_count(0)
    await page.goto("/console/?view=all")
    await expect(page.locator("tbody tr")).to_have_count(1)
    for name, address in (("On-call", "/console/oncall"), ("Audit", "/console/audit")):
        if name in unseen:
            console.refused = {403}
            await page.goto(address)
            await expect(page.get_by_text("Your role may not do this.").first).to_be_visible()


async def test_mention_counts_until_its_case_is_opened(tokens, headers, owned_case, client, console):
    """From the view of mentions, in which the case stays; from another view; by the address of the case.

    So is a mention read that comes while the case is shown.
    """

    async def mention(text):
        note = {"authorType": "agent", "message": f"{text}, @agent-1?", "visibility": "internal"}
        await client.post(f"/support/cases/{owned_case['id']}/messages", json=note, headers=headers)

    await client.put("/support/agents/agent-1", json={"displayName": "Linh Trần"}, headers=headers)
    await mention("Can you help")
    page = await sign_in(console, tokens["agent"])
    link, subject = page.locator(".views a", has_text="Mentioned"), page.locator(".subject a", has_text="my parcel")
    count, heading = link.locator(".count"), page.get_by_role("heading", name="Where is my parcel?")
    await expect(count).to_have_text("1")
    await link.click()
    await expect(link).to_have_attribute("aria-current", "true")
    await subject.click()
    await expect(heading).to_be_visible()
    await page.keyboard.press("u")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(count).to_have_text("0")

    await mention("And now")
    await page.goto("/console/")
    await expect(count).to_have_text("1")
    released = await held(page, "**/support/notifications/read")
    await subject.click()
    await expect(heading).to_be_visible()
    await page.keyboard.press("u")
    await expect(page.locator(".views a", has_text="Mine").locator(".count")).to_have_text("1")
    released.set()  # the reader is back before the service has marked it
    await expect(count).to_have_text("0")

    await mention("Once more")
    await page.goto(case_path(owned_case))
    await expect(page.get_by_text("Once more")).to_be_visible()
    await mention("And this")
    await expect(page.get_by_text("And this")).to_be_visible()
    await page.keyboard.press("u")
    await expect(count).to_have_text("0")


@pytest.mark.long
async def test_program_of_on_call_sees_no_case(tokens, owned_case, console):
    """The role `service` may read the state of the service only."""
    console.refused = {403}
    page = await sign_in(console, tokens["service"], "/console/oncall")
    await expect(page.locator("[data-part]")).to_have_count(13)
    await expect(page.get_by_role("button", name="Switch off")).to_have_count(0)
    for address in ("/console/?view=all", case_path(owned_case), "/console/customers/customer-1"):
        await page.goto(address)
        await expect(page.get_by_text("Your role may not do this.")).to_be_visible()


async def test_no_view_leaves_out_an_open_case(tokens, headers, client, console):
    """Mine, unassigned, team, at risk and waiting longest have as many rows as their counts say, in their order.

    Cases with a description and no message wait for an answer; cases that do not wait come last. The service
    counts by the filters of each view. Drafts, all cases and the longest waiting ones are the console's own.
    """
    policy = {"match": {"priority": ["urgent"]}, "targets": {"firstResponse": "PT1H", "resolution": "P1D"}}
    await client.put("/support/sla-policies/urgent", json=policy, headers=headers)
    team = {"team": "returns", "assignedAgentId": "agent-2"}
    owners = {"Mine": {"assignedAgentId": "agent-1"}, "Unassigned": {}, "returns": team}
    for view, owner in owners.items():
        for subject, text in (("silent", {}), ("form", {"description": "Where is my parcel?"})):
            priority = "urgent" if (view, subject) == ("Mine", "form") else "normal"
            new = {"subject": f"{view}, {subject}", "channel": "web", "priority": priority, **owner, **text}
            await client.post("/support/cases", json=new, headers=headers)
    page = await sign_in(console, tokens["returns"])
    views = {view: [f"{view}, form", f"{view}, silent"] for view in owners}
    forms, silent = ([f"{view}, {subject}" for view in owners] for subject in ("form", "silent"))
    views |= {"SLA at risk": ["Mine, form"], "Waiting longest": forms + silent[::-1]}
    for view, subjects in views.items():
        link = page.locator(".views a", has_text=view)
        await expect(link.locator(".count")).to_have_text(str(len(subjects)))
        await link.click()
        await expect(page.locator(".subject a bdi")).to_have_text(subjects)
    views = await page.evaluate("document.querySelector('queue-page').views.map(({ id, filters }) => [id, filters])")
    answer = await client.get("/support/views/counts", headers={"Authorization": f"Bearer {tokens['returns']}"})
    counted = {each["id"]: each["query"] for each in (await answer.json())["items"]}
    for query in counted.values():
        query |= {name: str(value).lower() for name, value in query.items() if isinstance(value, bool)}
    own = {"drafts", "waiting", "all"}
    assert {{"due": "at-risk"}.get(name, name): filters for name, filters in views if name not in own} == counted


@pytest.mark.long
@pytest.mark.parametrize("role", ["customer", "analyst"])
async def test_link_to_a_note_tells_nothing_to_those_who_may_not_read_it(
    tokens, headers, owned_case, client, console, role
):
    """The case opens as without the link. Customers do not learn that there is a note, analysts not what it says."""
    answer = await client.get(f"/support/cases/{owned_case['id']}", headers=headers)
    (note,) = (await answer.json())["messages"]
    page = await sign_in(console, tokens[role], f"{case_path(owned_case)}?message={note['id']}")
    await expect(page.locator(".case-head")).to_be_visible()
    await expect(page.locator(".timeline")).to_have_attribute("aria-busy", "false")
    if role == "customer":
        await expect(page.locator("[data-marked], [data-note]")).to_have_count(0)
    assert "is cross" not in await page.content()
    await expect(page.locator(".case-message")).to_have_text("")


@pytest.mark.long
async def test_agent_of_another_team_finds_nothing_of_a_case(tokens, owned_case, console):
    """Not by its address, in a list, by a search, in the palette, or on the page of its customer."""
    console.refused = {404}
    page = await sign_in(console, tokens["billing"], case_path(owned_case))
    await expect(page.get_by_role("alert")).to_have_text("There is no such case, or you may not see it.")
    for query in ("view=all", "view=all&q=parcel", f"view=all&q={owned_case['id']}", "view=all&customerId=customer-1"):
        await page.goto(f"/console/?{query}")
        await expect(page.locator("main .empty")).to_be_visible()
        await expect(page.locator("tbody tr")).to_have_count(0)
    await page.keyboard.press("Control+k")
    for typed in ("parcel", owned_case["id"], "customer-1"):
        await page.locator(".palette input").fill(typed)
        await settled(page)
        await expect(page.locator(".palette").get_by_text("Where is my parcel?")).to_have_count(0)
    await page.keyboard.press("Escape")
    await page.goto("/console/customers/customer-1")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_text("Where is my parcel?")).to_have_count(0)
