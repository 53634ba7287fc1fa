"""The process that reports breaches of service levels is killed, and another one goes on."""

import signal
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.platform.database.tables import audit_log, case_clocks, leases, outbox
from tests.support.calls import eventually, open_case
from tests.support.process import LONG_TIMEOUTS, running
from tests.support.servers import free_port

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

CASES = 30
POLICY = {"targets": {"firstResponse": "PT1H", "resolution": "PT8H"}}
STUCK = sa.text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO outbox%'")
BREACHES = sa.select(audit_log.c.case_id).where(audit_log.c.action == "sla.breached")
EVENTS = sa.select(outbox.c.case_id).where(outbox.c.type == "support.case.sla-breached.v1")
HOLDER = sa.select(leases.c.holder).where(leases.c.name == "sla")


@pytest.fixture
def replica(environment, tmp_path):
    """Run a replica for the length of a block. Its Redis is down, so that events stay in the outbox."""
    down = f"redis://127.0.0.1:{free_port()}"

    @asynccontextmanager
    async def replica():
        port = free_port()
        variables = environment | {"SUPPORT_PORT": str(port), "SUPPORT_REDIS_URL": down}
        async with running("serve", cwd=tmp_path, **variables, **LONG_TIMEOUTS) as process:
            address = f"http://127.0.0.1:{port}"
            await process.wait_until_ready(address)
            yield process, address

    return replica


async def expire(database, target):
    """Move the due time of the running clocks of a target into the past."""
    async with database.transaction() as tx:
        running = (case_clocks.c.state == "running", case_clocks.c.target == target)
        await tx.execute(case_clocks.update().where(*running).values(due_at=utc_now() - timedelta(minutes=1)))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_each_breach_is_reported_once_when_the_reporting_process_is_killed(replica, database):
    """It is killed in the middle of its transaction; the other process takes the lease over when it has expired."""

    async def holder():
        return (await database.fetch_now(HOLDER)).holder

    async def reported(read):
        return [row.case_id for row in await database.fetch_all(read)]

    async def all_reported(number):
        return len(await reported(BREACHES)) >= number

    async with replica() as (first, address), aiohttp.ClientSession(address) as session:
        async with session.put("/support/sla-policies/all", json=POLICY) as response:
            assert response.status in (200, 201), await response.text()
        cases = [(await open_case(session))["id"] for _ in range(CASES)]
        killed = await eventually(holder)
        async with replica():
            async with database.transaction() as tx:  # the report waits for this table
                await tx.execute(sa.text("LOCK TABLE outbox IN EXCLUSIVE MODE"))
                await expire(database, "firstResponse")
                await eventually(lambda: database.fetch_now(STUCK))
                first.stop(signal.SIGKILL)
                await first.wait_for_exit()
                assert await reported(BREACHES) == []
            await eventually(lambda: all_reported(CASES))
            await expire(database, "resolution")
            await eventually(lambda: all_reported(2 * CASES))
            assert await holder() not in ("", killed)
    assert Counter(await reported(BREACHES)) == Counter(2 * cases)
    assert Counter(await reported(EVENTS)) == Counter(2 * cases)
