"""What is acknowledged while PostgreSQL and PgBouncer fail is there afterwards, once.

It prints what docs/operations/tried.md states. `make test-long ARGS=database` writes more. Short forms are the failover
of test_several_hosts.py, test_synchronous_standby.py, and the restart of test_pgbouncer.py.
"""

import asyncio
import itertools
import os
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from support_service.platform.database import DatabaseTimings, PostgresTimings
from tests.support.calls import eventually
from tests.support.pgbouncer import PgBouncer
from tests.support.sessions import MIGRATED
from tests.support.timings import patient_timings

pytestmark = pytest.mark.long
WRITES = int(os.environ.get("DATABASE_WRITES", "80"))
WRITERS = 8
IGNORED = (
    "jit, max_parallel_workers_per_gather, random_page_cost, statement_timeout, lock_timeout, "
    "idle_in_transaction_session_timeout, plan_cache_mode"
)
TIMINGS = patient_timings(database=DatabaseTimings(postgres=PostgresTimings(statement_timeout=1.0)))
TOOK_EFFECT = "idempotency_answer_lost"


class Writes:
    """Cases that writers open, each with a key of its own, until it is acknowledged; at least WRITES cases."""

    def __init__(self, client) -> None:
        self._client = client
        self._numbers = itertools.count()
        self.may_end = False
        self.acknowledged: list[str] = []
        self.requests = 0
        self.refusals: Counter[str] = Counter()
        self.refused_at: list[float] = []

    async def run(self) -> None:
        await asyncio.gather(*(self._write_each() for _ in range(WRITERS)))

    async def reach(self, share: float) -> None:
        """Wait until a share of WRITES is acknowledged."""
        await eventually(lambda: len(self.acknowledged) >= share * WRITES, within=600)

    async def _write_each(self) -> None:
        while not self.may_end or len(self.acknowledged) < WRITES:
            subject = f"write {next(self._numbers)}"
            while (code := await self._write(subject)) is not None:
                self.refusals[code] += 1
                self.refused_at.append(time.monotonic())
                await asyncio.sleep(0.05)  # as a client that was refused
            self.acknowledged.append(subject)

    async def _write(self, subject: str) -> str | None:
        """Send a request; return the code of its refusal, or None if it took effect."""
        self.requests += 1
        body, headers = {"subject": subject, "channel": "email"}, {"Idempotency-Key": subject.replace(" ", "-")}
        try:
            async with self._client.post("/support/cases", json=body, headers=headers) as response:
                if response.status == 201:
                    return None
                code = (await response.json())["code"]
                assert response.status in (409, 503), code  # never 500
        except aiohttp.ClientError as failure:
            return type(failure).__name__
        return None if code == TOOK_EFFECT else code

    def report(self, fault: str, subjects: Counter[str]) -> tuple[int, int]:
        """Print what happened; return how many acknowledged cases are lost, and how many are there more than once."""
        lost = sum(subjects[each] == 0 for each in self.acknowledged)
        doubled = sum(number > 1 for number in subjects.values())
        refused = max(self.refused_at) - min(self.refused_at) if self.refused_at else 0.0
        print(  # noqa: T201 - the result of the long form
            f"\n| {fault} | {self.requests:,} | {len(self.acknowledged):,} | {lost} | {doubled} | "
            f"{', '.join(f'{number} `{code}`' for code, number in self.refusals.most_common()) or 'none'} "
            f"for {refused:.1f} s |"
        )
        return lost, doubled


def stored(server):
    rows = server.run("SELECT subject, count(*) FROM tickets GROUP BY subject", MIGRATED)
    return Counter({name: int(number) for name, number in (row.split("|") for row in rows.splitlines())})


@asynccontextmanager
async def writing(client):
    writes = Writes(client)
    task = asyncio.create_task(writes.run())
    try:
        yield writes
        writes.may_end = True
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_failover_to_a_synchronous_standby(make_client, primary, standby):
    """The URL names both servers."""
    hosts = ",".join(each.url().split("@")[1].split("/")[0] for each in (primary, standby))
    client = await make_client(SUPPORT_DATABASE_URL=f"postgresql://tests@{hosts}/{MIGRATED}", timings=TIMINGS)
    async with writing(client) as writes:
        await writes.reach(0.3)
        await asyncio.to_thread(primary.stop)
        await eventually(lambda: writes.refusals)
        await asyncio.to_thread(standby.run, "SELECT pg_promote()")
    assert writes.report("failover to a synchronous standby", stored(standby)) == (0, 0)


async def test_synchronous_standby_that_is_lost_for_a_while(make_client, primary, standby):
    """Nothing is acknowledged meanwhile."""
    client = await make_client(SUPPORT_DATABASE_URL=primary.url(MIGRATED), timings=TIMINGS)
    async with writing(client) as writes:
        await writes.reach(0.3)
        await asyncio.to_thread(standby.stop)
        await eventually(lambda: writes.refusals["commit_not_replicated"] >= WRITERS)
        before = len(writes.acknowledged)
        await eventually(lambda: writes.refusals["commit_not_replicated"] >= 2 * WRITERS)
        assert len(writes.acknowledged) == before
        await asyncio.to_thread(standby.start)
    assert writes.report("synchronous standby lost for a while", stored(primary)) == (0, 0)


@pytest.mark.parametrize("kept_by_pooler", [100, 0], ids=["named", "unnamed"])
async def test_pooler_and_sessions_are_killed(make_client, primary, tmp_path, kept_by_pooler):
    """PgBouncer in transaction mode, and each session of PostgreSQL behind it."""
    settings = {"ignore_startup_parameters": IGNORED, "max_prepared_statements": kept_by_pooler}
    pooler = PgBouncer(tmp_path / "first", primary.url(MIGRATED), **settings)
    try:
        client = await make_client(SUPPORT_DATABASE_URL=pooler.url, timings=patient_timings())
        async with writing(client) as writes:
            await writes.reach(0.3)
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name <> 'psql'"
            await asyncio.to_thread(primary.run, ended)
            await writes.reach(0.6)
            pooler.close()
            pooler = PgBouncer(tmp_path / "second", primary.url(MIGRATED), port=pooler.port, **settings)
        statements = "with" if kept_by_pooler else "without"
        fault = f"sessions ended, then PgBouncer killed and started, {statements} prepared statements"
        assert writes.report(fault, stored(primary)) == (0, 0)
    finally:
        pooler.close()
