"""Changes without locks on PostgreSQL: transactions share statements, and run again with locks after a conflict."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.clocks.policy import PolicyContent
from support_service.cases.model.requests import CaseChange, NewCase, NewMessage, StatusChange
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService, ExistingCase
from support_service.core.domain.case_vocabulary import SYNTHETIC
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import Conflict, NotFound, VersionConflict
from support_service.desk.policies import PolicyService
from support_service.platform.database.failures import DATABASE_BUSY
from support_service.platform.database.postgres.engine import PostgresDatabase
from support_service.platform.database.tables import idempotency_keys, tickets
from support_service.platform.idempotency_keys import IdempotencyService
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.support.calls import eventually
from tests.support.cases import stored_case
from tests.support.timings import PATIENT_DATABASE

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

REPLICAS = 2
MEMBERS = 3  # transactions that may share a statement
IN_FLIGHT = 2  # statements at a time
NEW = NewCase.model_validate({"subject": "Parcel has not arrived", "channel": "email"})
FULL = NewCase.model_validate(
    {
        "subject": "Parcel has not arrived",
        "channel": "email",
        "tags": ["late", "parcel"],
        "context": [{"type": "order", "orderId": "ORD-1"}, {"type": "payment", "paymentId": "PAY-1"}],
        "initialMessage": {"authorType": "customer", "message": "Where is it?", "metadata": {"page": 1}},
    }
)
EVENTS = sa.text("""
    SELECT case_id, event::json -> 'data' -> 'ticket' ->> 'id' AS ticket,
        (event::json -> 'data' -> 'ticket' ->> 'version')::int AS version
    FROM outbox ORDER BY seq
""")

WAITING = sa.text(
    "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def new_message(author="agent", **fields):
    return NewMessage.model_validate({"authorType": author, "message": "We are looking into it.", **fields})


class Replica:
    """The cases of one replica, whose statements with changes are counted, and can be held back."""

    def __init__(self, database_url, instruments, monkeypatch):
        self.database = PostgresDatabase(database_url, timings=PATIENT_DATABASE.postgres)
        self.policies = KnownPolicies(self.database)
        self.cases = CaseService(self.database, CaseRecorder(instruments, ClockTracker(self.policies, instruments)))
        self.before_sending = None  # runs once, before the next statement
        self.statements = 0
        self.failures = []
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._commits = self.database.group_commit
        self._send = self._commits._send  # noqa: SLF001 - statements are held where they are sent
        monkeypatch.setattr(self._commits, "_send", self._send_when_released)

    async def _send_when_released(self, sql, values):
        await self._may_send.wait()
        if self.before_sending:
            before, self.before_sending = self.before_sending, None
            await before()
        self.statements += 1
        try:
            await self._send(sql, values)
        except Exception as failure:
            self.failures.append(failure)
            raise

    async def run_together(self, *writes, cancelled=0):
        """Run writes, whose changes wait in this order until all have some, and return results and errors.

        Their statements are counted. The first `cancelled` are cancelled while they wait.
        """
        commits = self._commits
        self._may_send.clear()
        others = []
        while len(others) < IN_FLIGHT:
            others.append(asyncio.create_task(self.cases.open_case(SYSTEM_ORIGIN, NEW)))
            await eventually(lambda: commits._in_flight == len(others) and not commits._waiting)  # noqa: SLF001 - as above
        tasks = []
        for each in writes:
            tasks.append(asyncio.create_task(each))
            await eventually(lambda: sum(map(len, commits._waiting.values())) == len(tasks))  # noqa: SLF001 - as above
        for task in tasks[:cancelled]:
            task.cancel()
        self.statements = -IN_FLIGHT
        self._may_send.set()
        await asyncio.gather(*others)
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def replicas(database_url, instruments, monkeypatch):
    replicas = [Replica(database_url, instruments, monkeypatch) for _ in range(REPLICAS)]
    for each in replicas:
        await each.database.open()
    yield replicas
    for each in replicas:
        await each.database.close()


@pytest.fixture
def replica(replicas):
    return replicas[0]


@pytest.fixture
async def cases(replica):
    return [(await replica.cases.open_case(SYSTEM_ORIGIN, FULL)).id for _ in range(MEMBERS)]


WRITES = {
    "message of an agent": lambda cases, case_id, _: cases.add_message(SYSTEM_ORIGIN, case_id, new_message()),
    "message of a customer": lambda cases, case_id, _: cases.add_message(
        SYSTEM_ORIGIN, case_id, new_message("customer", sentiment="angry", metadata={"a": [1, None]})
    ),
    "message of a bot": lambda cases, case_id, _: cases.add_message(SYSTEM_ORIGIN, case_id, new_message("bot")),
    "internal note": lambda cases, case_id, _: cases.add_message(
        SYSTEM_ORIGIN, case_id, new_message(visibility="internal")
    ),
    "message with an external id": lambda cases, case_id, _: cases.add_message(
        SYSTEM_ORIGIN, case_id, new_message(external_id="M-1")
    ),
    "status": lambda cases, case_id, _: cases.set_status(SYSTEM_ORIGIN, case_id, StatusChange(status="pending")),
    "closing": lambda cases, case_id, _: cases.set_status(SYSTEM_ORIGIN, case_id, StatusChange(status="closed")),
    "fields": lambda cases, case_id, _: cases.change_case(
        SYSTEM_ORIGIN, case_id, CaseChange.model_validate({"tags": ["one"], "description": "Two", "priority": "high"})
    ),
    "case": lambda cases, _, __: cases.open_case(SYSTEM_ORIGIN, NEW),
    "case with all": lambda cases, _, __: cases.open_case(SYSTEM_ORIGIN, FULL),
    "case with an external id": lambda cases, _, number: cases.open_case(
        SYSTEM_ORIGIN, NEW.model_copy(update={"external_id": f"X-{number}"})
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("with_policy", [False, True], ids=["", "with a policy"])
async def test_changes_of_several_cases_share_a_statement(replica, write, with_policy):
    """Each case gets its own rows, and each event tells of its own case as it is after the change."""
    if with_policy:
        policy = PolicyContent.model_validate({"targets": {"firstResponse": "PT1H", "resolution": "PT9H"}})
        await PolicyService(replica.database, replica.policies).put(SYSTEM_ORIGIN, "all", policy)
    case_ids = [(await replica.cases.open_case(SYSTEM_ORIGIN, FULL)).id for _ in range(MEMBERS)]
    known = len(await replica.database.fetch_all(EVENTS))
    results = await replica.run_together(*(write(replica.cases, each, n) for n, each in enumerate(case_ids)))
    assert not [each for each in results if isinstance(each, BaseException)]
    assert replica.statements == 1
    changed = {getattr(each, "ticket_id", each.id) for each in results}
    assert len(changed) == MEMBERS
    events = [each for each in (await replica.database.fetch_all(EVENTS))[known:] if each.case_id in changed]
    assert {each.case_id for each in events} == changed
    for each in events:
        stored = await stored_case(replica.cases, each.case_id)
        assert (each.ticket, each.version) == (each.case_id, stored.version)


async def test_claims_are_marked_in_the_same_statement(replica, cases):
    """Also the claims of several requests."""
    keys = IdempotencyService(replica.database)
    claims = [await keys.claim_or_read_response(f"key {each}", "request", each) for each in cases]
    await replica.run_together(
        *(
            replica.cases.add_message(WriteOrigin(SYSTEM, claim=claim), each, new_message())
            for each, claim in zip(cases, claims, strict=True)
        )
    )
    assert replica.statements == 1
    rows = await replica.database.fetch_all(sa.select(idempotency_keys.c.state, idempotency_keys.c.case_id))
    assert sorted(tuple(row) for row in rows) == sorted(("applied", each) for each in cases)


async def test_transaction_that_fails_costs_no_other(replica, cases):
    """A claim was taken over, so its change is refused; the others are made."""
    keys = IdempotencyService(replica.database)
    claim = await keys.claim_or_read_response("key", "request")
    lost = WriteOrigin(SYSTEM, claim=claim)
    other = [WriteOrigin(SYSTEM, claim=await keys.claim_or_read_response(f"{each}", "request")) for each in cases[1:]]
    async with replica.database.transaction() as tx:
        await tx.execute(idempotency_keys.update().where(idempotency_keys.c.id == "key").values(owner="another"))
    refused, *results = await replica.run_together(
        *(
            replica.cases.add_message(origin, each, new_message())
            for each, origin in zip(cases, [lost, *other], strict=True)
        )
    )
    assert isinstance(refused, Conflict)
    assert refused.code == "idempotency_key_in_use"
    assert [each.ticket_id for each in results] == cases[1:]
    assert [len((await stored_case(replica.cases, each)).messages) for each in cases] == [1, 2, 2]


async def test_change_of_another_replica_in_between_is_kept(replicas, cases):
    """The use case runs again: both messages are there, in the order of their commits, with a version each."""
    one, other = replicas
    one.before_sending = lambda: other.cases.add_message(SYSTEM_ORIGIN, cases[0], new_message("customer"))
    message = await one.cases.add_message(SYSTEM_ORIGIN, cases[0], new_message())
    stored = await stored_case(one.cases, cases[0])
    assert [each.author_type for each in stored.messages] == ["customer", "customer", "agent"]
    assert stored.messages[-1].id == message.id
    assert stored.messages[-1].created_at > stored.messages[-2].created_at
    assert stored.version == 3
    events = [each.version for each in await one.database.fetch_all(EVENTS) if each.case_id == cases[0]]
    assert events == [1, 2, 3]


async def test_expected_version_holds_against_another_replica(replicas, cases):
    """The version was right when the case was read, and is not when the change is made."""
    one, other = replicas
    one.before_sending = lambda: other.cases.set_status(SYSTEM_ORIGIN, cases[0], StatusChange(status="pending"))
    with pytest.raises(VersionConflict):
        await one.cases.change_case(SYSTEM_ORIGIN, cases[0], CaseChange.model_validate({"subject": "New"}), (1,))
    stored = await stored_case(one.cases, cases[0])
    assert (stored.status, stored.subject, stored.version) == ("pending", FULL.subject, 2)


async def test_case_deleted_by_another_replica_is_not_changed(replicas):
    """The message finds no case when it runs again."""
    one, other = replicas
    case = await one.cases.open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"channel": SYNTHETIC}))
    one.before_sending = lambda: other.cases.remove_synthetic(SYSTEM_ORIGIN, case.id)
    with pytest.raises(NotFound):
        await one.cases.add_message(SYSTEM_ORIGIN, case.id, new_message())


async def test_change_of_a_locked_case_waits_without_holding_up_others(replica, cases):
    """The shared statement does not wait for the lock."""
    lock = sa.text("SELECT 1 FROM tickets WHERE id = :id FOR UPDATE")
    async with replica.database.transaction() as tx:
        await tx.fetch_now(lock, {"id": cases[0]})
        waiting = asyncio.create_task(replica.cases.add_message(SYSTEM_ORIGIN, cases[0], new_message()))
        await asyncio.gather(*(replica.cases.add_message(SYSTEM_ORIGIN, each, new_message()) for each in cases[1:]))
        assert not waiting.done()
    assert (await waiting).ticket_id == cases[0]


async def test_external_id_is_used_once_by_two_replicas(replicas):
    """The second replica finds the case of the first one."""
    one, other = replicas
    new = NEW.model_copy(update={"external_id": "X-1"})
    opened = []

    async def open_at_other():
        opened.append(await other.cases.open_case(SYSTEM_ORIGIN, new))

    one.before_sending = open_at_other
    existing = await one.cases.open_case(SYSTEM_ORIGIN, new)
    assert isinstance(existing, ExistingCase)
    assert existing.id == opened[0].id


async def test_two_replicas_that_open_the_same_cases_in_opposite_order_do_not_deadlock(replicas, cases):
    """Both insert the external ids in one order, so that the second replica only waits for the first."""
    new = [NEW.model_copy(update={"external_id": f"X-{number}"}) for number in range(3)]
    database = replicas[0].database
    row = (await database.fetch_now(tickets.select().where(tickets.c.id == cases[0])))._asdict()
    del row["seq"]
    async with database.transaction() as tx:
        # Either replica has to wait before its second case. Without an order it has inserted its first one by then.
        await tx.execute(tickets.insert(), row | {"id": "other", "external_id": "X-1"})
        opening = [
            asyncio.create_task(each.run_together(*(each.cases.open_case(SYSTEM_ORIGIN, case) for case in order)))
            for each, order in zip(replicas, (new, new[::-1]), strict=True)
        ]
        await eventually(lambda: replicas_wait(database))
        await tx.execute(tickets.delete().where(tickets.c.id == "other"))
    first, second = await asyncio.gather(*opening)
    assert {each.id for each in first} == {each.id for each in second}
    failures = [failure for each in replicas for failure in each.failures]
    assert DATABASE_BUSY not in [getattr(failure, "code", None) for failure in failures]


async def replicas_wait(database):
    return (await database.fetch_now(WAITING)).number == REPLICAS


async def test_cancelled_request_costs_no_other(replica, cases):
    """Its change is not made, because it still waited; the others are made."""
    cancelled, *results = await replica.run_together(
        *(replica.cases.add_message(SYSTEM_ORIGIN, each, new_message()) for each in cases), cancelled=1
    )
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [each.ticket_id for each in results] == cases[1:]
    assert [len((await stored_case(replica.cases, each)).messages) for each in cases] == [1, 2, 2]


async def test_transaction_with_locks_changes_two_cases_and_one_case_twice(replica, cases):
    """Changes that wait are not mixed up: each row gets all of its own."""
    one, other, _ = cases
    async with replica.database.transaction() as tx:
        for case_id, team, agent in ((one, "a", "ann"), (other, "b", "bob"), (one, "c", "cem")):
            row = tickets.update().where(tickets.c.id == sa.bindparam("of_case"))
            await tx.execute_later(row.values(team=sa.bindparam("new_team")), {"of_case": case_id, "new_team": team})
            await tx.execute_later(
                row.values(assigned_agent_id=sa.bindparam("agent")), {"of_case": case_id, "agent": agent}
            )
    rows = await replica.database.fetch_all(sa.select(tickets.c.id, tickets.c.team, tickets.c.assigned_agent_id))
    assert {tuple(row) for row in rows} >= {(one, "c", "cem"), (other, "b", "bob")}
