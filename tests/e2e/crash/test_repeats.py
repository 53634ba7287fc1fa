"""A service that is killed before any line of a write with an Idempotency-Key: a retry never executes the write twice.

CRASH_KILLS is the number of kills of each write before and after its commit; `make crash` has many.
"""

import asyncio
import inspect
import json
import os
import shutil
import signal

import aiohttp
import pytest
import sqlalchemy as sa

from support_service import database as databases
from support_service.audit import sealer
from support_service.audit.verify import verify_chain
from support_service.cases.model.requests import NewCase
from support_service.cases.service import CaseService
from support_service.cases.store import case_store
from support_service.database.tables import idempotency_keys, tickets
from support_service.idempotency.claims import IdempotencyService
from support_service.idempotency.unit_of_work import SYSTEM_ORIGIN
from tests.support.calls import eventually, form
from tests.support.crash import victim
from tests.support.crash.kills import KILLS, RUN_TIMEOUT, print_figures, spread
from tests.support.forks import context
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

WATCHED = {
    str(victim.PACKAGE / name)
    for name in (
        "attachments/case_access.py",
        "attachments/service.py",
        "attachments/upload/uploader.py",
        "audit/log.py",
        "cases/changes.py",
        "cases/service.py",
        "idempotency/claims.py",
        "idempotency/store.py",
        "idempotency/unit_of_work.py",
        "api/routing/idempotency.py",
    )
}
WRITES = {
    "open": ("POST", "/support/cases", lambda: {"json": {"subject": "New", "channel": "email"}}),
    "message": ("POST", "/support/cases/{case}/messages", lambda: {"json": {"authorType": "agent", "message": "Hi"}}),
    "close": ("POST", "/support/cases/{case}/close", lambda: {"json": {"message": "Bye"}}),
    "upload": ("POST", "/support/cases/{case}/attachments", lambda: {"data": form(b"x" * 1000)}),
}


class WriteRunner:
    """Runs a write against a service that is killed, and retries it against one that is not."""

    def __init__(self, folder, template, instruments):
        self._folder, self._template, self._instruments = folder, template, instruments
        self._runs = 0

    async def run(self, write, point=None, record=None):
        """Return how often the write was applied before the retry, and the response to the retry."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        shutil.copy(self._template, folder / "support.db")
        async with _opened(folder) as database:
            case = await CaseService(database, self._instruments).open_case(
                SYSTEM_ORIGIN, NewCase(subject="A", channel="email")
            )
        await self._serve(folder, case.id, write, point, record)
        async with _opened(folder) as database:
            applied = await _effects(database, case.id)
            async with database.transaction() as tx:  # as if the claim of the killed process had expired
                await tx.execute(idempotency_keys.update().values(until=idempotency_keys.c.created_at))
        response = await self._serve(folder, case.id, write)
        async with _opened(folder) as database:
            assert await _effects(database, case.id) == 1, (point, applied, response)
            async with database.transaction() as tx:
                await sealer.seal_all(tx)
            assert (await verify_chain(database)).flaw is None
        shutil.rmtree(folder)
        return applied, response

    async def _serve(self, folder, case_id, write, point=None, record=None):
        """Send the write to a new service; return its response, or None if the service was killed first."""
        port = free_port()
        variables = {
            "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}",
            "SUPPORT_ATTACHMENT_DIR": str(folder / "files"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_SHED_LAG": "0",  # a traced process is slow
        }
        process = context.Process(target=victim.run, args=(["serve"], variables, folder, point, record, WATCHED))
        process.start()
        async with asyncio.timeout(RUN_TIMEOUT):
            response = await _send(f"http://127.0.0.1:{port}", case_id, write, process)
            if process.is_alive() and response is not None:
                os.kill(process.pid, signal.SIGTERM)
            await asyncio.to_thread(process.join)
        assert process.exitcode in (0, -signal.SIGKILL), (folder / "victim.log").read_text()[-3000:]
        return response


async def _send(address, case_id, write, process):
    method, path, sent = WRITES[write]
    async with aiohttp.ClientSession(address) as session:
        await eventually(lambda: _answers_or_ended(session, process), RUN_TIMEOUT)
        try:
            url, headers = path.format(case=case_id), {"Idempotency-Key": "k"}
            async with session.request(method, url, headers=headers, **sent()) as received:
                body = await received.json(content_type=None)
                return received.status, body.get("code"), received.headers.get("Idempotency-Replayed")
        except aiohttp.ClientConnectionError:
            return None


async def _answers_or_ended(session, process):
    try:
        async with session.get("/readyz"):
            return True
    except aiohttp.ClientConnectionError:
        return not process.is_alive()


async def _effects(database, case_id):
    """Return how often the write was applied."""
    others = await database.fetch_one(sa.select(sa.func.count()).where(tickets.c.id != case_id))
    case = await case_store.get(database, case_id)
    return others[0] + max(len(case.messages), len(case.attachments))


class _opened:  # noqa: N801 - used like a function
    def __init__(self, folder):
        self._database = databases.connect(f"sqlite:///{folder / 'support.db'}")

    async def __aenter__(self):
        await self._database.open()
        return self._database

    async def __aexit__(self, *_):
        await self._database.close()


@pytest.mark.parametrize("write", WRITES)
async def test_write_is_executed_once_after_a_kill_before_any_line(tmp_path, sqlite_template, instruments, write):
    """The retry is executed, gets the stored response, or learns that the response was lost."""
    record = tmp_path / "points.json"
    runner = WriteRunner(tmp_path, sqlite_template, instruments)
    applied, response = await runner.run(write, record=record)
    assert (applied, response[0] < 300, response[2]) == (1, True, "true")
    executed = list(json.loads(record.read_text()).items())
    lines, first = inspect.getsourcelines(IdempotencyService.keep)  # stores the response after the commit
    keeping = {f"claims.py:{first + number}" for number in range(len(lines))}
    committed = next(place for place, (line, _) in enumerate(executed) if line in keeping)
    points = spread(dict(executed[:committed]), KILLS) + spread(dict(executed[committed:]), KILLS)
    outcomes = []
    for point in points:
        applied, response = await runner.run(write, point)
        if applied:
            assert response in ((response[0], None, "true"), (409, "idempotency_answer_lost", None))
        else:
            assert (response[0] < 300, response[2]) == (True, None)
        outcomes.append((applied, response[0]))
    lost = sum(response == 409 for _, response in outcomes)
    not_applied = sum(not applied for applied, _ in outcomes)
    assert 0 < not_applied < len(points)
    print_figures(
        f"{write}: {len(points)} kills at {len(executed)} lines; {not_applied} before the commit, {lost} answers lost"
    )
