"""A service that is killed before any line of a write with an Idempotency-Key: the repeat never does it twice.

`CRASH_KILLS` says how many lines of each write; `make crash` takes many.
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
from support_service.cases import store
from support_service.cases.requests import NewCase
from support_service.cases.service import CaseService
from support_service.database.tables import idempotency_keys, tickets
from support_service.idempotency.claims import IdempotencyService
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from tests.e2e.crash import victim
from tests.e2e.crash.test_crash import KILLS, WITHIN, figures, spread
from tests.support.calls import eventually, form
from tests.support.forks import context
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

WATCHED = {
    str(victim.HOUSE / name)
    for name in (
        "attachments/case_access.py",
        "attachments/service.py",
        "audit/log.py",
        "cases/changes.py",
        "cases/service.py",
        "idempotency/claims.py",
        "idempotency/store.py",
        "idempotency/unit_of_work.py",
        "api/idempotency.py",
    )
}
WRITES = {
    "open": ("POST", "/support/cases", lambda: {"json": {"subject": "New", "channel": "email"}}),
    "message": ("POST", "/support/cases/{case}/messages", lambda: {"json": {"authorType": "agent", "message": "Hi"}}),
    "close": ("POST", "/support/cases/{case}/close", lambda: {"json": {"message": "Bye"}}),
    "upload": ("POST", "/support/cases/{case}/attachments", lambda: {"data": form(b"x" * 1000)}),
}


class Bench:
    """Runs one write against a service that dies, and then again against one that does not."""

    def __init__(self, folder, template, instruments):
        self._folder, self._template, self._instruments = folder, template, instruments
        self._runs = 0

    async def run(self, write, point=None, record=None):
        """Whether the service was killed, whether the write had been done by then, and the repeat's answer."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        shutil.copy(self._template, folder / "support.db")
        async with _opened(folder) as database:
            case = await CaseService(database, self._instruments).open_case(
                SYSTEM_CONTEXT, NewCase(subject="A", channel="email")
            )
        await self._serve(folder, case.id, write, point, record)
        async with _opened(folder) as database:
            done = await _effects(database, case.id)
            async with database.transaction() as tx:  # as if the dead one's time were over
                await tx.execute(idempotency_keys.update().values(until=idempotency_keys.c.created_at))
        answer = await self._serve(folder, case.id, write)
        async with _opened(folder) as database:
            assert await _effects(database, case.id) == 1, (point, done, answer)
            async with database.transaction() as tx:
                await sealer.seal_all(tx)
            assert (await verify_chain(database)).flaw is None
        shutil.rmtree(folder)
        return done, answer

    async def _serve(self, folder, case_id, write, point=None, record=None):
        """Send the write to a service of its own; the answer, None where it died first."""
        port = free_port()
        variables = {
            "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}",
            "SUPPORT_ATTACHMENT_DIR": str(folder / "files"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_SHED_LAG": "0",  # a traced process is late
        }
        process = context.Process(target=victim.run, args=(["serve"], variables, folder, point, record, WATCHED))
        process.start()
        async with asyncio.timeout(WITHIN):
            answer = await _send(f"http://127.0.0.1:{port}", case_id, write, process)
            if process.is_alive() and answer is not None:
                os.kill(process.pid, signal.SIGTERM)
            await asyncio.to_thread(process.join)
        assert process.exitcode in (0, -signal.SIGKILL), (folder / "victim.log").read_text()[-3000:]
        return answer


async def _send(address, case_id, write, process):
    method, path, sent = WRITES[write]
    async with aiohttp.ClientSession(address) as session:
        await eventually(lambda: _answers_or_ended(session, process), WITHIN)
        try:
            url, headers = path.format(case=case_id), {"Idempotency-Key": "k"}
            async with session.request(method, url, headers=headers, **sent()) as response:
                body = await response.json(content_type=None)
                return response.status, body.get("code"), response.headers.get("Idempotency-Replayed")
        except aiohttp.ClientConnectionError:
            return None


async def _answers_or_ended(session, process):
    try:
        async with session.get("/readyz"):
            return True
    except aiohttp.ClientConnectionError:
        return not process.is_alive()


async def _effects(database, case_id):
    """How often the write has taken effect, whichever it is."""
    others = await database.fetch_one(sa.select(sa.func.count()).where(tickets.c.id != case_id))
    case = await store.get(database, case_id)
    return others[0] + max(len(case.messages), len(case.attachments))


class _opened:  # noqa: N801 - reads as the verb that it is
    def __init__(self, folder):
        self._database = databases.connect(f"sqlite:///{folder / 'support.db'}")

    async def __aenter__(self):
        await self._database.open()
        return self._database

    async def __aexit__(self, *_):
        await self._database.close()


@pytest.mark.parametrize("write", WRITES)
async def test_a_kill_before_any_line(tmp_path, sqlite_template, instruments, write):
    """Killed before any line of a write, and repeated: done once, and answered, or told that the answer is lost."""
    record = tmp_path / "points.json"
    bench = Bench(tmp_path, sqlite_template, instruments)
    done, answer = await bench.run(write, record=record)
    assert (done, answer[0] < 300, answer[2]) == (1, True, "true")
    met = list(json.loads(record.read_text()).items())
    lines, first = inspect.getsourcelines(IdempotencyService.keep)  # which keeps the answer, after the commit
    keeping = {f"claims.py:{first + number}" for number in range(len(lines))}
    committed = next(place for place, (line, _) in enumerate(met) if line in keeping)
    points = spread(dict(met[:committed]), KILLS) + spread(dict(met[committed:]), KILLS)
    outcomes = []
    for point in points:
        done, answer = await bench.run(write, point)
        if done:
            assert answer in ((answer[0], None, "true"), (409, "idempotency_answer_lost", None))
        else:
            assert (answer[0] < 300, answer[2]) == (True, None)
        outcomes.append((done, answer[0]))
    lost = sum(answer == 409 for _, answer in outcomes)
    undone = sum(not done for done, _ in outcomes)
    assert 0 < undone < len(points)
    figures(f"{write}: {len(points)} kills at {len(met)} lines; {undone} before the commit, {lost} answers lost")
