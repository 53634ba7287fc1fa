"""Reports are what the audit log says, although replicas are killed while they write and count."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress

import aiohttp
import pytest
import sqlalchemy as sa

from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES
from support_service.platform.database.tables import audit_log, report_changes, report_counts
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

KILLS = int(os.environ.get("REPORT_KILLS", "2"))  # of each replica
WRITES = int(os.environ.get("REPORT_WRITES", "60"))  # acknowledged between two kills, on each replica
WORKERS = 4  # of each replica
AGENTS, TEAMS = ("ann", "bob", None), ("returns", "billing", None)


class Replica:
    """A replica that is killed and started again, and its clients."""

    def __init__(self, number, variables, folder):
        self._draw = random.Random(number)
        self._port = free_port()
        self._variables = variables | {"SUPPORT_PORT": str(self._port), "SUPPORT_LOG_LEVEL": "error"}
        self._folder = folder
        self.address = f"http://127.0.0.1:{self._port}"
        self.acknowledged = Counter()
        self.lost = 0
        self._cases = []

    async def run(self):
        """Start the replica, write to it, and kill it, several times."""
        for _ in range(KILLS):
            async with running("serve", cwd=self._folder, **self._variables) as process:
                await process.wait_until_ready(self.address)
                goal = self.acknowledged.total() + WRITES
                async with aiohttp.ClientSession(self.address) as session:
                    workers = [asyncio.create_task(self._write(session)) for _ in range(WORKERS)]
                    await eventually(lambda: self.acknowledged.total() >= goal)  # noqa: B023 - of this round
                    process.stop(signal.SIGKILL)
                    await process.wait_for_exit()
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)

    async def _write(self, session):
        while True:
            what, method, path, body = self._next_write()
            try:
                async with session.request(method, path, json=body) as response:
                    answer = await response.json()
                    if response.status < 300:
                        self.acknowledged[what] += 1
                        if what == "open":
                            self._cases.append(answer["id"])
            except (aiohttp.ClientError, ConnectionError):
                self.lost += 1
                await asyncio.sleep(0.01)  # before the next attempt

    def _next_write(self):
        draw = self._draw
        if not self._cases or draw.random() < 0.3:
            fields = {"assignedAgentId": draw.choice(AGENTS), "team": draw.choice(TEAMS)}
            return ("open", "POST", "/support/cases", {"subject": "A", "channel": "email", **fields})
        case = f"/support/cases/{draw.choice(self._cases[-20:])}"
        if draw.random() < 0.5:
            status = draw.choice(("open", "pending", "resolved", "closed"))
            return "status", "POST", f"{case}/status", {"status": status}
        return "message", "POST", f"{case}/messages", {"authorType": "agent", "message": "Hello"}


async def expected(database):
    """Return what happened by measure and agent, as the audit log and its order say."""
    counts, owner, answered = Counter(), {}, set()
    entries = await database.fetch_all(sa.select(audit_log).order_by(audit_log.c.case_id, audit_log.c.at))
    for entry in entries:
        changes = json.loads(entry.changes)
        if entry.action == "case.opened":
            owner[entry.case_id] = changes.get("assignedAgentId", [None, None])[1]
            counts["opened", owner[entry.case_id]] += 1
        elif entry.action == "message.added" and entry.case_id not in answered:
            answered.add(entry.case_id)
            counts["answered", owner[entry.case_id]] += 1
        elif "status" in changes:
            before, after = (status in ACTIVE_STATUSES for status in changes["status"])
            if before != after:
                counts["solved" if before else "reopened", owner[entry.case_id]] += 1
    return counts


@both_databases
async def test_reports_are_what_the_audit_log_says_after_kills(environment, database, tmp_path, backend):
    """On PostgreSQL two replicas write and count at once."""
    replicas = [Replica(number, environment, tmp_path) for number in range(2 if backend == "postgresql" else 1)]
    await asyncio.gather(*(replica.run() for replica in replicas))
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running("serve", cwd=tmp_path, **replicas[0]._variables))  # noqa: SLF001
        await process.wait_until_ready(replicas[0].address)
        session = await stack.enter_async_context(aiohttp.ClientSession(replicas[0].address))
        async with session.get("/support/reports", params={"by": "agent"}) as response:
            rows = (await response.json())["items"]
    wanted = await expected(database)  # after what PostgreSQL was still committing at the kill
    found = Counter()
    for row in rows:
        found["answered", row["agent"]] = row["firstAnswer"]["count"]
        found |= {(measure, row["agent"]): row[measure] for measure in ("opened", "solved", "reopened")}
    found = +found  # without zeros
    assert found == wanted
    acknowledged = sum((replica.acknowledged for replica in replicas), Counter())
    opened = sum(number for (measure, _), number in found.items() if measure == "opened")
    assert opened >= acknowledged["open"]
    waiting = len(await database.fetch_all(report_changes.select()))
    counters = len(await database.fetch_all(report_counts.select()))
    lost = sum(replica.lost for replica in replicas)
    with suppress(OSError):
        sys.stdout.write(
            f"\n{backend}: {len(replicas) * KILLS} kills, {acknowledged.total()} writes acknowledged, {lost} not; "
            f"{found.total()} occurrences counted, {waiting} of them not in one of {counters} counters yet\n"
        )
