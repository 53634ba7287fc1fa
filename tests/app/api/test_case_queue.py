"""Lists of cases as agents' tools and other systems use them: more filters, and the orders by time."""

import pytest_asyncio

from support_service.cases.sql.projections import MAX_MESSAGES_BACK
from tests.support.calls import (
    add_message,
    expect_json,
    expect_problem,
    list_cases,
    list_subjects,
    open_case,
    read_case,
)
from tests.support.each import each_row

SORTS = ("newest", "updated", "waiting", "due")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listed(make_shared_client):
    """A client of a service with four cases that tests only list."""
    client = await make_shared_client()
    await open_cases(client)
    return client


async def open_cases(client):
    """Open four cases; the last one is closed."""
    order = {"type": "order", "orderId": "ORD-1"}
    payment = {"type": "payment", "paymentId": "PAY-1"}
    shipment = {"type": "shipment", "shipmentId": 4711, "orderId": "ORD-2"}
    mine = {"assignedAgentId": "a-1", "customerId": "c-1"}
    cases = [
        await open_case(client, subject="A", tags=["vip", "late"], context=[order, payment], **mine),
        await open_case(client, subject="B", team="returns", tags=["vip"], context=[order], priority="high"),
        await open_case(client, subject="C", context=shipment, tags=["VIP", "x,y"], channel="fax", priority="high"),
        await open_case(client, subject="D", assignedAgentId="a-1", team="returns"),
    ]
    await client.post(f"/support/cases/{cases[1]['id']}/status?status=pending")
    await client.post(f"/support/cases/{cases[3]['id']}/close")
    return cases


FILTERED = [
    ("customerId=c-1", "A"),
    ("channel=fax&priority=high", "C"),
    ("channel=fax&customerId=c-1", ""),
    ("customerId=", "DCBA"),
    ("unknown=x", "DCBA"),
    ("limit=2", "DC"),
    ("assignedAgentId=a-1", "DA"),
    ("assignedAgentId=none&team=none", "C"),
    ("assigned_agent_id=none", "CB"),
    ("status=open&status=PENDING", "CBA"),
    ("status=open,closed,", "DCA"),
    ("status=pending,closed&team=returns", "DB"),
    ("tag=vip", "BA"),
    ("tag=vip&tag=late", "A"),
    ("tag=late&tag=late", "A"),
    ("tag=x,y", "C"),
    ("tag=", "DCBA"),
    ("tag=vip&status=pending,closed", "B"),
    ("orderId=ORD-1&paymentId=PAY-1", "A"),
    ("payment_id=PAY-1", "A"),
    ("orderId=ORD-2&shipmentId=4711", "C"),
    ("q=vip&tag=late", "A"),
    ("q=vip&status=open,pending&sort=updated", "BCA"),
    ("q=vip&sort=waiting", "CBA"),
]


@each_row("query, subjects", FILTERED)
async def test_listed_cases_match_all_given_filters(listed, query, subjects):
    """Values of one filter that are separated by commas are alternatives; repeated tags are not.

    An empty filter counts as not given, and an unknown one is ignored.
    """
    assert [case["subject"] for case in (await expect_json(listed.get(f"/support/cases?{query}")))["items"]] == list(
        subjects
    )


async def test_cases_that_changed_after_a_time(client):
    """An internal note is a change too. The time may have an offset."""
    cases = await open_cases(client)
    at = (await list_cases(client, sort="updated"))["items"][0]["updatedAt"]
    assert await list_subjects(client, updatedAfter=at) == []
    await add_message(client, cases[0], visibility="internal")
    assert await list_subjects(client, updatedAfter=at) == ["A"]
    assert await list_subjects(client, updated_after=at.replace("Z", "+00:00")) == ["A"]
    assert await list_subjects(client, updatedAfter="1969-12-31T23:59:59+07:00", status="closed") == ["D"]


async def test_list_is_in_the_order_of_its_sort(client):
    """The newest case by default, and the latest change. Listed cases have no messages."""
    cases = await open_cases(client)
    page = await list_cases(client)
    assert (page.keys(), page["nextCursor"]) == ({"items", "nextCursor"}, None)
    assert [item["id"] for item in page["items"]] == [case["id"] for case in reversed(cases)]
    case, of_list = page["items"][-1], ("waitingSince", "lastMessageAt", "lastCustomerMessage", "sla")
    assert "messages" not in case
    assert [case.pop(name) for name in of_list] == [None] * 4
    assert case.items() <= cases[0].items()
    await add_message(client, cases[0])
    assert await list_subjects(client, sort="updated") == list("ADBC")
    await add_message(client, cases[2], visibility="internal")
    assert await list_subjects(client, sort="updated") == list("CADB")
    assert await list_subjects(client, sort="updated", tag="vip") == list("AB")


async def test_longest_waiting_customer_first(client):
    """Cases that are settled, and cases without a waiting customer, come last, newest first."""
    cases = await open_cases(client)
    for number in (1, 2, 0):
        await add_message(client, cases[number], authorType="customer")
    assert await list_subjects(client, sort="waiting") == list("BCAD")
    await add_message(client, cases[1], authorType="customer")
    await add_message(client, cases[1], visibility="internal")
    assert await list_subjects(client, sort="waiting") == list("BCAD")
    await add_message(client, cases[1])
    assert await list_subjects(client, sort="waiting") == list("CADB")
    await client.post(f"/support/cases/{cases[2]['id']}/status?status=resolved")
    assert await list_subjects(client, sort="waiting") == list("ADCB")
    assert await list_subjects(client, sort="waiting", status="resolved") == ["C"]


ASKED = {"description": "Where is it?"}
WAITING = [
    (ASKED, True),
    (ASKED | {"initialMessage": {"authorType": "bot", "message": "We have got it."}}, True),
    (ASKED | {"initialMessage": {"authorType": "agent", "message": "Ask them.", "visibility": "internal"}}, True),
    (ASKED | {"initialMessage": {"authorType": "agent", "message": "On its way."}}, False),
    ({"initialMessage": {"authorType": "customer", "message": "Where is it?"}}, True),
    *[({"description": ""}, False), ({}, False)],
]


@each_row("fields, waits", WAITING)
async def test_a_description_is_the_first_message_of_the_customer(client, fields, waits):
    """A case that was opened with one waits for an answer since then, in lists and in its detail."""
    case = await open_case(client, **fields)
    (listed, *_) = (await list_cases(client))["items"]
    expected = case["createdAt"] if waits else None
    detail = await read_case(client, case)
    assert [each["waitingSince"] for each in (case, listed, detail)] == [expected] * 3
    if waits:
        await add_message(client, case)
        assert (await read_case(client, case))["waitingSince"] is None


async def test_times_of_a_listed_case(client):
    """An internal note is no message, and no answer. A settled case has no waiting customer."""
    cases = await open_cases(client)

    async def times():
        (case,) = (await list_cases(client, tag="late"))["items"]
        return case["waitingSince"], case["lastMessageAt"]

    assert await times() == (None, None)
    asked = await add_message(client, cases[0], authorType="customer")
    again = await add_message(client, cases[0], authorType="customer")
    await add_message(client, cases[0], visibility="internal")
    assert await times() == (asked["createdAt"], again["createdAt"])
    await client.post(f"/support/cases/{cases[0]['id']}/status?status=resolved")
    assert await times() == (None, again["createdAt"])
    answer = await add_message(client, cases[0])
    assert await times() == (None, answer["createdAt"])


async def test_rows_show_what_the_customer_wrote_last(client):
    """Neither answers nor notes, in one line; the description is the first thing that the customer wrote."""
    case = await open_case(client, description="Where is\n  my parcel?")

    async def last():
        (row,) = (await list_cases(client))["items"]
        return row["lastCustomerMessage"]

    assert await last() == {"text": "Where is my parcel?", "at": case["createdAt"]}
    await add_message(client, case, authorType="agent", message="On its way.")
    assert (await last())["at"] == case["createdAt"]
    text = 'It is\nlate, and "this" is no answer.\n\nOn 12 May 2026, Lan wrote:\n> On its way.\n-- \nAnna'
    asked = await add_message(client, case, authorType="customer", message=text)
    await add_message(client, case, authorType="agent", message="Sorry.")
    await add_message(client, case, authorType="agent", message="She is cross.", visibility="internal")
    assert await last() == {"text": 'It is late, and "this" is no answer.', "at": asked["createdAt"]}


async def test_rows_look_for_the_customer_among_the_newest_messages(client):
    """A long conversation is not read to its beginning for each row."""
    case = await open_case(client, initialMessage={"authorType": "customer", "message": "Hello?"})
    for _ in range(MAX_MESSAGES_BACK - 1):
        await add_message(client, case, authorType="bot")
    (row,) = (await list_cases(client))["items"]
    assert row["lastCustomerMessage"]["text"] == "Hello?"
    await add_message(client, case, authorType="bot")
    (row,) = (await list_cases(client))["items"]
    assert row["lastCustomerMessage"] is None


async def test_pages_follow_each_other(client, subtests):
    """A cursor leads to the next page of its own list only."""
    for case in (await open_cases(client))[:2]:
        await add_message(client, case, authorType="customer")
    for sort in SORTS:
        with subtests.test(sort):
            everything = await list_subjects(client, sort=sort)
            found, cursor = [], {}
            while cursor is not None:
                page = await list_cases(client, sort=sort, limit="1", **cursor)
                found += [case["subject"] for case in page["items"]]
                cursor = page["nextCursor"] and {"cursor": page["nextCursor"]}
                for other in {*SORTS} - {sort} if cursor else ():
                    response = await client.get("/support/cases", params=cursor | {"sort": other})
                    problem = await expect_problem(response, 422, "invalid_request")
                    assert [error["field"] for error in problem["errors"]] == ["cursor"]
            assert found == everything
            assert len(found) == 4


INVALID_FILTERS = {
    "status": ["lost", "open,lost", ["open", "lost"]],
    "priority": ["extreme"],
    "limit": ["0", "201", "many"],
    "customerId": ["x" * 37],
    "q": ["x" * 201],
    "cursor": ["é", "../.."],
    "sort": ["oldest"],
    "updatedAfter": ["yesterday", "1778574600", "2026-05-12T08:30:00", "2026-05-12T08:30:00 07:00"],
    "orderId": ["x" * 201],
    "tag.0": ["x" * 65],
    "tag": [[str(number) for number in range(11)]],
}


@each_row("named, value", [(named, value) for named, values in INVALID_FILTERS.items() for value in values])
async def test_invalid_filter_is_refused(listed, named, value):
    """The problem names the filter."""
    query = {named.partition(".")[0]: value}
    if named not in ("limit", "cursor"):
        await expect_problem(listed.get("/support/cases/count", params=query), 422, "invalid_request")
    refused = listed.get("/support/cases", params=query)
    ((field, message),) = [
        (each["field"], each["message"]) for each in (await expect_problem(refused, 422, "invalid_request"))["errors"]
    ]
    assert field == named
    assert field != "status" or "one or more of open, " in message
