"""The stream of changes: against a server that breaks it, and with a notification of the service."""

import asyncio
import dataclasses
import json
from contextlib import aclosing

import pytest
from aiohttp import web

from support_service.client import (
    Change,
    Forbidden,
    Notification,
    Presence,
    Resync,
    SupportClient,
    Unavailable,
    UnexpectedAnswer,
)
from tests.support.calls import eventually
from tests.support.client.fixtures import QUICK
from tests.support.service import service_of
from tests.support.stream_desk import open_desk

CASE = {"id": "c-1", "subject": "Parcel late", "description": None, "customerId": None, "status": "open"}
CASE |= {"priority": "low", "channel": "email", "assignedAgentId": None, "team": None, "context": [], "tags": []}
CASE |= {"createdAt": "2026-05-12T08:30:00Z", "updatedAt": "2026-05-12T08:30:00Z"}
CHANGE = {
    "caseId": "c-1",
    "eventId": "e-1",
    "version": 2,
    "changeType": "message.added",
    "at": "2026-05-12T08:30:00Z",
    "case": CASE,
}


def event(position, name="support.case.updated.v1", **members):
    return f"id: {position}\nevent: {name}\ndata: {json.dumps(CHANGE | members)}\n\n"


OPEN = ": this connection stays open\n\n"


@pytest.fixture
def streaming(answering):
    """Serve one part of a stream for each connection; gives the client and the positions that it asked for."""

    async def serve(*parts, **options):
        positions, left = [], list(parts)

        async def answer(request):
            positions.append(request.headers.get("Last-Event-ID"))
            assert request.headers["Accept"] == "text/event-stream"
            part = left.pop(0)
            if isinstance(part, int):
                return web.Response(status=part)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(part.encode())
            if not left or part.endswith(OPEN):
                await asyncio.Event().wait()
            request.transport.close()
            return response

        return await answering(answer, **options), positions

    return serve


async def first(items, number):
    """Return the first items of a stream."""
    found = []
    async with aclosing(items):
        async for item in items:
            found.append(item)
            if len(found) == number:
                break
    return found


async def test_change_has_what_the_service_sends(streaming):
    message = {"id": "m", "ticketId": "c-1", "authorType": "agent", "message": "On it.", "attachmentUri": None}
    message |= {"sentiment": None, "metadata": None, "visibility": "public", "createdAt": "2026-05-12T08:30:00Z"}
    api, _ = await streaming(": heartbeat\n\n" + event("1-0", actor="lan", message=message))
    (change,) = await first(api.stream(), 1)
    assert isinstance(change, Change)
    assert (change.position, change.type, change.version) == ("1-0", "support.case.updated.v1", 2)
    assert change.event_id == "e-1"
    assert (change.actor, change.case.subject, change.message.message) == ("lan", "Parcel late", "On it.")
    assert (hasattr(change.case, "synthetic"), change.case.version) == (False, 0)


async def test_stream_goes_on_after_its_position(streaming):
    api, positions = await streaming(event("1-0"), event("2-0") + "id: 2-5\n\n", 503, ": nothing new\n\n", event("3-0"))
    changes = await first(api.stream(), 3)
    assert [change.position for change in changes] == ["1-0", "2-0", "3-0"]
    assert positions == [None, "1-0", "2-5", "2-5", "2-5"]


async def test_stream_begins_after_a_position(streaming):
    api, positions = await streaming(event("8-0"))
    await first(api.stream(after="7-0"), 1)
    assert positions == ["7-0"]


async def test_missed_changes_are_a_value(streaming):
    """The position of another broker is forgotten, also if the service names no new one."""
    api, positions = await streaming(
        "event: resync\nid: 9-0\ndata: {}\n\n", "event: resync\ndata: {}\n\n", event("1-0")
    )
    items = await first(api.stream(after="old"), 3)
    assert items[:2] == [Resync("9-0"), Resync(None)]
    assert positions == ["old", "9-0", None]


async def test_presence_is_a_value(streaming):
    viewers = {"caseId": "c-1", "viewers": [{"name": "lan", "state": "typing"}]}
    api, _ = await streaming(f"event: presence\ndata: {json.dumps(viewers)}\n\n")
    (presence,) = await first(api.stream(), 1)
    assert isinstance(presence, Presence)
    assert [(viewer.name, viewer.state) for viewer in presence.viewers] == [("lan", "typing")]


async def test_notification_of_a_mention_is_a_value(make_client, tmp_path):
    """It comes before its change, after which the stream goes on."""
    desk = await open_desk(make_client, tmp_path / "tokens.json")
    await desk.send("PUT", "/support/agents/agent-1", json={"teams": ["returns"]})
    case = await desk.open_case()
    await desk.publish_all()
    async with SupportClient(str(desk.client.make_url("/")), token=desk.tokens["lan"], timings=QUICK) as lan:
        following = asyncio.create_task(first(lan.stream(), 3))
        await eventually(lambda: len(service_of(desk.client).stream) == 1)
        note = await desk.add(case, authorType="agent", visibility="internal", message="Can you help, @agent-1?")
        await desk.change(case, priority="high")
        notification, mention, change = await following
        assert isinstance(notification, Notification)
        assert (notification.kind, notification.case_id, notification.message_id) == ("mention", case["id"], note["id"])
        assert [notification] == [each async for each in lan.list_notifications()][-1:]
    assert [mention.change_type, change.change_type] == ["conversation.added", "case.changed"]


async def test_event_of_an_unknown_type_is_left_out(streaming):
    """A later release may send one; a broken stream goes on after it."""
    unknown = 'id: 2-0\nevent: support.case.praised.v1\ndata: [7]\n\nevent: weather\ndata: {"wind": 3}\n\n'
    api, positions = await streaming(event("1-0") + unknown, event("3-0"))
    assert [change.position for change in await first(api.stream(), 2)] == ["1-0", "3-0"]
    assert positions == [None, "2-0"]


async def test_refusal_is_raised(streaming):
    api, _ = await streaming(event("1-0"), 403)
    with pytest.raises(Forbidden):
        await first(api.stream(), 2)


async def test_unknown_form_of_an_event_is_raised(streaming):
    api, _ = await streaming("id: 1\nevent: support.case.updated.v1\ndata: [7]\n\n")
    with pytest.raises(UnexpectedAnswer):
        await first(api.stream(), 1)


async def test_stream_gives_up_only_if_it_is_told(streaming):
    api, positions = await streaming(event("1-0"), *[503] * 50, event("2-0"))
    assert len(await first(api.stream(), 2)) == 2
    assert len(positions) == 52
    api, _ = await streaming(event("1-0"), *[503] * 500)
    with pytest.raises(Unavailable):
        await first(api.stream(give_up_after=0.05), 2)


async def test_silent_connection_is_given_up(streaming):
    """Without a comment for longer than the service's interval the connection is dead."""
    quiet = dataclasses.replace(QUICK, silence=5.0)
    api, positions = await streaming(event("1-0") + OPEN, event("2-0"), timings=quiet)
    assert len(await first(api.stream(), 2)) == 2
    assert positions == [None, "1-0"]


async def test_presence_is_sent(answering):
    seen = []

    async def answer(request):
        seen.append((request.method, request.path, await request.json()))
        return web.Response(status=204)

    await (await answering(answer)).put_presence("c-1", "typing")
    assert seen == [("PUT", "/support/cases/c-1/presence", {"state": "typing"})]
