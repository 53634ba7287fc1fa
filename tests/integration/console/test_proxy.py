"""The console in Chromium behind HAProxy, which adds a person's token to each request of a browser with its cookie."""

import pytest
from playwright.async_api import expect

from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.console.browser import address_of, watched_console
from tests.support.console.proxy import running_proxy
from tests.support.console.samples import case_path

pytestmark = pytest.mark.long

# A page of another site, whose form closes a case. Its origin is another one, and so is its site for the browser.
FOREIGN = "http://localhost:1/"
FORM = """<!doctype html><title>Win</title>
<form method="post" action="{address}/support/cases/{case}/status?status=closed"><button>Win</button></form>"""


@pytest.fixture
async def client(make_client, tmp_path):
    return await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(tmp_path / "tokens.json"))


@pytest.fixture
def token(tmp_path):
    """The token of a supervisor; requested before `client`."""
    return write_token(tmp_path / "tokens.json", "lan", role="supervisor", subject="lan")


@pytest.fixture
def proxy(servers, token, client, tmp_path):
    """The address of the proxy. A browser without its cookie gets one, as after a sign-in there."""
    rules = (
        "http-request redirect location %[url] code 302 set-cookie company=lan unless { req.cook(company) -m found }",
        f'http-request set-header Authorization "Bearer {token}"',
    )
    with running_proxy(tmp_path, address_of(client), *rules) as address:
        yield address


@pytest.fixture
async def console(browser, proxy):
    async with watched_console(browser, proxy) as console:
        yield console


async def test_page_of_another_site_cannot_use_the_token_of_the_proxy(token, client, proxy, console):
    """The console needs no sign-in of its own. The browser sends the proxy's cookie with the foreign form, too."""
    headers = {"Authorization": f"Bearer {token}"}
    new = {"subject": "Where is my parcel?", "channel": "web"}
    case = await (await client.post("/support/cases", json=new, headers=headers)).json()
    page = await console.open(case_path(case))
    await expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    await page.get_by_role("button", name="Claim").click()

    async def status():
        read = await (await client.get(f"/support/cases/{case['id']}", headers=headers)).json()
        return read["assignedAgentId"], read["status"]

    assert await eventually(status_is(status, ("lan", "open")))
    await page.locator(".account summary").click()
    await expect(page.get_by_role("button", name="Sign out")).to_have_count(0)

    console.refused = {403}
    foreign = await page.context.new_page()
    body = FORM.format(address=proxy, case=case["id"])
    await foreign.route(FOREIGN, lambda route: route.fulfill(content_type="text/html", body=body))
    await foreign.goto(FOREIGN)
    async with foreign.expect_response("**/status?status=closed") as answered:
        await foreign.get_by_role("button", name="Win").click()
    response = await answered.value
    assert "company=lan" in (await response.request.all_headers())["cookie"]
    assert response.status == 403
    assert (await response.json())["code"] == "origin_not_allowed"
    assert await status() == ("lan", "open")


def status_is(read, expected):
    async def condition():
        return await read() == expected

    return condition
