"""A service that is killed before any line of a write with an Idempotency-Key: a retry never executes the write twice.

`make test` kills one write. The short form kills each write at another kind of step. The long form kills each of them
CRASH_KILLS times before its commit and as often after it.
"""

import inspect
import json
import shutil
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from support_service.cases.known_agents import KnownAgents
from support_service.cases.links import LinkService
from support_service.cases.model.requests import NewCase, NewMessage
from support_service.cases.service import CaseService
from support_service.cases.sql import case_rows
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.desk.customer_models import CustomerChange
from support_service.desk.customers import CustomerRecords
from support_service.platform.audit.log import seal_all
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import audit_log, customers, idempotency_keys, notifications, tickets
from support_service.platform.idempotency_keys import IdempotencyService
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.calls import form
from tests.support.cases import recorder
from tests.support.crash.kills import KILLS, opened, print_figures, serving, spread
from tests.support.crash.victim import before, modules

pytestmark = pytest.mark.usefixtures("processes")

WATCHED = modules(
    *(f"cases/{name}.py" for name in ("case_files", "links", "notifier", "recorder", "service", "splitting")),
    *(f"platform/{name}.py" for name in ("audit/log", "idempotency_keys", "unit_of_work")),
    *("attachments/service.py", "attachments/uploader.py", "desk/customers.py", "api/routing/idempotency.py"),
)
MESSAGE = {"authorType": "agent", "message": "Hi"}
NOTE = MESSAGE | {"visibility": "internal", "message": "See this, @agent-7"}
ORIGINAL, MOVED = "{original}", "{moved}"  # in what is sent: ids of the prepared cases
WRITES = {
    "open": ("POST", "/support/cases", lambda key: {"json": {"subject": key, "channel": "email"}}),
    "message": ("POST", "/support/cases/{case}/messages", lambda _: {"json": MESSAGE}),
    "mention": ("POST", "/support/cases/{case}/messages", lambda _: {"json": NOTE}),
    "close": ("POST", "/support/cases/{case}/close", lambda _: {"json": {"message": "Bye"}}),
    "upload": ("POST", "/support/cases/{case}/attachments", lambda _: {"data": form(b"x" * 1000)}),
    "merge": ("POST", "/support/cases/{case}/merge", lambda _: {"json": {"into": ORIGINAL}}),
    "arrive": ("POST", "/support/cases/{case}/messages", lambda _: {"json": MESSAGE}),
    "split": ("POST", "/support/cases/{case}/split", lambda key: {"json": {"messageIds": [MOVED], "subject": key}}),
    # Both customers have the ids of the cases.
    "join": ("POST", "/support/customers/{case}/merge", lambda _: {"json": {"into": ORIGINAL}}),
    "separate": ("DELETE", "/support/customers/{case}/identities/{case}", lambda _: {}),
}
CUSTOMER_ACTIONS = {"join": "customer.merged", "separate": "customer.separated"}
# For each write: where it is killed, how often it is applied then, and the response to the retry.
KEYS, NOTHING = "platform/idempotency_keys.py", (0, (None, None))
STEPS = {
    "open": (before(KEYS, "if await self._database.execute(INSERT_CLAIM"), *NOTHING),  # nothing is stored
    "message": (before("platform/unit_of_work.py", "if not await self.tx.change_one(MARK_APPLIED"), *NOTHING),
    "mention": (before("cases/notifier.py", "await notification_rows.add("), *NOTHING),
    "close": (before(KEYS, "size = len("), 1, ("idempotency_answer_lost", None)),
    "upload": (before("api/routing/idempotency.py", "return response"), 1, (None, "true")),  # the response is stored
    "merge": (before("cases/links.py", "await cases[case_id].set_status("), *NOTHING),  # linked, not closed
    "arrive": (before("cases/service.py", "target = merged.original"), *NOTHING),
    "split": (before("cases/splitting.py", "await split_rows.move_files("), *NOTHING),  # without its files
    "join": (before("desk/customers.py", 'await _record_link(work, "customer.merged"'), *NOTHING),
    "separate": (before("desk/customers.py", 'await _record_link(work, "customer.separated"'), *NOTHING),
}


@dataclass(frozen=True)
class Sent:
    """A write that was sent to a service that was killed: its case, its key, and how often it was applied."""

    write: str
    case_id: str
    key: str
    body: dict[str, Any]
    applied: int = 0


class WriteRunner:
    """Sends writes to services that are killed, and retries all of them at one that is not."""

    def __init__(self, folder, template, instruments):
        shutil.copy(template, folder / "support.db")
        self._folder, self._instruments = folder, instruments
        self._url = f"sqlite:///{folder / 'support.db'}"
        self._sent = []

    async def send(self, write, point=None, record=None):
        """Send a write, about a case of its own, to a service that is killed at a point."""
        key = f"{write} {len(self._sent)}"
        async with opened(self._url) as database:
            sent = await self._prepare(database, write, key)
        async with self._service(point, record) as session:
            await _send(session, sent)
        async with opened(self._url) as database:
            self._sent.append(replace(sent, applied=await _effects(database, sent)))

    async def _prepare(self, database, write, key):
        """Open the cases that a write needs; return what is to be sent."""
        changes = recorder(database, self._instruments)
        cases, links = CaseService(database, changes), LinkService(database, changes)
        body = WRITES[write][2](key)
        case, original = [
            (await cases.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))).id for _ in range(2)
        ]
        if write == "mention":
            await AgentDirectory(database, KnownAgents(database)).change(SYSTEM_ORIGIN, "agent-7", AgentChange())
        if write == "arrive":
            await links.merge(SYSTEM_ORIGIN, case, original)
        if write == "split":
            hi = NewMessage(authorType="agent", message="Hi")
            moved, _ = [await cases.add_message(SYSTEM_ORIGIN, case, hi) for _ in range(2)]
            body["json"]["messageIds"] = [moved.id]
        if write in ("merge", "join"):
            body["json"]["into"] = original
        if write in CUSTOMER_ACTIONS:
            records = CustomerRecords(database)
            for each in (case, original):
                await records.change(SYSTEM_ORIGIN, each, CustomerChange(name=each))
            if write == "separate":
                await records.merge(SYSTEM_ORIGIN, case, original)
        return Sent(write, case, key, body)

    async def retry(self):
        """Retry all writes; return how often each was applied before, and the response to the retry."""
        async with opened(self._url) as database, database.transaction() as tx:
            # As if the claims of killed processes had expired.
            await tx.execute(idempotency_keys.update().values(until=idempotency_keys.c.created_at))
        async with self._service() as session:
            responses = [await _send(session, sent) for sent in self._sent]
        async with opened(self._url) as database:
            for sent, response in zip(self._sent, responses, strict=True):
                assert await _effects(database, sent) == 1, (sent, response)
            async with database.transaction() as tx:
                await seal_all(tx)
            assert (await verify_chain(database)).flaw is None
        return [(sent.applied, response) for sent, response in zip(self._sent, responses, strict=True)]

    def _service(self, point=None, record=None):
        return serving(self._folder, self._url, point, record, WATCHED)


async def _send(session, sent):
    """Send a write; return the response, or None if the service was killed first."""
    method, path, _ = WRITES[sent.write]
    body = {"data": form(b"x" * 1000)} if sent.write == "upload" else sent.body  # a form is sent once
    url, headers = path.format(case=sent.case_id), {"Idempotency-Key": sent.key.replace(" ", "-")}
    try:
        async with session.request(method, url, headers=headers, **body) as received:
            answer = await received.json(content_type=None) or {}
            return received.status, answer.get("code"), received.headers.get("Idempotency-Replayed")
    except aiohttp.ClientConnectionError:
        return None


async def _effects(database, sent):
    """Return how often the write was applied. One that moves or links is applied completely, or not at all."""
    opened = (await database.fetch_now(sa.select(sa.func.count()).where(tickets.c.subject == sent.key)))[0]
    case = await case_rows.get(database, sent.case_id)
    if sent.write in CUSTOMER_ACTIONS:  # the links, what follows from them, and the audit entry together
        row = await database.fetch_now(sa.select(customers).where(customers.c.id == sent.case_id))
        entries = await database.fetch_all(
            sa.select(audit_log.c.changes).where(audit_log.c.action == CUSTOMER_ACTIONS[sent.write])
        )
        recorded = sum(json.loads(each[0])["other"] == [None, row.audit_id] for each in entries)
        is_merged = recorded == (1 if sent.write == "join" else 0)
        assert [bool(each) for each in (row.merged_into, row.person, row.person_name)] == [is_merged] * 3
        return recorded
    if sent.write in ("merge", "split"):
        linked = len(case.links)
        assert (case.status == "closed", opened) == ((linked == 1, 0) if sent.write == "merge" else (False, linked))
        assert len(case.messages) == (2 - linked if sent.write == "split" else 0)
        return linked
    if sent.write == "mention":  # the note, the notification and the follower together
        told = await database.fetch_all(
            sa.select(notifications.c.message_id).where(notifications.c.case_id == sent.case_id)
        )
        followers = (await database.fetch_now(sa.select(tickets.c.followers).where(tickets.c.id == sent.case_id)))[0]
        assert [each[0] for each in told] == [each.id for each in case.messages]
        assert followers == (["agent-7"] if told else None)
    if sent.write == "arrive":
        case = await case_rows.get(database, case.links[0].case_id)
    return opened + len(case.messages) + len(case.attachments)


@pytest.mark.parametrize("writes", [["close"], pytest.param([*STEPS], marks=pytest.mark.long)], ids=["close", "all"])
async def test_write_is_executed_once_after_a_kill_before_any_line(tmp_path, sqlite_template, instruments, writes):
    """The retry is executed, gets the stored response, or learns that the response was lost."""
    runner = WriteRunner(tmp_path, sqlite_template, instruments)
    if KILLS:
        await kill_everywhere(runner, tmp_path / "points.json")
        return
    for write in writes:
        await runner.send(write, STEPS[write][0])
    found = [(applied, response[1:]) for applied, response in await runner.retry()]
    assert found == [STEPS[write][1:] for write in writes]


async def kill_everywhere(runner, record):
    """Kill each write at many lines before its commit and after it, and check the retries."""
    lines, first = inspect.getsourcelines(IdempotencyService.store_response)  # stores the response after the commit
    keeping = {f"idempotency_keys.py:{first + number}" for number in range(len(lines))}
    for write in WRITES:
        await runner.send(write, record=record)
        executed = list(json.loads(record.read_text()).items())
        committed = next(place for place, (line, _) in enumerate(executed) if line in keeping)
        for point in spread(dict(executed[:committed]), KILLS) + spread(dict(executed[committed:]), KILLS):
            await runner.send(write, point)
    outcomes = await runner.retry()
    for applied, (status, *told) in outcomes:
        allowed = [[None, "true"], ["idempotency_answer_lost", None]] if applied else [[None, None]]
        assert told in allowed, (applied, status, told)
    lost = sum(response[0] == 409 for _, response in outcomes)
    not_applied = sum(not applied for applied, _ in outcomes)
    assert 0 < not_applied < len(outcomes) - len(WRITES)
    print_figures(f"{len(outcomes) - len(WRITES)} kills: {not_applied} before the commit, {lost} answers lost")
