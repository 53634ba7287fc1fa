"""A replay shows what its caller may read now, whatever the caller could read when a change was made."""

from dataclasses import replace

import pytest

from support_service.core.clock import Backoff
from support_service.events.broker.base import RedisBrokerTimings
from support_service.platform.access.tokens import edit_token_file
from support_service.platform.settings import Settings
from support_service.stream.feed import INTERRUPTED_COMMENT, FeedTimings
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.privacy.erasing import erase_customer
from tests.support.stream_desk import open_desk, quick

NOTE = "She is cross."
HEAD = {"caseId", "version", "changeType", "at", "eventId"}


@pytest.fixture
def token_file(tmp_path):
    return tmp_path / "tokens.json"


@pytest.fixture(params=["the memory of the feed", "the log in memory", "Redis"])
def environment(request, environment, redis):
    return environment | ({"SUPPORT_REDIS_URL": redis.url} if request.param == "Redis" else {})


@pytest.fixture
async def desk(request, make_client, token_file):
    kept = 1000 if request.node.callspec.params["environment"] == "the memory of the feed" else 0
    return await open_desk(make_client, token_file, quick(feed=replace(FeedTimings(page_size=2), kept_changes=kept)))


@pytest.fixture
async def start(desk):
    async with desk.follow("supervisor") as stream:
        return await eventually(lambda: stream.last_id)


async def replayed(desk, start, *names, customer="customer-1"):
    """Return what each caller who comes back gets, up to a new case of the customer, which every agent sees."""
    last = await desk.open_case(customerId=customer)
    await desk.publish_all()
    found = []
    for name in names:
        async with desk.follow(name, after=start) as stream:
            await eventually(lambda: (last["id"], "case.opened") in stream.seen())
            assert not stream.resyncs
            found.append([event for event in stream.changes if event.data["caseId"] != last["id"]])
    return found


async def open_with_note(desk, **fields):
    case = await desk.open_case(customerId="customer-1", **fields)
    await desk.add(case, authorType="agent", message=NOTE, visibility="internal")
    return case


def of(case, changes):
    return [event for event in changes if event.data["caseId"] == case["id"]]


def seen(changes):
    return [event.data["changeType"] for event in changes]


@both_databases
async def test_a_replay_has_each_case_as_its_caller_may_read_it_now(desk, start):
    """All of a case that came or came back, also from before. Of one of another team or agent only that it left, once.

    A caller who never could read a case gets nothing of it.
    """
    left = await open_with_note(desk, team="returns")
    given = await open_with_note(desk, assignedAgentId="agent-1", team="fraud")
    came, back = await open_with_note(desk, team="fraud"), await open_with_note(desk, team="returns")
    await desk.change(left, team="fraud")
    await desk.change(left, priority="high")
    await desk.change(given, assignedAgentId="agent-2")
    for case, team in ((came, "returns"), (back, "fraud"), (back, "returns")):
        await desk.change(case, team=team)
    lan, minh, everything = await replayed(desk, start, "lan", "minh", "supervisor")
    for case in (left, given):
        [event] = of(case, lan)
        assert (event.data["changeType"], event.data.keys()) == ("case.left", HEAD)
    for case, changes, number in ((came, lan, 1), (back, lan, 2), (given, minh, 1)):
        assert seen(of(case, changes)) == ["case.opened", "conversation.added", *["case.changed"] * number]
    assert of(given, minh) == minh
    assert NOTE in str(of(left, everything))
    assert all(NOTE in str(of(case, lan)) for case in (came, back))


async def test_the_cases_of_an_erased_customer_are_not_replayed(desk, start, environment):
    """To no role. Replicas keep changes in memory, where the erasure can't delete them."""
    case = await open_with_note(desk, team="returns", subject="Zaphod's parcel")
    await desk.publish_all()
    assert (await erase_customer(Settings.load(environment), "customer-1")).cases == [case["id"]]
    last = await desk.open_case(customerId="customer-1")
    for name in ("ann", "lan", "analyst", "supervisor"):
        async with desk.follow(name, after=start) as stream:
            # Redis says that entries are missing; the client reads again.
            await eventually(lambda: stream.resyncs or (last["id"], "case.opened") in stream.seen())
            assert case["id"] not in str(stream.events)


async def test_a_token_with_other_rights_replays_what_these_let_it_read(desk, start, token_file):
    """The cases of its new teams or of its new role. No such role gets the internal note of a case of a team."""
    former, case = await open_with_note(desk, team="returns"), await open_with_note(desk, team="billing")
    await change_token(desk, token_file, "lan", teams=("billing",))
    [changes] = await replayed(desk, start, "lan")
    assert of(case, changes) == changes
    assert seen(changes) == ["case.opened", "conversation.added"]
    for role, subject, expected in (
        ("agent", "agent-3", []),
        ("analyst", None, ["case.opened", "conversation.added"]),
        ("customer", "customer-1", ["case.opened"]),
        ("customer", "customer-2", []),
    ):
        await change_token(desk, token_file, "lan", role=role, subject=subject, teams=())
        [changes] = await replayed(desk, start, "lan", customer=subject or "customer-1")
        assert seen(of(former, changes)) == seen(of(case, changes)) == expected, role
        assert NOTE not in str(changes)


@both_databases
@pytest.mark.parametrize("environment", ["Redis"], indirect=True)
async def test_changes_of_an_outage_show_what_a_stream_may_read_now(make_client, token_file, redis):
    """Also to a stream that was opened before Redis came back: a case that left meanwhile shows only that it left."""
    feed = FeedTimings(wait=0.2, backoff=Backoff(0.05, 0.1), late_after=0.0)
    timings = quick(RedisBrokerTimings(timeout=0.5), feed=feed)
    desk = await open_desk(make_client, token_file, timings)
    async with desk.follow("lan") as before:
        await eventually(lambda: before.last_id)
        redis.freeze()
        try:
            left = await open_with_note(desk, team="returns")
            await desk.change(left, team="fraud")
            came = await open_with_note(desk, team="fraud")
            await desk.change(came, team="returns")
            async with desk.follow("lan") as meanwhile:
                await eventually(lambda: INTERRUPTED_COMMENT in meanwhile.comments)
                redis.thaw()
                for stream in (before, meanwhile):
                    await eventually(lambda: len(of(came, stream.changes)) == 3)  # noqa: B023 - called within the loop
                    assert seen(of(came, stream.changes)) == ["case.opened", "conversation.added", "case.changed"]
                    assert set(seen(of(left, stream.changes))) == {"case.left"}
                    assert str(stream.events).count(NOTE) == 1
        finally:
            redis.thaw()


async def change_token(desk, token_file, name, **fields):
    before = await desk.send("GET", "/support/me", name)
    with edit_token_file(token_file) as entries:
        entries[:] = [each.model_copy(update=fields) if each.name == name else each for each in entries]

    async def has_changed():
        return await desk.send("GET", "/support/me", name) != before

    await eventually(has_changed)
