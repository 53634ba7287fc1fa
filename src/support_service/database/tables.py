"""The tables, as the newest migration leaves them."""

import sqlalchemy as sa

from support_service.database.dialect import JSON_VALUE, SEQUENCE, STORAGE_KEY, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),  # the order of lists, and the key of the search index
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("customer_id", sa.String(36)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("priority", sa.String(16), nullable=False),
    sa.Column("channel", sa.String(32), nullable=False),
    sa.Column("assigned_agent_id", sa.String(36)),
    sa.Column("team", sa.String(36)),
    sa.Column("context", JSON_VALUE, nullable=False),
    sa.Column("tags", JSON_VALUE, nullable=False),
    sa.Column("search_text", sa.Text, nullable=False),  # folded words of subject, description and customer
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("waiting_since", UtcDateTime),  # the customer's first word that no agent has answered
    sa.Column("answered_at", UtcDateTime),  # an agent's first message
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),  # grows with every change
    # Counts the events of other services that concern the case: what is cached of an older epoch is not current.
    sa.Column("timeline_epoch", sa.Integer, nullable=False, server_default="0"),
    sa.Column("conversation_bytes", sa.BigInteger, nullable=False, server_default="0"),  # of its messages as JSON
    sa.Index(None, "status", "seq"),
    sa.Index(None, "status", "waiting_since"),
    sa.Index(None, "customer_id", "seq"),
    sa.Index(
        None,
        "assigned_agent_id",
        "status",
        "seq",
        sqlite_where=sa.text("assigned_agent_id IS NOT NULL"),
    ),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("author_type", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("attachment_uri", sa.Text),
    sa.Column("sentiment", sa.String(32)),
    sa.Column("metadata", JSON_VALUE),
    sa.Column("visibility", sa.String(16), nullable=False, server_default="public"),  # internal: not for customers
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index(None, "ticket_id", "seq"),
)

ticket_references = sa.Table(
    "ticket_references",
    metadata,
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("value", sa.String(200), primary_key=True),
    sa.Index(None, "kind", "value"),
    sqlite_with_rowid=False,
)

attachments = sa.Table(
    "attachments",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(255), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("storage", sa.String(16), nullable=False),  # which storage holds the bytes
    sa.Column("storage_key", STORAGE_KEY, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("detected_type", sa.String(255)),  # what the first bytes say, where they say anything
    sa.Column("mover", sa.String(36)),  # the run that moves the bytes to another storage,
    sa.Column("moving_until", UtcDateTime),  # and when others may take its place
    sa.Column("visibility", sa.String(16), nullable=False, server_default="public"),  # internal: not for customers
    sa.Index(None, "ticket_id", "seq"),
    sa.Index(None, "storage", "storage_key", unique=True),
    sa.Index(None, "storage", "created_at"),
)

# Bytes that no attachment names and that are to be removed: what a move leaves behind or has begun, what was deleted.
attachment_leftovers = sa.Table(
    "attachment_leftovers",
    metadata,
    sa.Column("storage", sa.String(16), primary_key=True),
    sa.Column("storage_key", STORAGE_KEY, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("mover", sa.String(36)),  # the run that still writes them
    sa.Column("removing", sa.Boolean, nullable=False),  # from here on nobody may make an attachment of them
    sa.Index(None, "due_at"),
)

# What was deleted, by whose wish: the record that stays when the file is gone.
attachment_deletions = sa.Table(
    "attachment_deletions",
    metadata,
    sa.Column("attachment_id", sa.String(36), primary_key=True),
    sa.Column("ticket_id", sa.String(36), nullable=False),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),  # request, retention or erasure
    sa.Column("deleted_at", UtcDateTime, nullable=False),
    sa.Index(None, "ticket_id"),
)

# What each storage holds: the backlog without a scan, as the transaction that adds or removes an attachment counts it.
attachment_ledger = sa.Table(
    "attachment_ledger",
    metadata,
    sa.Column("storage", sa.String(16), primary_key=True),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

# What on-call has switched for a while: a service that is not asked, or the time that answers count as current.
timeline_levers = sa.Table(
    "timeline_levers",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),  # a service, or `ttl`
    sa.Column("value", sa.Double),  # seconds, of `ttl`
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("until", UtcDateTime, nullable=False),
    sa.Column("set_at", UtcDateTime, nullable=False),
)

# Events that are committed and not published yet, each whole, as the CloudEvent that goes out.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),  # the event's time, as the event has it
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("fanned_out", sa.Boolean, nullable=False, server_default=sa.false()),  # its webhook deliveries are made
    sa.Column("case_id", sa.String(36)),  # none where a release from before this column kept it; so in the deliveries
    sa.Index(None, "case_id"),
    sa.Index(
        "ix_outbox_to_fan_out",
        "seq",
        sqlite_where=sa.text("NOT fanned_out"),
    ),
    sqlite_autoincrement=True,  # a number that was published is never given out again, also of an emptied table
)

# Which process does what only one may do at a time. Times are in ms since the epoch.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(36), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),  # grows with every new holder
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)

# The events of other services that have taken effect, so that a repeat has none.
inbound_events = sa.Table(
    "inbound_events",
    metadata,
    sa.Column("source", sa.String(255), primary_key=True),
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("reached", sa.BigInteger, nullable=False),  # seq of the last case that it took effect in
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Index(None, "at"),
)

webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("endpoint", sa.String(64), nullable=False),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # pending, delivered, failed
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),  # the day of retries counts from here
    sa.Column("due", UtcDateTime, nullable=False),  # the next try, or when it ended
    sa.Column("reason", sa.String(255)),
    sa.Column("case_id", sa.String(36)),  # the event's case, as the outbox has it
    sa.Index(None, "state", "due"),
    sa.Index(None, "endpoint", "state", "due"),
    sa.Index(None, "case_id"),
)

# Who changed what. Triggers refuse all updates but two: an entry gets its place in the chain, its changes are erased.
audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("case_id", sa.String(36)),  # no foreign key: the entries of a case that was deleted stay
    sa.Column("request_id", sa.String(64)),
    sa.Column("changes", sa.Text),  # JSON, {field: [before, after]}
    sa.Column("position", sa.BigInteger),  # in the chain, from 1 on without gaps
    sa.Column("salt", sa.LargeBinary),
    sa.Column("digest", sa.LargeBinary),  # of salt and changes
    sa.Column("hash", sa.LargeBinary),  # of the hash before it and the entry
    sa.Index(None, "case_id", "seq"),
    sa.Index(None, "position", unique=True),
    sa.Index(
        "ix_audit_log_unsealed",
        "seq",
        sqlite_where=sa.text("position IS NULL"),
    ),
)

# The one row that says how long the chain is; whoever seals holds its lock.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

# Requests with an Idempotency-Key, and what was answered.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # SHA-256 of caller and key
    sa.Column("request", sa.String(64), nullable=False),  # SHA-256 of what was asked
    sa.Column("owner", sa.String(36), nullable=False),  # who does it now
    sa.Column("until", UtcDateTime, nullable=False),  # when others may take its place
    sa.Column("state", sa.String(8), nullable=False),  # claimed, applied (in the transaction of its change), done
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("headers", JSON_VALUE),
    sa.Column("body", sa.LargeBinary),
    sa.Column("case_id", sa.String(36)),  # the case that the answer tells of
    sa.Index(None, "created_at"),
    sa.Index(None, "case_id"),
)
