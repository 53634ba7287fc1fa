"""What runs again and again finds its rows by an index on PostgreSQL, however many rows a table has."""

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from support_service.attachments import garbage
from support_service.attachments.maintenance import file_mover, retention
from support_service.cases import gauges, known_agents, snoozes
from support_service.cases.clocks import known_policies
from support_service.cases.sql import attachment_rows, case_rows, clock_rows, notification_rows
from support_service.desk import bulk
from support_service.events import consumer, relay, republishing, webhook_sender
from support_service.platform import idempotency_keys
from support_service.platform.audit import entry_rows
from support_service.platform.database import lease_rows

NOW = datetime(2026, 7, 1, tzinfo=UTC)
OLD = datetime(2026, 1, 2, tzinfo=UTC)  # a day after the first row
ROWS = 5_000
# One in a thousand cases waits; one delivery in a thousand is pending; all but the last ten audit entries are sealed.
TICKETS = (
    "tickets (id, subject, status, priority, channel, context, tags, search_text, created_at, updated_at,"
    " waiting_since, snoozed_until, synthetic)"
)
FILL = {
    TICKETS: (
        "'case-' || n, 'A', (ARRAY['open', 'pending', 'resolved', 'closed'])[1 + n % 4], 'normal', 'email', '[]', '[]',"
        " '', at, at, CASE WHEN n % 1000 < 4 THEN at END, CASE WHEN n % 1000 = 1 THEN at END, false"
    ),
    "messages (id, ticket_id, author_type, message, has_document, created_at)": (
        "'message-' || n, 'case-' || n, 'agent', 'A', true, at"
    ),
    "attachments (id, ticket_id, filename, content_type, size_bytes, sha256, storage, storage_key, created_at)": (
        "'file-' || n, 'case-' || n, 'a', 'text/plain', 1, '', (ARRAY['local', 's3'])[1 + n % 2], 'key-' || n, at"
    ),
    "attachment_leftovers (storage, storage_key, size_bytes, due_at, removing)": (
        "'local', 'old-' || n, 1, at + interval '1 year', false"
    ),
    "outbox (type, at, event, fanned_out)": f"'a', '2026', repeat('x', 500), n <= {ROWS - 10}",
    "published_events (seq, publication, published_at, type, event)": "n, 1 + n / 20, at, 'a', repeat('x', 500)",
    "inbound_events (source, id, at, reached, done)": "'/orders', 'event-' || n, at, 0, true",
    "webhook_deliveries (endpoint, type, event, state, tries, since, due)": (
        "'a', 'a', '{}', CASE WHEN n % 1000 = 0 THEN 'pending' ELSE 'delivered' END, 1, at, at"
    ),
    "audit_log (at, actor, role, action, position)": (
        f"at, 'a', 'agent', 'case.changed', CASE WHEN n <= {ROWS - 10} THEN n END"
    ),
    "case_links (id, case_id, kind, other_case_id, created_at)": (
        "'link-' || n, 'case-' || n, 'related', 'case-' || (n % 5000 + 1), at"
    ),
    "notifications (id, recipient, kind, case_id, actor, at)": (
        "'note-' || n, 'agent-' || n % 10, 'mention', 'case-' || n, 'a', at"
    ),
    "bulk_changes (id, owner, request, case_ids, created_at, expires_at)": "'bulk-' || n, 'a', '', '[]', at, at",
    "idempotency_keys (id, request, owner, until, state, created_at)": "'key-' || n, '', '', at, 'done', at",
    "case_clocks (case_id, target, policy, public, state, allowance, used, running_since, due_at)": (
        "'case-' || n, 'resolution', 1, false, (ARRAY['met', 'met', 'breached', 'running'])[1 + n % 4], 1, 0,"
        " CASE WHEN n % 100 = 3 THEN at END, at"
    ),
}
NUMBERS = f"""
WITH numbers AS (SELECT n, timestamptz '2026-01-01' + n * interval '4 minutes' AS at FROM generate_series(1, {ROWS}) n)
"""
PERIODIC = {
    "the longest waiting customer": (gauges.OLDEST_WAITING, {}),
    "the oldest local file": (attachment_rows.OLDEST_CREATED_AT, {"of": "local"}),
    "the ledger": (attachment_rows.READ_LEDGER, {"of": "local"}),
    "changes of the ledger": (attachment_rows.TAKE_LEDGER_CHANGES, {}),
    "a look for events": (relay.SELECT_WAITING, {}),
    "the last publication": (republishing.SELECT_CONFIRMED, {}),
    "events to publish again": (republishing.SELECT_TO_BE_REPEATED, {"count": 200, "bytes": 4 << 20}),
    "a look for expired events": (republishing.SELECT_EXPIRED, {"before": OLD, "count": 500}),
    "expired events": (republishing.DELETE_EXPIRED, {"before": OLD, "count": 500}),
    "events that Redis has lost": (republishing.MARK_TO_BE_REPEATED, {"first": 240, "last": 1 << 62, "count": 10}),
    "events to publish": (relay.SELECT_PENDING, {"count": 200, "bytes": 4 << 20}),
    "the oldest event": (sa.select(relay.SELECT_OLDEST_AT), {}),
    "events to fan out": (webhook_sender.SELECT_TO_FAN_OUT, {"count": 200}),
    "due deliveries": (webhook_sender.SELECT_DUE_DELIVERIES, {"now": NOW, "to": "a", "count": 20}),
    "pending deliveries": (webhook_sender.COUNT_PENDING, {}),
    "finished deliveries": (webhook_sender.DELETE_FINISHED, {"ended": "delivered", "before": OLD, "count": 10}),
    "old inbound events": (consumer.DELETE_EXPIRED, {"before": OLD, "count": 10}),
    "unsealed entries": (entry_rows.SELECT_UNSEALED, {"count": 100, "bytes": 4 << 20}),
    "the head of the audit log": (entry_rows.HEAD_AND_OLDEST_UNSEALED, {}),
    "old idempotency keys": (idempotency_keys.DELETE_EXPIRED, {"before": OLD, "count": 10}),
    "the first end of a snooze": (snoozes.FIRST_END, {}),
    "snoozes that have ended": (snoozes.LOCK_DUE, {"now": OLD, "count": 50}),
    "old notifications": (notification_rows.DELETE_OLD, {"before": OLD, "count": 10}),
    "the next person with notifications": (notification_rows.NEXT_RECIPIENT, {"after": "agent-1"}),
    "surplus notifications": (notification_rows.DELETE_BEYOND, {"person": "agent-1", "kept": 400, "count": 10}),
    "bulk changes that have expired": (bulk.EXPIRED, {"now": OLD, "count": 10}),
    "the next entries to verify": (entry_rows.SELECT_SEALED_AFTER, {"after": 100, "count": 100, "bytes": 4 << 20}),
    "the changes of the directory": (known_agents.STATE_OF_DIRECTORY, {}),
    "due clocks": (clock_rows.CASES_DUE, {"now": OLD, "count": 200}),
    "the oldest clocks": (gauges.OLDEST_CLOCKS, {}),
    "policies": (known_policies.SEQS_OF_CURRENT_POLICIES, {}),
    "the lease": (lease_rows.RELEASE_LEASE, {"lease": "relay", "new_holder": "a"}),
}
# A few rows, whatever happens; of the changes of the ledger those of the last seconds.
SMALL = {"agents", "attachment_ledger", "attachment_ledger_changes", "audit_head", "leases", "sla_policies"}


class Recorder:
    def __init__(self):
        self.statements = []

    async def fetch_all(self, statement, parameters=None):
        self.statements.append((statement, parameters or {}))
        return []


@pytest.fixture(scope="module")
def plans_of(postgres_server, postgres_template):
    """Return a function for the plan of a statement in a database with many rows in each table that grows."""
    postgres_server.start()
    name = postgres_server.create_database(postgres_template)
    for into, values in FILL.items():
        postgres_server.run(f"{NUMBERS} INSERT INTO {into} SELECT {values} FROM numbers", name)
    postgres_server.run("VACUUM ANALYZE", name)

    def plans_of(statement, parameters):
        compiled = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"render_postcompile": True})
        values = {
            key: "NULL" if value is None else f"'{value}'" for key, value in (compiled.params | parameters).items()
        }
        answer = postgres_server.run(f"EXPLAIN (FORMAT JSON) {compiled.string % values}", name)
        return list(nodes(json.loads(answer)[0]["Plan"]))

    yield plans_of
    postgres_server.drop_database(name)


def nodes(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def scanned(plan):
    """Return the tables that a plan reads from end to end, however many rows they have; a LIMIT of one row is none."""
    limited = {id(part) for node in plan if node["Node Type"] == "Limit" for part in node["Plans"]}
    return {
        node["Relation Name"]
        for node in plan
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in SMALL and id(node) not in limited
    }


def test_statement_finds_its_rows_by_an_index(plans_of, subtests):
    """None of them reads a table that grows from end to end."""
    for name, statement in PERIODIC.items():
        with subtests.test(name):
            assert scanned(plans_of(*statement)) == set()


def test_note_that_names_a_file_reads_the_messages_of_its_case_only(plans_of):
    """It looks for public messages that name the file, also in the cases that a split has made."""
    plan = plans_of(case_rows.HIDE_ATTACHMENT, {"case_id": "case-7", "named": "file-7"})
    assert scanned(plan) == set()


async def test_jobs_of_attachments_find_their_rows_by_an_index(plans_of):
    """The retention reads old files only, and the offload the oldest ones of a storage."""
    recorder = Recorder()
    await garbage.claim_due_garbage(recorder, NOW, 10, until=NOW)
    await file_mover.claim_files(recorder, "local", OLD, NOW, mover="a", until=NOW, limit=10)
    await retention.list_expired(recorder, OLD, ["closed"], None, 10)
    assert [scanned(plans_of(*statement)) for statement in recorder.statements] == [set()] * 3
