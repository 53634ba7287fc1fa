"""How many round trips to PostgreSQL a write takes: changes are sent together."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import sqlalchemy as sa

from support_service.attachments.garbage import GarbageCollector
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.clocks.policy import PolicyContent
from support_service.cases.known_agents import KnownAgents
from support_service.cases.model.requests import Closing, NewCase, NewMessage, Split, StatusChange
from support_service.cases.notifier import Notifier
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService
from support_service.cases.splitting import CaseSplitter
from support_service.cases.sql import attachment_rows
from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.desk.bulk import BulkService
from support_service.desk.bulk_models import NewBulkChange
from support_service.desk.notification_models import NotificationQuery
from support_service.desk.notifications import NotificationService
from support_service.desk.policies import PolicyService
from support_service.events.event_erasure import rewrite_stored_events
from support_service.platform.audit import entry_rows, log
from support_service.platform.audit.chain import ChainHead
from support_service.platform.audit.entry_rows import AuditFilters
from support_service.platform.database.failures import StatementError
from support_service.platform.database.postgres.connection import Connection
from support_service.platform.database.postgres.engine import PostgresDatabase
from support_service.platform.idempotency_keys import IdempotencyService, StoredResponse
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from tests.support.attachments.harness import add_file
from tests.support.cases import recorder
from tests.support.timings import PATIENT_DATABASE

MESSAGE = {"authorType": "agent", "message": "We are looking into it."}
NEW = NewCase.model_validate(
    {
        "subject": "A parcel",
        "channel": "email",
        "context": [{"type": "order", "orderId": 101}],
        "initialMessage": MESSAGE,
    }
)
ANSWER = NewMessage.model_validate(MESSAGE)
OPENING = 1
MESSAGE_ADDED = 2  # a read of the case, and all changes
STATUS_CHANGED = 2
CLOSING = 7
SPLIT = 14  # five of them make the search documents of both cases again
BULK_WITHOUT_CASES = 2  # a search, and the bulk change
UPLOAD = 2  # and one read before the bytes are sent
REMOVAL = 5  # BEGIN, the rows, the records of their deletion, the garbage list, and COMMIT
EVENTS_REWRITTEN = 6  # BEGIN, a read of each table with events, the changes of the events found, COMMIT
# One for expired staged files, two to claim the bytes, one to delete their entries, and one that finds no others.
# Each has BEGIN and COMMIT.
GARBAGE_COLLECTION = 13

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


async def one_chunk():
    yield b"hello"


@pytest.fixture
async def database(database_url):
    database = PostgresDatabase(database_url, timings=PATIENT_DATABASE.postgres)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def service(database, instruments):
    return CaseService(database, recorder(database, instruments))


@pytest.fixture
async def case(service):
    return await service.open_case(SYSTEM_ORIGIN, NEW)


@pytest.fixture
async def storages(tmp_path):
    storage = LocalAttachmentStorage(tmp_path)
    await storage.open()
    yield {"local": storage}
    await storage.close()


@pytest.fixture
def attachments(database, instruments, storages):
    return AttachmentService(database, storages, instruments, AttachmentSettings(max_bytes=1024))


@pytest.fixture
def sent(database, monkeypatch):
    """Returns how many statements the database has received since the last call, each in a round trip, and them."""
    statements = []

    def noting(send):
        async def note(connection, sql, *arguments, **options):
            statements.append(sql)
            return await send(connection, sql, *arguments, **options)

        return note

    for method in ("fetch", "fetchmany", "execute", "executemany"):
        monkeypatch.setattr(Connection, method, noting(getattr(Connection, method)))

    def sent():
        found = [*statements]
        statements.clear()
        return found

    return sent


async def test_change_of_a_case_sends_few_statements(service, sent):
    """The message, the event and the audit entry of a change are one statement."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    assert len(sent()) == OPENING
    await service.add_message(SYSTEM_ORIGIN, case.id, ANSWER)
    assert len(sent()) == MESSAGE_ADDED
    await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status="pending"))
    assert len(sent()) == STATUS_CHANGED
    await service.close_case(SYSTEM_ORIGIN, case.id, Closing.model_validate(MESSAGE))
    assert len(sent()) == CLOSING


async def test_batch_of_audit_entries_is_sealed_by_one_statement(database, sent, constants):
    """However many entries it has."""
    async with unit_of_work(database, SYSTEM_ORIGIN) as work:
        for number in range(3):
            await log.record(work, f"case-{number}", "case.changed", utc_now(), {})
    constants("platform.audit.log", SEAL_BATCH=3)
    sent()
    async with database.transaction() as tx:
        await log.seal_all(tx)
    (seal,) = [sql for sql in sent() if "UPDATE audit_log" in sql]
    assert "unnest" in seal
    head, oldest = await entry_rows.read_head_and_oldest_unsealed(database)
    assert (head.position, oldest) == (3, None)


async def test_page_of_the_audit_log_is_one_statement(database, case, sent):
    """With the last detached entry, also if the page has no entry, and the subjects of the cases."""
    async with database.transaction() as tx:
        await entry_rows.detach(tx, ChainHead(7, b"hash"))
    sent()
    found, subjects = await entry_rows.find_entries(database, AuditFilters(), None, 10)
    nothing, no_subjects = await entry_rows.find_entries(database, AuditFilters(actor="nobody"), None, 10)
    of_case, of_none = [await entry_rows.read_case_entries(database, each, None, 10) for each in (case.id, "another")]
    for entries, number in ((of_case, 1), (of_none, 0), (found, 1), (nothing, 0)):
        assert (len(entries.entries), entries.more, entries.detached) == (number, False, ChainHead(7, b"hash"))
    assert (subjects, no_subjects) == ({case.id: NEW.subject}, {})
    assert len(sent()) == 4


async def test_idempotency_key_adds_two_round_trips(database, service, case, sent):
    """One claims the key, and one stores the response. The statement of the change marks the claim."""
    keys = IdempotencyService(database)
    sent()
    claim = await keys.claim_or_read_response("key", "request")
    await service.add_message(replace(SYSTEM_ORIGIN, claim=claim), case.id, ANSWER)
    await keys.store_response(claim, StoredResponse(200, {}, b"{}"), "caller")
    assert len(sent()) == MESSAGE_ADDED + 2


async def test_service_levels_add_few_statements(database, instruments, sent):
    """Opening sends as many as without a policy. An answer reads the clocks and writes the changed ones."""
    policies = KnownPolicies(database)
    policy = PolicyContent.model_validate({"targets": {"firstResponse": "PT1H", "resolution": "PT9H"}})
    await PolicyService(database, policies).put(SYSTEM_ORIGIN, "all", policy)
    service = CaseService(database, CaseRecorder(instruments, ClockTracker(policies, instruments)))
    sent()
    case = await service.open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"initial_message": None}))
    assert len(sent()) == OPENING
    await service.add_message(SYSTEM_ORIGIN, case.id, ANSWER)
    assert len(sent()) == MESSAGE_ADDED + 1  # the clocks
    await service.add_message(SYSTEM_ORIGIN, case.id, NewMessage.model_validate(MESSAGE | {"visibility": "internal"}))
    assert len(sent()) == MESSAGE_ADDED


async def test_notifications_add_no_statement(database, instruments, sent):
    """A mention, its new follower and what followers are told are sent with the message. A page of them is one read."""
    known = KnownAgents(database)
    await AgentDirectory(database, known).change(SYSTEM_ORIGIN, "agent-7", AgentChange())
    clocks = ClockTracker(KnownPolicies(database), instruments)
    changes = CaseRecorder(instruments, clocks, notifier=Notifier(known))
    service = CaseService(database, changes)
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    note = {"authorType": "agent", "visibility": "internal", "message": "Look, @agent-7"}
    for message in (note, note, {"authorType": "customer", "message": "Where is it?"}):
        sent()
        await service.add_message(SYSTEM_ORIGIN, case.id, NewMessage.model_validate(message))
        assert len(sent()) == MESSAGE_ADDED
    person = Principal("agent-7", "agent", "agent-7")
    service = NotificationService(database, changes, known)
    page = await service.list_notifications(person, NotificationQuery())
    assert ([each.kind for each in page.items], len(sent())) == (["message", "mention", "mention"], 1)


async def test_split_of_any_number_of_messages_sends_as_many_statements(database, instruments, service, case, sent):
    """The rows of both cases, and their search documents, are changed together."""
    for moved in (1, 3):
        ids = [(await service.add_message(SYSTEM_ORIGIN, case.id, ANSWER)).id for _ in range(moved)]
        sent()
        split = Split.model_validate({"messageIds": ids, "subject": "Another parcel"})
        await CaseSplitter(database, recorder(database, instruments)).split(SYSTEM_ORIGIN, case.id, split)
        assert len(sent()) == SPLIT


async def test_bulk_change_without_cases_sends_two_statements(database, instruments, sent):
    """It has ended when it is stored."""
    bulk = BulkService(database, recorder(database, instruments))
    new = NewBulkChange.model_validate({"query": {"team": "nobody"}, "change": {"priority": "low"}})
    sent()
    result = await bulk.change(SYSTEM_ORIGIN, new, nullcontext(), lambda _: None)
    assert len(sent()) == BULK_WITHOUT_CASES
    assert (result.finished, result.items) == (True, [])
    assert await bulk.read(SYSTEM_ORIGIN.principal, result.id) == result


async def test_upload_and_list_of_files_send_few_statements(attachments, case, sent):
    """The event, the audit entry and the change of the ledger are one statement.

    That of the list also tells whether the case exists, and whose it is.
    """
    sent()
    assert await attachments.list_by_case(SYSTEM_ORIGIN.principal, case.id) == []
    assert len(sent()) == 1
    await add_file(attachments, case.id, "a.txt", "text/plain", one_chunk())
    assert len(sent()) == UPLOAD


async def test_removal_of_any_number_of_files_sends_as_many_statements(database, attachments, storages, case, sent):
    """The same holds for the deletion of their bytes."""
    for files in (1, 3):
        ids = [(await add_file(attachments, case.id, "a.txt", "text/plain", one_chunk())).id for _ in range(files)]
        sent()
        async with database.transaction() as tx:
            await attachment_rows.remove(tx, ids, "request", utc_now())
        assert len(sent()) == REMOVAL
        assert (await GarbageCollector(database, storages).run()).deleted.files == files
        assert len(sent()) == GARBAGE_COLLECTION


async def test_erasure_of_any_number_of_events_sends_as_many_statements(database, service, case, sent):
    for messages in (1, 3):
        for _ in range(messages):
            await service.add_message(SYSTEM_ORIGIN, case.id, ANSWER)
        stored = sa.text("SELECT count(*) AS number FROM outbox")
        waiting = (await database.fetch_now(stored)).number
        sent()
        async with database.transaction() as tx:
            counts = await rewrite_stored_events(tx, [case.id], lambda _: "{}")
        assert counts == {"outboxEvents": waiting, "keptEvents": 0, "webhookDeliveries": 0}
        assert len(sent()) == EVENTS_REWRITTEN


async def test_deferred_inserts_of_one_table_keep_their_order(database, service, case):
    """The two events of a closing have numbers in the order in which they happened."""
    await service.close_case(SYSTEM_ORIGIN, case.id, Closing.model_validate(MESSAGE))
    changes = sa.text("SELECT event::json -> 'data' ->> 'changeType' AS change FROM outbox ORDER BY seq")
    rows = await database.fetch_all(changes)
    assert [row.change for row in rows] == [None, "conversation.added", "status.changed", None]


async def test_failing_deferred_insert_rolls_back_its_transaction(database, case):
    """Nothing of it is stored."""
    entry = {"at": utc_now(), "actor": "a", "role": "agent", "case_id": case.id, "request_id": None, "changes": "{}"}

    async def insert():
        async with database.transaction() as tx:
            await tx.execute(sa.text("UPDATE tickets SET team = 'x'"))
            await tx.execute_later(entry_rows.INSERT_ENTRY, entry | {"action": None})

    with pytest.raises(StatementError):
        await insert()
    assert (await database.fetch_now(sa.text("SELECT team FROM tickets"))).team is None
