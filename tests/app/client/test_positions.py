"""The position that the client sends with lists, so that they show what it has written and was told of."""

import asyncio
import json
from contextlib import aclosing

import pytest
from aiohttp import web

POSITION = "Support-Position"
CHANGE = {"caseId": "c-1", "version": 2, "changeType": "case.changed", "at": "2026-05-12T08:30:00Z"}


@pytest.fixture
async def service(answering):
    """A service whose answers have the positions that a test adds; gives its client, and what lists were sent."""
    to_give, sent = {}, []

    async def answer(request):
        if request.path == "/support/stream":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(to_give["stream"].encode())
            await asyncio.Event().wait()
        sent.append((request.method, request.headers.get(POSITION)))
        await to_give.get("waits", asyncio.sleep)(0)
        position = to_give.get(request.method)
        headers = {POSITION: position} if position else {}
        if request.method == "GET":
            return web.json_response({"count": 0, "more": False}, headers=headers)
        return web.Response(status=204, headers=headers)

    client = await answering(answer)

    async def position_sent():
        await client.count_cases()
        return sent[-1][1]

    return client, to_give, position_sent


async def test_greatest_position_of_all_answers_is_sent_with_reads(service):
    """Answers may come in another order than their changes; a write needs no position."""
    client, to_give, position_sent = service
    assert await position_sent() is None
    for given, known in (("0b", "0b"), ("0a", "0b"), ("1a", "1a")):
        to_give["DELETE"] = given
        await client.delete_view("v-1")
        assert await position_sent() == known
    to_give["GET"] = "1c"
    await client.count_cases()
    assert await position_sent() == "1c"


async def test_position_is_forgotten_after_a_write_whose_answer_has_none(service):
    """Nothing is known of that write, such as one that a replica of an older release has made."""
    client, to_give, position_sent = service
    to_give["DELETE"] = "0b"
    await client.delete_view("v-1")
    del to_give["DELETE"]
    await client.delete_view("v-2")
    assert await position_sent() is None
    to_give["GET"] = "0a"
    await client.count_cases()
    assert await position_sent() == "0a"


async def test_answer_to_an_earlier_request_does_not_bring_a_position_back(service):
    """It may lie before the write whose position is unknown."""
    client, to_give, position_sent = service
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def wait(_seconds):
        arrived.set()
        await may_answer.wait()

    to_give |= {"waits": wait, "GET": "0a"}
    earlier = asyncio.create_task(client.count_cases())
    await arrived.wait()
    to_give["waits"] = asyncio.sleep
    await client.delete_view("v-1")
    may_answer.set()
    await earlier
    del to_give["GET"]
    assert await position_sent() is None


@pytest.mark.parametrize(
    ("name", "data", "known"),
    [
        ("support.case.updated.v1", CHANGE | {"commitPosition": "0c"}, "0c"),
        ("support.case.updated.v1", CHANGE, "0b"),
        ("support.case.updated.v1", CHANGE | {"commitPosition": ""}, None),
        ("resync", {"reason": "trimmed"}, None),
    ],
    ids=["change", "change without a position", "unknown position", "resync"],
)
async def test_stream_tells_positions(service, name, data, known):
    """A list after a change shows it; after changes were missed, the primary tells a new position."""
    client, to_give, position_sent = service
    to_give |= {"DELETE": "0b", "stream": f"id: e.1-0\nevent: {name}\ndata: {json.dumps(data)}\n\n"}
    await client.delete_view("v-1")
    async with aclosing(client.stream()) as changes:
        await anext(changes)
        assert await position_sent() == known
