"""Notifications and followers that several replicas change at once, on both databases, against a model in memory."""

import asyncio
import random
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.known_agents import KnownAgents
from support_service.cases.model.requests import CaseChange, NewCase, NewMessage, StatusChange
from support_service.cases.notifier import Notifier
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService
from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.desk.notification_models import NotificationQuery, ReadNotifications
from support_service.desk.notifications import NotificationService
from support_service.platform.database.tables import notifications
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.conftest import both_databases

PEOPLE = {f"agent-{number}": Principal(f"agent-{number}", "agent", f"agent-{number}", {"team"}) for number in range(4)}
CHANGES = ("follow", "leave", "mention", "team", "customer", "status")
CUSTOMER = Principal("ann", "customer", "customer-1")
pytestmark = both_databases


class Replica:
    """The services of a replica, whose write slots no other one shares."""

    def __init__(self, database, instruments):
        self.database, self.known = database, KnownAgents(database)
        clocks = ClockTracker(KnownPolicies(database), instruments)
        self.changes = CaseRecorder(instruments, clocks, notifier=Notifier(self.known))
        self.cases = CaseService(database, self.changes)
        self.notifications = NotificationService(database, self.changes, self.known)

    async def note(self, name, case, text):
        new = NewMessage(authorType="agent", visibility="internal", message=text)
        return await self.cases.add_message(WriteOrigin(PEOPLE[name]), case.id, new)

    async def listed(self, name, **options):
        found, cursor, unread = [], None, 0
        while True:
            query = NotificationQuery(cursor=cursor, unread=options.get("unread", False))
            page = await self.notifications.list_notifications(PEOPLE[name], query)
            found, cursor, unread = [*found, *page.items], page.next_cursor, page.unread
            if cursor is None:
                return found, unread


@pytest.fixture
async def replicas(two_databases, instruments):
    """Two replicas with a directory of four agents of one team."""
    found = [Replica(each, instruments) for each in two_databases]
    directory = AgentDirectory(two_databases[0], found[0].known)
    for name in PEOPLE:
        await directory.change(SYSTEM_ORIGIN, name, AgentChange(teams=["team"]))
    await found[1].known.refresh()
    return found


async def open_case(replica):
    return await replica.cases.open_case(
        SYSTEM_ORIGIN, NewCase(subject="A parcel", channel="email", customerId="customer-1")
    )


async def test_people_who_follow_at_once_all_follow(replicas):
    """No change of the followers is lost, though each writes all of them."""
    case = await open_case(replicas[0])
    for follows in (True, False):
        change = "add_follower" if follows else "remove_follower"
        await asyncio.gather(
            *(
                getattr(replicas[number % 2].notifications, change)(WriteOrigin(person), case.id, name)
                for number, (name, person) in enumerate(PEOPLE.items())
            )
        )
        followers = await replicas[0].notifications.read_followers(PEOPLE["agent-0"], case.id)
        assert sorted(each.id for each in followers.items) == (sorted(PEOPLE) if follows else [])


async def test_each_change_tells_each_person_once(replicas):
    """Random changes of two cases at both replicas: what each person is told is what a model in memory predicts."""
    dice = random.Random(7)
    expected, following = defaultdict(Counter), defaultdict(set)
    case_ids = [(await open_case(replicas[0])).id for _ in range(2)]

    async def step(number):
        replica, case_id = replicas[number % 2], case_ids[number % 2]
        name, kind = dice.choice(sorted(PEOPLE)), dice.choice(CHANGES)
        origin, told, followers = WriteOrigin(PEOPLE[name]), {}, following[case_id]
        if kind == "follow":
            await replica.notifications.add_follower(origin, case_id, name)
            followers.add(name)
        elif kind == "leave":
            await replica.notifications.remove_follower(origin, case_id, name)
            followers.discard(name)
        elif kind == "customer":
            new = NewMessage(authorType="customer", message="Where is it?")
            await replica.cases.add_message(WriteOrigin(CUSTOMER), case_id, new)
            told = dict.fromkeys(followers, "message")
        elif kind == "status":
            status = dice.choice(["open", "pending"])
            case = await replica.cases.read_case(PEOPLE[name], case_id)
            before = '"status":"open"' in (case.fields or "").replace(" ", "")
            await replica.cases.set_status(origin, case_id, StatusChange(status=status))
            told = dict.fromkeys(followers, "status") if before != (status == "open") else {}
        else:
            whom = dice.choice(sorted(PEOPLE))
            text = f"@{whom}" if kind == "mention" else "@team"
            new = NewMessage(authorType="agent", visibility="internal", message=text)
            await replica.cases.add_message(origin, case_id, new)
            told = dict.fromkeys(followers, "note") | dict.fromkeys([whom] if kind == "mention" else PEOPLE, "mention")
            followers |= {whom} - {name} if kind == "mention" else set()
        for each, kind_told in told.items():
            if kind != "customer" and each == name:
                continue
            expected[each][case_id, kind_told] += 1

    for number in range(0, 120, 2):  # one change of each case at once
        await asyncio.gather(step(number), step(number + 1))
    for name in PEOPLE:
        found, unread = await replicas[0].listed(name)
        assert Counter((each.case_id, each.kind) for each in found) == expected[name]
        assert unread == min(100, expected[name].total())


async def test_reading_while_others_write_loses_nothing(replicas):
    """What is not marked stays unread, and what was marked stays read."""
    cases = [await open_case(replica) for replica in replicas]
    marked, done = set(), asyncio.Event()

    async def write(replica, case):
        for number in range(25):
            await replica.note("agent-1", case, f"{number} @agent-0")

    async def read(replica):
        while not done.is_set():
            page = await replica.notifications.list_notifications(
                PEOPLE["agent-0"], NotificationQuery(limit=3, unread=True)
            )
            if page.items:
                ids = [each.id for each in page.items]
                await replica.notifications.mark_read(WriteOrigin(PEOPLE["agent-0"]), ReadNotifications(ids=ids))
                marked.update(ids)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read(replica)) for replica in replicas]
    await asyncio.gather(*(write(replica, case) for replica, case in zip(replicas, cases, strict=True)))
    done.set()
    await asyncio.gather(*readers)
    found, unread = await replicas[0].listed("agent-0")
    assert len({each.id for each in found}) == 50
    assert {each.id for each in found if each.read} == marked
    assert unread == 50 - len(marked)
    origin = WriteOrigin(PEOPLE["agent-0"])
    left = await replicas[0].notifications.mark_read(origin, ReadNotifications(until=found[0].id))
    assert (left.unread, left.more_unread) == (0, False)


async def test_notifications_go_with_their_case(replicas, database):
    """A case that is handed to others hides them, a deleted one takes them along."""
    case = await open_case(replicas[0])
    await replicas[0].note("agent-1", case, "@agent-0 @agent-2")
    await replicas[1].cases.change_case(SYSTEM_ORIGIN, case.id, CaseChange(team="others", assignedAgentId="agent-2"))
    assert await replicas[0].listed("agent-0") == ([], 0)
    assert [each.kind for each in (await replicas[0].listed("agent-2"))[0]] == ["assigned", "mention"]
    async with database.transaction() as tx:
        await tx.execute(sa.text("DELETE FROM tickets"))
    assert await database.fetch_all(sa.select(notifications)) == []


async def test_old_and_surplus_notifications_are_deleted(replicas, database, constants):
    """The newest of each person are kept."""
    replica, case = replicas[0], await open_case(replicas[0])
    for name in ("agent-2", "agent-2", *5 * ["agent-0"]):  # who follow the case from then on
        await replica.note("agent-1", case, f"Look, @{name}")
    async with database.transaction() as tx:
        old = notifications.update().where(notifications.c.recipient == "agent-2", notifications.c.kind == "mention")
        await tx.execute(old.values(at=utc_now() - timedelta(days=31)))
    newest = {name: (await replica.listed(name))[0][:5] for name in ("agent-0", "agent-2")}
    for most, kept in ((100, 5), (3, 3)):
        constants("desk.notifications", MAX_KEPT=most, PEOPLE_PER_RUN=2, BATCH_SIZE=2)
        service = NotificationService(database, replica.changes, replica.known)
        await service.delete_expired()
        for name, found in newest.items():
            assert await replica.listed(name) == (found[:kept], kept)
