"""Cases that a replica keeps encoded: whatever changes a case, the next read of any replica shows it."""

import asyncio
import threading

import pytest

from support_service.api.case_document.cached_documents import CaseDocuments
from support_service.api.case_document.encoder import CaseEncoder
from support_service.cases.sql.case_reading import MAX_INLINE_BYTES
from support_service.core.domain.principals import SYSTEM
from tests.support.calls import add_message, expect_json, open_case, read_case, read_detail, upload
from tests.support.scrape import Changes
from tests.support.service import service_of

TEXT = "x" * 60_000


def events(changes):
    """Return how many reads found the case unchanged, and how many encoded it."""
    return tuple(changes.value("support_case_cache_events_total", event=event) for event in ("hit", "miss"))


async def change(client, case, **fields):
    await expect_json(client.patch(f"/support/cases/{case['id']}", json=fields))


@pytest.fixture
async def replicas(make_client):
    """Two replicas of the service on one database."""
    return await make_client(), await make_client()


@pytest.fixture
def threads(monkeypatch):
    """The threads in which cases were encoded."""
    found, encode = [], CaseEncoder.encode

    def recorded(self, *arguments):
        found.append(threading.current_thread())
        return encode(self, *arguments)

    monkeypatch.setattr(CaseEncoder, "encode", recorded)
    return found


async def test_unchanged_case_is_encoded_once(client, make_shared_client, monkeypatch):
    """A cache of no bytes keeps nothing."""
    monkeypatch.setattr("support_service.service.CASE_CACHE_BYTES", 0)
    without = await make_shared_client()
    for each, expected in ((client, (2, 1)), (without, (0, 3))):
        changes, case = Changes(service_of(each).metrics), await open_case(each)
        first = await read_case(each, case)
        assert [await read_case(each, case), await read_case(each, case)] == [first, first]
        assert events(changes) == expected


async def test_every_change_is_seen_by_another_replica(replicas):
    """Messages, fields, status, files and their visibility."""
    writer, reader = replicas
    case = await open_case(writer)
    seen = [await read_case(reader, case)]

    async def expect_change(what):
        found = await read_case(reader, case)
        assert found != seen[-1], what
        assert found == await read_case(writer, case)
        seen.append(found)
        return found

    await add_message(writer, case)
    await expect_change("message")
    await change(writer, case, subject="Another parcel")
    await expect_change("subject")
    file = await upload(writer, case)
    await expect_change("file")
    await add_message(writer, case, attachmentUri=file["uri"], visibility="internal")
    assert (await expect_change("visibility"))["attachments"][0]["visibility"] == "internal"
    await expect_json(writer.delete(f"/support/cases/{case['id']}/attachments/{file['id']}"), 204)
    assert (await expect_change("deletion"))["attachments"] == []
    await expect_json(writer.post(f"/support/cases/{case['id']}/close"))
    await expect_change("status")


async def test_long_case_is_encoded_once_for_concurrent_readers(client, metric_changes):
    """It is read off the event loop; with its timeline it has every message, too."""
    case = await open_case(client, context=[{"type": "note", "timestamp": "2020-01-01T00:00:00Z"}])
    sent = [await add_message(client, case, TEXT) for _ in range(MAX_INLINE_BYTES // len(TEXT) + 1)]
    answers = await asyncio.gather(*(read_case(client, case) for _ in range(8)))
    assert [answer["messages"] for answer in answers] == [sent] * 8
    assert events(metric_changes) == (7, 1)
    details = await asyncio.gather(*(read_detail(client, case) for _ in range(4)))
    types = ["note", "case-event", *["conversation"] * len(sent)]
    assert [[entry["type"] for entry in each["timeline"]] for each in details] == [types] * 4
    assert events(metric_changes) == (11, 1)


async def test_kept_cases_need_no_more_memory_than_allowed(make_client, monkeypatch):
    """The cases that were read last are kept; a case that needs more memory than allowed is not."""
    monkeypatch.setattr("support_service.service.CASE_CACHE_BYTES", 100_000)
    client = await make_client()
    documents: CaseDocuments = service_of(client).documents
    changes = Changes(service_of(client).metrics)
    first, second = [await open_case(client, description=TEXT) for _ in range(2)]
    for case in (first, second, second):
        await read_case(client, case)
    assert documents.kept_bytes < 100_000
    assert events(changes) == (1, 2)
    await read_detail(client, first)
    await add_message(client, first, TEXT)
    await read_case(client, first)
    await read_case(client, first)
    assert events(changes) == (1, 5)
    assert documents.kept_bytes < 100_000


async def test_long_part_and_long_closed_case_are_encoded_in_a_thread(client, threads):
    """A short part is encoded at once, on the event loop."""
    case = await open_case(client)
    sent = [await add_message(client, case, TEXT) for _ in range(MAX_INLINE_BYTES // len(TEXT) + 1)]
    assert (await read_case(client, case, messagesLimit="200"))["messages"] == sent
    documents: CaseDocuments = service_of(client).documents
    await documents.read_page(SYSTEM, "masked", case["id"], None, 200)
    assert (await expect_json(client.post(f"/support/cases/{case['id']}/close")))["messages"] == sent
    assert len(threads) == 3
    assert threading.current_thread() not in threads
    await read_case(client, case, messagesLimit="1")
    assert threads[3:] == [threading.current_thread()]


@pytest.mark.parametrize("long", [False, True])
async def test_timeline_of_a_closed_case_is_that_of_a_read(client, long):
    """Without services, a case has the same entries wherever they are read."""
    context = [{"type": "note", "timestamp": "2020-01-01T00:00:00Z"}, {"mood": "calm"}]
    first = {"authorType": "customer", "message": "Hello", "metadata": {"a": [1, None]}}
    case = await open_case(client, context=context, initialMessage=first)
    assert case["timeline"] == (await read_detail(client, case))["timeline"]
    assert [entry["type"] for entry in case["timeline"]] == ["note", "context", "case-event", "conversation"]
    await upload(client, case)
    for _ in range(5 if long else 1):
        await add_message(client, case, TEXT)
    closed = await expect_json(client.post(f"/support/cases/{case['id']}/close"))
    read = await read_detail(client, case)
    assert closed["timeline"] == read["timeline"]
    assert closed | {"timeline": []} == await read_case(client, case)
    assert {source["status"] for source in closed["timelineSources"].values()} == {"none"}
