"""Presence: who views a case or types in it, in the stream, in lists and in the case; it is never stored."""

from dataclasses import replace

import sqlalchemy as sa

from support_service.platform.database.tables import metadata
from support_service.stream.presence import PresenceTimings
from support_service.stream.service import StreamTimings
from tests.support.access.fixtures import write_token
from tests.support.calls import add_message, eventually, expect_json, expect_problem, list_cases, open_case, read_case
from tests.support.service import service_of
from tests.support.stream import follow
from tests.support.timings import patient_timings

SHORT = patient_timings(stream=replace(StreamTimings(), presence=PresenceTimings(valid_for=0.3, expiry_interval=0.02)))


async def announce(client, case, state="viewing", token=None):
    """Say that the caller views a case."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    await expect_json(client.put(f"/support/cases/{case['id']}/presence", json={"state": state}, headers=headers), 204)


async def test_viewers_are_in_the_stream_in_lists_and_in_the_case(client):
    """The stream tells each change of them once."""
    case, other = await open_case(client), await open_case(client)
    assert "viewers" not in await read_case(client, case)
    async with follow(client) as stream:
        await announce(client, case)
        await announce(client, case)
        await announce(client, case, "typing")
        viewers = [{"name": "anyone", "state": "typing"}]
        await eventually(lambda: len(stream.presence) == 2)
        assert stream.presence == [
            {"caseId": case["id"], "viewers": [{"name": "anyone", "state": state}]} for state in ("viewing", "typing")
        ]
        assert (await read_case(client, case))["viewers"] == viewers
        assert (await read_case(client, case, includeTimeline="true"))["viewers"] == viewers
        assert [each.get("viewers") for each in (await list_cases(client))["items"]] == [None, viewers]
        assert "viewers" not in await read_case(client, other)
    async with follow(client) as stream:
        await eventually(lambda: stream.presence)
        assert stream.presence == [{"caseId": case["id"], "viewers": viewers}]


async def test_presence_ends_when_the_viewer_leaves(client):
    """Colleagues learn it at once. Who was not there may leave, too."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/presence"
    async with follow(client) as stream:
        for state in ("viewing", "typing", "viewing"):
            await announce(client, case, state)
        for _ in range(2):
            await expect_json(client.delete(path), 204)
        await announce(client, case)
        await eventually(lambda: len(stream.presence) == 5)
        states = [[each["state"] for each in told["viewers"]] for told in stream.presence]
        assert states == [["viewing"], ["typing"], ["viewing"], [], ["viewing"]]
    await expect_problem(await client.delete("/support/cases/unknown/presence"), 404, "case_not_found")


async def test_presence_ends_by_itself(make_client):
    """After its time the case has no viewers, and the stream says so. An unknown state begins none."""
    client = await make_client(timings=SHORT)
    case = await open_case(client)
    for body in ({"state": "sleeping"}, {}):
        await expect_problem(
            await client.put(f"/support/cases/{case['id']}/presence", json=body), 422, "invalid_request"
        )
    async with follow(client) as stream:
        await announce(client, case)
        await eventually(lambda: len(stream.presence) == 2)
        assert stream.presence[1] == {"caseId": case["id"], "viewers": []}
        assert "viewers" not in await read_case(client, case)


async def test_viewers_do_not_change_the_case(client):
    """Its ETag for changes stays; an answer with viewers has one of its own, and a 304 says nothing about viewers."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    async with client.get(path) as response:
        plain = response.headers["ETag"]
    await announce(client, case)
    async with client.get(path) as response:
        with_viewers = response.headers["ETag"]
        assert with_viewers != plain
    await expect_json(client.get(path, headers={"If-None-Match": plain}), 304)
    await expect_json(client.get(path, headers={"If-None-Match": with_viewers}))
    await expect_json(client.patch(path, json={"subject": "B"}, headers={"If-Match": with_viewers}))


async def test_presence_is_in_no_table(client):
    """Neither the audit log nor the outbox has it, nor any other table."""
    case = await open_case(client)
    await add_message(client, case)
    database = service_of(client).database
    tables = [table for table in metadata.sorted_tables if table.name not in ("outbox", "leases")]

    async def rows():
        return {
            each.name: (await database.fetch_now(sa.select(sa.func.count()).select_from(each)))[0] for each in tables
        }

    before = await rows()
    await announce(client, case, "typing")
    assert await rows() == before


async def test_only_staff_who_may_see_the_case_see_its_viewers(make_client, tmp_path):
    """Customers and analysts neither see nor send presence; an agent without the case neither."""
    path = tmp_path / "tokens.json"
    lan, minh, ann, analyst = (
        write_token(path, name, **fields)
        for name, fields in {
            "lan": {"role": "agent", "subject": "agent-1"},
            "minh": {"role": "agent", "subject": "agent-2"},
            "ann": {"role": "customer", "subject": "customer-1"},
            "analyst": {"role": "analyst"},
        }.items()
    )
    client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(path))

    async def request(token, method, where, **sent):
        return await client.request(method, where, headers={"Authorization": f"Bearer {token}"}, **sent)

    new = {"subject": "A", "channel": "web", "customerId": "customer-1", "assignedAgentId": "agent-1"}
    case = await (await request(lan, "POST", "/support/cases", json=new)).json()
    where = f"/support/cases/{case['id']}"
    async with (
        follow(client, lan) as own,
        follow(client, minh) as foreign,
        follow(client, ann) as customer,
        follow(client, analyst) as masked,
    ):
        await announce(client, case, token=lan)
        await eventually(lambda: own.presence)
        assert own.presence[0]["viewers"] == [{"name": "agent-1", "state": "viewing"}]
        sent = {"json": {"state": "typing"}}
        for token, status in ((ann, 403), (analyst, 403), (minh, 404)):
            async with await request(token, "PUT", f"{where}/presence", **sent) as response:
                assert response.status == status
        await request(lan, "PATCH", where, json={"priority": "high"})
        await eventually(lambda: own.changes and customer.changes and masked.changes)
        assert not foreign.presence
        assert not customer.presence
        assert not masked.presence
        for token in (ann, analyst):
            assert "viewers" not in await (await request(token, "GET", where)).json()
            listed = await (await request(token, "GET", "/support/cases")).json()
            assert "viewers" not in listed["items"][0]
