"""Cases, messages, references, attachments and their ledger."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, UtcDateTime

revision = "0001"
down_revision = None

# Full-text search: SQLite keeps an FTS5 index of words beside the table, in step by triggers; PostgreSQL indexes the
# expression that the stores search by.
INDEX_ROW = "INSERT INTO ticket_search(rowid, search_text) VALUES (new.seq, new.search_text)"
FORGET_ROW = "INSERT INTO ticket_search(ticket_search, rowid, search_text) VALUES ('delete', old.seq, old.search_text)"
SEARCH = {
    "sqlite": (
        """
        CREATE VIRTUAL TABLE ticket_search USING fts5(
            search_text, content='tickets', content_rowid='seq', tokenize='unicode61 remove_diacritics 0'
        )
        """,
        f"CREATE TRIGGER tickets_search_insert AFTER INSERT ON tickets BEGIN {INDEX_ROW}; END",
        f"CREATE TRIGGER tickets_search_delete AFTER DELETE ON tickets BEGIN {FORGET_ROW}; END",
        f"""
        CREATE TRIGGER tickets_search_update AFTER UPDATE OF search_text ON tickets
        BEGIN {FORGET_ROW}; {INDEX_ROW}; END
        """,
    ),
    "postgresql": ("CREATE INDEX ix_tickets_search ON tickets USING gin (to_tsvector('simple', search_text))",),
}


def upgrade() -> None:
    op.create_table(
        "tickets",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("customer_id", sa.String(36)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("assigned_agent_id", sa.String(36)),
        sa.Column("context", JSON_VALUE, nullable=False),
        sa.Column("tags", JSON_VALUE, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("id", name=op.f("uq_tickets_id")),
    )
    op.create_index("ix_tickets_status_seq", "tickets", ["status", "seq"])
    op.create_index("ix_tickets_customer_id_seq", "tickets", ["customer_id", "seq"])
    op.create_index("ix_tickets_assigned_agent_id_status_seq", "tickets", ["assigned_agent_id", "status", "seq"])

    op.create_table(
        "messages",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("ticket_id", sa.String(36), nullable=False),
        sa.Column("author_type", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attachment_uri", sa.Text),
        sa.Column("sentiment", sa.String(32)),
        sa.Column("metadata", JSON_VALUE),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("id", name=op.f("uq_messages_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["tickets.id"], name=op.f("fk_messages_ticket_id"), ondelete="CASCADE"),
    )
    op.create_index("ix_messages_ticket_id_seq", "messages", ["ticket_id", "seq"])

    op.create_table(
        "ticket_references",
        sa.Column("ticket_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("value", sa.String(200), primary_key=True),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["tickets.id"], name=op.f("fk_ticket_references_ticket_id"), ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_ticket_references_kind_value", "ticket_references", ["kind", "value"])

    op.create_table(
        "attachments",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("ticket_id", sa.String(36), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("storage", sa.String(16), nullable=False),
        sa.Column("storage_key", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("id", name=op.f("uq_attachments_id")),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["tickets.id"], name=op.f("fk_attachments_ticket_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_attachments_ticket_id_seq", "attachments", ["ticket_id", "seq"])

    ledger = op.create_table(
        "attachment_ledger",
        sa.Column("storage", sa.String(16), primary_key=True),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(ledger, [{"storage": "local", "files": 0, "bytes": 0}])

    for statement in SEARCH[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE ticket_search")
    for table in ("attachment_ledger", "attachments", "ticket_references", "messages", "tickets"):
        op.drop_table(table)
