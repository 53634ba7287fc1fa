"""Leases of replicas in any order: one holder at a time, and a former one of the relay can't publish any more."""

import asyncio
import json
import time
from contextlib import asynccontextmanager, closing, suppress
from functools import partial

import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.events.broker.base import BrokerError
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.relay import OutboxRelay, RelayTimings
from support_service.platform.background import WorkSignal
from support_service.platform.database import lease_rows
from support_service.platform.database.failures import DATABASE_UNAVAILABLE, database_error
from support_service.platform.database.lease_rows import JobLease
from support_service.platform.database.sqlite.connection import SqliteConnection, SqliteTransaction
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import leases, outbox, published_events
from tests.support.callback_orders import expect_wrong_order, explore, with_bug

REPLICAS = 3
DURATION = 2.0  # seconds of a lease
PAUSES = (0, 0, 0, 0.5, DURATION + 0.1)
STALLS = 0.02
TWO_HOLDERS = "two replicas hold the lease of a job"
TABLES = (leases, outbox, published_events)
ADD_EVENT = compiled(outbox.insert())
ANY_EVENT = compiled(sa.select(outbox.c.seq).limit(1))
STATEMENTS = ("TAKE_LEASE", "SET_FENCE", "RELEASE_LEASE")


class SharedDatabase:
    """A database that replicas share, one transaction at a time. A request takes a while, and so does its answer."""

    is_shared = True

    def __init__(self):
        engine = sa.create_engine("sqlite://", isolation_level="AUTOCOMMIT")
        self._connection = engine.connect()
        leases.metadata.create_all(self._connection, TABLES)
        self._shared = SqliteConnection(self._connection)
        self.changed = WorkSignal()

    def begin(self, order, lease, events=0):
        """Forget what an order has left: there is a lease that nobody holds, and an outbox with some events."""
        self._order = order
        self._turn = asyncio.Lock()
        self._fails = order.happens(one_in=4)
        for table in TABLES:
            self._shared.raw.execute(f"DELETE FROM {table.name}")
        self._shared.raw.execute("INSERT INTO leases VALUES (?, '', 0, 0)", (lease,))
        event = {"type": "support.case.opened.v1", "at": "2026-01-01T00:00:00+00:00", "fanned_out": False}
        for number in range(events):
            self._shared.execute(ADD_EVENT, event | {"seq": number, "event": f'{{"number": {number}}}'})

    @asynccontextmanager
    async def transaction(self):
        await self._order.pause()
        async with self._turn:
            self._shared.raw.execute("BEGIN")
            try:
                yield SqliteTransaction(self._shared)
            except BaseException:
                self._shared.raw.execute("ROLLBACK")
                raise
            self._shared.raw.execute("COMMIT")
        await asyncio.sleep(self._order.pick((0, 0, 0, 0.5)))
        if self._fails and self._order.happens(one_in=6):
            raise database_error(DATABASE_UNAVAILABLE)

    async def fetch_now(self, statement, parameters=None):
        await self._order.pause()
        return self._shared.fetch_now(statement, parameters)

    async def fetch_all(self, statement, parameters=None):
        await self._order.pause()
        return self._shared.fetch_all(statement, parameters)

    def close(self):
        self._shared.close()
        self._connection.engine.dispose()


@pytest.fixture
def database(monkeypatch):
    """Such a database. Statements of leases are compiled once, so that thousands of orders are cheap."""
    for name in STATEMENTS:
        monkeypatch.setattr(lease_rows, name, compiled(getattr(lease_rows, name)))
    with closing(SharedDatabase()) as database:
        yield database


def job_scenario(database, lease_class=JobLease):
    """Replicas that take the lease of a job, renew it, release it, or go away with it."""

    async def scenario(order):
        database.begin(order, "job")
        held_until = {}

        async def work(replica):
            lease = lease_class(database, "job", DURATION, 60.0)
            for _ in range(2):
                await asyncio.sleep(order.pick(PAUSES))
                until = order.time() + DURATION
                if await lease.take():
                    now = order.time()
                    held = [other for other, end in held_until.items() if other != replica and end > now + 0.001]
                    assert not held, TWO_HOLDERS
                    held_until[replica] = until
                else:
                    held_until.pop(replica, None)
            if order.happens(one_in=2):
                held_until.pop(replica, None)
                await lease.release()

        await order.ends([asyncio.create_task(work(replica)) for replica in range(REPLICAS)], Unavailable)
        await asyncio.sleep(2 * DURATION)
        with suppress(Unavailable):
            assert await JobLease(database, "job", DURATION, 60.0).take(), "a lease is held for too long"

    return scenario


class LookFirst(JobLease):
    """A planted bug: looks whether the lease is free, and takes it afterwards."""

    async def take(self):
        row = await self._database.fetch_now(sa.select(leases))
        if row.expires_at > time.time() * 1000 and row.holder != self._holder:
            return False
        async with self._database.transaction() as tx:
            until = round((time.time() + self._duration) * 1000)
            await tx.execute(leases.update().values(holder=self._holder, expires_at=until))
        self._was_taken = True
        return True


def test_lease_of_a_job_has_one_holder_in_any_order(database):
    """Also while answers are late or lost, and when a replica goes away with the lease."""
    explore(job_scenario(database), stalls=STALLS)


def test_exploration_finds_a_lease_that_is_looked_at_first(database):
    expect_wrong_order(job_scenario(database, LookFirst), TWO_HOLDERS, stalls=STALLS)


@pytest.mark.parametrize(
    ("line", "instead"),
    [("async with", "self._duration -= 1\n    async with"), (" and time.monotonic() < ends_at", "")],
    ids=["longer than in the database", "without a look at the time"],
)
def test_exploration_finds_a_holder_that_believes_for_too_long(database, line, instead):
    expect_wrong_order(job_scenario(database, with_bug(JobLease, "take", line, instead)), TWO_HOLDERS, stalls=STALLS)


EVENTS = 3
TIMINGS = RelayTimings(publish_batch=2, lease_duration=DURATION)


class ReplicaBroker:
    def __init__(self, order, broker, replica, published):
        self._order = order
        self._broker = broker
        self._replica = replica
        self._published = published

    async def publish(self, stream, events, *, fence, **options):
        await asyncio.sleep(self._order.pick(PAUSES))
        number = await self._broker.publish(stream, events, fence=fence, **options)
        self._published.append((fence, self._replica, [json.loads(event)["number"] for event in events]))
        await self._order.pause()
        return number


class Relays:
    """Replicas that relay the events of an outbox. Some stop in the middle, and some are slower than their lease."""

    def __init__(self, order, database, instruments, relay_class):
        database.begin(order, "relay", EVENTS)
        self._order = order
        self._database = database
        self._create = partial(
            relay_class, database, instruments=instruments, stream="events", max_stream_length=100, timings=TIMINGS
        )
        self._broker = InMemoryBroker()
        self._relays = []
        self._published = []

    async def _publish(self):
        relay = self._create(ReplicaBroker(self._order, self._broker, len(self._relays), self._published))
        self._relays.append(relay)
        for _ in range(3):
            await asyncio.sleep(self._order.pick(PAUSES))
            with suppress(BrokerError, Unavailable):
                await relay.publish_batch()
            assert sum(each.is_leader() for each in self._relays) <= 1, "two replicas believe to hold the lease"

    async def run(self):
        tasks = [asyncio.create_task(self._publish()) for _ in range(2)]
        await self._order.cancel_some(tasks, pauses=PAUSES)
        await self._order.ends(tasks)
        while await self._database.fetch_now(ANY_EVENT):
            await asyncio.sleep(2 * DURATION)
            await self._publish()
        numbers = [number for *_, batch in self._published for number in batch]
        assert set(numbers) == set(range(EVENTS)), "an event is lost"
        fences = [fence for fence, *_ in self._published]
        assert fences == sorted(fences), "a former leader publishes"
        by_fence = {(fence, replica) for fence, replica, _ in self._published}
        assert len(by_fence) == len(set(fences)), "two replicas publish with the same token"


def relay_scenario(database, instruments, relay_class=OutboxRelay):
    return lambda order: Relays(order, database, instruments, relay_class).run()


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL")


def test_relay_has_one_leader_in_any_order(database, instruments):
    """No event is lost, and nobody publishes after another replica has taken over."""
    explore(relay_scenario(database, instruments), stalls=STALLS)


def test_exploration_finds_a_leader_that_counts_from_the_answer(database, instruments):
    ends_at = "self._lease_ends_at = 0.0 if fence is None else "
    relay = with_bug(OutboxRelay, "_hold_lease", f"{ends_at}now", f"{ends_at}time.monotonic()")
    expect_wrong_order(
        relay_scenario(database, instruments, relay), "two replicas believe to hold the lease", stalls=STALLS
    )


def test_exploration_finds_a_token_that_is_used_twice(database, instruments, monkeypatch):
    monkeypatch.setattr(lease_rows, "TAKE_LEASE", lease_rows.TAKE_LEASE.values(fence=1))
    expect_wrong_order(relay_scenario(database, instruments), "two replicas publish with the same token", stalls=STALLS)
