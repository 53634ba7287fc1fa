"""Replicas are killed and Redis is frozen: each client of the stream gets each change once.

Clients come back with their last position, to any replica. In the end each client has the messages of the database that
it may read.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from itertools import cycle

import aiohttp
import pytest

from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.promql import ROOT
from tests.support.replicas import Replicas
from tests.support.stream import OpenStream

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

SECONDS = float(os.environ.get("STREAM_SECONDS", "0.3"))
IS_SHORT = SECONDS < 60
CLIENTS = int(os.environ.get("STREAM_CLIENTS", "4"))
KILL_EVERY = float(os.environ.get("STREAM_KILL_EVERY", "0.3"))  # seconds between two kills of a replica
FREEZES = int(os.environ.get("STREAM_FREEZES", "1"))
FROZEN = float(os.environ.get("STREAM_FROZEN", "1.6"))  # seconds until a replica is killed
THAW_AFTER = 0.5  # seconds: in all, more than the time that Redis has to answer
PAUSE = float(os.environ.get("STREAM_PAUSE", "0.03"))  # seconds between two changes of one writer
AWAY = (1.5, 0.05)  # seconds until a client comes back: many changes are published meanwhile, or hardly any
REPLICAS, CUSTOMERS, WRITERS = 2, 3, 2
LIMITS = {
    "SUPPORT_AUTH": "token",
    "SUPPORT_STREAMS_PER_PRINCIPAL": "1000",
    "SUPPORT_RATE_LIMIT": "off",
    "SUPPORT_RATE_LIMIT_ADDRESS": "off",
}
LONG = 120.0  # seconds that the rest may take after the last fault


class Follower:
    """A client that comes back with its last position; it keeps its changes by position."""

    def __init__(self, number, owner, token):
        self.owner = owner
        first = number // len(AWAY) % REPLICAS
        self._order = cycle([*range(first, REPLICAS), *range(first)])
        self._token = token
        self._pause = AWAY[number % 2]
        self._before = {}
        self._stream = None
        self.resyncs, self.connections = [], 0

    async def run(self, addresses):
        last_id = ""
        async with aiohttp.ClientSession() as session:
            while True:
                stream = self._stream = _At(session, addresses[next(self._order)], self._token, last_id)
                try:
                    async with stream:
                        await eventually(lambda: stream.ended, within=3600)  # noqa: B023 - awaited here
                except AssertionError:
                    pass  # the replica is not there
                self._before |= {event.id: event.data for event in stream.changes}
                last_id = stream.last_id or last_id
                self.resyncs += stream.resyncs
                self.connections += stream.status == 200
                await asyncio.sleep(self._pause)

    @property
    def is_open(self):
        return self._stream is not None and bool(self._stream.last_id)

    @property
    def events(self):
        """The data of each change by its position."""
        return self._before | {event.id: event.data for event in self._stream.changes}

    def messages(self):
        """Return the ids of the messages of each case, in the order in which they came."""
        found = defaultdict(list)
        for data in self.events.values():
            if "message" in data:
                found[data["caseId"]].append(data["message"]["id"])
        return dict(found)


class _At(OpenStream):
    def __init__(self, session, address, token, last_id):
        super().__init__(_Addressed(session, address), token, **({"Last-Event-ID": last_id} if last_id else {}))


class _Addressed:
    def __init__(self, session, address):
        self._session, self._address = session, address

    def get(self, path, **options):
        return self._session.get(self._address + path, **options)


async def break_things(replicas, redis):
    """Kill one replica after another, some while Redis is frozen, until all clients have come back."""
    steps = max(1, round(SECONDS / KILL_EVERY))
    freeze_at = {steps * (each + 1) // (FREEZES + 1) for each in range(FREEZES)}
    for step in range(steps):
        await asyncio.sleep(KILL_EVERY)
        if step in freeze_at:
            redis.freeze()
            await asyncio.sleep(FROZEN)
        replicas.kill()
        if step in freeze_at:
            await asyncio.sleep(THAW_AFTER)
            redis.thaw()
    await asyncio.sleep(max(AWAY))


async def write(number, call, cases, stopping):
    """Add messages, a third of them internal, until it is time to stop."""
    draw, sent = random.Random(number), 0
    while not stopping.is_set():
        # A repeat after a killed replica adds nothing; an idempotency key would be in use for half a minute.
        message = {"authorType": "agent", "message": f"{number}/{sent}", "externalId": f"{number}/{sent}"}
        if draw.random() < 0.3:
            message["visibility"] = "internal"
        await call(f"/support/cases/{draw.choice(cases)}/messages", message)
        sent += 1
        await asyncio.sleep(PAUSE)


def expected(owner, stored, owners):
    """Return the ids of the messages of each case that a client may read, if there are any."""
    readable = {
        case: [each["id"] for each in messages if owner == "supervisor" or each["visibility"] == "public"]
        for case, messages in stored.items()
        if owner in ("supervisor", owners[case])
    }
    return {case: ids for case, ids in readable.items() if ids}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_each_client_gets_each_change_once(environment, redis, tmp_path):
    """No change is missing, none comes twice, and customers get no internal note."""
    tokens = tmp_path / "tokens.json"
    names = [f"customer-{number}" for number in range(CUSTOMERS)]
    token = {name: write_token(tokens, name, role="customer", subject=name) for name in names}
    token["supervisor"] = write_token(tokens, "supervisor", role="supervisor")
    variables = environment | LIMITS | {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_TOKENS_FILE": str(tokens)}
    if IS_SHORT:  # another replica takes the lease of a killed one over after a second
        variables |= {"module": "tests.e2e.drill.scaled_service", "PYTHONPATH": str(ROOT)}
    replicas = Replicas(tmp_path, variables, REPLICAS)
    async with replicas.running(), aiohttp.ClientSession() as session:

        async def call(path, body=None):
            return await _repeat(session, replicas.addresses, path, body, _bearer(token["supervisor"]))

        new = {"subject": "A parcel", "channel": "web"}
        owners = {(await call("/support/cases", new | {"customerId": name}))["id"]: name for name in names}
        followers = [
            Follower(number, who, token[who]) for number, who in zip(range(CLIENTS), cycle(["supervisor", *names]))
        ]
        following = [asyncio.create_task(each.run(replicas.addresses)) for each in followers]
        await eventually(lambda: all(each.is_open for each in followers), LONG)
        stopping = asyncio.Event()
        writing = [asyncio.create_task(write(number, call, [*owners], stopping)) for number in range(WRITERS)]
        await break_things(replicas, redis)
        stopping.set()
        await asyncio.gather(*writing)
        stored = {case: (await call(f"/support/cases/{case}"))["messages"] for case in owners}
        for each in followers:
            wanted = expected(each.owner, stored, owners)
            await eventually(lambda: each.messages() == wanted, LONG)  # noqa: B023 - awaited here
            found = Counter(data["eventId"] for data in each.events.values())
            assert max(found.values(), default=1) == 1
            assert not each.resyncs
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    changes = sum(len(each.events) for each in followers)
    print(  # noqa: T201 - the result of the long form
        f"\n{CLIENTS} clients, {sum(map(len, stored.values()))} messages, {changes} changes received, "
        f"{sum(each.connections for each in followers)} broken connections, {replicas.kills} kills, {FREEZES} freezes"
    )


def _bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def _repeat(session, addresses, path, body, headers):
    """Send a request until a replica answers it; return the JSON."""
    order = cycle(addresses)
    async with asyncio.timeout(LONG):
        while True:
            address = next(order)
            try:
                method = "GET" if body is None else "POST"
                async with session.request(method, address + path, json=body, headers=headers) as response:
                    if response.status in (200, 201):
                        return await response.json()
                    if response.status not in (502, 503):
                        raise AssertionError(await response.text())
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)  # before the next attempt
