"""A service that is killed at any step of a wake: each case is opened once, by the next one or by another replica.

The short form kills a service at a step of each kind. The long form kills SNOOZE_KILLS services on each database, each
of a database of its own.
"""

import json
import os
import signal
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import NewCase, StatusChange
from support_service.cases.service import CaseService
from support_service.core.clock import format_time, utc_now
from support_service.core.domain.principals import SYSTEM
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import audit_log, outbox, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.cases import recorder
from tests.support.crash.kills import RUN_TIMEOUT, kill_at_each, opened, run_victim, variables_of_service
from tests.support.crash.victim import before, modules
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

KILLS = int(os.environ.get("SNOOZE_KILLS", "0"))  # on each database; 0 is the short form
CASES = 60  # more than a transaction wakes
STEPS = (
    before("cases/snoozes.py", "rows = await work.tx.fetch_all(LOCK_DUE"),  # the lease is taken
    before("cases/snoozes.py", "case = CaseSummary.model_validate_json("),  # the cases are locked
    before("cases/recorder.py", "await audit.record(work, after.id, _action_of_change("),  # a case is changed
    before("platform/unit_of_work.py", "await work.mark_claim_applied()"),  # all changes are made, none committed
    before("platform/unit_of_work.py", "work.run_after_commit()"),  # the first batch is committed
)
WATCHED = modules("cases/snoozes.py", "cases/recorder.py", "platform/unit_of_work.py", "platform/audit/log.py")


async def kill_and_complete(parent, new_database, instruments, *points, record=None):
    """Run a service with a kill at each point, then another one until all cases are open; return the kills."""
    folder = Path(mkdtemp(dir=parent))
    url = new_database(folder)
    async with opened(url) as database:
        case_ids = await snooze(database, instruments)
        kills = 0
        for point in points:
            kills += await serve(folder, url, database, point)
            await check(database, case_ids)
        if record is not None:
            await serve(folder, url, database, None, record)
        else:
            await wait_for_another_replica(folder, url, database)
        await check(database, case_ids)
    return kills


async def snooze(database, instruments):
    """Snooze cases until a time in the past; return their ids."""
    cases = CaseService(database, recorder(database, instruments))
    until = StatusChange.model_validate({"status": "pending", "until": format_time(utc_now() + timedelta(hours=1))})
    case_ids = []
    for _ in range(CASES):
        case = await cases.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))
        await cases.set_status(SYSTEM_ORIGIN, case.id, until)
        case_ids.append(case.id)
    async with database.transaction() as tx:
        await tx.execute(tickets.update().values(snoozed_until=utc_now() - timedelta(hours=1)))
    return case_ids


async def serve(folder, url, database, point, record=None):
    """Run a service to a point, or until all cases are open; return whether it was killed."""
    arguments = (["serve"], _variables(folder, url), folder, point, record, WATCHED)
    return await run_victim(*arguments, is_done=lambda: _all_are_open(database)) == -signal.SIGKILL


async def wait_for_another_replica(folder, url, database):
    """Its lease is another one: it goes on when that of the killed process has expired."""
    async with running("serve", cwd=folder, **_variables(folder, url)):
        await eventually(lambda: _all_are_open(database), RUN_TIMEOUT)


async def check(database, case_ids):
    """An open case has one entry and one event of its wake, a snoozed case has none."""
    rows = await database.fetch_all(sa.select(tickets.c.id, tickets.c.status, tickets.c.snoozed_until))
    assert {row.id for row in rows} == {*case_ids}
    assert {(row.status, row.snoozed_until is None) for row in rows} <= {("open", True), ("pending", False)}
    opened = Counter(row.id for row in rows if row.status == "open")
    entries = await database.fetch_all(sa.select(audit_log).where(audit_log.c.action == "case.changed"))
    woken = [row for row in entries if json.loads(row.changes)["status"] == ["pending", "open"]]
    assert Counter(row.case_id for row in woken) == opened
    assert {row.actor for row in woken} <= {SYSTEM.name}
    events = [json.loads(row.event)["data"] for row in await database.fetch_all(sa.select(outbox.c.event))]
    assert Counter(each["ticket"]["id"] for each in events if each.get("currentStatus") == "open") == opened
    assert (await verify_chain(database)).flaw is None


def _variables(folder, url):
    """Return the variables of a service whose Redis is down, so that events stay in the outbox."""
    return variables_of_service(folder, url) | {
        "SUPPORT_AUTH": "open",
        "SUPPORT_REDIS_URL": f"redis://127.0.0.1:{free_port()}",
    }


async def _all_are_open(database):
    row = await database.fetch_now(sa.select(sa.func.count().label("n")).where(tickets.c.status == "open"))
    return row.n == CASES


@both_databases
async def test_each_case_is_opened_once_if_the_service_is_killed(tmp_path, new_database, instruments):
    """Killed before a line that locks, changes, records or commits; another process goes on."""
    run = partial(kill_and_complete, tmp_path, new_database, instruments)
    if KILLS:
        await kill_at_each(run, KILLS, tmp_path)
    else:
        assert await run(*STEPS) == len(STEPS)
