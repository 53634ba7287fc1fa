"""Snoozing: a pending case comes back at a time, or once its customer writes."""

from datetime import timedelta

import pytest

from support_service.core.clock import format_time, utc_now
from support_service.platform.database.tables import tickets
from tests.support.calls import (
    add_message,
    expect_json,
    expect_problem,
    list_cases,
    list_subjects,
    open_case,
    read_case,
    read_detail,
)
from tests.support.each import each_row
from tests.support.service import service_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAST, FAR = -HOUR, 367 * DAY


def after(span):
    """Return the time after a span from now, as clients send it."""
    return format_time(utc_now() + span)


async def set_status(client, case, status, **fields):
    """Set the status of a case, and return the case."""
    return await expect_json(client.post(f"/support/cases/{case['id']}/status", json={"status": status, **fields}))


async def snoozed_case(client, until, **fields):
    case = await open_case(client, **fields)
    return await set_status(client, case, "pending", until=until)


async def shown(client, case):
    """Return the status of a case, and until when it is snoozed."""
    read = await read_case(client, case)
    return read["status"], read["snoozedUntil"]


async def test_snoozed_case_shows_its_time_everywhere(client):
    """In the answer, the case, the list and the history; an open case shows null. The time may be moved.

    It may be in the query, as the status may be; an offset is converted to UTC. The same time again changes nothing.
    """
    case = await open_case(client)
    assert case["snoozedUntil"] is None
    at = utc_now() + DAY
    sent = {"status": "pending", "until": (at.replace(tzinfo=None) + 7 * HOUR).isoformat() + "+07:00"}
    answer = await expect_json(client.post(f"/support/cases/{case['id']}/status", params=sent))
    until, moved = format_time(at), after(HOUR)
    assert (answer["status"], answer["snoozedUntil"]) == ("pending", until)
    assert await shown(client, case) == ("pending", until)
    assert [each["snoozedUntil"] for each in (await list_cases(client))["items"]] == [until]
    await set_status(client, case, "pending", until=moved)
    again = await set_status(client, case, "pending", until=moved)
    detail = await read_detail(client, case)
    assert again["updatedAt"] == detail["updatedAt"]
    assert [entry["changes"] for entry in detail["timeline"][-2:]] == [
        {"status": ["open", "pending"], "snoozedUntil": [None, until]},
        {"snoozedUntil": [until, moved]},
    ]


WRONG_TIME_IS_REFUSED_BY = [
    ({"status": "pending", "until": after(PAST)}, "must be in the future, and at most 366 days ahead"),
    ({"status": "pending", "until": after(FAR)}, "must be in the future, and at most 366 days ahead"),
    ({"status": "pending", "until": "tomorrow"}, "must be an RFC 3339 time"),
    ({"status": "pending", "until": "2026-12-01T08:00:00"}, "must be an RFC 3339 time"),
    ({"status": "open", "until": after(DAY)}, "can be sent only with the status `pending`"),
    ({"status": "resolved", "until": after(DAY)}, "can be sent only with the status `pending`"),
]


@each_row("sent, rule", WRONG_TIME_IS_REFUSED_BY)
async def test_wrong_time_is_refused_by_its_name(client, sent, rule):
    """And the case stays as it is."""
    case = await open_case(client)
    response = await client.post(f"/support/cases/{case['id']}/status", json=sent)
    problem = await expect_problem(response, 422, "invalid_request")
    ((field, message),) = [(error["field"], error["message"]) for error in problem["errors"]]
    assert field == "until"
    assert rule in message
    assert await shown(client, case) == ("open", None)


@each_row("status", ["open", "pending", "resolved", "closed"])
async def test_another_status_ends_the_snooze(client, status):
    """So does `pending` without a time, unless it is a PATCH: the case has that status.

    A change of other fields does not, and `snoozedUntil` is not settable.
    """
    until = after(DAY)
    case, patched = await snoozed_case(client, until), await snoozed_case(client, until)
    assert (await set_status(client, case, status))["snoozedUntil"] is None
    assert await shown(client, case) == (status, None)
    for change in ({"priority": "high"}, {"status": "pending"}, {"snoozedUntil": after(HOUR)}, {"status": status}):
        changed = await expect_json(client.patch(f"/support/cases/{patched['id']}", json=change))
        assert changed["snoozedUntil"] == (until if changed["status"] == "pending" else None)
    assert await shown(client, patched) == (status, until if status == "pending" else None)


async def test_customers_message_wakes_the_case(client):
    """A message of an agent, a bot's, or a note does not. A case that is pending without a time stays pending."""
    until = after(DAY)
    case, pending = await snoozed_case(client, until), await open_case(client)
    await set_status(client, pending, "pending")
    for author in ("agent", "bot"):
        await add_message(client, case, authorType=author)
    await add_message(client, case, authorType="agent", visibility="internal")
    assert await shown(client, case) == ("pending", until)
    for each in (case, pending):
        await add_message(client, each, authorType="customer")
    assert await shown(client, case) == ("open", None)
    assert await shown(client, pending) == ("pending", None)
    entry = (await read_detail(client, case))["timeline"][-1]
    assert entry["changes"] == {"status": ["pending", "open"], "snoozedUntil": [until, None]}


@pytest.mark.parametrize("status", ["open", "resolved", "closed"])
async def test_snooze_ends_when_a_previous_release_changes_the_status(client, status):
    """It writes the status alone, during an upgrade. If it makes the case pending again, that has no time."""
    case, other = await snoozed_case(client, after(DAY)), await snoozed_case(client, until := after(DAY))
    for written in (status, "pending"):
        change = {"status": written, "version": tickets.c.version + 1}
        async with service_of(client).database.transaction() as tx:
            await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(change))
        assert await shown(client, case) == (written, None)
    assert [each["snoozedUntil"] for each in (await list_cases(client))["items"]] == [until, None]
    assert await shown(client, other) == ("pending", until)


async def test_lists_by_the_end_of_snoozes(client):
    """The first to wake comes first; other cases come last, newest first, or are left out by the filter."""
    later, _, sooner, _ = [await open_case(client, subject=subject) for subject in "ABCD"]
    await set_status(client, later, "pending", until=after(2 * DAY))
    await set_status(client, sooner, "pending", until=after(DAY))
    for query, found in (
        ({"sort": "snoozed", "status": "open,pending"}, "CADB"),
        ({"sort": "snoozed", "snoozed": "true"}, "CA"),
        ({"snoozed": "true", "status": "open"}, ""),
        ({"snoozed": "false"}, "DB"),
    ):
        assert await list_subjects(client, **query) == list(found)
    page = await list_cases(client, sort="snoozed", limit="1")
    assert await list_subjects(client, sort="snoozed", limit="3", cursor=page["nextCursor"]) == list("ADB")
    view = {"name": "Snoozed", "query": {"snoozed": True, "sort": "snoozed"}}
    saved = await expect_json(client.post("/support/views", json=view), 201)
    assert saved["query"] == view["query"]
    assert (await expect_json(client.get(f"/support/views/{saved['id']}")))["count"] == 2
