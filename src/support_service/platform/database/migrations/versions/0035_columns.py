"""Columns and indexes of the tables of 0.1.0, for the lists of cases and of the audit log.

A previous release that still writes leaves the new columns out:

- `tickets.synthetic` is NULL in its cases: the channel `synthetic` tells.
- `tickets.internal_changes` stays as it is: each of its changes counts as public.
- `messages.has_document` is false in its messages, and a job makes their search documents. Messages that exist get
  theirs in 0038.
- Indexes on external ids and due times have only the rows with one, so that they are empty at first.

On PostgreSQL writers go on meanwhile, and each statement on `tickets` commits. A statement that waits for a table while
it holds another could deadlock with writers. An attempt that is interrupted is repeated from the start.
"""

from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, UtcDateTime

revision = "0035"
down_revision = "0011"  # 0012 to 0034 were never released: see docs/operations/upgrades.md

COLUMNS = (
    ("tickets", sa.Column("internal_changes", sa.Integer, nullable=False, server_default="0")),
    ("tickets", sa.Column("internal_updated_at", UtcDateTime)),
    ("tickets", sa.Column("synthetic", sa.Boolean)),
    ("tickets", sa.Column("external_id", sa.String(255))),
    ("tickets", sa.Column("sent_at", UtcDateTime)),
    ("tickets", sa.Column("sla_policy", sa.BigInteger)),
    ("tickets", sa.Column("sla_due_at", UtcDateTime)),
    ("idempotency_keys", sa.Column("large_response_of", sa.String(64))),
)
MESSAGE_COLUMNS = ("external_id", "sent_at", "has_document", "attachment_ids")

ASSIGNED = "assigned_agent_id IS NOT NULL"
EXTERNAL = "external_id IS NOT NULL"
HAS_DUE_TIME = "sla_due_at IS NOT NULL"
WAITING = "waiting_since IS NOT NULL AND status IN ('open', 'pending')"
LATEST_CHANGE = {
    "sqlite": "(max(updated_at, coalesce(internal_updated_at, updated_at)))",
    "postgresql": "(greatest(updated_at, coalesce(internal_updated_at, updated_at)))",
}


class Index(NamedTuple):
    """An index: its table, its columns, the condition of its rows, and its name if the columns do not give it."""

    table: str
    columns: tuple[str, ...]
    where: str | None = None
    given_name: str = ""
    unique: bool = False
    only_sqlite: bool = False  # whether only SQLite has the condition

    @property
    def name(self) -> str:
        """Return the name of the index."""
        return self.given_name or f"ix_{self.table}_{'_'.join(self.columns)}"

    def create(self, dialect: str, **options: Any) -> None:
        """Create the index."""
        columns = [sa.text(LATEST_CHANGE[dialect]) if name == "latest_change" else name for name in self.columns]
        if self.where and not (self.only_sqlite and dialect == "postgresql"):
            options[f"{dialect}_where"] = sa.text(self.where)
        op.create_index(self.name, self.table, columns, unique=self.unique, **options)


OWNERS = ("status", "assigned_agent_id", "team", "priority")
# `seq` or the time at the end of each: a page of a frequent value is read in order, all rows of a rare value are found.
INDEXES = (
    Index("tickets", ("status", "priority", "seq")),
    Index("tickets", ("priority", "seq")),
    Index("tickets", ("team", "seq"), "team IS NOT NULL", only_sqlite=True),
    Index("tickets", ("channel", "seq")),
    # Tells synthetic cases too, so that a workload is counted without reading the cases.
    Index("tickets", ("assigned_agent_id", "status", "seq", "synthetic", "channel"), ASSIGNED, only_sqlite=True),
    Index("tickets", ("channel", "external_id"), EXTERNAL, unique=True),
    Index("tickets", ("latest_change", "seq")),
    Index("tickets", ("assigned_agent_id", "latest_change", "seq"), ASSIGNED),
    Index("tickets", ("waiting_since", "seq"), WAITING),
    *(Index("tickets", (owner, "waiting_since", "seq"), WAITING) for owner in OWNERS),
    Index("tickets", ("sla_due_at", "seq"), HAS_DUE_TIME),
    *(Index("tickets", (owner, "sla_due_at", "seq"), HAS_DUE_TIME) for owner in OWNERS),
    Index("tickets", ("seq",), "assigned_agent_id IS NULL", "ix_tickets_without_agent"),
    Index("tickets", ("seq",), "team IS NULL", "ix_tickets_without_team"),
    Index("messages", ("ticket_id", "external_id"), EXTERNAL, unique=True),
    Index("messages", ("seq",), "NOT has_document", "ix_messages_without_document"),
    Index("attachments", ("created_at",)),  # the retention finds old files
    Index("audit_log", ("at", "seq")),
    Index("audit_log", ("actor", "at", "seq")),
    Index("audit_log", ("action", "at", "seq")),
    Index("idempotency_keys", ("large_response_of",)),
)
# The indexes above serve what read these.
REPLACED = (
    Index("tickets", ("assigned_agent_id", "status", "seq"), ASSIGNED),
    Index("tickets", ("status", "waiting_since")),
)
INVALID = """
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace
"""


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        _upgrade_postgres()
        return
    _add_message_columns(documented=sa.false(), if_not_exists=False)
    op.execute("UPDATE messages SET has_document = true")
    for table, column in COLUMNS:
        op.add_column(table, column)
    for index in INDEXES:
        index.create("sqlite")
    for index in REPLACED:
        op.drop_index(index.name, index.table)


def _upgrade_postgres() -> None:
    # Existing messages have a document, added ones do not. In one transaction, so that no message is added in between.
    _add_message_columns(documented=sa.true(), if_not_exists=True)
    op.alter_column("messages", "has_document", server_default=sa.false())
    with op.get_context().autocommit_block():
        for table, column in COLUMNS:
            op.add_column(table, column, if_not_exists=True)
        # An interrupted attempt leaves an index that is not usable, and indexes that are.
        invalid = set(op.get_bind().scalars(sa.text(INVALID)))
        for index in INDEXES:
            if index.name in invalid:
                op.drop_index(index.name, index.table, postgresql_concurrently=True)
            index.create("postgresql", postgresql_concurrently=True, if_not_exists=True)
        for index in REPLACED:
            op.drop_index(index.name, index.table, postgresql_concurrently=True, if_exists=True)


def _add_message_columns(*, documented: sa.ColumnElement[bool], if_not_exists: bool) -> None:
    for column in (
        sa.Column("external_id", sa.String(255)),
        sa.Column("sent_at", UtcDateTime),
        sa.Column("has_document", sa.Boolean, nullable=False, server_default=documented),
        sa.Column("attachment_ids", JSON_VALUE, nullable=False, server_default="[]"),
    ):
        op.add_column("messages", column, if_not_exists=if_not_exists)


def downgrade() -> None:
    for index in REPLACED:
        index.create(op.get_context().dialect.name)
    for index in INDEXES:
        op.drop_index(index.name, index.table)
    for table, column in reversed(COLUMNS):
        op.drop_column(table, column.name)
    for name in reversed(MESSAGE_COLUMNS):
        op.drop_column("messages", name)
