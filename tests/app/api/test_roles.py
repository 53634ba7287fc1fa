"""Permissions: every route against every role, what a caller learns of its own, and cases outside its scope."""

import io
import re

import aiohttp
import pytest
import pytest_asyncio

from support_service.api.routes import ROUTES
from support_service.api.routing.route import PUBLIC, Permission
from support_service.core.domain.principals import ROLES
from support_service.platform.database.tables import tickets
from tests.support.access.principals import MESSAGE, PERMISSIONS, REQUESTS, SUBJECTS, Principals
from tests.support.calls import api_routes, expect_json, expect_problem, form, without_case_events
from tests.support.each import each_row
from tests.support.service import service_of

# The case is not synthetic, so it can't be deleted; and the other objects of these requests do not exist.
UNKNOWN = ("add_link", "merge_case", "remove_link")
UNKNOWN += ("replay_dead_letter", "drop_dead_letter", "replay_delivery", "drop_delivery")
REFUSED = {"delete_case": 409, "split_case": 422, **dict.fromkeys(UNKNOWN, 404)}


OWN = {"customerId": "customer-1", "assignedAgentId": "agent-1", "team": "returns"}
OTHER = {"customerId": "customer-2", "assignedAgentId": "agent-2", "team": "billing"}


@pytest_asyncio.fixture(loop_scope="module")
async def own_case(principals):
    """The ids of a case of customer-1 and agent-1 and of its file. The case has an internal note."""
    return await open_case_with_note_and_file(principals, **OWN)


@pytest_asyncio.fixture(loop_scope="module")
async def other_case(principals):
    """The ids of a case of customer-2 and agent-2 and of its file."""
    return await open_case_with_note_and_file(principals, **OTHER)


async def open_case_with_note_and_file(principals, **owner):
    new = {"subject": "Where is Ann's parcel?", "channel": "email", "initialMessage": MESSAGE, **owner}
    case = await principals.read_json("supervisor", "POST", "/support/cases", json=new)
    note = {"authorType": "agent", "message": "She is cross.", "visibility": "internal"}
    await principals.read_json("supervisor", "POST", f"/support/cases/{case['id']}/messages", json=note)
    file = await principals.read_json(
        "supervisor", "POST", f"/support/cases/{case['id']}/attachments", data=form(b"hello")
    )
    return case["id"], file["id"]


async def prepare(principals, role, operation):
    """Create what a valid request of a role finds; return the ids of a new case and of its file."""
    case = await open_case_with_note_and_file(principals, **OWN)
    if role in PERMISSIONS["create_view"].scopes:
        await principals.save_view(role, operation)
    if role in PERMISSIONS["bulk_change"].scopes:
        await principals.make_bulk_change(role, case[0])
    await principals.read_json("supervisor", "PUT", "/support/macros/late", json={"text": "{{case.subject}}"})
    await principals.read_json("supervisor", "PUT", "/support/agents/agent-1", json={})
    of_other = {"subject": "A parcel", "channel": "email", "customerId": "shop-1042"}
    await principals.read_json("supervisor", "POST", "/support/cases", json=of_other)
    merge = "/support/customers/shop-1042/merge"
    await principals.read_json("supervisor", "POST", merge, json={"into": "customer-1"})
    policy = {"targets": {"firstResponse": "PT1H"}, "match": {"tag": ["in no case"]}}
    await principals.read_json("supervisor", "PUT", "/support/sla-policies/all", json=policy)
    return case


async def test_every_route_is_in_the_permission_table(principals):
    """The served routes equal the table, and only these few are public."""
    served = api_routes(principals.client.app)
    table = {(route.method, route.path) for route in ROUTES}
    assert served == table | {("HEAD", path) for method, path in table if method == "GET"}
    public = {route.operation for route in ROUTES if route.access == PUBLIC}
    assert public == {"health", "livez", "readyz", "metrics", "openapi", "asyncapi", "docs"}


READS = [name for name, (method, *_) in REQUESTS.items() if method == "GET"]
WRITES = [name for name in REQUESTS if name not in READS]


@each_row("role", ROLES)
async def test_operations_without_a_permission_are_refused(principals, own_case, role):
    """A refusal names the missing permission, and nothing changes."""
    refused = [name for name in REQUESTS if role not in PERMISSIONS[name].scopes]
    before = await principals.read_json("supervisor", "GET", f"/support/cases/{own_case[0]}")
    for operation in refused:
        problem = await expect_problem(principals.perform(role, operation, *own_case), 403, "permission_missing")
        assert f"'{PERMISSIONS[operation].name}'" in problem["detail"], operation
        case = await principals.read_json("supervisor", "GET", f"/support/cases/{own_case[0]}")
        assert case == before, operation


@pytest.mark.parametrize("role", ROLES)
async def test_reads_with_a_permission_succeed(principals, role, subtests):
    """Each role may read exactly what its permissions say: other reads are refused.

    Only downloads may be stored, and only by the client itself, not in a shared cache.
    """
    case = await prepare(principals, role, "a read")
    for operation in (name for name in READS if role in PERMISSIONS[name].scopes):
        with subtests.test(operation):
            async with principals.perform(role, operation, *case) as response:
                assert response.status < 300
                expected = "private, no-cache" if operation == "download" else "no-store"
                assert response.headers["Cache-Control"] == expected


@pytest.mark.parametrize("role", ROLES)
async def test_writes_with_a_permission_succeed(principals, role, subtests):
    """Each role may do what its permissions say, whatever was done before."""
    for operation in (name for name in WRITES if role in PERMISSIONS[name].scopes):
        with subtests.test(operation):
            case = await prepare(principals, role, operation)
            async with principals.perform(role, operation, *case) as response:
                refused = 403 if (operation, role) == ("remove", "customer") else REFUSED.get(operation)
                assert response.status == refused if refused else response.status < 300


@pytest.mark.parametrize("role", ["agent", "customer"])
async def test_case_outside_the_scope_looks_nonexistent(principals, other_case, role):
    """Requests about it are answered as for an unknown case, and change nothing."""
    before = await principals.read_json("supervisor", "GET", f"/support/cases/{other_case[0]}")
    operations = [
        name for name, (_, path, _) in REQUESTS.items() if "{case}" in path and role in PERMISSIONS[name].scopes
    ]
    assert len(operations) >= 5
    for operation in operations:
        responses = []
        for case, file in (other_case, ("never", "never")):
            async with principals.perform(role, operation, case, file) as response:
                problem = await response.json(content_type=None)
            responses.append((response.status, problem["code"], problem["detail"].replace(case, "").replace(file, "")))
        assert responses[0] == responses[1]
        assert responses[0][0] == 404
    for path in ("/support/cases", "/support/cases?q=parcel"):
        listed = (await principals.read_json(role, "GET", path))["items"]
        assert other_case[0] not in [case["id"] for case in listed]
    assert await principals.read_json("supervisor", "GET", f"/support/cases/{other_case[0]}") == before
    audit = await principals.read_json("supervisor", "GET", f"/support/cases/{other_case[0]}/audit")
    assert {entry["actor"] for entry in audit["items"]} == {"supervisor"}


async def test_customer_sees_service_levels_of_public_policies_only(principals):
    """Neither a field nor a list tells when other cases are due."""
    policy = {"targets": {"firstResponse": "PT1H"}}
    public = policy | {"public": True, "match": {"priority": ["urgent"]}}
    await principals.read_json("supervisor", "PUT", "/support/sla-policies/10", json=public)
    await principals.read_json("supervisor", "PUT", "/support/sla-policies/20", json=policy)
    new = {"subject": "A parcel", "channel": "web"}
    hidden = await principals.read_json("customer", "POST", "/support/cases", json=new)
    urgent = new | {"customerId": "customer-1", "priority": "urgent"}
    shown = await principals.read_json("supervisor", "POST", "/support/cases", json=urgent)
    assert (bool(hidden["sla"]), bool(shown["sla"])) == (False, True)
    for name, expected in (("customer", [False, True]), ("supervisor", [True, True]), ("analyst", [True, True])):
        read = [await principals.read_json(name, "GET", f"/support/cases/{case['id']}") for case in (hidden, shown)]
        assert [bool(case["sla"]) for case in read] == expected
        listed = (await principals.read_json(name, "GET", "/support/cases"))["items"]
        assert {case["id"]: bool(case["sla"]) for case in listed} == dict(
            zip((hidden["id"], shown["id"]), expected, strict=True)
        )
        listed = (await principals.read_json(name, "GET", "/support/cases?sort=due"))["items"]
        first, last = (hidden, shown) if all(expected) else (shown, hidden)
        assert [case["id"] for case in listed] == [first["id"], last["id"]]
        for query in ("dueWithin=P1D", "sort=due&dueWithin=P1D"):
            due = (await principals.read_json(name, "GET", f"/support/cases?{query}"))["items"]
            assert len(due) == sum(expected)


REFUND = {"type": "payment-refund", "source": "payment-service", "eventType": "payment.refund.approved", "amount": 500}
SENT_AT = {"sentAt": "2026-05-12T08:30:00Z"}
NOT_FOR_CUSTOMERS = [
    *[({"customerId": "customer-2"}, ""), ({"assignedAgentId": "agent-1"}, ""), ({"team": "returns"}, "")],
    *[({"initialMessage": MESSAGE | wrong}, "") for wrong in ({"authorType": "agent"}, {"visibility": "internal"})],
    # An order may belong to another customer, and any entry could look like one of a service or an agent.
    *[({"context": [{"type": kind}]}, "cases:refer") for kind in ("order", "payment ", ["payment"], "page")],
    *[({"context": [entry]}, "cases:refer") for entry in (REFUND, {}, {"type": "shipment", "id": 7})],
    # Policies of service levels match priority and tags.
    *[({"priority": priority}, "cases:prioritize") for priority in ("urgent", "low")],
    ({"tags": ["vip"]}, "cases:prioritize"),
    # The order of a conversation is that of arrival, unless staff or a service says when something was sent.
    *[(SENT_AT, "messages:backdate"), ({"initialMessage": MESSAGE | SENT_AT}, "messages:backdate")],
    ({"channel": "synthetic"}, "cases:create-synthetic"),
]


async def test_customer_acts_only_in_their_own_name(principals):
    """A customer cannot set what staff set, or another author. Staff can."""
    new = {"subject": "A parcel", "channel": "web"}
    harmless = {"priority": "normal", "tags": [], "context": [], "initialMessage": MESSAGE}
    case = await principals.read_json("customer", "POST", "/support/cases", json=new | harmless)
    assert case["customerId"] == "customer-1"
    path = f"/support/cases/{case['id']}"
    read = await principals.read_json("customer", "GET", f"{path}?includeTimeline=true")
    assert (case["timeline"], "actor" in case["timeline"][0]) == (read["timeline"], False)
    read = await principals.read_json("supervisor", "GET", f"{path}?includeTimeline=true")
    assert read["timeline"][0]["actor"] == "customer"
    for more, permission in NOT_FOR_CUSTOMERS:
        answer = principals.request("customer", "POST", "/support/cases", json=new | more)
        assert permission in (await expect_problem(answer, 403, "permission_missing"))["detail"], more
        await principals.read_json("supervisor", "POST", "/support/cases", json=new | more)
    synthetic = principals.request("agent", "POST", "/support/cases", json=new | {"channel": "synthetic"})
    assert "cases:create-synthetic" in (await expect_problem(synthetic, 403, "permission_missing"))["detail"]
    for wrong in ({"authorType": "agent"}, {"authorType": "bot"}, {"visibility": "internal"}, SENT_AT):
        answer = principals.request("customer", "POST", f"{path}/messages", json=MESSAGE | wrong)
        await expect_problem(answer, 403, "permission_missing")
    assert (await principals.read_json("supervisor", "GET", path))["messages"] == read["messages"]
    await principals.read_json("agent", "POST", "/support/cases", json=new | SENT_AT)


class CaseFiles:
    """The files of a case, and which of them a principal sees."""

    def __init__(self, principals, case):
        self._principals = principals
        self._path = f"/support/cases/{case}"

    async def add(self, name, visibility=None):
        """Upload a file as an agent; return its URI."""
        query = f"?visibility={visibility}" if visibility else ""
        path = f"{self._path}/attachments{query}"
        return (await self._principals.read_json("agent", "POST", path, data=form(b"secret", name)))["uri"]

    async def mention(self, author, visibility, uri):
        """Add a message that refers to a file."""
        message = {"authorType": author, "message": "Look.", "visibility": visibility, "attachmentUri": uri}
        await self._principals.read_json(author, "POST", f"{self._path}/messages", json=message)

    async def visible(self, reader, uris):
        """Return the names of the files that a principal sees; lists, timeline and downloads must agree."""
        listed = await self._principals.read_json(reader, "GET", f"{self._path}/attachments")
        whole = await self._principals.read_json(reader, "GET", f"{self._path}?includeTimeline=true")
        in_timeline = [entry["uri"] for entry in whole["timeline"] if entry["type"] == "attachment"]
        assert [file["uri"] for file in listed] == [file["uri"] for file in whole["attachments"]] == in_timeline
        for method in ("GET", "HEAD"):
            served = []
            for uri in uris:
                async with self._principals.request(reader, method, uri) as response:
                    assert response.status in (200, 404)
                    served += [uri] if response.status == 200 else []
            assert served == [uri for uri in in_timeline if uri in uris]
        return {uri.rpartition("/")[2] for uri in served}


@pytest.fixture
def case_files(principals, own_case):
    """The files of customer-1's case."""
    return CaseFiles(principals, own_case[0])


async def test_internal_file_is_hidden_from_the_customer(principals, own_case, case_files):
    """It is hidden from its upload on, and a customer cannot upload one."""
    uris = [await case_files.add("secret.txt", "internal"), await case_files.add("plain.txt")]
    assert await case_files.visible("agent", uris) == {"secret.txt", "plain.txt"}
    assert await case_files.visible("customer", uris) == {"plain.txt"}
    path = f"/support/cases/{own_case[0]}/attachments"
    mine = principals.request("customer", "POST", f"{path}?visibility=internal", data=form(b"x"))
    problem = await expect_problem(mine, 403, "permission_missing")
    assert "attachments:write-internal" in problem["detail"]
    wrong = principals.request("agent", "POST", f"{path}?visibility=secret", data=form(b"x"))
    problem = await expect_problem(wrong, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["visibility"]
    listed = await principals.read_json("agent", "GET", path)
    assert [file["visibility"] for file in listed] == ["public", "internal", "public"]


async def test_each_view_of_a_case_has_its_own_etag(principals, own_case):
    """The ETag of one view is no 304 for another view, but If-Match takes any of them."""
    path, etags = f"/support/cases/{own_case[0]}", {}
    for reader in ("agent", "analyst", "customer"):
        async with principals.request(reader, "GET", path) as response:
            etags[reader] = response.headers["ETag"]
    assert len(set(etags.values())) == 3
    for reader, own in etags.items():
        for tag in etags.values():
            async with principals.request(reader, "GET", path, headers={"If-None-Match": tag}) as response:
                assert response.status == (304 if tag == own else 200)
                assert response.headers["ETag"] == own
    request = principals.request("supervisor", "GET", path, headers={"If-None-Match": etags["agent"]})
    await expect_json(request, 304)
    for reader, priority in (("agent", "high"), ("customer", "low")):
        changed = principals.request(
            "agent", "PATCH", path, json={"priority": priority}, headers={"If-Match": etags[reader]}
        )
        async with changed as response:
            assert response.status == (200 if reader == "agent" else 412)  # the version is outdated by then
    await expect_problem(
        principals.request(
            "customer", "POST", f"{path}/messages", json=MESSAGE, headers={"If-Match": etags["customer"]}
        ),
        *(412, "case_changed"),
    )
    async with principals.request("customer", "GET", path) as response:
        now = response.headers["ETag"]
    await principals.read_json("customer", "POST", f"{path}/messages", json=MESSAGE, headers={"If-Match": now})


async def customer_view(principals, case):
    """Return everything that a customer can read of their case: bodies and tags."""
    path, seen = f"/support/cases/{case}", []
    for where in (path, f"{path}?includeTimeline=true", f"{path}/attachments", "/support/cases"):
        async with principals.request("customer", "GET", where) as response:
            tag = response.headers.get("ETag", "")
            # The tag of a case with its timeline is its version and a random part.
            seen.append((await response.text(), tag.partition(".")[0], response.headers["Content-Length"]))
    return seen


async def test_customer_can_not_tell_that_internal_notes_and_files_exist(principals, own_case, case_files):
    """Bodies, times and ETags stay the same, and an ETag from before is valid in If-None-Match and If-Match."""
    case, path = own_case[0], f"/support/cases/{own_case[0]}"
    async with principals.request("customer", "GET", path) as response:
        known = response.headers["ETag"]
    before = await customer_view(principals, case)
    staff = await principals.read_json("agent", "GET", path)
    uri = await case_files.add("secret.txt", "internal")
    await case_files.mention("agent", "internal", uri)
    await expect_json(principals.request("agent", "DELETE", uri.rpartition("/")[0]), 204)
    assert await customer_view(principals, case) == before
    assert (await principals.read_json("agent", "GET", path))["updatedAt"] > staff["updatedAt"]
    await expect_json(principals.request("customer", "GET", path, headers={"If-None-Match": known}), 304)
    for where, sent in (("attachments", lambda: {"data": form(b"x")}), ("messages", lambda: {"json": MESSAGE})):
        async with principals.request("customer", "GET", path) as response:
            tag = response.headers["ETag"]
        await case_files.mention("agent", "internal", None)
        wrong = principals.request("customer", "POST", f"{path}/{where}", headers={"If-Match": '"99"'}, **sent())
        await expect_problem(wrong, 412, "case_changed")
        await principals.read_json("customer", "POST", f"{path}/{where}", headers={"If-Match": tag}, **sent())
    assert await customer_view(principals, case) != before
    # An ETag from before a note that hides a file is no 304.
    uri = await case_files.add("plain.txt")
    shown = await customer_view(principals, case)
    await case_files.mention("agent", "internal", uri)
    hidden = await customer_view(principals, case)
    assert [tag for _, tag, _ in hidden[:2]] != [tag for _, tag, _ in shown[:2]]


async def test_retry_reveals_nothing_of_a_case_that_left_the_scope(principals, own_case):
    """An agent who lost the case gets 404, and the stored response once the case is theirs again."""
    path = f"/support/cases/{own_case[0]}"
    message = {"authorType": "agent", "message": "Hello"}
    new = {"subject": "A parcel", "channel": "email", "team": "billing"}
    other, _ = await open_case_with_note_and_file(principals, **OWN)
    link = {"kind": "related", "caseId": other}

    def key(name):
        return {"Idempotency-Key": f"left-{name}"}

    def requests():
        return [
            principals.request("agent", "PATCH", path, json={"priority": "high"}, headers=key("a")),
            principals.request("agent", "POST", f"{path}/messages", json=message, headers=key("b")),
            principals.request("agent", "POST", f"{path}/links", json=link, headers=key("link")),
            principals.request("agent", "POST", f"{path}/attachments", data=form(b"x"), headers=key("c")),
        ]

    for replayed in (None, "true"):
        for request in requests():
            async with request as response:
                assert (response.status < 300, response.headers.get("Idempotency-Replayed")) == (True, replayed)
    await principals.read_json("supervisor", "PATCH", path, json={"assignedAgentId": "agent-2", "team": "billing"})
    for request in requests():
        await expect_problem(request, 404, "case_not_found")
    for _ in range(2):  # an agent may open a case for another team, and retry that
        case = await principals.read_json("agent", "POST", "/support/cases", json=new, headers=key("d"))
    await expect_json(principals.request("agent", "GET", f"/support/cases/{case['id']}"), 404)
    await principals.read_json("supervisor", "PATCH", path, json={"assignedAgentId": "agent-1"})
    for request in requests():
        async with request as response:
            assert response.headers["Idempotency-Replayed"] == "true"


async def test_retried_opening_reveals_nothing_of_a_case_with_another_customer(principals):
    """The customer gets 404 once the case belongs to somebody else."""
    new, key = {"subject": "A parcel", "channel": "web"}, {"Idempotency-Key": "opened"}
    case = await principals.read_json("customer", "POST", "/support/cases", json=new, headers=key)
    assert await principals.read_json("customer", "POST", "/support/cases", json=new, headers=key) == case
    async with service_of(principals.client).database.transaction() as tx:
        await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(customer_id="customer-2"))
    refused = principals.request("customer", "POST", "/support/cases", json=new, headers=key)
    await expect_problem(refused, 404, "case_not_found")


async def test_visibility_as_a_form_field_is_refused(principals, own_case):
    """The visibility belongs in the query, and no file is stored."""
    path = f"/support/cases/{own_case[0]}/attachments"
    for first in (True, False):
        sent = aiohttp.FormData()
        fields = [("visibility", "internal", {}), ("file", io.BytesIO(b"secret"), {"filename": "secret.txt"})]
        for name, value, more in fields if first else reversed(fields):
            sent.add_field(name, value, **more)
        await expect_problem(principals.request("agent", "POST", path, data=sent), 422, "invalid_request")
    assert len(await principals.read_json("agent", "GET", path)) == 1


async def test_message_sets_the_visibility_of_its_file(principals, own_case, case_files):
    """A note hides its file unless a public message refers to it. An agent's public message shows it."""
    kinds = ("hidden", "answered", "shown", "begged")
    uri = {kind: await case_files.add(kind, "internal" if kind in ("shown", "begged") else None) for kind in kinds}
    await case_files.mention("agent", "internal", uri["hidden"])
    await case_files.mention("customer", "public", uri["answered"])
    await case_files.mention("agent", "internal", uri["answered"])
    await case_files.mention("agent", "public", uri["shown"])
    await case_files.mention("customer", "public", uri["begged"])  # knowing its URI gives the customer no access
    assert await case_files.visible("agent", uri.values()) == {*kinds}
    assert await case_files.visible("customer", uri.values()) == {"answered", "shown"}
    entries = (await principals.read_json("supervisor", "GET", f"/support/cases/{own_case[0]}/audit"))["items"]
    moved = [entry["changes"].get("attachmentVisibility") for entry in entries if entry["action"] == "message.added"]
    assert moved[:5] == [None, ["internal", "public"], None, None, ["public", "internal"]]


@pytest.mark.parametrize("way", ["change", "status", "close"])
async def test_only_a_supervisor_takes_a_case_from_an_agent(principals, way):
    """An agent may only take a case that has no agent."""
    case, _ = await open_case_with_note_and_file(principals, team="returns")
    ways = {
        "change": lambda agent: ("PATCH", f"/support/cases/{case}", {"json": {"assignedAgentId": agent}}),
        "status": lambda agent: ("POST", f"/support/cases/{case}/status?status=pending&assignedAgentId={agent}", {}),
        "close": lambda agent: ("POST", f"/support/cases/{case}/close", {"json": {"assignedAgentId": agent}}),
    }

    def give(agent, principal):
        method, path, sent = ways[way](agent)
        return principals.request(principal, method, path, **sent)

    await expect_problem(await give("agent-2", "agent"), 403, "permission_missing")
    await expect_json(give("agent-1", "agent"))
    await expect_problem(await give("agent-2", "agent"), 403, "permission_missing")
    await expect_json(give("agent-2", "supervisor"))
    await expect_problem(await give("agent-1", "agent"), 403, "permission_missing")
    assert (await principals.read_json("supervisor", "GET", f"/support/cases/{case}"))["assignedAgentId"] == "agent-2"


async def test_customer_filters_own_cases(principals):
    """No sort and no filter tells a customer of a note, or of the cases of others."""
    own_case = await open_case_with_note_and_file(principals, **OWN)
    await open_case_with_note_and_file(principals, **OTHER)
    note = {"authorType": "agent", "message": "Still cross.", "visibility": "internal"}

    async def listed(name, **query):
        return (await principals.read_json(name, "GET", "/support/cases", params=query))["items"]

    before = await listed("customer")
    messages = (await principals.read_json("customer", "GET", f"/support/cases/{own_case[0]}"))["messages"]
    assert [(case["id"], case["lastMessageAt"]) for case in before] == [(own_case[0], messages[-1]["createdAt"])]
    await principals.read_json("supervisor", "POST", f"/support/cases/{own_case[0]}/messages", json=note)
    for sort in ("newest", "updated", "waiting"):
        assert await listed("customer", sort=sort) == before
        for query in ({"status": "open,pending"}, {"assignedAgentId": "agent-1"}, {"customerId": "customer-1"}):
            assert await listed("customer", sort=sort, **query) == before
        for query in ({"assignedAgentId": "none"}, {"tag": "vip"}, {"customerId": "customer-2"}, {"orderId": "1"}):
            assert await listed("customer", sort=sort, **query) == []
    after = {"updatedAfter": before[0]["updatedAt"]}
    assert await listed("customer", **after) == []
    assert own_case[0] in [case["id"] for case in await listed("supervisor", **after)]
    assert [case["id"] for case in await listed("agent", sort="updated", **after)] == [own_case[0]]


async def test_analyst_sees_masked_cases(principals, own_case):
    """A customer has one pseudonym, and masked fields cannot be searched. Times are shown.

    An external id may hold an address, as a mail's Message-ID does.
    """
    named = {"externalId": "<ann@mail.example>", "sentAt": "2026-05-12T08:30:00.000000Z"}
    new = {"subject": "A", "channel": "email", "initialMessage": MESSAGE | named, "customerId": "customer-1", **named}
    path = f"/support/cases/{(await principals.read_json('supervisor', 'POST', '/support/cases', json=new))['id']}"
    case = await principals.read_json("analyst", "GET", f"{path}?includeTimeline=true")
    part = await principals.read_json("analyst", "GET", f"{path}?messagesLimit=1")
    listed, other = (await principals.read_json("analyst", "GET", "/support/cases?limit=2"))["items"]
    for each in (case, *case["messages"], *part["messages"], listed):
        assert (each["externalId"], each["sentAt"]) == ("[masked]", named["sentAt"])
    assert case["customerId"] == listed["customerId"] == other["customerId"] != "customer-1"
    assert (case["status"], case["channel"], case["messages"][0]["authorType"]) == ("open", "email", "customer")
    assert case["timeline"][0]["timestamp"] == named["sentAt"]
    assert {entry["origin"] for entry in case["timeline"]} == {"case"}
    (file,) = await principals.read_json("analyst", "GET", f"/support/cases/{own_case[0]}/attachments")
    assert file["sizeBytes"] == 5
    for query in ("q=Ann", "customerId=customer-1", "orderId=1", "payment_id=1", "shipmentId=1", "tag=a&tag=Ann+Smith"):
        await expect_problem(principals.request("analyst", "GET", f"/support/cases?{query}"), 403, "permission_missing")


async def test_analyst_can_not_ask_for_a_masked_channel(principals):
    """A channel that is shown as `other` is in no filter of a list, a count or a view, with or without a case."""
    await principals.save_view("analyst", "Without a channel")
    await principals.read_json("agent", "POST", "/support/cases", **opening(channel="line-0901234567"))
    for channel in ("line-0901234567", "line-0900000000", "other"):
        view = {"name": channel, "query": {"channel": channel}}
        for method, path, sent in (
            ("GET", f"/support/cases?channel={channel}", {}),
            ("GET", f"/support/cases/count?channel={channel}", {}),
            ("POST", "/support/views", {"json": view}),
            ("PATCH", f"/support/views/{principals.views['analyst']}", {"json": view}),
        ):
            await expect_problem(principals.request("analyst", method, path, **sent), 403, "permission_missing")
    assert (await principals.read_json("analyst", "GET", "/support/cases/count?channel=chat"))["count"] == 0
    assert (await principals.read_json("agent", "GET", "/support/cases/count?channel=line-0901234567"))["count"] == 1


async def test_each_role_sees_its_part_of_the_history(principals, own_case):
    """Customers see changes of the status without actors, and analysts no actors, names of files or personal tags."""
    case, file = own_case
    path = f"/support/cases/{case}"
    changed = {"priority": "high", "status": "pending", "tags": ["late", "0901234567"]}
    await principals.read_json("agent", "PATCH", path, json=changed)
    await principals.read_json("agent", "PATCH", path, json={"team": "billing", "subject": "Ann again"})
    await principals.read_json("supervisor", "POST", f"{path}/attachments?visibility=internal", data=form(b"x"))
    await principals.read_json("customer", "POST", f"{path}/messages", json=MESSAGE)
    closed = await principals.read_json("agent", "POST", f"{path}/close")
    seen = {}
    for reader in ("agent", "supervisor", "analyst", "customer"):
        answer = await principals.read_json(reader, "GET", f"{path}?includeTimeline=true")
        seen[reader] = [entry for entry in answer["timeline"] if entry["type"] == "case-event"]
    assert seen["agent"] == seen["supervisor"] == [each for each in closed["timeline"] if "actor" in each]
    assert [(entry["action"], entry["actor"]) for entry in seen["agent"]] == [
        *(("case.opened", "supervisor"), ("attachment.added", "supervisor"), ("case.changed", "agent")),
        *(("case.changed", "agent"), ("attachment.added", "supervisor"), ("case.closed", "agent")),
    ]
    added = {"attachmentId": [None, file], "visibility": [None, "public"]}
    assert seen["agent"][1]["changes"] == added | {"filename": [None, "note.txt"]}
    assert [entry["action"] for entry in seen["analyst"]] == [entry["action"] for entry in seen["agent"]]
    assert {*seen["analyst"][1]} == {"type", "timestamp", "origin", "action", "changes"}
    assert seen["analyst"][1]["changes"] == added
    assert seen["analyst"][2]["changes"]["tags"] == [[], ["late", "[masked]"]]
    assert [{**entry, "timestamp": ""} for entry in seen["customer"]] == [
        {"type": "case-event", "timestamp": "", "origin": "case", "action": action, "changes": {"status": status}}
        for action, status in (
            ("case.opened", [None, "open"]),
            ("case.changed", ["open", "pending"]),
            ("case.closed", ["pending", "closed"]),
        )
    ]


async def test_agent_sees_only_their_own_workload(principals):
    """A supervisor and an analyst see the workload of every agent."""
    path = "/support/agents/agent-2/workload"
    await expect_problem(principals.request("agent", "GET", path), 403, "permission_missing")
    for principal in ("other-agent", "supervisor", "analyst"):
        assert (await principals.read_json(principal, "GET", path))["agentId"] == "agent-2"


def opening(**given):
    """Return the request in which a customer opens a case."""
    return {"json": {"subject": "Help", "channel": "email", **given}}


async def test_personal_data_in_vocabulary_fields_is_masked(principals):
    """Free text and numbers in fields of a vocabulary may identify a person."""
    number, name = "0901234567", "John Doe"
    context = [
        {"type": "page", "source": f"doe.{number}", "status": "0901-234-567", "timestamp": number},
        {f"{name} {number}": "y", "Doe": "z", "path": {"/doe": 1}},
        {"type": "page", "source": int(number), "status": float(number), "total": number, "amount": int(number)},
    ]
    case = await principals.read_json(
        "supervisor",
        "POST",
        "/support/cases",
        **opening(customerId="customer-1", channel=name, tags=[f"+{number}", "late"], context=context),
    )
    data = form(b"x", content_type=f"x/doe.{number}")
    await principals.read_json("customer", "POST", f"/support/cases/{case['id']}/attachments", data=data)
    shown = await principals.read_json("analyst", "GET", f"/support/cases/{case['id']}?includeTimeline=true")
    files = await principals.read_json("analyst", "GET", f"/support/cases/{case['id']}/attachments")
    assert not [secret for secret in (number, number[1:], "0901", name, "doe") if secret in f"{shown} {files}"]
    assert (shown["channel"], shown["tags"][1], files[0]["contentType"]) == ("other", "late", "other")
    assert shown["context"][0]["type"] == "page"


async def test_closed_case_refuses_files_and_messages_of_its_customer(principals, own_case):
    """A file of an agent is accepted."""
    path = f"/support/cases/{own_case[0]}"
    await principals.read_json("agent", "POST", f"{path}/close")
    refused = principals.request("customer", "POST", f"{path}/attachments", data=form(b"x"))
    await expect_problem(refused, 409, "case_closed")
    message = {"authorType": "customer", "message": "And yet"}
    await expect_problem(principals.request("customer", "POST", f"{path}/messages", json=message), 409, "case_closed")
    await principals.read_json("agent", "POST", f"{path}/attachments", data=form(b"x"))


async def test_case_that_was_read_by_others_stays_within_scope(principals, own_case):
    """Each principal gets its own view of a case that others have read before, and nothing after it lost the case."""
    case, _ = own_case
    path = f"/support/cases/{case}"
    for _ in range(2):  # the second time, each view is kept
        for name, notes in {"supervisor": 1, "agent": 1, "customer": 0, "analyst": 1}.items():
            for query in ("", "?includeTimeline=true"):
                found = await principals.read_json(name, "GET", path + query)
                messages = [*found["messages"], *(each for each in found["timeline"] if "authorType" in each)]
                assert [each["visibility"] for each in found["messages"]].count("internal") == notes
                assert ("cross" in str(messages)) == (name in ("supervisor", "agent"))
                assert ("Ann" in str(found)) == (name != "analyst")
        for name in ("other-customer", "other-agent"):
            await expect_problem(principals.request(name, "GET", path), 404, "case_not_found")
    given_away = {"assignedAgentId": "agent-2", "team": "billing"}
    await principals.read_json("supervisor", "PATCH", path, json=given_away)
    await expect_problem(principals.request("agent", "GET", path), 404, "case_not_found")
    assert (await principals.read_json("other-agent", "GET", path))["team"] == "billing"


async def test_parts_of_a_conversation_have_no_internal_notes_for_customers(principals, own_case):
    """Neither as a message, nor as a sign that more follow, nor as a start."""
    case, _ = own_case
    path = f"/support/cases/{case}?messagesLimit=1"
    part = await principals.read_json("customer", "GET", path)
    assert ([each["visibility"] for each in part["messages"]], part["moreMessages"]) == (["public"], False)
    first = await principals.read_json("supervisor", "GET", path)
    assert first["moreMessages"]
    note = f"{path}&messagesAfter={first['messages'][0]['id']}"
    (internal,) = (await principals.read_json("supervisor", "GET", note))["messages"]
    assert (await principals.read_json("analyst", "GET", note))["messages"][0]["message"] == "[masked]"
    start = f"{path}&messagesAfter={internal['id']}"
    await expect_problem(principals.request("customer", "GET", start), 422, "invalid_request")
    for unseen in (path, start, note):
        await expect_problem(principals.request("other-customer", "GET", unseen), 404, "case_not_found")


async def test_match_of_a_search_shows_no_internal_note_to_customers(principals):
    """A customer gets the newest public message that matches, and an agent the note after it."""
    case, _ = await open_case_with_note_and_file(principals, **OWN)
    said = (await principals.read_json("customer", "GET", f"/support/cases/{case}"))["messages"][-1]
    note = {"authorType": "agent", "message": "Hello says she, crossly", "visibility": "internal"}
    noted = await principals.read_json("supervisor", "POST", f"/support/cases/{case}/messages", json=note)
    for name, message in (("customer", said), ("agent", noted), ("supervisor", noted)):
        (item,) = (await principals.read_json(name, "GET", "/support/cases?q=hello"))["items"]
        expected = {"field": "message", "messageId": message["id"], "snippet": message["message"]}
        assert item["match"] == expected | {"highlights": [[0, 5]]}
    for query in ("q=crossly", "q=crossly&customerId=customer-1"):
        assert (await principals.read_json("customer", "GET", f"/support/cases?{query}"))["items"] == []
        assert len((await principals.read_json("agent", "GET", f"/support/cases?{query}"))["items"]) == 1


async def test_customer_has_only_what_the_caller_may_see(principals):
    """Agents get the cases in their scope, customers their own cases without internal files; others look unknown."""
    case, file = await open_case_with_note_and_file(principals, **OWN)
    await open_case_with_note_and_file(principals, **OTHER)
    path = f"/support/cases/{case}/attachments?visibility=internal"
    internal = (await principals.read_json("supervisor", "POST", path, data=form(b"secret")))["id"]
    foreign = {"subject": "Billing", "channel": "email", "customerId": "customer-1", "team": "billing"}
    billing = (await principals.read_json("supervisor", "POST", "/support/cases", json=foreign))["id"]
    for name, cases, files in (
        ("supervisor", [billing, case], [internal, file]),
        ("agent", [case], [internal, file]),
        ("other-agent", [billing], []),
        ("customer", [billing, case], [file]),
    ):
        page = await principals.read_json(name, "GET", "/support/customers/customer-1")
        assert [each["id"] for each in page["cases"]] == cases, name
        assert [each["id"] for each in page["files"]] == files, name
    details = set()
    for name, customer in (
        ("agent", "customer-2"),
        ("customer", "customer-2"),
        ("other-customer", "customer-1"),
        ("agent", "nobody"),
    ):
        response = await principals.request(name, "GET", f"/support/customers/{customer}")
        details.add((await expect_problem(response, 404, "customer_not_found"))["detail"].replace(customer, ""))
    assert len(details) == 1


async def test_external_id_reveals_nothing_of_what_its_sender_may_not_see(principals, own_case):
    """Who names that of another case gets 409 without a word of it. A message with that of a note is added once."""
    case, _ = own_case
    path, note = (
        f"/support/cases/{case}/messages",
        {"authorType": "agent", "message": "cross", "visibility": "internal"},
    )
    mail = {"subject": "Ann", "channel": "email", "customerId": "customer-2", "team": "billing", "externalId": "mail"}
    other = await principals.read_json("supervisor", "POST", "/support/cases", json=mail)
    await principals.read_json("supervisor", "POST", path, json=note | {"externalId": "note"})
    before = await principals.read_json("supervisor", "GET", f"/support/cases/{case}")
    new, message = {"subject": "B", "channel": "email", "externalId": "mail"}, MESSAGE | {"externalId": "note"}
    for name, url, sent in (("customer", "/support/cases", new), ("agent", "/support/cases", new)):
        problem = await expect_problem(principals.request(name, "POST", url, json=sent), 409, "external_id_taken")
        assert not [word for word in (other["id"], "Ann", "cross", "customer-2") if word in str(problem)]
    assert await principals.read_json("supervisor", "GET", f"/support/cases/{case}") == before
    added = [await principals.read_json("customer", "POST", path, json=message) for _ in range(2)]
    assert (added[0]["externalId"], added[0]["message"], added[1]) == ("note", "Hello", added[0])
    url = f"/support/cases/{other['id']}/messages"
    await expect_problem(principals.request("customer", "POST", url, json=message), 404, "case_not_found")
    as_agent = message | {"authorType": "agent"}
    await expect_problem(principals.request("customer", "POST", path, json=as_agent), 403, "permission_missing")


async def test_repeat_of_an_external_id_shows_what_its_sender_may_see(principals):
    """Customers and services get the case without notes and with the version of that view; staff get all of it."""
    new = {"subject": "A parcel", "channel": "web", "externalId": "web-1", "initialMessage": MESSAGE}
    case = await principals.read_json("customer", "POST", "/support/cases", json=new)
    path = f"/support/cases/{case['id']}/messages"
    note = {"authorType": "agent", "message": "cross", "visibility": "internal", "externalId": "n"}
    await principals.read_json("supervisor", "POST", path, json=note)
    for name, version, texts in (
        ("customer", '"1+customer"', ["Hello"]),
        ("agent", '"2"', ["Hello", "cross"]),
        ("supervisor", '"2"', ["Hello", "cross"]),
        ("service", '"1+customer"', ["Hello"]),
    ):
        async with principals.request(name, "POST", "/support/cases", json=new) as response:
            # Another test of this database may have named the customer, which the tag then ends with.
            tag = re.sub(r"\.n[0-9a-f]+(?=\"$)", "", response.headers["ETag"])
            assert (response.status, tag) == (200, version)
            found = await response.json()
        assert (found["id"], [each["message"] for each in found["messages"]]) == (case["id"], texts)
        assert [each["message"] for each in without_case_events(found["timeline"])] == texts
    again = await principals.read_json("agent", "POST", path, json=note)
    assert (again["message"], again["visibility"]) == ("cross", "internal")


async def test_setting_lets_customers_choose_priority_and_tags(tmp_path, make_client):
    """With SUPPORT_CUSTOMERS_SET_PRIORITY=true."""
    principals = Principals(None, tmp_path / "tokens.json")
    principals.add("customer", "customer", subject="customer-1")
    principals.client = await make_client(
        SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(tmp_path / "tokens.json"), SUPPORT_CUSTOMERS_SET_PRIORITY="true"
    )
    case = await principals.read_json("customer", "POST", "/support/cases", **opening(priority="urgent", tags=["vip"]))
    assert (case["priority"], case["tags"]) == ("urgent", ["vip"])


ME = "/support/me"


@each_row("role", ROLES)
async def test_caller_learns_what_the_table_of_routes_allows(shared_principals, role):
    """Every permission that a role has, with its scope, and no other."""
    me = await shared_principals.read_json(role, "GET", ME)
    permissions = [route.access for route in ROUTES if isinstance(route.access, Permission)]
    assert me == {
        "name": role,
        "role": role,
        "subject": SUBJECTS.get(role),
        "teams": ["returns"] if role == "agent" else [],
        "permissions": {each.name: each.scopes[role] for each in permissions if role in each.scopes},
    }
    assert "me:read" in me["permissions"]


def test_a_permission_has_the_same_scopes_in_every_route():
    """Otherwise one answer could not tell them."""
    scopes = {}
    for route in ROUTES:
        if isinstance(route.access, Permission):
            assert scopes.setdefault(route.access.name, route.access.scopes) == route.access.scopes


async def test_everyone_is_a_supervisor_without_authentication(client, shared_principals):
    """This is what `SUPPORT_AUTH=open` means. Otherwise a caller without a token learns nothing."""
    me = await expect_json(client.get(ME))
    assert (me["name"], me["role"], me["subject"], me["teams"]) == ("anyone", "supervisor", None, [])
    assert me["permissions"]["cases:write"] == "all"
    await expect_problem(shared_principals.client.get(ME), 401, "token_missing")
