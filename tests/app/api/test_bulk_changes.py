"""Bulk changes over HTTP: who changes what, the outcome of each case, the undo, and what is left behind."""

import asyncio
import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.cases.model import vocabulary
from support_service.core.clock import format_time, utc_now
from support_service.core.errors import Conflict
from support_service.core.ids import new_id
from support_service.desk.bulk_models import BulkFields
from support_service.events.broker.log import LOG_START
from support_service.guard.fair_turns import TurnLimits
from support_service.platform.database.tables import audit_log, bulk_changes, bulk_items, idempotency_keys, tickets
from support_service.timings import ApiTimings
from tests.support.calls import add_message, eventually, expect_json, expect_problem, open_case, read_case
from tests.support.cases import ticket
from tests.support.each import each_row
from tests.support.service import service_of
from tests.support.timings import patient_timings

BULK = "/support/cases/bulk"


async def bulk(client, change, status=200, headers=(), **selected):
    """Send a bulk change, of `ids` or of a `query`; return the answer."""
    return await expect_json(client.post(BULK, json={"change": change, **selected}, headers=dict(headers)), status)


async def undo(client, done, status=200):
    """Undo a bulk change; return the answer."""
    return await expect_json(client.post(f"{BULK}/{done['id']}/undo"), status)


def outcomes(answer):
    """Return the outcome of each case, with the code of a refused one."""
    return [(item["outcome"], item["code"]) for item in answer["items"]]


async def ids_of(client, number, **fields):
    """Open some cases; return their ids."""
    return [(await open_case(client, **fields))["id"] for _ in range(number)]


async def test_each_case_has_an_outcome(client):
    """Cases are changed, stay as they are, or are refused, whatever becomes of the others."""
    plain, urgent, closed = [await open_case(client, priority=priority) for priority in ("normal", "urgent", "normal")]
    full = await open_case(client, tags=[f"t{number}" for number in range(50)])
    await bulk(client, {"status": "closed"}, ids=[closed["id"]])
    ids = [plain["id"], urgent["id"], closed["id"], "nobody", "not an id \u1ebf", full["id"]]
    change = {"priority": "urgent", "status": "pending", "addTags": ["one-more"]}
    answer = await bulk(client, change, ids=ids)
    assert [item["id"] for item in answer["items"]] == ids
    assert outcomes(answer) == [
        *[("changed", None)] * 2,
        ("refused", "status_move_not_allowed"),
        *[("refused", "case_not_found")] * 2,
        ("refused", "too_many_tags"),
    ]
    assert answer["counts"] == {"changed": 2, "unchanged": 0, "refused": 4, "undone": 0}
    assert answer["finished"] is True
    assert (await read_case(client, closed))["priority"] == "normal"  # it was refused as a whole
    again = await bulk(client, change, ids=ids[:2])
    assert outcomes(again) == [("unchanged", None)] * 2
    assert await expect_json(client.get(f"{BULK}/{answer['id']}/outcomes")) == answer


async def test_every_field_is_changed_and_given_back(client):
    """Null removes the agent and the team. Tags are added behind the tags of the case, and removed.

    A closed case can only become open by hand. An undo gives it the status that it had. Audit entries name the change.
    """
    case = await open_case(client, assignedAgentId="agent-1", team="returns", tags=["a", "b"])
    pending = await bulk(client, {"status": "pending"}, ids=[case["id"]])
    change = {"assignedAgentId": None, "team": "billing", "priority": "high", "status": "closed"}
    answer = await bulk(client, change | {"addTags": ["c", "a", "c"], "removeTags": ["b", "x"]}, ids=[case["id"]])
    fields = ("assignedAgentId", "team", "priority", "status", "tags")
    now = await read_case(client, case)
    assert [now[name] for name in fields] == [None, "billing", "high", "closed", ["a", "c"]]
    undone = await undo(client, answer)
    assert outcomes(undone) == [("undone", None)]
    assert undone["undoes"] == answer["id"]
    assert undone["undoUntil"] is None
    now = await read_case(client, case)
    assert [now[name] for name in fields] == [(case | {"status": "pending"})[name] for name in fields]
    assert outcomes(await undo(client, pending)) == [("refused", "case_changed_since")]
    entries = (await expect_json(client.get(f"/support/cases/{case['id']}/audit")))["items"]
    ids = [entry["changes"].get("bulkId") for entry in sorted(entries, key=lambda entry: entry["at"])]
    assert ids == [None, *([None, each["id"]] for each in (pending, answer, undone))]


async def test_cases_are_snoozed_and_get_their_snooze_back(client):
    """`until` snoozes each case, and `pending` without it ends a snooze, as with a single change of the status.

    An undo gives the snooze that the case had.
    """
    until = format_time(utc_now() + timedelta(days=3))
    ids = await ids_of(client, 3)

    async def snoozes():
        found = [await read_case(client, {"id": case}) for case in ids]
        return [(each["status"], each["snoozedUntil"]) for each in found]

    snoozed = await bulk(client, {"status": "pending", "until": until}, ids=ids[:2])
    assert snoozed["counts"]["changed"] == 2
    before = [*[("pending", until)] * 2, ("open", None)]
    assert await snoozes() == before
    assert outcomes(await bulk(client, {"status": "pending", "until": until}, ids=ids[:1])) == [("unchanged", None)]
    for status in ("closed", "pending"):
        ended = await bulk(client, {"status": status}, ids=ids)
        assert await snoozes() == [(status, None)] * 3
        assert outcomes(await bulk(client, {"status": status}, ids=ids)) == [("unchanged", None)] * 3
        assert (await undo(client, ended))["counts"]["undone"] == 3
        assert await snoozes() == before
    assert outcomes(await undo(client, snoozed)) == [("refused", "case_changed_since")] * 2


async def test_query_selects_what_its_list_shows(client):
    """A query has the filters of a saved view; the cases are the cases of the list, newest first."""
    late = await ids_of(client, 3, tags=["late"])
    await ids_of(client, 2)
    answer = await bulk(client, {"team": "deliveries"}, query={"tag": ["late"], "status": "open,pending"})
    assert [item["id"] for item in answer["items"]] == late[::-1]
    assert answer["counts"]["changed"] == 3
    answer = await bulk(client, {"team": "billing"}, query={"q": "words that are in no case"})
    assert answer["items"] == []
    assert outcomes(await bulk(client, {"team": "billing"}, query={"q": "--"})) == []


async def test_query_of_too_many_cases_changes_none(client, monkeypatch):
    """The refusal names the number of cases."""
    monkeypatch.setattr("support_service.desk.bulk.MAX_BULK_CASES", 2)
    await ids_of(client, 3, tags=["late"])
    sent = {"query": {"tag": ["late"]}, "change": {"priority": "low"}}
    problem = await expect_problem(client.post(BULK, json=sent), 422, "bulk_too_large")
    assert "matches 3 cases" in problem["detail"]
    assert (await expect_json(client.get("/support/cases/count?priority=low")))["count"] == 0


WRONG_REQUESTS_ARE_REFUSED_WITH = [
    ({"change": {"priority": "low"}}, "body"),
    ({"ids": ["a"], "query": {}, "change": {"priority": "low"}}, "body"),
    ({"ids": [], "change": {"priority": "low"}}, "ids"),
    ({"ids": ["a", "a"], "change": {"priority": "low"}}, "ids"),
    ({"ids": [str(number) for number in range(501)], "change": {"priority": "low"}}, "ids"),
    ({"ids": ["a"], "change": {}}, "change"),
    ({"ids": ["a"]}, "change"),
    ({"ids": ["a"], "change": {"status": None}}, "change.status"),
    ({"ids": ["a"], "change": {"subject": "A"}}, "change.subject"),
    ({"ids": ["a"], "change": {"until": "2020-01-01T00:00:00Z", "status": "pending"}}, "change.until"),
    ({"ids": ["a"], "change": {"until": format_time(utc_now() + timedelta(days=1))}}, "change"),
    ({"ids": ["a"], "change": {"addTags": ["x"], "removeTags": ["x"]}}, "change"),
    ({"query": {"colour": "red"}, "change": {"priority": "low"}}, "query.colour"),
]


@each_row("sent, field", WRONG_REQUESTS_ARE_REFUSED_WITH)
async def test_wrong_requests_are_refused_with_the_field(client, sent, field):
    """Unknown fields of the change and of the query are refused: nobody shall believe that they had an effect."""
    problem = await expect_problem(client.post(BULK, json=sent), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [field]


def test_case_with_more_tags_than_it_may_have_gets_no_further_ones():
    """An earlier release has allowed more. Some of them can be removed or replaced."""
    case = ticket(tags=[f"t{number}" for number in range(60)])
    replaced = BulkFields(addTags=["new"], removeTags=["t0"]).values_for(case)["tags"]
    assert replaced == [*case.tags[1:], "new"]
    with pytest.raises(Conflict):
        BulkFields(addTags=["new"]).values_for(case)


async def test_repeat_of_the_key_changes_nothing(client):
    """It gets the same answer; another request with the key is refused."""
    ids = await ids_of(client, 2)
    key = {"Idempotency-Key": new_id()}
    first = await bulk(client, {"addTags": ["a"]}, ids=ids, headers=key)
    await bulk(client, {"removeTags": ["a"]}, ids=ids)
    assert await bulk(client, {"addTags": ["a"]}, ids=ids, headers=key) == first
    assert (await read_case(client, {"id": ids[0]}))["tags"] == []
    sent = {"change": {"addTags": ["b"]}, "ids": ids}
    await expect_problem(client.post(BULK, json=sent, headers=key), 422, "idempotency_key_reused")


async def test_repeat_goes_on_after_the_time_of_its_snooze(client, monkeypatch):
    """Otherwise a bulk change that did not end could neither be ended nor undone. A new one is refused."""
    done, left = await ids_of(client, 2)
    key, until = {"Idempotency-Key": new_id()}, format_time(utc_now() + timedelta(days=1))
    change = {"status": "pending", "until": until}
    first = await bulk(client, change, ids=[done, left], headers=key)
    async with service_of(client).database.transaction() as tx:  # as if it had ended after one case
        await tx.execute(bulk_items.delete().where(bulk_items.c.case_id == left))
        await tx.execute(bulk_changes.update().values(finished_at=None))
        await tx.execute(idempotency_keys.delete())
        await tx.execute(tickets.update().where(tickets.c.id == left).values(status="open", snoozed_until=None))
    monkeypatch.setattr(vocabulary, "utc_now", lambda: utc_now() + timedelta(days=2))
    problem = await bulk(client, change, 422, ids=[done, left])
    assert [error["field"] for error in problem["errors"]] == ["change.until"]
    repeated = await bulk(client, change, ids=[done, left], headers=key)
    assert (repeated["id"], repeated["finished"], outcomes(repeated)) == (first["id"], True, [("changed", None)] * 2)
    assert outcomes(await undo(client, repeated)) == [("undone", None)] * 2


async def test_changed_cases_are_not_undone(client):
    """Whatever changed: another field, or a note. Cases that had the values already are no part of the undo."""
    ids, (low,) = await ids_of(client, 3), await ids_of(client, 1, priority="low")
    done = await bulk(client, {"priority": "low"}, ids=[low, "nobody", *ids])
    await expect_json(client.patch(f"/support/cases/{ids[0]}", json={"subject": "B"}))
    await add_message(client, {"id": ids[1]}, visibility="internal")
    answer = await undo(client, done)
    assert outcomes(answer) == [*[("refused", "case_changed_since")] * 2, ("undone", None)]
    assert [item["id"] for item in answer["items"]] == ids
    assert (await read_case(client, {"id": low}))["priority"] == "low"
    assert await undo(client, done) == answer  # again
    assert (await undo(client, answer, 409))["code"] == "bulk_change_not_undoable"


async def test_bulk_change_is_gone_after_an_hour(make_client, environment, constants):
    """The cleanup deletes its outcomes. The key stays for a day, so that a late repeat changes nothing again."""
    constants("desk.bulk", UNDO_TIME=timedelta(0))
    client = await make_client()
    ids = await ids_of(client, 2)
    key = {"Idempotency-Key": "late"}
    done = await bulk(client, {"addTags": ["a"]}, ids=ids, headers=key)
    await bulk(client, {"removeTags": ["a"]}, ids=ids)
    for method, path in (("GET", f"{done['id']}/outcomes"), ("POST", f"{done['id']}/undo")):
        await expect_problem(client.request(method, f"{BULK}/{path}"), 404, "bulk_change_not_found")
    service = service_of(client)
    await service.bulk.delete_expired()
    assert await service.database.fetch_all(sa.select(bulk_items)) == []
    (kept,) = await service.database.fetch_all(sa.select(bulk_changes))  # the one with a key
    assert (kept.id, kept.case_ids) == (done["id"], [])
    # As if the process had died before it stored the answer, and the claim had expired.
    async with service.database.transaction() as tx:
        await tx.execute(sa.text("DELETE FROM idempotency_keys"))
    sent = {"change": {"addTags": ["a"]}, "ids": ids}
    await expect_problem(client.post(BULK, json=sent, headers=key), 409, "idempotency_answer_lost")
    assert (await read_case(client, {"id": ids[0]}))["tags"] == []
    async with service.database.transaction() as tx:
        day_ago = utc_now() - timedelta(days=1, seconds=1)
        await tx.execute(bulk_changes.update().values(created_at=day_ago, expires_at=day_ago))
    await service.bulk.delete_expired()
    assert await service.database.fetch_all(sa.select(bulk_changes)) == []


async def test_roles_change_what_they_may_change_one_by_one(principals):
    """Agents change the cases that they see, and take only free ones. For other roles see test_roles.py."""

    async def change(name, change, ids):
        return await principals.read_json(name, "POST", BULK, json={"ids": ids, "change": change})

    async def opened(**fields):
        body = {"subject": "A parcel", "channel": "email"} | fields
        return (await principals.read_json("supervisor", "POST", "/support/cases", json=body))["id"]

    own, foreign, other = [await opened(team=team) for team in ("returns", "billing", None)]
    answer = await change("agent", {"assignedAgentId": "agent-2"}, [own, foreign, other])
    assert outcomes(answer) == [
        ("refused", "permission_missing"),
        ("refused", "case_not_found"),
        ("refused", "permission_missing"),
    ]
    query = {"query": {"sort": "updated"}, "change": {"priority": "low"}}
    answer = await principals.read_json("agent", "POST", BULK, json=query)
    assert {item["id"] for item in answer["items"]} == {own, other}

    # Cases that an agent has handed to another team are given back by the agent's undo.
    moved = await change("agent", {"team": "billing"}, [own])
    await expect_problem(principals.request("agent", "GET", f"/support/cases/{own}"), 404, "case_not_found")
    for method, path in (("GET", f"{moved['id']}/outcomes"), ("POST", f"{moved['id']}/undo")):
        unknown = principals.request("other-agent", method, f"{BULK}/{path}")
        await expect_problem(unknown, 404, "bulk_change_not_found")
    assert outcomes(await principals.read_json("agent", "POST", f"{BULK}/{moved['id']}/undo")) == [("undone", None)]
    assert (await principals.read_json("agent", "GET", f"/support/cases/{own}"))["team"] == "returns"
    moved = await change("agent", {"team": "billing"}, [own])
    assert await principals.read_json("supervisor", "GET", f"{BULK}/{moved['id']}/outcomes") == moved
    assert outcomes(await principals.read_json("supervisor", "POST", f"{BULK}/{moved['id']}/undo"))[0][0] == "undone"


async def test_ten_cases_cost_one_request(make_client):
    """The change itself is one request, too."""
    limited = await make_client(SUPPORT_RATE_LIMIT="100/h")
    ids = await ids_of(limited, 1)

    async def remaining():
        async with limited.get(f"/support/cases/{ids[0]}") as response:
            return int(response.headers["RateLimit"].rpartition("r=")[2].partition(";")[0])

    before = await remaining()
    await bulk(limited, {"priority": "low"}, ids=[*ids, *map(str, range(200))])
    assert before - await remaining() == 1 + 1 + 21


async def test_bulk_changes_of_one_caller_take_turns(make_client):
    """A second one is refused if its turn does not come in time, and changes nothing."""
    api = ApiTimings(bulk_turns=TurnLimits(max_wait=0.01))
    client = await make_client(timings=patient_timings(api=api))
    ids = await ids_of(client, 1)
    async with service_of(client).bulk_turns.occupy("anyone"):
        sent = {"ids": ids, "change": {"priority": "low"}}
        await expect_problem(client.post(BULK, json=sent), 429, "bulk_changes_waiting")
    assert (await read_case(client, {"id": ids[0]}))["priority"] == "normal"
    assert outcomes(await bulk(client, {"priority": "low"}, ids=ids)) == [("changed", None)]


async def test_other_changes_are_made_between_the_cases(client):
    """A bulk change holds no lock and no transaction over all of its cases."""
    ids, other = await ids_of(client, 60), await open_case(client)
    changing = asyncio.create_task(bulk(client, {"priority": "low"}, ids=ids))
    while not changing.done():
        await expect_json(client.patch(f"/support/cases/{other['id']}", json={"subject": new_id()}))
    await changing
    entries = sa.select(audit_log.c.seq, audit_log.c.case_id).where(audit_log.c.action == "case.changed")
    rows = await service_of(client).database.fetch_all(entries)
    of_bulk = [row.seq for row in rows if row.case_id != other["id"]]
    assert [row for row in rows if row.case_id == other["id"] and min(of_bulk) < row.seq < max(of_bulk)]


EFFECTS = (
    {"priority": "high"},
    {"status": "pending"},
    {"status": "resolved", "assignedAgentId": "agent-7"},
    {"status": "open", "team": "billing"},
    {"status": "closed"},
    {"addTags": ["late"]},
)


async def test_bulk_change_is_the_same_as_single_changes(client):
    """Fields, versions, history, clocks, audit entries and events are equal, but for ids and times."""
    policy = {"match": {}, "targets": {"firstResponse": "PT1H", "resolution": "PT8H"}}
    async with client.put("/support/sla-policies/all", json=policy) as response:
        assert response.status in (200, 201), await response.text()
    pairs = [(await open_case(client, tags=["a"]), await open_case(client, tags=["a"])) for _ in range(3)]
    for change in EFFECTS:
        answer = await bulk(client, change, ids=[one["id"] for one, _ in pairs])
        assert answer["counts"]["changed"] == 3
        single = {"tags": ["a", "late"]} if "addTags" in change else change
        for _, other in pairs:
            await expect_json(client.patch(f"/support/cases/{other['id']}", json=single))
    for one, other in pairs:
        assert await _traces(client, one) == await _traces(client, other)


async def _traces(client, case):
    """Return what the changes of a case have left, without ids and times."""
    async with client.get(f"/support/cases/{case['id']}?includeTimeline=true") as response:
        version, shown = response.headers["ETag"].split(".")[0], await response.json()
    entries = (await expect_json(client.get(f"/support/cases/{case['id']}/audit")))["items"]
    service = service_of(client)
    log = service.broker.log(service.settings.events.stream)

    async def published():
        entries = [json.loads(entry.event) for entry in await log.entries(LOG_START, 1000)]
        events = [event for event in entries if event["subject"] == case["id"]]
        return events if events and events[-1]["data"].get("changedFields") == ["tags"] else None

    changes = [
        (entry["action"], entry["actor"], {name: each for name, each in entry["changes"].items() if name != "bulkId"})
        for entry in sorted(entries, key=lambda entry: entry["at"])
    ]
    return version, changes, _timeless(await eventually(published)), _timeless(shown)


TIMES_AND_IDS = {"id", "at", "createdAt", "updatedAt", "timestamp", "time", "subject", "traceparent", "remaining"}
TIMES_AND_IDS |= {"dueAt", "waitingSince"}


def _timeless(value):
    """Return JSON without the members that differ from case to case."""
    if isinstance(value, list):
        return [_timeless(each) for each in value]
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name not in TIMES_AND_IDS}
    return value
