"""The stream of changes: which part of a change each role gets, replays, limits, and how a stream ends."""

import asyncio
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio

from support_service.client import Change
from support_service.core.clock import utc_now
from support_service.platform.access.tokens import edit_token_file
from support_service.platform.database.tables import case_clocks
from support_service.platform.settings.process import LimitSettings
from support_service.stream.feed import FeedTimings
from support_service.stream.subscribers import QueueLimits
from tests.support.access.fixtures import write_token
from tests.support.calls import add_message, eventually, expect_problem, open_case, read_case
from tests.support.events.fixtures import outbox_is_empty
from tests.support.scrape import Scrape
from tests.support.service import empty, service_of
from tests.support.stream import PATH, follow
from tests.support.stream_desk import MESSAGE, open_desk, quick


@pytest.fixture
def token_file(tmp_path):
    return tmp_path / "tokens.json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_desk(make_shared_client, tmp_path_factory):
    return await open_desk(make_shared_client, tmp_path_factory.mktemp("desk") / "tokens.json")


@pytest_asyncio.fixture(loop_scope="module")
async def desk(shared_desk):
    """A service with a caller of each kind, and without cases or changes of other tests."""
    await shared_desk.publish_all()
    await empty(shared_desk.client)
    return shared_desk


@pytest_asyncio.fixture(loop_scope="module")
async def client(shared_client):
    """A client of a service whose tests find no changes of others."""
    await eventually(lambda: outbox_is_empty(service_of(shared_client).database))
    return shared_client


async def test_each_change_is_sent_once_with_its_case(client, metric_changes):
    """The event has the type, the version that the case has now, and what a row of a list shows."""
    async with follow(client) as stream:
        case = await open_case(client, description="Long", initialMessage=MESSAGE, tags=["vip"])
        await add_message(client, case, "On it.")
        async with client.post(f"/support/cases/{case['id']}/close") as response:
            etag = response.headers["ETag"]
        await eventually(lambda: len(stream.changes) == 4)
        types = [(event.name.split(".")[2], event.data["changeType"]) for event in stream.changes]
        assert types == [
            ("opened", "case.opened"),
            ("updated", "conversation.added"),
            ("updated", "status.changed"),
            ("closed", "case.closed"),
        ]
        assert [event.data["version"] for event in stream.changes] == [1, 2, 3, 3]
        assert etag == '"3"'
        opened, added, _, closed = (event.data for event in stream.changes)
        assert opened["message"]["message"] == "Where is it?"
        assert opened["case"]["waitingSince"] == opened["at"]
        assert opened["case"]["lastCustomerMessage"] == {"text": "Where is it?", "at": opened["at"]}
        assert "lastCustomerMessage" not in added["case"]
        assert added["message"]["message"] == "On it."
        assert added["case"]["waitingSince"] is None
        assert closed["case"]["status"] == "closed"
        assert {event.data["actor"] for event in stream.changes} == {"anyone"}
        await eventually(lambda: metric_changes.value("support_stream_sent_total") == 4)
        listed = await read_case(client, case)
        row = {name: listed[name] for name in closed["case"] if name in listed}
        assert closed["case"] == row
        assert added["case"]["lastMessageAt"] == added["at"]
        assert row["description"] == "Long"
        assert len({event.id for event in stream.changes}) == 4
        for event in stream.changes:
            Change.model_validate(event.data)


async def test_stream_has_the_format_of_server_sent_events(client):
    """It must not be stored or buffered, begins with `retry`, and states its position before the first change."""
    async with client.get(PATH) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert await response.content.readline() == b"retry: 2000\n"
    async with client.head(PATH) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
    async with follow(client) as stream:
        await eventually(lambda: stream.last_id)


async def test_each_caller_gets_the_changes_of_its_cases(desk):
    """Customers get their own cases without notes and actors, agents theirs, analysts all without customers' data."""
    async with (
        desk.follow("ann") as ann,
        desk.follow("bob") as bob,
        desk.follow("lan") as lan,
        desk.follow("minh") as minh,
        desk.follow("analyst") as analyst,
        desk.follow("supervisor") as all_changes,
    ):
        case = await desk.open_case(customerId="customer-1", assignedAgentId="agent-1", initialMessage=MESSAGE)
        await desk.add(case, authorType="agent", message="She is cross.", visibility="internal")
        await desk.add(case, authorType="agent", message="On its way.")
        other = await desk.open_case(customerId="customer-2", team="billing")
        await eventually(lambda: len(all_changes.changes) == 4 and len(analyst.changes) == 4)
        await eventually(lambda: len(lan.changes) == 3 and len(ann.changes) == 2)
        await eventually(lambda: bob.changes and minh.changes)
        assert bob.seen() == minh.seen() == [(other["id"], "case.opened")]
        assert [event.data["message"]["message"] for event in ann.changes] == ["Where is it?", "On its way."]
        assert [event.data["version"] for event in ann.changes] == [1, 2]
        assert [event.data["case"]["updatedAt"] for event in ann.changes] == [e.data["at"] for e in ann.changes]
        assert not any("actor" in event.data for event in (*ann.changes, *analyst.changes))
        assert [event.data["message"]["visibility"] for event in lan.changes] == ["public", "internal", "public"]
        assert [event.data["version"] for event in lan.changes] == [1, 2, 3]
        assert {event.data["actor"] for event in lan.changes} == {"supervisor"}
        assert not any("message" in event.data for event in analyst.changes)
        assert {event.data["case"]["subject"] for event in analyst.changes} == {"[masked]"}
        assert "customer-1" not in str(analyst.events)
        assert "cross" not in str([*ann.events, *analyst.events])


async def test_a_context_of_any_form_stops_no_stream(desk):
    """Clients choose what a context has: analysts get it masked, in the stream and in lists."""
    async with desk.follow("analyst") as analyst, desk.follow("supervisor") as supervisor:
        case = await desk.open_case(context=[{"type": ["order"], "orderId": "7"}])
        await eventually(lambda: len(analyst.changes) == len(supervisor.changes) == 1)
    assert not analyst.resyncs + supervisor.resyncs
    shown = await desk.send("GET", "/support/cases", "analyst")
    assert [(each["id"], each["context"][0]["type"]) for each in shown["items"]] == [(case["id"], "[masked]")]


async def test_internal_files_and_links_are_not_for_customers(desk):
    """A link is sent to customers only if it says that two cases of theirs are the same."""
    first = await desk.open_case(customerId="customer-1")
    second = await desk.open_case(customerId="customer-1")
    foreign = await desk.open_case(customerId="customer-2")
    await desk.publish_all()
    async with desk.follow("ann") as ann, desk.follow("supervisor") as all_changes:
        for kind, other in (("related", second), ("duplicate-of", foreign)):
            link = {"kind": kind, "caseId": other["id"]}
            await desk.send("POST", f"/support/cases/{first['id']}/links", json=link)
        path = f"/support/cases/{second['id']}"
        await desk.send("POST", f"{path}/attachments?visibility=internal", data=_file())
        shown = await desk.send("POST", f"{path}/attachments", data=_file())
        await desk.send("DELETE", f"{path}/attachments/{shown['id']}")
        await eventually(lambda: len(ann.changes) >= 4 and len(all_changes.changes) == 9)
        assert ann.seen() == [
            (first["id"], "status.changed"),
            (first["id"], "case.closed"),
            (second["id"], "attachment.added"),
            (second["id"], "attachment.removed"),
        ]


async def test_a_breach_is_for_customers_only_if_they_see_the_clock(desk):
    """Of a policy that is not public they learn neither the targets nor that one was missed."""
    for name, fields in (("1", {"match": {"priority": ["urgent"]}, "public": True}), ("2", {})):
        policy = {"targets": {"firstResponse": "PT1H"}, **fields}
        await desk.send("PUT", f"/support/sla-policies/{name}", json=policy)
    shown = await desk.open_case(customerId="customer-1", priority="urgent")
    hidden = await desk.open_case(customerId="customer-1")
    await desk.publish_all()
    async with desk.follow("ann") as ann, desk.follow("supervisor") as all_changes:
        async with service_of(desk.client).database.transaction() as tx:
            await tx.execute(case_clocks.update().values(due_at=utc_now() - timedelta(hours=1)))
        for case in (hidden, shown):
            await desk.add(case, authorType="agent", message="Sorry.")  # reports the breach, unless it is reported
        await eventually(lambda: len(all_changes.changes) == 4 and len(ann.changes) >= 3)
        breaches = [case for case, change_type in ann.seen() if change_type == "sla.breached"]
        assert breaches == [shown["id"]]
        assert all_changes.seen().count((hidden["id"], "sla.breached")) == 1
        assert len(ann.changes) == 3


def _file():
    form = aiohttp.FormData()
    form.add_field("file", b"hello", filename="note.txt", content_type="text/plain")
    return form


async def test_an_agent_learns_that_a_case_is_no_longer_theirs(desk):
    """It gets no more than that, whether the agent or the team changes; the new agent and the new team get the case."""
    own = await desk.open_case(assignedAgentId="agent-1", customerId="customer-1")
    of_team = await desk.open_case(team="returns")
    await desk.publish_all()
    async with desk.follow("lan") as lan, desk.follow("minh") as minh:
        await desk.change(own, assignedAgentId="agent-2")
        await desk.change(of_team, team="billing")
        for case in (own, of_team):
            await desk.add(case, message="Still waiting.")
        await eventually(lambda: len(minh.changes) == 4 and len(lan.changes) == 2)
        assert minh.seen() == [
            (case["id"], change) for change in ("case.changed", "conversation.added") for case in (own, of_team)
        ]
        assert lan.seen() == [(own["id"], "case.left"), (of_team["id"], "case.left")]
        for left in lan.changes:
            assert left.data.keys() == {"caseId", "version", "changeType", "at", "eventId"}
            assert left.data["version"] == 2


async def test_a_replay_leaves_out_messages_that_were_split_into_a_case_of_others(desk):
    """The change comes with the case alone, and without a notification."""
    await desk.send("PUT", "/support/agents/agent-2", json={"teams": ["billing"]})
    async with desk.follow("supervisor") as stream:
        case = await desk.open_case(team="returns", initialMessage=MESSAGE)
        note = {"authorType": "agent", "message": "For @agent-2: do not tell", "visibility": "internal"}
        moved, kept = await desk.add(case, **note), await desk.add(case, message="Hello?")
        await eventually(lambda: len(stream.changes) == 3)
    start = stream.changes[0].id
    split = {"messageIds": [moved["id"]], "subject": "Another parcel"}
    await desk.send("POST", f"/support/cases/{case['id']}/split", json=split)
    await desk.change(case, team="billing")
    await desk.publish_all()
    async with desk.follow("minh", after=start) as minh, desk.follow("supervisor", after=start) as boss:
        await eventually(lambda: kept["id"] in messages_of(minh) and moved["id"] in messages_of(boss))
        assert moved["id"] not in messages_of(minh)
        assert "do not tell" not in str([each.data for each in minh.events])
        assert [each.data["changeType"] for each in minh.changes][:2] == ["conversation.added"] * 2


def messages_of(stream):
    """Return the ids of the messages that a stream has had."""
    return [each.data["message"]["id"] for each in stream.changes if "message" in each.data]


async def test_services_have_no_stream(desk):
    """Their role has no permission for it."""
    headers = {"Authorization": f"Bearer {desk.tokens['service']}"}
    await expect_problem(await desk.client.get(PATH, headers=headers), 403, "permission_missing")


async def test_missed_changes_are_replayed(client, metric_changes):
    """By header or query, each change once and in order, then new ones. Replayed changes are counted."""
    async with follow(client) as stream:
        case = await open_case(client)
        await eventually(lambda: stream.changes)
    known = stream.last_id
    for text in ("1", "2", "3"):
        await add_message(client, case, text)
    async with follow(client) as stream:
        await add_message(client, case, "4")
        await eventually(lambda: stream.changes)
    async with follow(client, after=known) as stream:
        await eventually(lambda: len(stream.changes) == 4)
        await add_message(client, case, "5")
        await eventually(lambda: len(stream.changes) == 5)
        assert [event.data["message"]["message"] for event in stream.changes] == list("12345")
        assert not stream.resyncs
    async with client.get(PATH, params={"lastEventId": stream.changes[-2].id}) as response:
        text = (await response.content.readuntil(b'"5"')).decode()
        assert '"4"' not in text
    await eventually(lambda: metric_changes.value("support_stream_replayed_total") == 5)


@pytest.mark.parametrize("position", ["0123abcd.1-0", "nonsense"])
async def test_a_position_of_another_broker_asks_to_read_again_once(client, position):
    """The stream continues behind it, and gives the client a position of its own."""
    async with follow(client, after=position) as stream:
        await eventually(lambda: stream.resyncs)
        await open_case(client)
        await eventually(lambda: stream.changes)
        assert stream.resyncs == ["foreign"]
        again = stream.events[0].id
    async with follow(client, after=again) as stream:
        await eventually(lambda: stream.changes)
        assert not stream.resyncs


async def test_a_position_that_was_removed_asks_to_read_again(make_client):
    """Memory has a bounded number of changes."""
    timings = quick(feed=FeedTimings(kept_changes=1, max_replayed=2))
    client = await make_client(timings=timings)
    async with follow(client) as stream:
        await eventually(lambda: stream.last_id)
        known = stream.last_id
        for _ in range(4):
            await open_case(client)
        await eventually(lambda: len(stream.changes) == 4)
    async with follow(client, after=known) as stream:
        await eventually(lambda: stream.resyncs)
        assert stream.resyncs == ["too_many"]
        assert not stream.changes


async def test_a_client_that_does_not_read_is_disconnected(make_client):
    """Its queue is bounded; other clients get everything."""
    client = await make_client(timings=quick(queue=QueueLimits(events=60)))
    subscribers = service_of(client).stream.subscribers
    async with follow(client) as reader:
        async with client.get(PATH, read_bufsize=1024) as lazy:
            await eventually(lambda: len(subscribers) == 2)
            transport = lazy.connection.transport
            transport.pause_reading()
            sent = 0
            while len(subscribers) == 2:  # until the buffers of both systems are full
                await open_case(client, initialMessage={"authorType": "agent", "message": "x" * 60_000})
                sent += 1
            await eventually(lambda: len(reader.changes) == sent)
        assert not reader.ended
        closed = Scrape(service_of(client).metrics).value("support_stream_closed_total", reason="slow")
        assert closed == 1


async def test_a_stream_ends_when_its_token_is_revoked(make_client, token_file):
    """So does one whose token expires, or has other rights; the others stay open."""
    desk = await open_desk(make_client, token_file)
    async with desk.follow("lan") as lan, desk.follow("minh") as minh, desk.follow("ann") as ann:
        with edit_token_file(token_file) as entries:
            entries[:] = [
                each.model_copy(update={"teams": ("other",)}) if each.name == "minh" else each
                for each in entries
                if each.name != "lan"
            ]
        await eventually(lambda: lan.ended and minh.ended)
        assert not ann.ended
    closed = Scrape(service_of(desk.client).metrics).value("support_stream_closed_total", reason="revoked")
    assert closed == 2


async def test_a_caller_has_a_limited_number_of_streams(make_client, token_file, monkeypatch):
    """So have an address and the service. A stream that has ended leaves its place."""
    monkeypatch.setattr("support_service.platform.settings.process.ADDRESS_FACTOR", 2)
    tokens = [write_token(token_file, name, role="supervisor") for name in ("a", "b", "c")]
    client = await make_client(
        SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(token_file), SUPPORT_STREAMS_PER_PRINCIPAL="1"
    )

    async def refuse(token):
        response = await client.get(PATH, headers={"Authorization": f"Bearer {token}"})
        assert response.headers["Retry-After"] == "5"
        return (await expect_problem(response, 429, "too_many_streams"))["detail"]

    async with follow(client, tokens[0]):
        assert "principal" in await refuse(tokens[0])
        async with follow(client, tokens[1]):
            assert "address" in await refuse(tokens[2])

    async def admitted():
        async with client.get(PATH, headers={"Authorization": f"Bearer {tokens[2]}"}) as response:
            return response.status == 200

    await eventually(admitted)
    metrics = Scrape(service_of(client).metrics)
    assert metrics.value("support_request_turned_away_total", reason="streams") == 2
    await eventually(lambda: Scrape(service_of(client).metrics).value("support_stream_open") == 0)


async def test_the_number_of_streams_is_limited_in_total(make_client, monkeypatch):
    """More are refused like other requests that the service has no room for."""
    monkeypatch.setattr(LimitSettings, "streams", 1)
    client = await make_client()
    async with follow(client):
        await expect_problem(await client.get(PATH), 503, "overloaded")


async def test_streams_send_pending_changes_before_they_end_at_shutdown(make_client):
    """The last line is the time after which to reconnect."""
    client = await make_client()
    async with follow(client) as stream:
        await open_case(client)
        await eventually(lambda: stream.changes)
        service_of(client).readiness.close_streams()
        await eventually(lambda: stream.ended)
        assert len(stream.retries) == 2
        assert stream.retries[1] >= 500
    async with follow(client) as stream:
        await eventually(lambda: stream.ended)


async def test_a_silent_stream_gets_comments_with_its_position(make_client, token_file):
    """They keep proxies from closing it, and a client that comes back need not replay what it may not see."""
    desk = await open_desk(make_client, token_file, quick(heartbeat=0.02))
    async with desk.follow("ann") as stream, desk.follow("bob") as other:
        await eventually(lambda: stream.comments.count("alive") >= 2)
        await desk.open_case(customerId="customer-2")
        await eventually(lambda: other.changes and stream.last_id == other.changes[0].id)
        assert not stream.events


async def test_a_stream_is_not_a_slow_request(client):
    """It counts with the time to its first byte, and does not occupy the limit of concurrent requests."""
    readiness = service_of(client).readiness
    await eventually(lambda: readiness.streams == 0)  # those of tests before
    async with follow(client):
        await eventually(lambda: readiness.streams == 1)
        assert readiness.waiting_for_client == 1
        await asyncio.sleep(0)
    await eventually(lambda: readiness.streams == 0 and readiness.in_progress == 0)
