"""Who may do what: every route of the app against every role, and every case against those whose it is not."""

import io
from datetime import UTC, datetime

import aiohttp
import pytest

from support_service.access.token_file import TokenEntry, edit_token_file, hash_token, new_token
from support_service.api.route import PUBLIC
from support_service.api.routes import ROUTES
from support_service.core.principals import ROLES
from support_service.database.component import DATABASE
from support_service.database.tables import tickets
from tests.conftest import both_databases
from tests.support.calls import expect_problem, form

SUBJECTS = {"agent": "agent-1", "customer": "customer-1"}
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/fulfillment",
    "type": "fulfillment.shipment.updated.v1",
    "data": {"orderId": "ORD-1", "shipmentId": "SHP-1", "status": "in_transit"},
}
SAID = {"authorType": "customer", "message": "Hello"}
PERMISSIONS = {route.operation: route.access for route in ROUTES if route.access != PUBLIC}
# One good request for each operation that needs a permission: method, path, and what is sent.
REQUESTS = {
    "open_case": ("POST", "/support/cases", {"json": {"subject": "A parcel", "channel": "email"}}),
    "list_cases": ("GET", "/support/cases", {}),
    "get_case": ("GET", "/support/cases/{case}?includeTimeline=true", {}),
    "change_case": ("PATCH", "/support/cases/{case}", {"json": {"priority": "high"}}),
    "set_status": ("POST", "/support/cases/{case}/status?status=pending", {}),
    "close_case": ("POST", "/support/cases/{case}/close", {}),
    "delete_case": ("DELETE", "/support/cases/{case}", {}),
    "add_message": ("POST", "/support/cases/{case}/messages", {"json": SAID}),
    "refresh_timeline": ("POST", "/support/cases/{case}/timeline/refresh", {}),
    "upload": ("POST", "/support/cases/{case}/attachments", None),
    "list_attachments": ("GET", "/support/cases/{case}/attachments", {}),
    "download": ("GET", "/support/cases/{case}/attachments/{file}/note.txt", {}),
    "remove": ("DELETE", "/support/cases/{case}/attachments/{file}", {}),
    "list_audit": ("GET", "/support/cases/{case}/audit", {}),
    "workload": ("GET", "/support/agents/agent-1/workload", {}),
    "receive_event": ("POST", "/support/events", {"json": EVENT}),
}


class People:
    """A service that asks for tokens, and one token of each kind."""

    def __init__(self, client, path):
        self.client = client
        self._path = path
        self._tokens = {}

    def add(self, name, role, **fields):
        """Give someone a token."""
        self._tokens[name] = new_token()
        digest = hash_token(self._tokens[name])
        with edit_token_file(self._path) as entries:
            entries.append(TokenEntry(name=name, sha256=digest, role=role, created=datetime.now(UTC), **fields))

    def ask(self, name, method, path, headers=(), **sent):
        """A request of someone."""
        headers = {"Authorization": f"Bearer {self._tokens[name]}", **dict(headers)}
        return self.client.request(method, path, headers=headers, **sent)

    async def told(self, name, method, path, **sent):
        """What someone is answered; fails where they are refused."""
        async with self.ask(name, method, path, **sent) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    def does(self, name, operation, case, file="none"):
        """The request of an operation, on a case and its file."""
        method, path, sent = REQUESTS[operation]
        sent = {"data": form(b"hello")} if sent is None else sent
        return self.ask(name, method, path.format(case=case, file=file), **sent)


@pytest.fixture
async def people(tmp_path, make_client):
    """One of each role, and others of the same roles whose cases are not theirs."""
    path = tmp_path / "tokens.json"
    people = People(None, path)
    for role in ROLES:
        people.add(role, role, subject=SUBJECTS.get(role), teams=["returns"] if role == "agent" else [])
    people.add("other-agent", "agent", subject="agent-2", teams=["billing"])
    people.add("other-customer", "customer", subject="customer-2")
    people.client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))
    return people


@pytest.fixture
async def theirs(people):
    """A case of customer-1 and agent-1, with a file and an internal note."""
    return await opened(people, customerId="customer-1", assignedAgentId="agent-1", team="returns")


@pytest.fixture
async def foreign(people):
    """A case of customer-2 and agent-2."""
    return await opened(people, customerId="customer-2", assignedAgentId="agent-2", team="billing")


async def opened(people, **owner):
    new = {"subject": "Where is Ann's parcel?", "channel": "email", "initialMessage": SAID, **owner}
    case = await people.told("supervisor", "POST", "/support/cases", json=new)
    note = {"authorType": "agent", "message": "She is cross.", "visibility": "internal"}
    await people.told("supervisor", "POST", f"/support/cases/{case['id']}/messages", json=note)
    file = await people.told("supervisor", "POST", f"/support/cases/{case['id']}/attachments", data=form(b"hello"))
    return case["id"], file["id"]


async def test_every_route_has_a_rule(people):
    """What the app serves is what the table speaks of, and what this walk asks for."""
    served = {(route.method, route.resource.canonical) for route in people.client.app.router.routes()}
    table = {(route.method, route.path) for route in ROUTES}
    assert served == table | {("HEAD", path) for method, path in table if method == "GET"}
    assert PERMISSIONS.keys() == REQUESTS.keys()
    public = {route.operation for route in ROUTES if route.access == PUBLIC}
    assert public == {"health", "livez", "readyz", "metrics", "openapi", "asyncapi", "docs"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", REQUESTS)
async def test_a_role_may_do_what_the_table_says(people, theirs, operation, role):
    """Who has the permission is served; who lacks it is told which one is missing, and nothing is done."""
    response = await people.does(role, operation, *theirs)
    if role in PERMISSIONS[operation].scopes:
        async with response:
            # Only made-up cases can be deleted, so the one who may is told that this is none.
            assert response.status == 409 if operation == "delete_case" else response.status < 300
        return
    before = await people.told("supervisor", "GET", f"/support/cases/{theirs[0]}")
    problem = await expect_problem(response, 403, "permission_missing")
    assert f"'{PERMISSIONS[operation].name}'" in problem["detail"]
    assert await people.told("supervisor", "GET", f"/support/cases/{theirs[0]}") == before


@both_databases
@pytest.mark.parametrize("role", ["agent", "customer"])
async def test_what_is_not_theirs_does_not_exist(people, foreign, role):
    """Every call about somebody else's case is answered as for one that never was, and changes nothing."""
    before = await people.told("supervisor", "GET", f"/support/cases/{foreign[0]}")
    of_cases = [
        name for name, (_, path, _) in REQUESTS.items() if "{case}" in path and role in PERMISSIONS[name].scopes
    ]
    assert len(of_cases) >= 5
    for operation in of_cases:
        said = []
        for case, file in (foreign, ("never", "never")):
            async with people.does(role, operation, case, file) as response:
                problem = await response.json(content_type=None)
            said.append((response.status, problem["code"], problem["detail"].replace(case, "").replace(file, "")))
        assert said[0] == said[1]
        assert said[0][0] == 404
    assert (await people.told(role, "GET", "/support/cases"))["items"] == []
    assert (await people.told(role, "GET", "/support/cases?q=parcel"))["items"] == []
    assert await people.told("supervisor", "GET", f"/support/cases/{foreign[0]}") == before
    audit = await people.told("supervisor", "GET", f"/support/cases/{foreign[0]}/audit")
    assert {entry["actor"] for entry in audit["items"]} == {"supervisor"}


async def test_a_customer_of_nobody_else(people):
    """A customer opens cases of their own alone, speaks for themselves alone, and gives them to nobody."""
    new = {"subject": "A parcel", "channel": "web"}
    case = await people.told("customer", "POST", "/support/cases", json=new)
    assert case["customerId"] == "customer-1"
    for more in (
        {"customerId": "customer-2"},
        {"assignedAgentId": "agent-1"},
        {"team": "returns"},
        {"context": [{"type": "order", "orderId": "ORD-1"}]},  # which may be somebody else's
        {"context": [{"type": "shipment", "id": 7}]},
        {"initialMessage": SAID | {"authorType": "agent"}},
        {"initialMessage": SAID | {"visibility": "internal"}},
    ):
        await expect_problem(
            await people.ask("customer", "POST", "/support/cases", json=new | more), 403, "permission_missing"
        )
    messages = f"/support/cases/{case['id']}/messages"
    for wrong in ({"authorType": "agent"}, {"authorType": "bot"}, {"visibility": "internal"}):
        await expect_problem(
            await people.ask("customer", "POST", messages, json=SAID | wrong), 403, "permission_missing"
        )
    assert (await people.told("supervisor", "GET", f"/support/cases/{case['id']}"))["messages"] == []


async def test_internal_notes(people, theirs):
    """A note is for agents: its customer finds it neither in the conversation nor in the timeline."""
    path = f"/support/cases/{theirs[0]}?includeTimeline=true"
    for reader, sees in (("agent", True), ("supervisor", True), ("customer", False)):
        case = await people.told(reader, "GET", path)
        assert ("She is cross." in str(case)) is sees
        assert len(case["messages"]) == 1 + sees


class Files:
    """What becomes of the files of a case that messages name."""

    def __init__(self, people, case):
        self._people = people
        self._path = f"/support/cases/{case}"

    async def add(self, name, visibility=None):
        """Let an agent add a file; gives its address."""
        query = f"?visibility={visibility}" if visibility else ""
        path = f"{self._path}/attachments{query}"
        return (await self._people.told("agent", "POST", path, data=form(b"secret", name)))["uri"]

    async def name(self, speaker, visibility, uri):
        """Let someone name a file in a message."""
        said = {"authorType": speaker, "message": "Look.", "visibility": visibility, "attachmentUri": uri}
        await self._people.told(speaker, "POST", f"{self._path}/messages", json=said)

    async def seen(self, reader, uris):
        """The names of those files that someone is shown: the same, whichever way they look."""
        listed = await self._people.told(reader, "GET", f"{self._path}/attachments")
        whole = await self._people.told(reader, "GET", f"{self._path}?includeTimeline=true")
        dated = [entry["uri"] for entry in whole["timeline"] if entry["type"] == "attachment"]
        assert [file["uri"] for file in listed] == [file["uri"] for file in whole["attachments"]] == dated
        for method in ("GET", "HEAD"):
            served = []
            for uri in uris:
                async with self._people.ask(reader, method, uri) as response:
                    assert response.status in (200, 404)
                    served += [uri] if response.status == 200 else []
            assert served == [uri for uri in dated if uri in uris]
        return {uri.rpartition("/")[2] for uri in served}


@pytest.fixture
def of_case(people, theirs):
    """The files of customer-1's case."""
    return Files(people, theirs[0])


@both_databases
async def test_an_internal_file(people, theirs, of_case):
    """An internal file is hidden from its customer from the moment it is there; who adds one must be no customer."""
    uris = [await of_case.add("secret.txt", "internal"), await of_case.add("plain.txt")]
    assert await of_case.seen("agent", uris) == {"secret.txt", "plain.txt"}
    assert await of_case.seen("customer", uris) == {"plain.txt"}
    path = f"/support/cases/{theirs[0]}/attachments"
    mine = people.ask("customer", "POST", f"{path}?visibility=internal", data=form(b"x"))
    problem = await expect_problem(await mine, 403, "permission_missing")
    assert "attachments:write-internal" in problem["detail"]
    wrong = people.ask("agent", "POST", f"{path}?visibility=secret", data=form(b"x"))
    problem = await expect_problem(await wrong, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["visibility"]
    listed = await people.told("agent", "GET", path)
    assert [file["visibility"] for file in listed] == ["public", "internal", "public"]


async def test_what_a_role_is_shown_is_not_taken_for_what_another_is(people, theirs):
    """Each view of a version has a tag of its own, which is no 304 for other roles; a change takes any of them."""
    path, kept = f"/support/cases/{theirs[0]}", {}
    for reader in ("agent", "analyst", "customer"):
        async with people.ask(reader, "GET", path) as response:
            kept[reader] = response.headers["ETag"]
    assert len(set(kept.values())) == 3
    for reader, own in kept.items():
        for tag in kept.values():
            async with people.ask(reader, "GET", path, headers={"If-None-Match": tag}) as response:
                assert response.status == (304 if tag == own else 200)
                assert response.headers["ETag"] == own
    async with people.ask("supervisor", "GET", path, headers={"If-None-Match": kept["agent"]}) as response:
        assert response.status == 304  # who is shown the same is told the same
    for reader, priority in (("agent", "high"), ("customer", "low")):
        changed = people.ask("agent", "PATCH", path, json={"priority": priority}, headers={"If-Match": kept[reader]})
        async with changed as response:
            assert response.status == (200 if reader == "agent" else 412)  # of the version, which is old by then
    await expect_problem(
        await people.ask("customer", "POST", f"{path}/messages", json=SAID, headers={"If-Match": kept["customer"]}),
        *(412, "case_changed"),
    )
    async with people.ask("customer", "GET", path) as response:
        now = response.headers["ETag"]
    await people.told("customer", "POST", f"{path}/messages", json=SAID, headers={"If-Match": now})


@both_databases
async def test_a_repeat_tells_nothing_of_a_case_that_is_theirs_no_more(people, theirs):
    """Who lost a case within the day gets no stored answer of it, and who still has it gets theirs as before."""
    path = f"/support/cases/{theirs[0]}"
    said = {"authorType": "agent", "message": "Hello"}
    new = {"subject": "A parcel", "channel": "email", "team": "billing"}

    def asked():
        return [
            people.ask("agent", "PATCH", path, json={"priority": "high"}, headers={"Idempotency-Key": "a"}),
            people.ask("agent", "POST", f"{path}/messages", json=said, headers={"Idempotency-Key": "b"}),
            people.ask("agent", "POST", f"{path}/attachments", data=form(b"x"), headers={"Idempotency-Key": "c"}),
        ]

    for replayed in (None, "true"):
        for request in asked():
            async with request as response:
                assert (response.status < 300, response.headers.get("Idempotency-Replayed")) == (True, replayed)
    await people.told("supervisor", "PATCH", path, json={"assignedAgentId": "agent-2", "team": "billing"})
    for request in asked():
        await expect_problem(await request, 404, "case_not_found")
    for _ in range(2):  # to open a case for another team is right, and so is to do it again
        case = await people.told("agent", "POST", "/support/cases", json=new, headers={"Idempotency-Key": "d"})
    async with people.ask("agent", "GET", f"/support/cases/{case['id']}") as response:
        assert response.status == 404
    await people.told("supervisor", "PATCH", path, json={"assignedAgentId": "agent-1"})
    for request in asked():
        async with request as response:
            assert response.headers["Idempotency-Replayed"] == "true"


async def test_a_customers_repeat_of_an_opening(people):
    """A customer whose case was given to somebody else is not told of it by the key with which they opened it."""
    new, key = {"subject": "A parcel", "channel": "web"}, {"Idempotency-Key": "a"}
    case = await people.told("customer", "POST", "/support/cases", json=new, headers=key)
    assert await people.told("customer", "POST", "/support/cases", json=new, headers=key) == case
    async with people.client.app[DATABASE].transaction() as tx:
        await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(customer_id="customer-2"))
    await expect_problem(
        await people.ask("customer", "POST", "/support/cases", json=new, headers=key), 404, "case_not_found"
    )


@pytest.mark.parametrize("operation", [name for name, (method, _, _) in REQUESTS.items() if method == "GET"])
async def test_nothing_for_one_caller_is_kept_for_others(people, theirs, operation):
    """Whatever depends on who asks is kept by no cache that others share, and by none at all but for files."""
    async with people.does("supervisor", operation, *theirs) as response:
        assert response.status == 200
        expected = "private, no-cache" if operation == "download" else "no-store"
        assert response.headers["Cache-Control"] == expected


async def test_a_visibility_in_the_form(people, theirs):
    """Who says in the form that a file is internal is told where to say it, and no file is kept."""
    path = f"/support/cases/{theirs[0]}/attachments"
    for first in (True, False):
        sent = aiohttp.FormData()
        fields = [("visibility", "internal", {}), ("file", io.BytesIO(b"secret"), {"filename": "secret.txt"})]
        for name, value, more in fields if first else reversed(fields):
            sent.add_field(name, value, **more)
        await expect_problem(await people.ask("agent", "POST", path, data=sent), 422, "invalid_request")
    assert len(await people.told("agent", "GET", path)) == 1


@both_databases
async def test_the_file_of_a_message(people, theirs, of_case):
    """A note hides the file that it names, unless a public message has; an agent's public message shows it."""
    kinds = ("hidden", "answered", "shown", "begged")
    uri = {kind: await of_case.add(kind, "internal" if kind in ("shown", "begged") else None) for kind in kinds}
    await of_case.name("agent", "internal", uri["hidden"])
    await of_case.name("customer", "public", uri["answered"])
    await of_case.name("agent", "internal", uri["answered"])
    await of_case.name("agent", "public", uri["shown"])
    await of_case.name("customer", "public", uri["begged"])  # they know its address, and gain nothing by it
    assert await of_case.seen("agent", uri.values()) == {*kinds}
    assert await of_case.seen("customer", uri.values()) == {"answered", "shown"}
    entries = (await people.told("supervisor", "GET", f"/support/cases/{theirs[0]}/audit"))["items"]
    moved = [entry["changes"].get("attachmentVisibility") for entry in entries if entry["action"] == "message.added"]
    assert moved[:5] == [None, ["internal", "public"], None, None, ["public", "internal"]]


@pytest.mark.parametrize("way", ["change", "status", "close"])
async def test_an_agent_takes_no_case_from_another(people, way):
    """An agent takes a case that is nobody's and gives up their own; a supervisor alone gives one to somebody else."""
    case, _ = await opened(people, team="returns")
    ways = {
        "change": lambda who: ("PATCH", f"/support/cases/{case}", {"json": {"assignedAgentId": who}}),
        "status": lambda who: ("POST", f"/support/cases/{case}/status?status=pending&assignedAgentId={who}", {}),
        "close": lambda who: ("POST", f"/support/cases/{case}/close", {"json": {"assignedAgentId": who}}),
    }

    def give(who, caller):
        method, path, sent = ways[way](who)
        return people.ask(caller, method, path, **sent)

    await expect_problem(await give("agent-2", "agent"), 403, "permission_missing")
    async with give("agent-1", "agent") as response:
        assert response.status == 200
    await expect_problem(await give("agent-2", "agent"), 403, "permission_missing")
    async with give("agent-2", "supervisor") as response:
        assert response.status == 200
    await expect_problem(await give("agent-1", "agent"), 403, "permission_missing")
    assert (await people.told("supervisor", "GET", f"/support/cases/{case}"))["assignedAgentId"] == "agent-2"


async def test_an_analyst_counts_and_does_not_read(people, theirs):
    """An analyst sees what can be counted, one pseudonym for one customer, and cannot search for what is masked."""
    case = await people.told("analyst", "GET", f"/support/cases/{theirs[0]}?includeTimeline=true")
    page = await people.told("analyst", "GET", "/support/cases")
    files = await people.told("analyst", "GET", f"/support/cases/{theirs[0]}/attachments")
    told = f"{case} {page} {files}"
    for secret in ("customer-1", "Ann", "cross", "Hello", "note.txt", ".txt", theirs[1] + "/"):
        assert secret not in told
    assert case["customerId"] == page["items"][0]["customerId"]
    assert (case["status"], case["channel"], case["messages"][0]["authorType"]) == ("open", "email", "customer")
    assert files[0]["sizeBytes"] == 5
    for query in ("q=Ann", "customerId=customer-1"):
        await expect_problem(await people.ask("analyst", "GET", f"/support/cases?{query}"), 403, "permission_missing")


async def test_an_agent_sees_their_own_workload(people):
    """An agent's workload is theirs to see; a supervisor and an analyst see everybody's."""
    path = "/support/agents/agent-2/workload"
    await expect_problem(await people.ask("agent", "GET", path), 403, "permission_missing")
    for caller in ("other-agent", "supervisor", "analyst"):
        assert (await people.told(caller, "GET", path))["agentId"] == "agent-2"


def opening(**given):
    """A customer's own case."""
    return {"json": {"subject": "Help", "channel": "email", **given}}


@pytest.mark.parametrize("kind", ["order", "order-event", "payment", "shipment", "conversation", "attachment"])
async def test_a_customer_speaks_for_nobody_else(people, kind):
    """What a customer puts into a case can't look like what a service or an agent said, nor be a case nobody sees."""
    entry = {"type": kind, "status": "captured", "authorType": "agent", "message": "We promise a full refund."}
    problem = await expect_problem(
        await people.ask("customer", "POST", "/support/cases", **opening(context=[entry])), 403, "permission_missing"
    )
    assert "cases:refer" in problem["detail"]
    for mine in ([{"type": "page", "path": "/orders"}], [{"note": "no type"}], []):
        await people.told("customer", "POST", "/support/cases", **opening(context=mine))


@pytest.mark.parametrize(("caller", "may"), [("customer", False), ("agent", False), ("supervisor", True)])
async def test_who_makes_cases_up(people, caller, may):
    """Cases that nobody sees are for those who run the service."""
    answer = people.ask(caller, "POST", "/support/cases", **opening(channel="synthetic"))
    if may:
        async with answer as response:
            assert response.status == 201
    else:
        problem = await expect_problem(await answer, 403, "permission_missing")
        assert "cases:create-synthetic" in problem["detail"]


async def test_what_only_looks_harmless_is_masked(people):
    """Free text where words of a vocabulary are usual, and numbers that may be somebody's, are not shown."""
    number, name = "0901234567", "John Doe"
    context = [
        {"type": "page", "source": f"doe.{number}", "status": "0901-234-567", "timestamp": number},
        {f"{name} {number}": "y", "Doe": "z", "path": {"/doe": 1}},
        {"type": "page", "source": int(number), "status": float(number), "total": number, "amount": int(number)},
    ]
    case = await people.told(
        "customer", "POST", "/support/cases", **opening(channel=name, tags=[f"+{number}", "late"], context=context)
    )
    data = form(b"x", content_type=f"x/doe.{number}")
    await people.told("customer", "POST", f"/support/cases/{case['id']}/attachments", data=data)
    shown = await people.told("analyst", "GET", f"/support/cases/{case['id']}?includeTimeline=true")
    files = await people.told("analyst", "GET", f"/support/cases/{case['id']}/attachments")
    assert not [secret for secret in (number, number[1:], "0901", name, "doe") if secret in f"{shown} {files}"]
    assert (shown["channel"], shown["tags"][1], files[0]["contentType"]) == ("other", "late", "other")
    assert shown["context"][0]["type"] == "page"


@pytest.mark.parametrize("amount", ["125.50", "1250000", "-3.5", 99.5, 125000, None])
async def test_an_analyst_adds_up(people, amount):
    """What an order or a payment comes to is shown, as a number or as a text; another text in its place is not."""
    context = [{"type": "payment", "amount": amount}, {"type": "order", "total": "call 0901234567"}]
    case = await people.told("agent", "POST", "/support/cases", **opening(context=context))
    shown = (await people.told("analyst", "GET", f"/support/cases/{case['id']}"))["context"]
    assert (shown[0]["amount"], shown[1]["total"]) == (amount, "[masked]")


async def test_a_closed_case_takes_nothing_of_its_customer(people, theirs):
    """A customer's file is refused on a closed case, as their message is; an agent's is taken."""
    path = f"/support/cases/{theirs[0]}"
    await people.told("agent", "POST", f"{path}/close")
    await expect_problem(
        await people.ask("customer", "POST", f"{path}/attachments", data=form(b"x")), 409, "case_closed"
    )
    said = {"authorType": "customer", "message": "And yet"}
    await expect_problem(await people.ask("customer", "POST", f"{path}/messages", json=said), 409, "case_closed")
    await people.told("agent", "POST", f"{path}/attachments", data=form(b"x"))
