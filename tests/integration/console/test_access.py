"""Sign-in through the page, and what each role sees."""

from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from support_service.platform.access.tokens import edit_token_file
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.console.browser import expect_good_looks, held, settled, sign_in
from tests.support.console.samples import case_path

# Where the sign-in page goes when the address that led there is the argument.
NEXT = """(next) => {
  history.replaceState(null, "", `/console/sign-in?next=${encodeURIComponent(next)}`);
  return document.querySelector("sign-in-page").next();
}"""
# The new cases that wait behind a button.
WAITING = "[...document.querySelector('queue-page').cases.waiting]"
NOTE = {"authorType": "agent", "message": "Can you help, @agent-1?", "visibility": "internal"}
OWNED = {"customerId": "customer-1", "assignedAgentId": "agent-1"}


@pytest.fixture
def token_file(tmp_path, environment):
    """The token file of a service that requires tokens; requested before `client`."""
    file = tmp_path / "tokens.json"
    environment |= {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(file)}
    return file


@pytest.fixture
def tokens(token_file):
    """A token for each role."""
    subjects = {"agent": "agent-1", "customer": "customer-1"}
    roles = ("agent", "supervisor", "analyst", "customer", "service")
    return {role: write_token(token_file, role, role=role, subject=subjects.get(role)) for role in roles}


@pytest.fixture
def team_token(token_file):
    """The token of agent-1 in the team `returns`."""
    return write_token(token_file, "of-team", role="agent", subject="agent-1", teams=["returns"])


@pytest.fixture
def strange_token(token_file):
    """The token of agent-2 in the team `billing`; requested before `owned_case`."""
    return write_token(token_file, "stranger", role="agent", subject="agent-2", teams=["billing"])


@pytest.fixture
async def owned_case(tokens, client):
    """A case of customer-1 and agent-1 with an internal note."""
    headers = {"Authorization": f"Bearer {tokens['supervisor']}"}
    new = {"subject": "Where is my parcel?", "channel": "email", **OWNED}
    case = await (await client.post("/support/cases", json=new, headers=headers)).json()
    note = {"authorType": "agent", "message": "The customer is cross.", "visibility": "internal"}
    await client.post(f"/support/cases/{case['id']}/messages", json=note, headers=headers)
    return case


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
    """The page stays, and is accessible in both modes and widths."""
    console.refused = {401}
    page = await console.open("/console/")
    await page.get_by_label("Token or JWT").fill("sup_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The service does not accept this token.")).to_be_visible()
    await expect_good_looks(page)


@pytest.mark.long
async def test_page_asks_for_a_new_sign_in_when_the_token_is_revoked(tokens, token_file, owned_case, console, client):
    """The session ends with its token; the address is kept."""
    console.refused = {401}
    profile = await console.profile()
    await profile.route("**/support/stream", lambda _: None)  # it would say so, too
    page = await sign_in(console, tokens["agent"], case_path(owned_case), profile=profile)
    with edit_token_file(token_file) as entries:
        entries[:] = [entry.model_copy(update={"revoked": datetime.now(UTC)}) for entry in entries]
    headers = {"Authorization": f"Bearer {tokens['agent']}"}

    async def is_refused():
        return (await client.get("/support/me", headers=headers)).status == 401

    await eventually(is_refused)
    await page.get_by_role("button", name="Status: Open").click()
    await page.get_by_role("option", name="Resolved").click()
    await expect(page.get_by_label("Token or JWT")).to_be_visible()


async def test_queue_asks_for_a_new_sign_in_when_its_stream_ends_with_the_token(tokens, token_file, console):
    """Without a key or a click: the page would not show changes any more."""
    console.refused = {401}
    page = await sign_in(console, tokens["agent"])
    await expect(page.locator(".live")).to_contain_text("live")
    with edit_token_file(token_file) as entries:
        entries[:] = [entry.model_copy(update={"revoked": datetime.now(UTC)}) for entry in entries]
    await expect(page.get_by_label("Token or JWT")).to_be_visible()


@pytest.mark.long
async def test_users_of_one_browser_share_neither_stream_nor_drafts(tokens, owned_case, console, client):
    """A supervisor's tab is open while an agent signs in in another one, who sees only what an agent may see."""
    first = await sign_in(console, tokens["supervisor"], case_path(owned_case))
    await first.locator("#composer").fill("A draft of the supervisor")
    await first.get_by_role("link", name="Support").click()
    await expect(first.locator(".live")).to_contain_text("live")
    second = await sign_in(console, tokens["agent"], "/console/sign-in?next=/console/?view=all", profile=first.context)
    await expect(second.locator(".live")).to_contain_text("live")
    await expect(second.locator("tbody tr")).to_have_count(1)
    headers = {"Authorization": f"Bearer {tokens['supervisor']}"}
    opened = []
    for agent in ("agent-9", "agent-1"):
        new = {"subject": f"For {agent}", "channel": "email", "assignedAgentId": agent}
        opened.append(await (await client.post("/support/cases", json=new, headers=headers)).json())
    assert await eventually(lambda: second.evaluate(WAITING)) == [opened[1]["id"]]
    await second.goto(case_path(owned_case))
    await expect(second.locator("#composer")).to_have_value("")


@pytest.mark.long
async def test_page_of_a_former_user_becomes_that_of_the_next_one(tokens, owned_case, console, client):
    """A draft is not sent in the name of somebody who signs in in another tab of the same browser."""
    first = await sign_in(console, tokens["supervisor"], case_path(owned_case))
    await expect(first.locator(".account summary")).to_have_text("supervisor")
    await first.locator("#composer").fill("A draft of the supervisor")
    await sign_in(console, tokens["agent"], "/console/sign-in", profile=first.context)
    await expect(first.locator(".account summary")).to_have_text("agent-1")
    await expect(first.locator("#composer")).to_have_value("")


@pytest.mark.long
async def test_sign_out_in_a_tab_ends_the_others(tokens, owned_case, console):
    """They keep no draft, and nothing that can be sent."""
    console.refused = {401}
    first = await sign_in(console, tokens["agent"], case_path(owned_case))
    second = await console.open("/console/", profile=first.context)
    await first.locator("#composer").fill("Half a thought")
    await second.locator(".account summary").click()
    await second.get_by_role("button", name="Sign out").click()
    await expect(first.get_by_label("Token or JWT")).to_be_visible()
    assert "thought" not in await first.evaluate("JSON.stringify(localStorage)")


@pytest.mark.long
async def test_sign_out_without_an_answer_says_so(tokens, owned_case, console):
    """The session lasts, and drafts with it."""
    console.loses_connections = True
    page = await sign_in(console, tokens["agent"], case_path(owned_case))
    await page.locator("#composer").fill("Half a thought")
    await page.context.set_offline(True)
    await page.locator(".account summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator(".toast")).to_contain_text("did not answer")
    await page.context.set_offline(False)
    await page.reload()
    await expect(page.locator("#composer")).to_have_value("Half a thought")


@pytest.mark.long
async def test_customer_has_no_key_for_notes(tokens, owned_case, console):
    """`n` begins none, and the keys of agents do nothing."""
    page = await sign_in(console, tokens["customer"], case_path(owned_case))
    await expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    for key in "ncsphx":
        await page.keyboard.press(key)
    await expect(page.locator("section.composer")).to_have_attribute("data-mode", "public")
    await expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.long
async def test_foreign_address_is_not_followed_after_sign_in(tokens, console):
    """`next` leads to another page of the console only, also if it is not an address."""
    page = await console.open("/console/sign-in")
    foreign = ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "/docs")
    for address in ("", *foreign, "http://[", "//", "/console/sign-in?next=/console/audit"):
        assert await page.evaluate(NEXT, address) == "/console/"
    assert await page.evaluate(NEXT, "/console/?view=mine") == "/console/?view=mine"
    page = await sign_in(console, tokens["supervisor"], "/console/sign-in?next=https://evil.example/")
    assert page.url == f"{console.address}/console/"


@pytest.mark.parametrize(
    ("role", "seen", "unseen"),
    [
        ("agent", ["The customer is cross.", "Claim", "Send and set Pending"], ["Audit", "On-call"]),
        ("supervisor", ["The customer is cross.", "Claim", "Send and set Pending", "Audit", "On-call"], []),
        ("analyst", [], ["Send and set Pending", "Send reply", "Claim", "customer-1", "Audit", "On-call", "Add files"]),
        (
            "customer",
            ["Send reply"],
            ["The customer is cross.", "Claim", "Internal note", "Audit", "On-call", "More actions"],
        ),
    ],
)
async def test_role_sees_only_what_it_may(tokens, owned_case, console, role, seen, unseen):
    """Controls that the service would refuse are not shown, and nothing is asked that it would refuse."""
    page = await sign_in(console, tokens[role], case_path(owned_case))
    await expect(page.locator(".case-head")).to_be_visible()
    await expect(page.locator(".timeline")).to_have_attribute("aria-busy", "false")
    if role != "analyst":
        await page.locator("#composer").click()
    for text in seen:
        if text != "Claim" or role != "agent":  # the agent has the case
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


@pytest.fixture
async def mentioned(tokens, owned_case, client, console):
    """The queue of an agent whom a note of the case mentions, and the link to the view of mentions."""
    headers = {"Authorization": f"Bearer {tokens['supervisor']}"}
    await client.put("/support/agents/agent-1", json={"displayName": "Linh Trần"}, headers=headers)
    await client.post(f"/support/cases/{owned_case['id']}/messages", json=NOTE, headers=headers)
    page = await sign_in(console, tokens["agent"])
    link = page.locator(".views a", has_text="Mentioned")
    await expect(link.locator(".count")).to_have_text("1")
    return page, link


async def test_mention_counts_until_its_case_is_opened(mentioned):
    """The case stays in the view."""
    page, link = mentioned
    await link.click()
    await expect(link).to_have_attribute("aria-current", "true")
    await page.locator(".subject a", has_text="Where is my parcel?").click()
    await expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    await page.keyboard.press("u")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(link.locator(".count")).to_have_text("0")


@pytest.mark.long
async def test_mention_is_read_if_its_case_is_opened_from_another_view(mentioned):
    """The reader is back before the service has marked it."""
    page, link = mentioned
    released = await held(page, "**/support/notifications/read")
    await page.locator(".subject a", has_text="Where is my parcel?").click()
    await expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    await page.keyboard.press("u")
    counted_before_mentions = page.locator(".views a", has_text="Mine").locator(".count")
    await expect(counted_before_mentions).to_have_text("1")
    released.set()
    await expect(link.locator(".count")).to_have_text("0")


@pytest.mark.long
async def test_mentions_are_read_by_the_address_of_their_case(mentioned, tokens, owned_case, client, console):
    """So is a mention that comes while the case is shown."""
    page, link = mentioned
    await page.goto(case_path(owned_case))
    await expect(page.get_by_text(NOTE["message"])).to_be_visible()
    headers = {"Authorization": f"Bearer {tokens['supervisor']}"}
    note = NOTE | {"message": "And this, @agent-1"}
    await client.post(f"/support/cases/{owned_case['id']}/messages", json=note, headers=headers)
    await expect(page.get_by_text(note["message"])).to_be_visible()
    await page.keyboard.press("u")
    await expect(link.locator(".count")).to_have_text("0")


async def test_views_of_the_rail_are_those_that_the_service_counts(team_token, client, console):
    """The same filters for each; drafts, all cases and the longest waiting ones are the console's own."""
    page = await sign_in(console, team_token)
    await page.locator(".views").first.wait_for()
    views = await page.evaluate("document.querySelector('queue-page').views.map(({ id, filters }) => [id, filters])")
    answer = await client.get("/support/views/counts", headers={"Authorization": f"Bearer {team_token}"})
    counted = {each["id"]: each["query"] for each in (await answer.json())["items"]}
    for query in counted.values():
        query |= {name: str(value).lower() for name, value in query.items() if isinstance(value, bool)}
    own = {"drafts", "waiting", "all"}
    assert {{"due": "at-risk"}.get(name, name): filters for name, filters in views if name not in own} == counted


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


@pytest.mark.long
async def test_no_view_leaves_out_an_open_case(tokens, team_token, client, console):
    """Mine, unassigned, team and waiting longest have as many rows as their counts say.

    Cases with a description and no message wait for an answer; cases that do not wait come last.
    """
    team = {"team": "returns", "assignedAgentId": "agent-2"}
    owners = {"Mine": {"assignedAgentId": "agent-1"}, "Unassigned": {}, "returns": team}
    headers = {"Authorization": f"Bearer {tokens['supervisor']}"}
    for view, owner in owners.items():
        for subject, text in (("silent", {}), ("form", {"description": "Where is my parcel?"})):
            new = {"subject": f"{view}, {subject}", "channel": "web", **owner, **text}
            await client.post("/support/cases", json=new, headers=headers)
    page = await sign_in(console, team_token)
    views = {view: [f"{view}, form", f"{view}, silent"] for view in owners}
    forms, silent = ([f"{view}, {subject}" for view in owners] for subject in ("form", "silent"))
    for view, subjects in (views | {"Waiting longest": forms + silent[::-1]}).items():
        link = page.locator(".views a", has_text=view)
        await expect(link.locator(".count")).to_have_text(str(len(subjects)))
        await link.click()
        await expect(page.locator(".subject a bdi")).to_have_text(subjects)


@pytest.mark.long
@pytest.mark.parametrize("role", ["customer", "analyst"])
async def test_link_to_a_note_tells_nothing_to_those_who_may_not_read_it(tokens, owned_case, client, console, role):
    """The case opens as without the link. Customers do not learn that there is a note, analysts not what it says."""
    headers = {"Authorization": f"Bearer {tokens['supervisor']}"}
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
async def test_agent_of_another_team_finds_nothing_of_a_case(strange_token, owned_case, console):
    """Not by its address, in a list, by a search, in the palette, or on the page of its customer."""
    console.refused = {404}
    page = await sign_in(console, strange_token, case_path(owned_case))
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
