"""Erasing a customer: afterwards nothing that the service keeps holds what they said."""

import asyncio
import hashlib
import json

import pytest
import sqlalchemy as sa
from pydantic_core import to_json
from redis.asyncio import Redis

from support_service.audit import store as audit_store
from support_service.audit.verify import verify_chain
from support_service.cases.erasure import ERASED_MESSAGE_BYTES, clear_tombstone, erase_case, tombstone_of
from support_service.commands.runtime.maintenance import open_maintenance
from support_service.core.clock import utc_now
from support_service.core.errors import NotFound
from support_service.database.tables import idempotency_keys, metadata, outbox, tickets
from support_service.events.broker.redis import RedisBroker
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from support_service.privacy.erasure import CustomerErasure, ErasureTimings
from support_service.settings import Settings
from support_service.telemetry.component import METRICS
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource
from tests.conftest import both_databases
from tests.support.calls import (
    GENEROUS_TIMEOUT,
    add_message,
    eventually,
    expect_problem,
    open_case,
    read_case,
    read_detail,
    stored_files,
    upload,
)
from tests.support.events.fixtures import outbox_is_empty, wait_for_events
from tests.support.scrape import Scrape

WORD = "zaphod"  # stands in everything that the customer says
CUSTOMER = f"{WORD}-1"
FILES = (f"a file of {WORD}".encode(), b"another")
HASHES = tuple(hashlib.sha256(data).hexdigest() for data in FILES)


@pytest.fixture
def environment(environment, redis):
    """A service with Redis, so that events and timelines lie there too, and nothing that gives up Redis soon."""
    return environment | {"SUPPORT_REDIS_URL": redis.url}


@pytest.fixture
async def spoken(client):
    """A case in which a customer said a lot, and one of somebody else."""
    case = await open_case(
        client,
        subject=f"{WORD}'s parcel",
        description=f"I am {WORD}",
        customerId=CUSTOMER,
        context=[{"type": "order", "orderId": f"ORD-{WORD}"}, {"note": WORD}],
        tags=[WORD],
        initialMessage={"authorType": "customer", "message": f"{WORD} speaking", "metadata": {"name": WORD}},
    )
    await add_message(client, case, f"Dear {WORD}", sentiment=WORD, attachmentUri=f"https://files.test/{WORD}")
    await upload(client, case, FILES[0], filename=f"{WORD}.txt")
    removed = await upload(client, case, FILES[1], filename=f"{WORD}-2.txt")
    async with client.delete(f"/support/cases/{case['id']}/attachments/{removed['id']}") as response:
        assert response.status == 204
    await read_detail(client, case)
    other = await open_case(client, customerId="trillian", subject="Another parcel")
    return case, other


@pytest.fixture
async def erase(environment):
    """Erase the customer."""

    async def erase(relay_timeout=2.0, **changes):
        settings = Settings.load(environment | changes)
        async with open_maintenance(settings) as maintenance:
            timings = ErasureTimings(redis_timeout=GENEROUS_TIMEOUT, relay_timeout=relay_timeout)
            erasure = CustomerErasure(
                settings, maintenance.database, maintenance.garbage_collector, maintenance.instruments, timings
            )
            return await erasure.run(SYSTEM_CONTEXT, CUSTOMER)

    return erase


async def kept(database, attachment_dir, redis):
    """All that the service keeps, as one text in lower case."""
    rows = [row for table in metadata.tables.values() for row in await database.fetch_all(sa.select(table))]
    parts = [str(tuple(row)) for row in rows]  # a row of SQLAlchemy's shows only the ends of a long text
    parts += [path.read_bytes().decode(errors="replace") for path in stored_files(attachment_dir)]
    async with Redis.from_url(redis.url) as server:
        for key in await server.keys("*"):
            kind = await server.type(key)
            parts.append(str(await server.xrange(key) if kind == b"stream" else await server.get(key)))
            parts.append(str(key))
    return " ".join(parts).lower()


async def published(redis, number):
    """Wait until so many events are in the stream."""
    async with Redis.from_url(redis.url) as server:
        await wait_for_events(server, number)


@both_databases
async def test_nothing_is_left(client, spoken, erase, database, attachment_dir, redis):
    """What the customer said is nowhere, in no table, file, event or cache; others' cases are as they were."""
    case, other = spoken
    await published(redis, 6)
    before = await read_case(client, other)
    before_it = await kept(database, attachment_dir, redis)
    assert all(each in before_it for each in (WORD, *HASHES))
    receipt = await erase()
    assert receipt.cases == [case["id"]]
    assert (receipt.erased["messages"], receipt.erased["files"], receipt.unreached) == (2, 1, [])
    assert receipt.erased["publishedEvents"] >= 5
    after_it = await kept(database, attachment_dir, redis)
    assert not [each for each in (WORD, *HASHES) if each in after_it]
    assert await read_case(client, other) == before
    erased = await read_case(client, case)
    assert (erased["customerId"], erased["status"], len(erased["messages"])) == (None, "open", 2)
    (counted,) = await database.fetch_one(sa.select(tickets.c.conversation_bytes).where(tickets.c.id == case["id"]))
    assert counted == 2 * ERASED_MESSAGE_BYTES
    assert all(abs(len(to_json(message)) - ERASED_MESSAGE_BYTES) < 16 for message in erased["messages"])
    with pytest.raises(NotFound, match="No case"):
        await erase()


async def test_the_search_index_forgets(client, spoken, erase, database):
    """SQLite's index, which only marks words as deleted, has those of the customer in none of its pages."""
    pages = sa.text("SELECT block FROM ticket_search_data")
    await open_case(client, subject="Another parcel")
    assert any(WORD.encode() in page for (page,) in await database.fetch_all(pages))
    await erase()
    assert not any(WORD.encode()[1:] in page for (page,) in await database.fetch_all(pages))  # a prefix may be shared
    async with client.get("/support/cases?q=another") as response:
        assert len((await response.json())["items"]) == 2


@both_databases
async def test_the_audit_log_and_answers_forget(client, spoken, erase, database, attachment_dir, redis):
    """An erasure takes what changed out of the log, whose chain holds, and kept answers, whose requests stay done."""
    case, _ = spoken
    await published(redis, 6)
    path, sent = (
        f"/support/cases/{case['id']}",
        {"json": {"subject": f"{WORD} again"}, "headers": {"Idempotency-Key": "k"}},
    )
    async with client.patch(path, **sent) as response:
        assert response.status == 200
    receipt = await erase()
    assert receipt.erased["auditEntries"] >= 6
    assert WORD not in await kept(database, attachment_dir, redis)
    await expect_problem(await client.patch(path, **sent), 409, "idempotency_answer_lost")
    assert (await verify_chain(database)).flaw is None
    entries, _ = await audit_store.read_case_entries(database, case["id"], None, 100)
    assert (entries[0].action, entries[-1].action) == ("case.erased", "case.opened")
    assert "attachment.removed" in {entry.action for entry in entries}


async def test_an_answer_that_is_under_way_is_not_kept(make_client, erase, database, payments):
    """What a refresh is answered, which changes nothing, is not kept either where the case was erased meanwhile."""
    patient = {"SUPPORT_TIMELINE_DEADLINE": "20", "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "20"}
    client = await make_client(SUPPORT_PAYMENT_URL=payments.url, **patient)
    context = [{"type": "payment", "paymentId": "PAY-1"}]
    case = await open_case(client, customerId=CUSTOMER, subject=WORD, context=context)
    refreshing = {"path": f"/support/cases/{case['id']}/timeline/refresh", "headers": {"Idempotency-Key": "k"}}
    answered = payments.hang()
    first = asyncio.create_task(client.post(**refreshing))
    await eventually(lambda: payments.waiting == 1)
    await erase()
    answered.set()
    async with await first as response:
        assert WORD in await response.text()
    await expect_problem(await client.post(**refreshing), 409, "idempotency_key_in_use")
    assert WORD not in str([tuple(row) for row in await database.fetch_all(sa.select(idempotency_keys))])


async def test_events_that_wait_are_rewritten(client, spoken, erase, database, attachment_dir, redis):
    """While Redis is down the receipt names what could not be reached; the next erasure ends it."""
    case, other = spoken
    await published(redis, 6)
    (file,) = (await read_case(client, case))["attachments"]
    redis.kill()
    await add_message(client, case, f"Where is {WORD}'s parcel?")
    async with client.delete(f"/support/cases/{case['id']}/attachments/{file['id']}") as response:
        assert response.status == 204
    receipt = await erase()
    assert len(receipt.unreached) == 2
    assert receipt.erased["outboxEvents"] >= 2
    waiting = [event for (event,) in await database.fetch_all(sa.select(outbox.c.event).order_by(outbox.c.seq))]
    assert not [event for event in waiting if WORD in event or file["sha256"] in event]
    events = [json.loads(event) for event in waiting]
    assert {event["subject"] for event in events} <= {case["id"], other["id"]}  # the other's may be on its way out
    removed = events[-1]["data"]
    assert (removed["changeType"], removed["attachment"]["id"]) == ("attachment.removed", file["id"])
    row = await database.fetch_one(sa.select(tickets.c.customer_id).where(tickets.c.id == case["id"]))
    assert row[0] == tombstone_of(CUSTOMER)
    redis.start()
    assert (await erase()).unreached == []
    async with Redis.from_url(redis.url) as server:
        assert file["sha256"] not in str(await server.xrange("support.events"))
    assert WORD not in await kept(database, attachment_dir, redis)


async def test_an_event_that_is_being_published_is_erased_too(client, spoken, erase, database, redis, monkeypatch):
    """What a relay read before the erasure and publishes after it is taken out of the stream as well."""
    case, _ = spoken
    await published(redis, 6)
    at_work, go_on, publish = asyncio.Event(), asyncio.Event(), RedisBroker.publish

    async def late(*arguments, **options):
        at_work.set()
        await go_on.wait()
        return await publish(*arguments, **options)

    monkeypatch.setattr(RedisBroker, "publish", late)
    await add_message(client, case, f"Where is {WORD}'s parcel?")
    await at_work.wait()
    erasing = asyncio.create_task(erase(relay_timeout=GENEROUS_TIMEOUT))
    await asyncio.wait([erasing], timeout=1)  # by when one that waits for no relay would be done
    go_on.set()
    assert (await erasing).unreached == []
    await eventually(lambda: outbox_is_empty(database))
    async with Redis.from_url(redis.url) as server:
        assert WORD not in str(await server.xrange("support.events"))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_an_erasure_holds_up_no_upload(client, spoken, erase, database):
    """However long an erasure takes, files of other cases are kept meanwhile: it counts its own at the very end."""
    _, other = spoken
    of_it = "relation = 'webhook_deliveries'::regclass AND mode = 'RowShareLock'"
    waits = sa.text(f"SELECT 1 FROM pg_locks WHERE {of_it} AND NOT granted")
    async with database.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE"))  # which no upload asks for
        erasing = asyncio.create_task(erase())
        await eventually(lambda: database.fetch_one(waits))
        await upload(client, other, FILES[0])
    assert (await erasing).erased["files"] == 1


async def test_a_customer_of_many_cases(erase, database):
    """However many cases a customer has, be they more than SQLite takes terms of an expression, one run ends it."""
    row = {"subject": WORD, "status": "open", "priority": "low", "channel": "email", "customer_id": CUSTOMER}
    row |= {"context": [], "tags": [], "search_text": WORD, "created_at": utc_now(), "updated_at": utc_now()}
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), [row | {"id": f"case-{number}"} for number in range(1001)])
    receipt = await erase()
    assert (len(receipt.cases), receipt.unreached) == (1001, [])
    with pytest.raises(NotFound):
        await erase()


@both_databases
async def test_who_saw_the_mark_sees_that_it_is_gone(client, database):
    """A client that has a case as it is in the midst of an erasure gets it anew once no customer stands in it."""
    path, mark = f"/support/cases/{(await open_case(client, customerId=CUSTOMER))['id']}", tombstone_of(CUSTOMER)
    async with database.transaction() as tx:
        await erase_case(tx, path.rpartition("/")[2], mark)
    async with client.get(path) as response:
        known = response.headers["ETag"]
        assert (await response.json())["customerId"] == mark
    async with database.transaction() as tx:
        await clear_tombstone(tx, mark)
    async with client.get(path, headers={"If-None-Match": known}) as response:
        assert (response.status, (await response.json())["customerId"]) == (200, None)


async def test_a_file_that_can_not_be_removed_is_told(spoken, erase, s3, database):
    """Where the bytes of a file are out of reach, the receipt says so, and the service removes them later."""
    bucket = {"SUPPORT_S3_BUCKET": s3.create_bucket(), "SUPPORT_S3_ENDPOINT": "http://127.0.0.1:1"}
    async with database.transaction() as tx:
        await tx.execute(sa.text("UPDATE attachments SET storage = 's3'"))
    receipt = await erase(**bucket, AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY="secret")
    assert [line for line in receipt.unreached if "bytes of 1 file" in line]
    assert json.dumps(receipt.erased)


async def test_erased_files_are_counted(client, spoken, environment):
    """Each file of a real case counts as deleted by an erasure; one of a made-up case counts nowhere."""
    await upload(client, await open_case(client, channel="synthetic", customerId=CUSTOMER))
    settings, metrics = Settings.load(environment), Metrics(("prometheus",), build_resource())
    async with open_maintenance(settings) as maintenance:
        erasure = CustomerErasure(
            settings, maintenance.database, maintenance.garbage_collector, Instruments(metrics.meter)
        )
        assert (await erasure.run(SYSTEM_CONTEXT, CUSTOMER)).erased["files"] == 2
    assert Scrape({METRICS: metrics}).nonzero("support_attachment_deleted_total") == {"erasure": 1}
    metrics.close()
