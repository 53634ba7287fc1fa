"""`externalId` over HTTP: a repeat gets the case or the message that exists, and changes nothing."""

import pytest
import sqlalchemy as sa

from support_service.core.ids import new_id
from support_service.platform.database.tables import audit_log, messages, tickets
from tests.support.calls import (
    add_message,
    expect_json,
    expect_problem,
    list_cases,
    open_case,
    read_case,
    upload,
    without_case_events,
)
from tests.support.each import each_row
from tests.support.service import service_of

MESSAGE = {"authorType": "customer", "message": "Where is it?", "externalId": "m-1"}


@pytest.fixture
def new():
    """A new case with an external id."""
    return {"subject": "A parcel", "channel": "email", "externalId": f"<{new_id()}@mail.example>"}


async def post(client, path, sent, **headers):
    """Return the status, the headers and the JSON of the answer to a POST."""
    async with client.post(path, json=sent, headers=headers) as response:
        return response.status, response.headers, await response.json()


async def count(client, table):
    """Return the number of rows of a table."""
    return (
        await service_of(client).database.fetch_now(sa.select(sa.func.count().label("number")).select_from(table))
    ).number


async def test_repeat_gets_the_existing_case(client, new, metric_changes):
    """It has 200, the same body, `Location` and `ETag`, whatever else the request says; nothing is added."""
    sent = new | {"initialMessage": MESSAGE, "sentAt": "2026-05-12T08:30:00Z", "context": [{"type": "note"}]}
    status, headers, case = await post(client, "/support/cases", sent)
    assert (status, case["externalId"], case["sentAt"]) == (201, new["externalId"], "2026-05-12T08:30:00.000000Z")
    before = [await count(client, table) for table in (tickets, messages, audit_log)]
    for again in (sent, new | {"subject": "B", "priority": "high", "initialMessage": MESSAGE | {"externalId": "m-2"}}):
        status, repeated, existing = await post(client, "/support/cases", again)
        assert (status, existing) == (200, case)
        assert [repeated[name] for name in ("Location", "ETag")] == [headers[name] for name in ("Location", "ETag")]
    assert [await count(client, table) for table in (tickets, messages, audit_log)] == before
    assert metric_changes.value("support_ticket_created_total", channel="email") == 1
    assert metric_changes.nonzero("support_conversation_added_total") == {"customer": 1}


async def test_repeat_gets_the_case_as_it_is_now(client, new):
    """Also after it was closed: with its later messages and files, in the current version."""
    case = await open_case(client, **new)
    await add_message(client, case)
    await upload(client, case)
    async with client.post(f"/support/cases/{case['id']}/close", json={"message": "Bye"}) as response:
        assert response.status == 200
        closed, etag = await response.json(), response.headers["ETag"]
    status, headers, existing = await post(client, "/support/cases", new)
    assert (status, existing, headers["ETag"]) == (200, closed, etag)
    assert (existing["status"], len(existing["messages"])) == ("closed", 2)
    assert len(without_case_events(existing["timeline"])) == 3


async def test_value_is_unique_in_its_channel(client, new):
    """Another channel, another spelling, no value, and the value of a deleted case open cases of their own.

    Any characters count, and the field may be named as other fields are.
    """
    case = await open_case(client, **new)
    changes = ({"channel": "chat"}, {"externalId": new["externalId"].upper()}, *[{"externalId": None}] * 2)
    others = [await open_case(client, **new | change) for change in changes]
    assert len({case["id"], *(other["id"] for other in others)}) == 5
    synthetic = await open_case(client, **new | {"channel": "synthetic"})
    await expect_json(client.delete(f"/support/cases/{synthetic['id']}"), 204)
    assert (await open_case(client, **new | {"channel": "synthetic"}))["id"] != synthetic["id"]
    longest = await open_case(client, external_id="ế" * 255, sent_at="2026-05-12T08:30:00Z")
    status, _, existing = await post(client, "/support/cases", new | {"externalId": "ế" * 255})
    assert (status, existing["id"], existing["sentAt"]) == (200, longest["id"], "2026-05-12T08:30:00.000000Z")


async def test_repeat_gets_the_existing_message(client, metric_changes):
    """On any state and version of the case; in another case the value is free. It may be the first one of the case."""
    opened = await open_case(client, initialMessage=MESSAGE)
    _, _, first = await post(client, f"/support/cases/{opened['id']}/messages", MESSAGE)
    assert [first] == opened["messages"] == (await read_case(client, opened))["messages"]
    case, other = await open_case(client), await open_case(client)
    path = f"/support/cases/{case['id']}"
    status, _, message = await post(client, f"{path}/messages", MESSAGE | {"sentAt": "2026-05-12T15:30:00.5+07:00"})
    assert (status, message["externalId"], message["sentAt"]) == (200, "m-1", "2026-05-12T08:30:00.500000Z")
    await expect_json(client.post(f"{path}/close"))
    now = await read_case(client, case)
    again = MESSAGE | {"message": "Another text", "metadata": {"a": 1}}
    for headers in ({}, {"If-Match": '"1"'}):
        status, _, existing = await post(client, f"{path}/messages", again, **headers)
        assert (status, existing) == (200, message)
    assert await read_case(client, case) == now
    assert now["messages"] == [message]
    await expect_problem(client.post(f"{path}/messages", json=MESSAGE | {"externalId": "m-2"}), 409, "case_closed")
    elsewhere = await add_message(client, other, externalId="m-1")
    assert elsewhere["id"] != message["id"]
    assert metric_changes.total("support_conversation_added_total") == 3


async def test_both_ways_to_repeat_work_together(client, new):
    """A key replays its first answer with its status; another key gets what exists, and replays that."""
    first, second = {"Idempotency-Key": "a"}, {"Idempotency-Key": "b"}
    opened = await post(client, "/support/cases", new, **first)
    found = await post(client, "/support/cases", new, **second)
    path = f"/support/cases/{opened[2]['id']}/messages"
    added = await post(client, path, MESSAGE, **{"Idempotency-Key": "c"})
    same = await post(client, path, MESSAGE, **{"Idempotency-Key": "d"})
    assert (opened[0], found[0], added[0], same[0]) == (201, 200, 200, 200)
    assert (found[2], same[2]) == (opened[2], added[2])
    for answer, target, sent, key in (
        (opened, "/support/cases", new, first),
        (found, "/support/cases", new, second),
        (same, path, MESSAGE, {"Idempotency-Key": "d"}),
    ):
        status, headers, body = await post(client, target, sent, **key)
        assert (status, body, headers["Idempotency-Replayed"]) == (answer[0], answer[2], "true")


@each_row("value", ["", "x" * 256, 7, ["a"], {"a": 1}])
async def test_invalid_value_is_refused(client, new, value):
    """It is a text of 1 to 255 characters; the problem names the field."""
    case = await open_case(client)
    for path, sent, field in (
        ("/support/cases", new | {"externalId": value}, "externalId"),
        ("/support/cases", new | {"initialMessage": MESSAGE | {"externalId": value}}, "initialMessage.externalId"),
        (f"/support/cases/{case['id']}/messages", MESSAGE | {"externalId": value}, "externalId"),
    ):
        problem = await expect_problem(client.post(path, json=sent), 422, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == [field]


async def test_search_does_not_find_it(client, new):
    """Neither that of a case nor that of a message."""
    named = {"subject": "Prefect", "externalId": "zaphod"}
    await open_case(client, **new | named, initialMessage=MESSAGE | {"externalId": "zaphod"})
    assert (await list_cases(client, q="zaphod"))["items"] == []
    assert len((await list_cases(client, q="prefect"))["items"]) == 1
