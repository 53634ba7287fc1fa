"""The audit log across cases by the API: filters, pages, and the verification of parts of the chain."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from support_service.platform.audit.log import Sealer
from support_service.platform.audit.segments import detach, read_segment, write_segment
from support_service.platform.database.tables import audit_head, audit_log
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.audit import alter_audit_log
from tests.support.calls import add_message, expect_json, expect_problem, open_case
from tests.support.each import each_row
from tests.support.service import own_client, service_of

client = own_client

LOG = "/support/audit"
NOON = datetime(2026, 5, 12, 12, tzinfo=UTC)


async def read(client, path=LOG, **query):
    """Return the JSON of an answer."""
    return await expect_json(client.get(path, params=query))


async def store(database, *entries):
    """Store entries; each is (minutes after noon, actor, action, case)."""
    async with database.transaction() as tx:
        for minutes, actor, action, case in entries:
            entry = {"at": NOON + timedelta(minutes=minutes), "actor": actor, "role": "agent", "action": action}
            await tx.execute(audit_log.insert(), entry | {"case_id": case, "changes": "{}"})


async def test_entries_are_found_by_each_filter(client):
    """Newest first; several filters must all match. A chain without sealed entries holds."""
    assert (await verify(client))["verifiedTo"] == 0
    entries = [(0, "lan", "case.opened", "a"), (1, "lan", "case.closed", "a"), (2, "minh", "case.closed", "b")]
    await store(service_of(client).database, *entries, (3, "minh", "override.set", None))

    async def minutes(**query):
        times = [datetime.fromisoformat(each["at"]) for each in (await read(client, **query))["items"]]
        return [(at - NOON) // timedelta(minutes=1) for at in times]

    assert await minutes() == [3, 2, 1, 0]
    assert await minutes(actor="lan", action="case.closed") == [1]
    assert await minutes(caseId="a") == await minutes(case_id="a") == [1, 0]
    assert await minutes(**{"from": "2026-05-12T12:01:00Z", "to": "2026-05-12T14:03:00+02:00"}) == [2, 1]
    newest = (await read(client))["items"][0]
    assert (newest["caseId"], newest["changes"]) == (None, {})


WRONG_QUERY_IS_REFUSED = [
    {"action": "case.lost"},
    {"from": "noon"},
    {"limit": "0"},
    {"cursor": "x"},
    {"actor": "x" * 256},
]


@each_row("query", WRONG_QUERY_IS_REFUSED)
async def test_wrong_query_is_refused(shared_client, query):
    await expect_problem(shared_client.get(LOG, params=query), 422, "invalid_request")


@pytest.fixture
async def sealed(client, instruments):
    """A client of a service whose chain has five entries."""
    case = await open_case(client)
    for _ in range(4):
        await add_message(client, case)
    await Sealer(service_of(client).database, instruments).run()
    return client


async def verify(client, **query):
    """Return the result of a verification."""
    return await read(client, f"{LOG}/verification", **query)


async def test_part_of_the_chain_is_verified(sealed):
    """By default up to its end; from a position, as many entries as are asked for."""
    whole = await verify(sealed)
    entries = (await read(sealed))["items"]
    head = {"position": 5, "hash": entries[0]["hash"]}
    nothing = dict.fromkeys(("flaw", "oldestUnsealedAt", "detached"))
    assert whole == {"holds": True, "after": 0, "verifiedTo": 5, "more": False, "head": head, **nothing}
    part = await verify(sealed, after="1", limit="2")
    assert (part["holds"], part["after"], part["verifiedTo"], part["more"]) == (True, 1, 3, True)
    last = await verify(sealed, limit="2")
    assert (last["holds"], last["after"], last["verifiedTo"], last["more"]) == (True, 3, 5, False)
    response = await sealed.get(f"{LOG}/verification", params={"after": "6"})
    problem = await expect_problem(response, 422, "invalid_request")
    assert problem["errors"][0]["field"] == "after"


async def test_answers_say_which_entries_were_moved_to_a_file(sealed):
    """A verification from before the detached entries begins after them."""
    file, database = io.BytesIO(), service_of(sealed).database
    third = (await read(sealed))["items"][2]
    assert (await read(sealed))["detached"] is None
    await write_segment(database, file, datetime.fromisoformat(third["at"]) + timedelta(microseconds=1))
    await detach(database, SYSTEM_ORIGIN, read_segment(file.getvalue().splitlines()))
    moved = {"position": third["position"], "hash": third["hash"]}
    page, part = await read(sealed), await verify(sealed, after="0")
    assert min(entry["position"] for entry in page["items"]) == third["position"] + 1
    assert (page["detached"], part["detached"], part["after"]) == (moved, moved, third["position"])
    assert (part["holds"], part["more"]) == (True, False)
    case = next(entry["caseId"] for entry in page["items"] if entry["caseId"])
    assert (await read(sealed, f"/support/cases/{case}/audit"))["detached"] == moved


async def test_altered_entries_and_another_head_are_reported(sealed):
    """The flaw names the position; parts after it are valid on their own."""
    await alter_audit_log(sealed, audit_head.update().values(hash=b"x" * 32))
    assert "not the last entry" in (await verify(sealed))["flaw"]
    await alter_audit_log(sealed, audit_log.update().where(audit_log.c.position == 3).values(actor="nobody"))
    found = await verify(sealed)
    assert (found["holds"], found["verifiedTo"]) == (False, 2)
    assert "position 3" in found["flaw"]
    await alter_audit_log(sealed, audit_log.delete().where(audit_log.c.position == 5))
    assert "missing after position 4" in (await verify(sealed, after="3"))["flaw"]
