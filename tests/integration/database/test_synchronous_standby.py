"""A synchronous standby that is lost: changes are made, and nothing acknowledges them until a standby has them."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.core.errors import Conflict, Unavailable
from support_service.events.consumer import begin_applying
from support_service.events.envelope import parse_event
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import idempotency_keys
from support_service.platform.idempotency_keys import IdempotencyClaim, IdempotencyService, StoredResponse
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin, unit_of_work
from tests.support.calls import eventually, expect_problem, list_cases, open_case
from tests.support.process import running
from tests.support.sessions import MIGRATED
from tests.support.timings import PATIENT_POSTGRES, patient_timings

NEW_CASE = {"subject": "A parcel", "channel": "email"}
DRIVER = PostgresTimings().driver_margin
SHORT = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, statement_timeout=0.5, driver_margin=DRIVER))


@pytest.fixture(params=[True, pytest.param(False, marks=pytest.mark.long)], ids=["prepared", "unnamed"])
async def database(request, primary, standby):
    """The database of the primary, with a short time for a statement."""
    database = create_database(primary.url(MIGRATED), prepared_statements=request.param, timings=SHORT)
    await database.open()
    yield database
    await database.close()


async def unreplicated(awaitable):
    """Expect the error of a commit that was not replicated."""
    with pytest.raises(Unavailable) as refusal:
        await awaitable
    assert refusal.value.code == "commit_not_replicated"


async def test_nothing_acknowledges_a_change_before_the_standby_has_it(database, standby):
    """A statement, a transaction, a repeat of a request, and an inbound event. Connections work afterwards.

    Whatever the first request has left: a claim, a change without an answer, or an answer.
    """
    added = idempotency_keys.insert()
    row = {"request": "r", "owner": "o", "until": utc_now(), "state": "claimed", "created_at": utc_now()}
    event = parse_event(
        b'{"specversion":"1.0","id":"1","source":"s","type":"order.status.changed.v1",'
        b'"data":{"orderId":"O-1","status":"paid"}}'
    )
    claims = IdempotencyService(database)
    applied, answered = [await claims.claim_or_read_response(name, "r") for name in ("applied", "answered")]

    async def in_transaction():
        async with database.transaction() as tx:
            await tx.fetch_all(sa.text("SELECT 1"))
            await tx.execute(added, row | {"id": "b"})

    async def apply_claimed():
        async with unit_of_work(database, WriteOrigin(SYSTEM_ORIGIN.principal, None, applied)):
            pass

    async def hear():
        async with database.transaction() as tx:
            return await begin_applying(tx, event)

    async def outcome(call, *arguments):
        try:
            return await call(*arguments)
        except Unavailable:
            return "the standby is not yet connected"
        except Conflict as refusal:
            return refusal.code

    standby.stop()
    await unreplicated(database.execute(added, row | {"id": "a"}))
    await unreplicated(in_transaction())
    await unreplicated(claims.claim_or_read_response("claimed", "r"))
    await unreplicated(apply_claimed())
    await unreplicated(claims.store_response(answered, StoredResponse(201, {}, b"{}"), "caller"))
    for key in ("claimed", "applied", "answered"):
        await unreplicated(claims.claim_or_read_response(key, "r"))
    for _ in range(2):
        await unreplicated(hear())
    ids = {each.id for each in await database.fetch_all(sa.select(idempotency_keys.c.id))}
    assert ids == {"a", "b", "claimed", "applied", "answered"}
    standby.start()

    async def is_duplicate():
        return await outcome(hear) is None

    await eventually(is_duplicate)
    repeat = claims.claim_or_read_response
    assert await outcome(repeat, "answered", "r") == StoredResponse(201, {}, b"{}")
    assert await outcome(repeat, "applied", "r") == await outcome(repeat, "claimed", "r") == "idempotency_key_in_use"
    await database.execute(idempotency_keys.update().values(until=utc_now() - timedelta(seconds=1)))
    assert await outcome(repeat, "applied", "r") == "idempotency_answer_lost"
    assert isinstance(await outcome(repeat, "claimed", "r"), IdempotencyClaim)


@pytest.mark.long
@pytest.mark.usefixtures("processes")
async def test_requests_without_a_standby(make_client, primary, standby, tmp_path):
    """Over HTTP: the code, `Retry-After`, the change itself, and the runbook's check. The test above is short."""
    url = primary.url(MIGRATED)
    client = await make_client(SUPPORT_DATABASE_URL=url, timings=patient_timings(database=SHORT))
    await open_case(client)
    standby.stop()
    headers = {"Idempotency-Key": "k"}
    for sent in ({}, headers, headers):
        response = await client.post("/support/cases", json=NEW_CASE, headers=sent)
        await expect_problem(response, 503, "commit_not_replicated")
        assert response.headers["Retry-After"] == "1"
    external = NEW_CASE | {"externalId": "mail-1"}
    for _ in range(2):
        await expect_problem(await client.post("/support/cases", json=external), 503, "commit_not_replicated")
    assert len((await list_cases(client))["items"]) == 3  # the first, that without a key, and that with an external id
    waiting = create_database(url, timings=DatabaseTimings(postgres=PATIENT_POSTGRES))
    await waiting.open()
    commit = asyncio.create_task(waiting.execute(sa.text("UPDATE tickets SET team = 'a'")))

    async def is_counted():
        async with running("database", "waits", cwd=tmp_path, SUPPORT_DATABASE_URL=url) as process:
            status, out, _ = await process.wait_for_exit()
        assert status == 0
        return "commits wait for a synchronous standby" in out

    await eventually(is_counted, within=120)  # a command takes long on a busy machine

    async def is_told():
        async with client.get("/readyz") as response:
            body = await response.json()
            assert (response.status, body["status"]) == (200, "ready")
            return body["database"] == "commit_not_replicated"

    await eventually(is_told)
    standby.start()
    assert await commit == 3
    await waiting.close()

    async def is_repeated():
        async with client.post("/support/cases", json=external) as response:
            return response.status == 200

    await eventually(is_repeated)
