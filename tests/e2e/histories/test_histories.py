"""Clients write, read, list, upload, merge, snooze and repeat while parts of the deployment fail: no history is wrong.

`make test` has one round on each database; `make histories` has rounds for half an hour, each with another seed.
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager, closing, suppress
from functools import partial

import pytest

from support_service.client import Change, Resync, SupportClient
from support_service.platform.background import run_in_background
from tests.e2e.histories.deployment import Servers, running
from tests.support.calls import eventually
from tests.support.events.webhooks import SECRET
from tests.support.histories.clients import CHANNEL, LONG, ONE_ATTEMPT, STATUSES, Caller, until_answered
from tests.support.histories.ending import Ending, Event, ReadAgain
from tests.support.histories.final_reads import (
    digest_of,
    filters_of,
    final_case,
    read_audit,
    statuses_after,
    wait_until_all_are_awake,
)
from tests.support.histories.model import OPERATIONS, RefusedAnswer
from tests.support.histories.recording import Histories, most_undecided
from tests.support.process import run
from tests.support.sentinels import RedisWithSentinels
from tests.support.sessions import copied_postgres, replicate_synchronously

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

MINUTES = float(os.environ.get("HISTORY_MINUTES", "0"))  # of each database; 0 is the short form
SEED = os.environ.get("HISTORY_SEED", "36")
SECONDS, CALLS = (60.0, 2000) if MINUTES else (6.0, 300)  # of one round: at least as long, and as many with an answer
CLIENTS = 24 if MINUTES else 16
READERS = 8  # calls at the same time of a follower that reads all cases again
LONGEST_ROUND = 900.0  # seconds on a busy machine, with its start and its checks
KINDS = OPERATIONS.keys() - {"split", "wake"}  # of calls
PAUSES = (0.3, 3.0) if MINUTES else (0.3, 1.0)  # seconds between two faults


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Round:
    """One round: clients and faults by a seed, and the checks after them."""

    def __init__(self, deployment, webhooks, backend, seed):
        self._deployment, self._webhooks, self._seed = deployment, webhooks, seed
        self._clients = [SupportClient(deployment.address, timings=ONE_ATTEMPT) for _ in range(CLIENTS)]
        self._callers = [Caller(f"client {n}", client, seed) for n, client in enumerate(self._clients)]
        self.histories = Histories(self._callers, f"{backend}-{seed}", self._is_over)
        self._streams = {name: [] for name in deployment.streams}
        self._published = None if deployment.servers is None else []
        self._begin = 0.0
        self.faults = Counter()

    async def run(self):
        """Let clients call the service while its parts fail; then read every case."""
        async with self._following():
            await self._wait_for_the_streams()
            self._begin = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._break_things())
                self.histories.record(group)
            await self._deployment.repair()
            async with SupportClient(self._deployment.address) as client:
                await wait_until_all_are_awake(client)
                await self.histories.read_all()
                with suppress(TimeoutError):  # the report says which stream has no more changes
                    await self._wait_for_the_streams()
                return await self._end(client, await self._open_last_case(client))

    def _is_over(self):
        answered = sum(caller.answered for caller in self._callers)
        return time.monotonic() > self._begin + SECONDS and answered >= CALLS

    async def close(self):
        for client in self._clients:
            await client.close()

    def performed(self):
        """Return how many calls of each kind of operation had an effect, or showed something."""
        calls = [call for history in self.histories.begun for call in history.calls if call.is_answered]
        return Counter(call.operation.name for call in calls if not isinstance(call.answer, RefusedAnswer))

    def counts(self):
        """Return the figures of the round."""
        calls = [call for history in self.histories.begun for call in history.calls if call.operation.name != "wake"]
        answered = sum(call.is_answered for call in calls)
        return Counter(
            {
                "rounds": 1,
                "faults": self.faults.total(),
                "restarts of a stream": sum(
                    isinstance(item, ReadAgain) for each in self._streams.values() for item in each
                ),
                "histories": len(self.histories.begun),
                "undecided": len(self.histories.undecided),
                "answered": answered,
                "not answered": len(calls) - answered,
            }
        )

    async def _break_things(self):
        """Break one thing after the other, each kind once before one comes again."""
        draw, left = random.Random(self._seed), []
        while not self._is_over():
            await asyncio.sleep(draw.uniform(*PAUSES))
            left = left or draw.sample([*self._deployment.faults], len(self._deployment.faults))
            name = left.pop()
            await self._deployment.faults[name](draw)
            self.faults[name] += 1

    @asynccontextmanager
    async def _following(self):
        """Follow each stream and the published events during a block."""
        work = [self._follow(address, self._streams[name]) for name, address in self._deployment.streams.items()]
        if self._published is not None:
            work.append(self._consume())
        async with run_in_background(*work, cancel_timeout=LONG):  # redis-py may swallow a cancellation
            yield

    async def _follow(self, address, stream):
        """Follow the stream at an address. Read again when it says that changes were missed."""
        async with SupportClient(address) as client, aclosing(client.stream()) as items:
            async for item in items:
                if isinstance(item, Resync):
                    stream.append(await _read_again(client))
                elif isinstance(item, Change):
                    message, status = item.message, item.case and item.case.status
                    told = message and (message.message, message.visibility)
                    stream.append(Event(item.event_id, item.case_id, item.version, item.change_type, status, told))

    async def _consume(self):
        """Get the published events from Redis."""
        async with aclosing(self._deployment.servers.events()) as events:
            async for event in events:
                self._published.append(event)

    async def _wait_for_the_streams(self):
        """Open cases until each follower gets one of them: a follower may still read again, or connect again."""
        begins, opened = {name: len(stream) for name, stream in self._streams.items()}, set()

        def has_one(name):
            return any(
                isinstance(item, Event) and item.case_id in opened for item in self._streams[name][begins[name] :]
            )

        async def all_have_one():
            opened.add((await self._clients[0].open_case(subject="Is anybody there?", channel="web")).id)
            return all(map(has_one, begins))

        await until_answered(all_have_one)

    @staticmethod
    async def _open_last_case(client):
        return (await until_answered(lambda: client.open_case(subject="Is anybody still there?", channel="web"))).id

    async def _end(self, client, last_opened):
        """Return what is found at the end, once nothing is wrong with it or nothing changes any more."""
        reads = {case_id: await client.get_case(case_id) for history in self.histories.begun for case_id in history.ids}
        files = [file for case_id, case in reads.items() for file in case.attachments if file.ticket_id == case_id]
        audited = {each: await read_audit(client, each) for each in reads}
        for history in self.histories.begun:
            for case_id in history.ids:
                history.note_links(audited[case_id])
        ending = Ending(
            cases={case_id: final_case(case) for case_id, case in reads.items()},
            listed={each: [case.id async for case in client.list_cases(**filters_of(each))] for each in STATUSES},
            counted={},
            audited={case_id: [entry.action for entry in entries] for case_id, entries in audited.items()},
            statuses={case_id: [*statuses_after(entries)] for case_id, entries in audited.items()},
            audit_flaw=None,
            downloaded={file.id: await digest_of(client, file) for file in files},
            streams=self._streams,
            most_restarts=self.faults[self._deployment.fault_of_streams],
            last_opened=last_opened,
            published=self._published,
        )
        _, verdict, _ = await run("audit", "verify", cwd=self._deployment.folder, **self._deployment.variables)
        ending.audit_flaw = verdict["flaw"]

        async def is_told():  # a count may be seconds old, and webhooks are repeated after seconds
            ending.counted = {each: (await client.count_cases(**filters_of(each))).count for each in STATUSES}
            ending.webhooks = [json.loads(body) for _, body in self._webhooks.sent]
            ending.places = _places(audited) if ending.published is None else ending.places_of_published()
            return not [*ending.errors()]

        with suppress(AssertionError):  # the report says what is missing
            await eventually(is_told, LONG / 2)
        return ending


async def _read_again(client):
    """Read each case; return the versions. A list shows none."""
    versions = {}

    async def list_all():
        versions.update({case.id: 0 async for case in client.list_cases(channel=CHANNEL, page_size=200)})
        return True

    async def read(ids):
        for case_id in ids:
            versions[case_id] = (await until_answered(partial(client.get_case, case_id))).version

    await until_answered(list_all)
    ids = iter([*versions])
    await asyncio.gather(*(read(ids) for _ in range(READERS)))
    return ReadAgain(versions)


def _places(audited):
    """Return the places of changes. One process on SQLite publishes them in the order of the audit chain."""
    return {
        (case_id, version): entry.position
        for case_id, entries in audited.items()
        for version, entry in enumerate(entries, 1)
    }


@asynccontextmanager
async def deployed(request, backend, folder, variables):
    """Run a new deployment on one of the databases."""
    if backend == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / "support.db")
        variables = variables | {"SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}"}
        async with running(folder, variables, None) as deployment:
            yield deployment
        return
    cluster, redis = request.getfixturevalue("postgres_cluster"), RedisWithSentinels(folder)
    with copied_postgres(cluster) as primary, copied_postgres(cluster, primary) as standby, closing(redis):
        redis.start()
        replicate_synchronously(primary)
        async with running(folder, variables, Servers(primary, standby, redis)) as deployment:
            yield deployment


@pytest.mark.timeout(60 * MINUTES + LONGEST_ROUND)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_no_history_is_wrong_while_parts_fail(request, backend, endpoint, tmp_path):
    """Cases, lists, counts, the stream, webhooks, files and the audit log tell the same, and nothing is lost."""
    hook = {"name": "desk", "url": str(endpoint.server.make_url("/hook")), "secret": SECRET}
    ends, total, performed = time.monotonic() + 60 * MINUTES, Counter(), Counter()
    for number in itertools.count():
        seed, folder = f"{SEED}-{number}" if number else SEED, tmp_path / str(number)
        folder.mkdir()
        endpoint.sent.clear()
        say(f"{backend}, seed {seed}: {SECONDS:g} s of calls and faults")
        variables = {"SUPPORT_ATTACHMENT_DIR": str(folder / "files"), "SUPPORT_WEBHOOKS": json.dumps([hook])}
        async with deployed(request, backend, folder, variables) as deployment:
            current = Round(deployment, endpoint, backend, seed)
            try:
                ending = await current.run()
            finally:
                await current.close()
        errors = [*current.histories.errors(), *ending.errors()]
        total += current.counts()
        performed += current.performed()
        say(f"  {dict(current.counts())}; {dict(current.faults)}; {len(errors)} errors")
        assert not errors, "\n\n".join([f"HISTORY_SEED={seed}", *errors])
        undecided = [f"HISTORY_SEED={seed}", *current.histories.undecided]
        assert total["undecided"] <= most_undecided(total["histories"]), undecided
        if time.monotonic() > ends:
            break
    say(f"{backend}: {dict(total)}; {dict(performed)}; no error")
    missing = KINDS - performed.keys() if MINUTES else ()
    assert not missing, f"a service that never does these passes all other checks: {missing}"
