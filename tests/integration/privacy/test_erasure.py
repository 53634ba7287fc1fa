"""Erasure of a customer: afterwards nothing that the service stores has what they wrote."""

import asyncio
import hashlib
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
import sqlalchemy as sa
from pydantic_core import to_json

from support_service.attachments.garbage import (
    BATCH_LEASE,
    GarbageCollector,
    claim_due_garbage,
    delete_garbage_entries,
    find_garbage,
)
from support_service.attachments.maintenance.file_mover import claim_files, switch_to_copy
from support_service.attachments.storage.base import new_key
from support_service.cases import case_erasure as cases
from support_service.cases.case_erasure import ERASED_MESSAGE_BYTES, erase_case, release_case
from support_service.cases.sql.attachment_rows import GarbageEntry, add_garbage
from support_service.core.clock import utc_now
from support_service.core.errors import NotFound
from support_service.desk import customers
from support_service.events.event_erasure import POLL_INTERVAL
from support_service.platform.audit import entry_rows, log
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import (
    ERASED_TEXT,
    customer_terms,
    idempotency_keys,
    messages,
    outbox,
    tickets,
)
from support_service.platform.idempotency_keys import IdempotencyService, StoredResponse
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from support_service.privacy import erasure
from support_service.privacy.erasure import CustomerErasure
from support_service.timeline.single_flight import SingleFlightTimings
from support_service.timeline.snapshots import cache_key
from tests.conftest import both_databases
from tests.support.access.fixtures import write_token
from tests.support.calls import (
    add_message,
    eventually,
    expect_json,
    expect_problem,
    form,
    list_cases,
    open_case,
    read_case,
    read_detail,
    read_timeline,
    upload,
)
from tests.support.events.fixtures import hold_publications, outbox_is_empty
from tests.support.privacy.erasing import PATIENT_ERASURE, erase_customer
from tests.support.privacy.stored import wait_until_published
from tests.support.scrape import Scrape

UPGRADES = Path(__file__).parents[3] / "docs" / "operations" / "upgrades.md"
WORD = "zaphod"  # is in everything that the customer writes
CUSTOMER = f"{WORD}-1"
FILES = (f"a file of {WORD}".encode(), b"another")
HASHES = tuple(hashlib.sha256(data).hexdigest() for data in FILES)


@pytest.fixture
async def two_cases(client):
    """A case with personal data in every field, and a case of another customer."""
    first = {"authorType": "customer", "message": f"{WORD} speaking", "metadata": {"name": WORD}}
    case = await open_case(
        client,
        subject=f"{WORD}'s parcel",
        description=f"I am {WORD}",
        channel=f"the phone of {WORD}",
        customerId=CUSTOMER,
        context=[{"type": "order", "orderId": f"ORD-{WORD}"}, {"note": WORD}],
        tags=[WORD],
        externalId=f"<1@{WORD}>",
        initialMessage=first | {"externalId": f"<2@{WORD}>"},
    )
    files = f"/support/cases/{case['id']}/attachments"
    await add_message(client, case, f"Dear {WORD}", sentiment=WORD, attachmentUri=f"https://files.test/{WORD}")
    await upload(client, case, FILES[0], filename=f"{WORD}.txt", content_type=f"application/{WORD}")
    removed = await upload(client, case, FILES[1], filename=f"{WORD}-2.txt")
    await expect_json(client.delete(f"{files}/{removed['id']}"), 204)
    staged = form(f"staged by {WORD}".encode(), f"{WORD}-3.txt")
    await expect_json(client.post(f"{files}?staged=true", data=staged), 201)
    contact = {"kind": "email", "value": f"{WORD}@example.org", "label": WORD}
    record = {"name": WORD, "contacts": [contact], "notes": f"{WORD} calls often"}
    sent = {"json": record, "headers": {"Idempotency-Key": "record"}}
    await expect_json(client.put(f"/support/customers/{CUSTOMER}", **sent), 201)
    await read_detail(client, case)
    return case, await open_case(client, customerId="trillian", subject="Another parcel")


@pytest.fixture
def erase(environment):
    """Erase the customer; keywords change the timings."""

    async def erase(*, variables=MappingProxyType({}), all_identities=False, instruments=None, **timings):
        settings, timings = Settings.load(environment | variables), replace(PATIENT_ERASURE, **timings)
        options = {"all_identities": all_identities, "instruments": instruments}
        return await erase_customer(settings, CUSTOMER, timings, **options)

    return erase


async def test_customer_with_many_cases_and_files_is_erased_in_one_run(client, two_cases, erase, s3, database):
    """Its files are counted, unless they are staged or of synthetic cases.

    The receipt names what could not be removed. The service removes their bytes later.
    """
    row = {"subject": WORD, "status": "open", "priority": "low", "channel": "email", "customer_id": CUSTOMER}
    row |= {"context": [], "tags": [], "search_text": WORD, "created_at": utc_now(), "updated_at": utc_now()}
    await upload(client, await open_case(client, channel="synthetic", customerId=CUSTOMER))
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), [row | {"id": f"case-{number}"} for number in range(101)])
        await tx.execute(sa.text("UPDATE attachments SET storage = 's3'"))
    metrics = Metrics(("prometheus",), build_resource())
    bucket = {"SUPPORT_S3_BUCKET": s3.create_bucket(), "SUPPORT_S3_ENDPOINT": "http://127.0.0.1:1"}
    bucket |= {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
    receipt = await erase(instruments=Instruments(metrics.meter), variables=bucket)
    assert (len(receipt.cases), receipt.erased["files"]) == (103, 3)
    assert [line for line in receipt.unreached if "bytes of 2 file" in line] == receipt.unreached
    assert json.dumps(receipt.erased)
    assert Scrape(metrics).nonzero("support_attachment_deleted_total") == {"erasure": 1}
    metrics.close()


@both_databases
async def test_erasure_removes_everything_the_customer_wrote(client, two_cases, erase, database, stored):
    """No table, file, event or cache has it, and cases of other customers are unchanged.

    The chain of the audit log stays valid, and a retry of an erased response is not executed again. What happened stays
    in the timeline, without the changed fields.
    """
    case, other = two_cases
    path, key = f"/support/cases/{case['id']}", {"Idempotency-Key": "k"}
    await wait_until_published(database)
    before = await read_case(client, other)
    sent = {"json": {"subject": f"{WORD} again"}, "headers": key}
    assert WORD in str(await expect_json(client.patch(path, **sent)))  # from now on the service keeps it in memory
    happened = [entry for entry in await read_timeline(client, case) if entry["type"] == "case-event"]
    assert WORD in str(happened)
    text_before = await stored()
    assert all(each in text_before for each in (WORD, *HASHES))
    receipt = await erase()
    assert receipt.cases == [case["id"]]
    assert (receipt.erased["messages"], receipt.erased["files"], receipt.unreached) == (2, 2, [])
    assert (receipt.erased["publishedEvents"] >= 5, receipt.erased["auditEntries"] >= 6) == (True, True)
    text_after = await stored()
    assert not [each for each in (WORD, *HASHES) if each in text_after]
    assert await read_case(client, other) == before
    await expect_problem(await client.patch(path, **sent), 409, "idempotency_answer_lost")
    erased = await read_case(client, case)
    assert WORD not in str(erased)
    assert (erased["customerId"], erased["status"], len(erased["messages"])) == (None, "open", 2)
    assert erased["channel"] == "other"
    (counted,) = await database.fetch_now(sa.select(tickets.c.conversation_bytes).where(tickets.c.id == case["id"]))
    assert counted == 2 * ERASED_MESSAGE_BYTES
    assert all(abs(len(to_json(message)) - ERASED_MESSAGE_BYTES) < 16 for message in erased["messages"])
    events = [entry for entry in await read_timeline(client, case) if entry["type"] == "case-event"]
    removal = {"action": "attachment.removed", "changes": {}}
    assert [each for each in events if each["action"] != "attachment.removed"] == [
        each | {"changes": {}} for each in happened if each["action"] != "attachment.removed"
    ]
    assert [each for each in events if removal.items() <= each.items()]
    assert (await verify_chain(database)).flaw is None
    entries = (await entry_rows.read_case_entries(database, case["id"], None, 100)).entries
    assert (entries[0].action, entries[-1].action) == ("case.erased", "case.opened")
    assert "attachment.removed" in {entry.action for entry in entries}
    with pytest.raises(NotFound, match="No case"):
        await erase()


async def test_erasure_keeps_the_time_and_frees_the_external_id(client, erase):
    """A mail that is delivered again after the erasure opens a new case, and adds a new message."""
    named = {"channel": "email", "externalId": f"<1@{WORD}>", "sentAt": "2026-05-12T08:30:00Z"}
    message = {"authorType": "customer", "message": WORD, "externalId": f"<2@{WORD}>"}
    case = await open_case(client, customerId=CUSTOMER, initialMessage=message, **named)
    repeat = {"json": {"subject": "A parcel", **named}, "headers": {"Idempotency-Key": "k"}}
    await expect_json(client.post("/support/cases", **repeat))
    await erase()
    erased = await read_case(client, case)
    for each in (erased, *erased["messages"]):
        assert (each["externalId"], each["sentAt"]) == (None, "2026-05-12T08:30:00.000000Z")
    await expect_problem(await client.post("/support/cases", **repeat), 409, "idempotency_answer_lost")
    assert (await open_case(client, **named))["id"] != case["id"]
    again = await add_message(client, case, externalId=message["externalId"])
    assert again["id"] != case["messages"][0]["id"]


async def write_everywhere(client, case, other, server):
    """Write the word beside an erasure in each way in which something reaches a case, as staff and services do."""
    path = f"/support/cases/{case['id']}"
    patch = {"json": {"subject": f"{WORD} again", "tags": [WORD]}, "headers": {"Idempotency-Key": "late"}}
    split = await add_message(client, case, f"{WORD} moves", authorType="customer")
    await add_message(client, case, f"{WORD} asks again", authorType="customer")
    await add_message(client, case, f"Dear {WORD}", visibility="internal")
    await add_message(client, case, f"{WORD} is a customer", authorType="bot")
    await upload(client, case, f"a late file of {WORD}".encode(), filename=f"{WORD}-late.txt")
    staged = form(f"staged late by {WORD}".encode(), f"{WORD}-4.txt")
    await expect_json(client.post(f"{path}/attachments?staged=true", data=staged), 201)
    for _ in range(2):  # the second one is replayed
        await expect_json(client.patch(path, **patch))
    bulk = {"ids": [case["id"]], "change": {"addTags": [f"{WORD}-bulk"]}}
    changed = await expect_json(client.post("/support/cases/bulk", json=bulk))
    await expect_json(client.post(f"/support/cases/bulk/{changed['id']}/undo"))
    later = (utc_now() + timedelta(days=1)).isoformat()
    await expect_json(client.post(f"{path}/status", json={"status": "pending", "until": later}))
    moved = {"messageIds": [split["id"]], "subject": f"{WORD}'s other parcel"}
    await expect_json(client.post(f"{path}/split", json=moved), 201)
    await expect_json(client.post(f"{path}/links", json={"kind": "related", "caseId": other["id"]}), 201)
    await expect_json(client.post(f"{path}/close", json={"message": f"Bye {WORD}"}))
    await open_case(client, subject=f"{WORD} once more", customerId=CUSTOMER)
    record = {"json": {"name": f"{WORD} II"}, "headers": {"Idempotency-Key": "late-record"}}
    await expect_json(client.put(f"/support/customers/{CUSTOMER}", **record))
    view = {"name": WORD, "query": {"customerId": CUSTOMER}}
    await expect_json(client.post("/support/views", json=view), 201)
    await server.xadd("support.inbound", {"event": inbound("late", {"orderId": f"ORD-{WORD}"})})


@both_databases
async def test_what_is_written_beside_an_erasure_is_erased_too(
    client, two_cases, erase, database, server, monkeypatch, stored
):
    """The receipt has no `unreached`, so no word is left, and nothing that follows from the id of the customer.

    A message of a case that was erased twice counts once.
    """
    case, other = two_cases
    await wait_until_published(database)
    run, written = GarbageCollector.run, []

    async def run_after_writes(self):
        if not written:  # the cases are erased, and the erasure has not ended
            written.append(True)
            await write_everywhere(client, case, other, server)
        return await run(self)

    monkeypatch.setattr(GarbageCollector, "run", run_after_writes)
    receipt = await erase()
    assert (written, receipt.unreached, len(receipt.cases)) == ([True], [], 3)
    (counted,) = await database.fetch_all(sa.select(sa.func.count().label("number")).select_from(messages))
    assert receipt.erased["messages"] == counted.number
    await eventually(lambda: outbox_is_empty(database))
    text = await stored()
    left = [WORD, "erasing-", hashlib.sha256(CUSTOMER.encode()).hexdigest()[:16]]
    assert not [each for each in left if each in text]
    assert (await read_case(client, case))["customerId"] is None
    with pytest.raises(NotFound):
        await erase()


async def test_files_of_sqlite_have_no_erased_words(client, two_cases, erase, database, database_url):
    """SQLite only marks words as deleted, so the erasure rewrites the pages of the index while the service runs.

    The write-ahead log would keep them behind its new end.
    """
    pages = sa.text("SELECT block FROM ticket_search_data")
    files = Path(database_url.removeprefix("sqlite:///")).parent.glob("*.db*")
    files = {each: each.read_bytes() for each in files}
    assert any(WORD.encode() in content for content in files.values())
    await open_case(client, subject="Another parcel")
    assert any(WORD.encode() in page for (page,) in await database.fetch_all(pages))
    assert (await erase()).unreached == []
    assert not [each.name for each in files if each.exists() and WORD.encode() in each.read_bytes().lower()]
    assert not any(WORD.encode()[1:] in page for (page,) in await database.fetch_all(pages))  # a prefix may be shared
    assert len((await list_cases(client, q="another"))["items"]) == 2


async def test_response_to_a_request_in_progress_is_erased_once_it_is_stored(two_cases, erase, database, monkeypatch):
    """A change of the record has begun before the erasure. A request that does not end is named in the receipt."""
    keys, wait, stored = IdempotencyService(database), erasure.sleep, []
    response = StoredResponse(200, {}, to_json({"customerId": CUSTOMER, "name": WORD}))
    claims = [await keys.claim_or_read_response(name, "a request") for name in ("ends", "runs on")]

    async def store(seconds):
        if seconds == POLL_INTERVAL and not stored:
            stored.append(await keys.store_response(claims[0], response, "caller"))
        await wait(seconds)

    monkeypatch.setattr(erasure, "sleep", store)
    receipt = await erase(answers_timeout=0.2)
    assert (stored, receipt.unreached) == ([None], [erasure.ANSWERS_NOT_ERASED.format(1)])
    assert WORD.encode() not in b"".join(
        row.body or b"" for row in await database.fetch_all(sa.select(idempotency_keys))
    )


@both_databases
async def test_saved_views_that_show_only_the_customer_are_deleted(client, two_cases, erase, database, stored):
    """By the customer's id, an id of an order, payment or shipment, or a tag or channel that no other case has.

    So are the stored responses that have them.
    """
    case, other = two_cases
    await wait_until_published(database)
    payment = {"type": "payment", "paymentId": "PAY-77", "orderId": "ORD-78"}
    context = [*case["context"], payment, {"type": "shipment", "trackingNumber": "1Z999"}]
    tags = {"context": context, "tags": [WORD, "vip"]}
    await expect_json(client.patch(f"/support/cases/{case['id']}", json=tags))
    await expect_json(client.patch(f"/support/cases/{other['id']}", json={"tags": ["vip"]}))
    await open_case(client, customerId=CUSTOMER, channel="chat", tags=["only-here"], context=context)
    erased = {
        "one customer": {"customerId": CUSTOMER},
        "one order": {"orderId": f"ORD-{WORD}"},
        "an order": {"q": f"ord-{WORD}"},
        "a payment": {"q": "refund of PAY-77", "status": ["open"]},
        "the order of a payment": {"orderId": "ORD-78"},
        "a shipment": {"q": "1z999"},
        "About pay-77": {"status": ["open"]},
        "a tag": {"tag": ["only-here"]},
        "two tags": {"tag": ["vip", WORD]},
        "a channel": {"channel": case["channel"]},
    }
    kept = {"a shared tag": {"tag": ["vip"]}, "a known channel": {"channel": "chat"}, "other words": {"q": "pay 7"}}
    kept |= {"another customer": {"customerId": f"{CUSTOMER}-EU"}, "another order": {"orderId": "ORD-1"}}
    requests = {
        name: {"json": {"name": name, "query": query}, "headers": {"Idempotency-Key": name.replace(" ", "-")}}
        for name, query in (erased | kept).items()
    }
    for sent in requests.values():
        await expect_json(client.post("/support/views", **sent), 201)
    assert (await erase()).erased["views"] == len(erased)
    text = await stored()
    assert WORD not in text.replace(f"{CUSTOMER}-eu", "")
    left = await expect_json(client.get("/support/views"))
    assert {view["name"] for view in left["items"]} == kept.keys()
    for name in ("one customer", "one order"):
        await expect_problem(await client.post("/support/views", **requests[name]), 409, "idempotency_answer_lost")
    async with client.post("/support/views", **requests["another order"]) as response:
        assert response.headers["Idempotency-Replayed"] == "true"
    assert (await verify_chain(database)).flaw is None


def inbound(identifier, data):
    """Return an event without a status, which becomes a dead letter."""
    head = {"specversion": "1.0", "id": identifier, "source": "/orders", "type": "order.status.changed.v1"}
    return json.dumps(head | {"time": "2026-05-12T09:00:00Z", "data": data})


async def dead_letters(client):
    return [letter["event"] for letter in (await expect_json(client.get("/support/dead-letters")))["items"]]


async def add_dead_letters(client, server, *events):
    for event in events:
        await server.xadd("support.inbound", {"event": event})

    async def are_there():
        return len(await dead_letters(client)) == len(events)

    await eventually(are_there)


async def test_dead_letters_about_the_customer_are_dropped(client, two_cases, erase, database, server):
    """Dead letters that name an object of the customer's cases, also if they can't be read. Others stay for on-call."""
    await wait_until_published(database)
    await open_case(client, customerId=CUSTOMER, context=[{"type": "payment", "paymentId": "7", "orderId": "ORD-8"}])
    kept = inbound("7", {"orderId": "ORD-2"})
    about = [
        inbound("1", {"orderId": f"ORD-{WORD}"}),
        inbound("2", {"order": {"id": "ORD-1", "owner": CUSTOMER}}),
        inbound("3", {"paymentId": 7}),
        inbound("4", {"orderId": "ORD-8"}),
        f"order ORD-{WORD} is late",
    ]
    await add_dead_letters(client, server, kept, *about)
    receipt = await erase()
    assert (receipt.erased["deadLetters"], receipt.unreached) == (len(about), [])
    assert await dead_letters(client) == [kept]
    dropped = await expect_json(client.get("/support/audit?action=dead-letter.dropped"))
    assert len(dropped["items"]) == len(about)
    assert WORD not in str(await server.xrange("support.inbound.dead"))
    assert WORD not in str(await server.xrange("support.inbound"))
    assert len(await server.xrange("support.inbound")) == 1  # the event that others need stays for a restore


async def test_dead_letters_are_dropped_by_the_next_erasure_if_redis_was_down(client, two_cases, erase, redis, server):
    """The cases keep what they refer to until then, so that it finds them."""
    await add_dead_letters(client, server, inbound("1", {"orderId": f"ORD-{WORD}"}))
    redis.freeze()
    try:
        receipt = await erase(relay_timeout=0.1, redis_timeout=0.1)
    finally:
        redis.thaw()
    assert any("dead letters" in each for each in receipt.unreached)
    assert (await erase()).erased["deadLetters"] == 1
    assert await dead_letters(client) == []
    assert (await list_cases(client, orderId=f"ORD-{WORD}"))["items"] == []


async def test_response_in_progress_during_an_erasure_is_not_stored(make_client, erase, database, payments):
    """A refresh stores no response at all, and what it collects afterwards is erased."""
    client = await make_client(SUPPORT_PAYMENT_URL=payments.url, SUPPORT_TIMELINE_SOURCE_TIMEOUT="20")
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
    assert (await expect_json(client.post(**refreshing)))["subject"] == ERASED_TEXT
    assert WORD not in str([tuple(row) for row in await database.fetch_all(sa.select(idempotency_keys))])


async def test_timeline_that_is_collected_during_an_erasure_does_not_stay_in_redis(
    make_client, erase, payments, server, monkeypatch
):
    """It is stored after the timelines were deleted. They are deleted again when each collection and its lease end."""
    variables = {"SUPPORT_TIMELINE_SOURCE_TIMEOUT": "20"}
    client = await make_client(SUPPORT_PAYMENT_URL=payments.url, **variables)
    context = [{"type": "payment", "paymentId": "PAY-1"}]
    case = await open_case(client, customerId=CUSTOMER, subject=WORD, context=context)
    key = cache_key(case["id"])
    answered, paused = payments.hang(), []
    reading = asyncio.create_task(read_detail(client, case))
    await eventually(lambda: payments.waiting == 1)

    async def pause(seconds):
        if seconds > 20 + SingleFlightTimings().lease:
            answered.set()
            await reading
            paused.append(await server.exists(key))
            await eventually(lease_is_released)  # no reader waits for it

    async def lease_is_released():
        return await server.keys(f"{key}:*") == []

    monkeypatch.setattr(erasure, "sleep", pause)
    assert not (await erase(variables=variables, collecting=None)).unreached
    assert (paused, await server.keys("support:timeline:*")) == ([1], [])


async def test_pending_events_are_erased_while_redis_is_down(client, two_cases, erase, database, redis, server, stored):
    """The receipt names what could not be reached, and the next erasure completes it."""
    case, other = two_cases
    await wait_until_published(database)
    (file,) = (await read_case(client, case))["attachments"]
    redis.kill()
    await add_message(client, case, f"Where is {WORD}'s parcel?")
    await expect_json(client.delete(f"/support/cases/{case['id']}/attachments/{file['id']}"), 204)
    receipt = await erase()
    assert len(receipt.unreached) == 3
    assert receipt.erased["outboxEvents"] >= 2
    waiting = [event for (event,) in await database.fetch_all(sa.select(outbox.c.event).order_by(outbox.c.seq))]
    assert not [event for event in waiting if WORD in event or file["sha256"] in event]
    events = [json.loads(event) for event in waiting]
    # An event of the other case may not be published yet.
    assert {event["subject"] for event in events} <= {case["id"], other["id"]}
    removed = events[-1]["data"]
    assert (removed["changeType"], removed["attachment"]["id"]) == ("attachment.removed", file["id"])
    redis.start()
    assert (await erase()).unreached == []
    assert file["sha256"] not in str(await server.xrange("support.events"))
    assert WORD not in await stored()


async def test_event_published_during_an_erasure_is_erased_too(client, two_cases, erase, database, server, monkeypatch):
    """The relay read the event before the erasure and publishes it afterwards. An erasure that can't wait says so."""
    case, _ = two_cases
    await wait_until_published(database)
    publishing, resume = hold_publications(monkeypatch)
    await add_message(client, case, f"Where is {WORD}'s parcel?")
    await publishing.wait()
    assert (await erase(relay_timeout=0.1)).unreached == [f"the stream of events: {erasure.NOT_RELAYED}"]
    erasing = asyncio.create_task(erase())
    await asyncio.wait([erasing], timeout=1)  # an erasure that does not wait for the relay ends within this time
    resume.set()
    assert (await erasing).unreached == []
    await eventually(lambda: outbox_is_empty(database))
    assert WORD not in str(await server.xrange("support.events"))


@pytest.mark.parametrize("is_ended", [True, False])
async def test_copy_that_offload_is_writing_is_waited_for(two_cases, erase, database, monkeypatch, is_ended):
    """The run of the offload finds then that the file is gone. If it does not end, the receipt names the copy."""
    at = utc_now()
    async with database.transaction() as tx:
        (claimed,) = await claim_files(tx, "local", at, at, mover="run", until=at + timedelta(minutes=2), limit=1)
        copy = GarbageEntry("local", new_key(), claimed.size_bytes)
        await add_garbage(tx, [copy], at + timedelta(minutes=2), mover="run")
    wait, ended = erasure.sleep, []

    async def end_run(seconds):
        if seconds == erasure.FILES_INTERVAL and is_ended and not ended:
            async with database.transaction() as tx:
                ended.append(await switch_to_copy(tx, claimed, "local", copy.key, mover="run", due_at=utc_now()))
        await wait(seconds)

    monkeypatch.setattr(erasure, "sleep", end_run)
    receipt = await erase(**({} if is_ended else {"files_timeout": 0.1}))
    assert (ended, [line for line in receipt.unreached if "bytes of 1 files" in line]) == (
        ([False], []) if is_ended else ([], receipt.unreached[:1])
    )
    assert bool(receipt.unreached) != is_ended
    assert bool(await find_garbage(database, [copy])) != is_ended


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_erasure_does_not_block_uploads(client, two_cases, erase, database):
    """Files of other cases are stored meanwhile."""
    _, other = two_cases
    lock_request = "relation = 'webhook_deliveries'::regclass AND mode = 'RowShareLock'"
    waits = sa.text(f"SELECT 1 FROM pg_locks WHERE {lock_request} AND NOT granted")
    async with database.transaction() as tx:
        # Uploads do not use this table.
        await tx.execute(sa.text("LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE"))
        erasing = asyncio.create_task(erase())
        await eventually(lambda: database.fetch_now(waits))
        await upload(client, other, FILES[0])
    assert (await erasing).erased["files"] == 2


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_file_that_the_customer_stages_during_the_erasure_is_erased_too(
    make_client, client, two_cases, erase, database, tmp_path, stored
):
    """It waits for the erasure of the case, and is stored after it."""
    token = write_token(tmp_path / "tokens.json", "customer", role="customer", subject=CUSTOMER)
    shop = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(tmp_path / "tokens.json"))
    path = f"/support/cases/{two_cases[0]['id']}/attachments?staged=true"
    await wait_until_published(database)
    free = sa.select(tickets.c.id).where(tickets.c.customer_id == CUSTOMER).with_for_update(read=True, skip_locked=True)
    upload_waits = sa.text("SELECT 1 FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted")
    async with database.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE"))
        erasing = asyncio.create_task(erase())

        async def has_begun():
            async with database.transaction() as other:
                return not await other.fetch_now(free)

        await eventually(has_begun)
        headers = {"Authorization": f"Bearer {token}"}
        sending = asyncio.create_task(shop.post(path, data=form(f"{WORD}, too".encode()), headers=headers))

        async def has_decided():
            return sending.done() or await database.fetch_now(upload_waits)

        await eventually(has_decided)
    async with await sending as response:
        assert response.status in (201, 404)  # 404 if the erasure has ended first
    assert (await erasing).unreached == []
    assert WORD not in await stored()


@both_databases
async def test_client_that_read_the_customer_sees_the_removal(client, database):
    """A case that was read during an erasure has another ETag after it. A change in between keeps the customer."""
    path = f"/support/cases/{(await open_case(client, customerId=CUSTOMER))['id']}"
    case_id = path.rpartition("/")[2]
    async with database.transaction() as tx:
        await erase_case(tx, case_id, ())
    async with client.get(path) as response:
        known = response.headers["ETag"]
        assert (await response.json())["customerId"] == CUSTOMER
    version = (await database.fetch_now(sa.select(tickets.c.version))).version
    for before in (version - 1, version):
        async with database.transaction() as tx:
            assert await release_case(tx, case_id, before) == (before == version)
    async with client.get(path, headers={"If-None-Match": known}) as response:
        assert (response.status, (await response.json())["customerId"]) == (200, None)


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_files_that_the_service_is_deleting_are_waited_for(two_cases, erase, database, monkeypatch, is_deleted):
    """Its collector of garbage has claimed them first. If it does not end, the receipt names the files."""
    run = GarbageCollector.run
    left = []

    async def run_second(self):
        async with database.transaction() as tx:
            claimed = await claim_due_garbage(tx, utc_now(), 10, until=utc_now() + BATCH_LEASE)
        if is_deleted:
            left.append(asyncio.create_task(delete(claimed)))
        return await run(self)

    async def delete(claimed):
        async with database.transaction() as tx:
            await delete_garbage_entries(tx, claimed)

    monkeypatch.setattr(GarbageCollector, "run", run_second)
    receipt = await erase(**({} if is_deleted else {"files_timeout": 0.1}))
    await asyncio.gather(*left)
    assert [line for line in receipt.unreached if "bytes of 2 files" in line] == receipt.unreached
    assert bool(receipt.unreached) != is_deleted


async def test_case_that_a_split_opens_during_the_erasure_is_erased_too(client, erase, monkeypatch):
    """Messages that leave a case between the list of cases and its erasure are not missed."""
    case = await open_case(client, customerId=CUSTOMER, description="Hello")
    message = await add_message(client, case, "I live on Betelgeuse", authorType="customer")
    read_case_ids, opened = cases.read_case_ids_of_customer, []

    async def read_before_the_split(*arguments):
        found = await read_case_ids(*arguments)
        if not opened:
            body = {"messageIds": [message["id"]], "subject": "Another"}
            opened.append(await expect_json(client.post(f"/support/cases/{case['id']}/split", json=body), 201))
        return found

    monkeypatch.setattr(cases, "read_case_ids_of_customer", read_before_the_split)
    assert (await erase()).cases == [case["id"], opened[0]["id"]]
    found = await read_case(client, opened[0])
    assert (found["customerId"], found["messages"][0]["message"]) == (None, "[erased]")
    assert (await list_cases(client, q="betelgeuse"))["items"] == []


@both_databases
async def test_documented_statement_lets_an_erasure_complete_that_of_the_previous_release(
    client, two_cases, erase, database, stored
):
    """That release removes the customer's id, leaves what it does not know, and names the case in the audit log.

    A record that it leaves is erased by another run, when the customer has no case any more.
    """
    case, other = two_cases
    await wait_until_published(database)
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        await work.tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(customer_id=None))
        await log.erase_cases(work, [case["id"]], utc_now())
    page = UPGRADES.read_text(encoding="utf-8")
    (statement,) = re.findall(r"## Erasures by the previous release.*?```sql\n(.*?);\n *```", page, re.DOTALL)
    async with database.transaction() as tx:
        await tx.execute(sa.text(statement.replace("customer-17", CUSTOMER)))
    receipt = await erase()
    assert (receipt.cases, receipt.unreached) == ([case["id"]], [])
    text = await stored()
    assert not [each for each in (WORD, *HASHES) if each in text]
    assert [(await read_case(client, each))["customerId"] for each in (other, case)] == ["trillian", None]
    await expect_json(client.put(f"/support/customers/{CUSTOMER}", json={"name": WORD}), 201)
    receipt = await erase()
    assert (receipt.cases, receipt.erased["records"]) == ([], 1)
    with pytest.raises(NotFound):
        await erase()


async def merge_trillian(client):
    """Say that both customers are one person, who has a third id without a case."""
    record = {"name": f"{WORD} and Trillian", "notes": f"{WORD} again"}
    await expect_json(client.put("/support/customers/third", json=record), 201)
    for customer, into in (("trillian", CUSTOMER), (CUSTOMER, "third")):
        await expect_json(client.post(f"/support/customers/{customer}/merge", json={"into": into}))


async def test_erasure_of_one_id_names_the_others_of_the_person(client, two_cases, erase):
    """The link is erased. What was merged into the id is a person of its own, and the others stay one."""
    await merge_trillian(client)
    receipt = await erase()
    assert (receipt.cases, receipt.other_identities) == ([two_cases[0]["id"]], ["third", "trillian"])
    for each in ("third", "trillian"):
        page = await expect_json(client.get(f"/support/customers/{each}"))
        assert (page["identities"], len(page["cases"])) == ([each], int(each == "trillian"))


@both_databases
async def test_erasure_of_all_ids_leaves_nothing_of_the_person(client, two_cases, erase, monkeypatch, stored):
    """Also if a run was interrupted: the links tell the next one which ids are left."""
    await merge_trillian(client)

    async def fail(*_):
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(CustomerErasure, "_delete_inbound_events", fail)
        with pytest.raises(RuntimeError):
            await erase(all_identities=True)
    assert f"{WORD} again" not in await stored()
    receipt = await erase(all_identities=True)
    assert (sorted(receipt.cases), receipt.erased["records"]) == (sorted(case["id"] for case in two_cases), 3)
    assert receipt.unreached == []
    text = await stored()
    assert not any(each in text for each in (WORD, "trillian"))
    assert len((await expect_json(client.get("/support/audit?action=customer.erased")))["items"]) == 3


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_erasure_waits_for_a_change_of_the_record(client, database):
    """The words by which a change lets the customer be found are erased, too."""
    await expect_json(client.put(f"/support/customers/{CUSTOMER}", json={"notes": "Call her."}), 201)
    waits = sa.text("SELECT 1 FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted")

    async def erase_contents():
        async with database.transaction() as tx:
            await customers.erase_contents(tx, [CUSTOMER])

    async with database.transaction() as change:
        await change.fetch_now(customers.LOCK_RECORD, {"id": CUSTOMER})
        erasing = asyncio.create_task(erase_contents())
        await eventually(lambda: database.fetch_now(waits))
        await change.execute(customer_terms.insert(), {"customer_id": CUSTOMER, "term": WORD})
    await erasing
    assert not await database.fetch_all(sa.select(customer_terms))
