"""The tables, in the schema of the newest migration."""

from typing import Final

import sqlalchemy as sa

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, STORAGE_KEY, UtcDateTime
from support_service.platform.database.search_dialect import SEARCH_WORDS

# What an erasure of a customer leaves in the rows about them: each column says it, in the words of core/personal.py.
ERASURE: Final = "erasure"
KEPT, NOT_PERSONAL, REPLACED, REPLACED_IF_UNKNOWN, EMPTIED, REMOVED = (
    {ERASURE: rule} for rule in ("kept", "not personal", "replaced", "replaced if unknown", "emptied", "removed")
)
DELETED = {ERASURE: "deleted"}  # with its row
REWRITTEN = {ERASURE: "rewritten"}  # by the erasure of its feature

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

HAS_EXTERNAL_ID = sa.text("external_id IS NOT NULL")

HAS_DUE_TIME = sa.text("sla_due_at IS NOT NULL")

IS_WAITING = sa.text("waiting_since IS NOT NULL AND status IN ('open', 'pending')")

tickets = sa.Table(
    "tickets",
    metadata,
    # Sort key of lists, and key of the search index.
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("id", sa.String(36), nullable=False, unique=True, info=KEPT),
    sa.Column("subject", sa.String(255), nullable=False, info=REPLACED),
    sa.Column("description", sa.Text, info=REMOVED),
    sa.Column("customer_id", sa.String(36), info=REWRITTEN),
    sa.Column("status", sa.String(16), nullable=False, info=KEPT),
    sa.Column("priority", sa.String(16), nullable=False, info=KEPT),
    sa.Column("channel", sa.String(32), nullable=False, info=REPLACED_IF_UNKNOWN),
    sa.Column("assigned_agent_id", sa.String(36), info=KEPT),
    sa.Column("team", sa.String(36), info=KEPT),
    sa.Column("context", JSON_VALUE, nullable=False, info=EMPTIED),
    sa.Column("tags", JSON_VALUE, nullable=False, info=EMPTIED),
    # Folded words of subject, description, customer and tags.
    sa.Column("search_text", sa.Text, nullable=False, info=EMPTIED),
    sa.Column("created_at", UtcDateTime, nullable=False, info=KEPT),
    # Time of the last change that is not an internal note.
    sa.Column("updated_at", UtcDateTime, nullable=False, info=KEPT),
    sa.Column("internal_updated_at", UtcDateTime, info=KEPT),  # time of the last internal note
    # Time of the customer's first message that no agent has answered.
    sa.Column("waiting_since", UtcDateTime, info=KEPT),
    sa.Column("answered_at", UtcDateTime, info=KEPT),  # time of the first message of an agent
    # Increments with every change.
    sa.Column("version", sa.Integer, nullable=False, server_default="1", info=NOT_PERSONAL),
    # Changes that customers can't see.
    sa.Column("internal_changes", sa.Integer, nullable=False, server_default="0", info=NOT_PERSONAL),
    # Increments with each event of another service about the case: data cached in an older epoch is not current.
    sa.Column("timeline_epoch", sa.Integer, nullable=False, server_default="0", info=NOT_PERSONAL),
    # Size of its messages as JSON.
    sa.Column("conversation_bytes", sa.BigInteger, nullable=False, server_default="0", info=REWRITTEN),
    # What the system that sent the case calls it; unique in the channel.
    sa.Column("external_id", sa.String(255), info=REMOVED),
    sa.Column("sent_at", UtcDateTime, info=KEPT),  # time at which that system says that it was sent
    # Seq of the version of the service level policy that applies.
    sa.Column("sla_policy", sa.BigInteger, info=NOT_PERSONAL),
    sa.Column("sla_due_at", UtcDateTime, info=KEPT),  # first due time of its clocks that run, also of breached ones
    # Set at opening; NULL in cases of releases without it: see IS_SYNTHETIC.
    sa.Column("synthetic", sa.Boolean, info=NOT_PERSONAL),
    sa.Index(None, "status", "seq"),
    sa.Index(None, "status", "priority", "seq"),
    sa.Index(None, "priority", "seq"),
    sa.Index(None, "team", "seq", sqlite_where=sa.text("team IS NOT NULL")),
    sa.Index(None, "channel", "seq"),
    sa.Index(None, "channel", "external_id", unique=True, sqlite_where=HAS_EXTERNAL_ID),
    sa.Index(None, "customer_id", "seq"),
    sa.Index(None, "sla_due_at", "seq", sqlite_where=HAS_DUE_TIME),
    sa.Index(  # has all that the count of a workload reads
        None,
        *("assigned_agent_id", "status", "seq", "synthetic", "channel"),
        sqlite_where=sa.text("assigned_agent_id IS NOT NULL"),
    ),
    sa.Index(None, "waiting_since", "seq", sqlite_where=IS_WAITING),
    sa.Index(None, "status", "waiting_since", "seq", sqlite_where=IS_WAITING),
    sa.Index(None, "assigned_agent_id", "waiting_since", "seq", sqlite_where=IS_WAITING),
    sa.Index(None, "team", "waiting_since", "seq", sqlite_where=IS_WAITING),
    sa.Index(None, "priority", "waiting_since", "seq", sqlite_where=IS_WAITING),
    sa.Index(None, "status", "sla_due_at", "seq", sqlite_where=HAS_DUE_TIME),
    sa.Index(None, "assigned_agent_id", "sla_due_at", "seq", sqlite_where=HAS_DUE_TIME),
    sa.Index(None, "team", "sla_due_at", "seq", sqlite_where=HAS_DUE_TIME),
    sa.Index(None, "priority", "sla_due_at", "seq", sqlite_where=HAS_DUE_TIME),
    sa.Index("ix_tickets_without_agent", "seq", sqlite_where=sa.text("assigned_agent_id IS NULL")),
    sa.Index("ix_tickets_without_team", "seq", sqlite_where=sa.text("team IS NULL")),
    # And ix_tickets_latest_change_seq, on an expression that each database writes in its own form: LATEST_CHANGE, seq;
    # ix_tickets_assigned_agent_id_latest_change_seq has the agent before it.
)

# The tags of each case, kept by triggers on `tickets`: lists read the cases of a tag in order.
ticket_tags = sa.Table(
    "ticket_tags",
    metadata,
    sa.Column("tag", sa.Text, primary_key=True, info=DELETED),
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False, info=NOT_PERSONAL),  # of the case
    sqlite_with_rowid=False,
)

# The number of cases by status and priority without synthetic ones, kept by triggers on `tickets`. On PostgreSQL
# several rows add up to a number; on SQLite each number has one row, by a primary key.
case_counts = sa.Table(
    "case_counts",
    metadata,
    sa.Column("status", sa.String(16), nullable=False, info=NOT_PERSONAL),
    sa.Column("priority", sa.String(16), nullable=False, info=NOT_PERSONAL),
    sa.Column("number", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("id", sa.String(36), nullable=False, unique=True, info=KEPT),
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False, info=KEPT),
    sa.Column("author_type", sa.String(16), nullable=False, info=KEPT),
    sa.Column("message", sa.Text, nullable=False, info=REPLACED),
    sa.Column("attachment_uri", sa.Text, info=REMOVED),
    # Files of the case that it names.
    sa.Column("attachment_ids", JSON_VALUE, nullable=False, server_default="[]", info=EMPTIED),
    sa.Column("sentiment", sa.String(32), info=REMOVED),
    sa.Column("metadata", JSON_VALUE, info=REMOVED),
    # Internal: not for customers.
    sa.Column("visibility", sa.String(16), nullable=False, server_default="public", info=KEPT),
    # What the system that sent the message calls it; unique in the case.
    sa.Column("external_id", sa.String(255), info=REMOVED),
    sa.Column("sent_at", UtcDateTime, info=KEPT),  # time at which that system says that it was sent
    sa.Column("created_at", UtcDateTime, nullable=False, info=KEPT),
    # False if a release that knows no search documents has added the message, until a job makes its document.
    sa.Column("has_document", sa.Boolean, nullable=False, server_default=sa.false(), info=NOT_PERSONAL),
    sa.Index(None, "ticket_id", "seq"),
    sa.Index(None, "ticket_id", "external_id", unique=True, sqlite_where=HAS_EXTERNAL_ID),
    sa.Index("ix_messages_without_document", "seq", sqlite_where=sa.text("NOT has_document")),
)

# Words of a case (position 0) or of one of its messages. Triggers keep those of cases in step with `search_text`.
search_documents = sa.Table(
    "search_documents",
    metadata,
    # seq of the case * 2**20 + position: the case's version after the message was added. Newer cases have greater ids.
    sa.Column("id", SEQUENCE, primary_key=True, autoincrement=False, info=NOT_PERSONAL),
    # Words of an internal note: not for customers.
    sa.Column("internal", sa.Boolean, nullable=False, info=NOT_PERSONAL),
    # In the search index, which each database has in its own form.
    sa.Column("words", SEARCH_WORDS, nullable=False, info=REWRITTEN),
)

ticket_references = sa.Table(
    "ticket_references",
    metadata,
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), primary_key=True, info=NOT_PERSONAL),
    sa.Column("kind", sa.String(16), primary_key=True, info=DELETED),
    sa.Column("value", sa.String(200), primary_key=True, info=DELETED),
    sa.Index(None, "kind", "value"),
    sqlite_with_rowid=False,
)

# Links between two cases, each stored once. Those of `related` have the lesser id first.
case_links = sa.Table(
    "case_links",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("id", sa.String(36), nullable=False, unique=True, info=KEPT),
    sa.Column("case_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False, info=KEPT),
    sa.Column("kind", sa.String(16), nullable=False, info=KEPT),  # what case_id is to other_case_id
    sa.Column("other_case_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False, info=KEPT),
    sa.Column("previous_status", sa.String(16), info=KEPT),  # of a duplicate: its status before the link closed it
    sa.Column("created_at", UtcDateTime, nullable=False, info=KEPT),
    sa.Index(None, "case_id", "kind", "other_case_id", unique=True),
    sa.Index(None, "other_case_id", "kind"),
)

attachments = sa.Table(
    "attachments",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("id", sa.String(36), nullable=False, unique=True, info=KEPT),
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False, info=KEPT),
    sa.Column("filename", sa.String(255), nullable=False, info=DELETED),
    sa.Column("content_type", sa.String(255), nullable=False, info=DELETED),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, info=KEPT),
    sa.Column("sha256", sa.String(64), nullable=False, info=DELETED),
    sa.Column("storage", sa.String(16), nullable=False, info=NOT_PERSONAL),  # which storage holds the bytes
    sa.Column("storage_key", STORAGE_KEY, nullable=False, info=DELETED),
    sa.Column("created_at", UtcDateTime, nullable=False, info=DELETED),
    # Content type detected from the file's first bytes, or NULL.
    sa.Column("detected_type", sa.String(255), info=DELETED),
    sa.Column("mover", sa.String(36), info=DELETED),  # id of the run that moves the bytes to another storage
    sa.Column("moving_until", UtcDateTime, info=DELETED),  # time from which another run may take over
    # Internal: not for customers.
    sa.Column("visibility", sa.String(16), nullable=False, server_default="public", info=DELETED),
    sa.Index(None, "ticket_id", "seq"),
    sa.Index(None, "storage", "storage_key", unique=True),
    sa.Index(None, "storage", "created_at"),
    sa.Index(None, "created_at"),
)

# Stored files to be removed, without an attachment: sources and unfinished copies of moves, and deleted files.
garbage = sa.Table(
    "attachment_leftovers",  # the name in 0.1.0
    metadata,
    sa.Column("storage", sa.String(16), primary_key=True, info=NOT_PERSONAL),
    sa.Column("storage_key", STORAGE_KEY, primary_key=True, info=NOT_PERSONAL),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
    sa.Column("due_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    sa.Column("mover", sa.String(36), info=NOT_PERSONAL),  # id of the run that is still writing the file
    # If true, no attachment may be created for the file any more.
    sa.Column("removing", sa.Boolean, nullable=False, info=NOT_PERSONAL),
    sa.Index(None, "due_at"),
)

# Files that wait for the message of their uploader. Their bytes are in `garbage` until it is sent, so that they are
# deleted in time also by a release that does not know this table.
staged_attachments = sa.Table(
    "staged_attachments",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True, info=DELETED),  # also of the attachment that it becomes
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False, info=NOT_PERSONAL),
    sa.Column("filename", sa.String(255), nullable=False, info=DELETED),
    sa.Column("content_type", sa.String(255), nullable=False, info=DELETED),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, info=DELETED),
    sa.Column("sha256", sa.String(64), nullable=False, info=DELETED),
    sa.Column("storage", sa.String(16), nullable=False, info=NOT_PERSONAL),
    sa.Column("storage_key", STORAGE_KEY, nullable=False, info=DELETED),
    sa.Column("created_at", UtcDateTime, nullable=False, info=DELETED),
    sa.Column("detected_type", sa.String(255), info=DELETED),
    # Role of the uploader, and its subject or name.
    sa.Column("staged_by", sa.String(255), nullable=False, info=DELETED),
    sa.Column("staged_until", UtcDateTime, nullable=False, info=DELETED),
    sa.Index(None, "ticket_id"),
    sa.Index(None, "staged_by"),
    sa.Index(None, "staged_until"),
)

# Records of deleted attachments with the reason; they stay when the file is gone.
attachment_deletions = sa.Table(
    "attachment_deletions",
    metadata,
    sa.Column("attachment_id", sa.String(36), primary_key=True, info=KEPT),
    sa.Column("ticket_id", sa.String(36), nullable=False, info=KEPT),
    sa.Column("filename", sa.String(255), nullable=False, info=REPLACED),
    sa.Column("size_bytes", sa.BigInteger, nullable=False, info=KEPT),
    sa.Column("sha256", sa.String(64), nullable=False, info=EMPTIED),
    sa.Column("reason", sa.String(16), nullable=False, info=NOT_PERSONAL),  # request, retention or erasure
    sa.Column("deleted_at", UtcDateTime, nullable=False, info=KEPT),
    sa.Index(None, "ticket_id"),
)

# Totals per storage, updated by the transactions that add or remove attachments: the backlog without a scan.
attachment_ledger = sa.Table(
    "attachment_ledger",
    metadata,
    sa.Column("storage", sa.String(16), primary_key=True, info=NOT_PERSONAL),
    sa.Column("files", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
    sa.Column("bytes", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
)

# Temporary overrides set by on-call: a disabled upstream service, or the cache's time to live.
timeline_overrides = sa.Table(
    "timeline_levers",  # the name in 0.1.0
    metadata,
    sa.Column("name", sa.String(16), primary_key=True, info=NOT_PERSONAL),  # an upstream service, or `ttl`
    sa.Column("value", sa.Double, info=NOT_PERSONAL),  # seconds; only for `ttl`
    sa.Column("reason", sa.Text, nullable=False, info=NOT_PERSONAL),
    sa.Column("until", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    sa.Column("set_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
)

# Saved views: the filters of a list of cases. A view belongs to a user or to a team; the other column is NULL.
views = sa.Table(
    "views",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("id", sa.String(36), nullable=False, unique=True, info=KEPT),
    sa.Column("owner", sa.String(128), info=KEPT),  # subject of the user, or the name of one without a subject
    sa.Column("team", sa.String(36), info=KEPT),
    sa.Column("name", sa.String(255), nullable=False, info=DELETED),
    sa.Column("query", JSON_VALUE, nullable=False, info=DELETED),
    sa.Column("version", sa.Integer, nullable=False, server_default="1", info=NOT_PERSONAL),
    sa.Column("created_at", UtcDateTime, nullable=False, info=DELETED),
    sa.Column("updated_at", UtcDateTime, nullable=False, info=DELETED),
    sa.UniqueConstraint("owner", "name"),
    sa.UniqueConstraint("team", "name"),
)

# Committed events that are not published yet, each stored as the complete outgoing CloudEvent.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("type", sa.String(64), nullable=False, info=KEPT),
    sa.Column("at", sa.String(32), nullable=False, info=KEPT),  # the event's time, in the event's own format
    sa.Column("event", sa.Text, nullable=False, info=REWRITTEN),
    # Webhook deliveries are created.
    sa.Column("fanned_out", sa.Boolean, nullable=False, server_default=sa.false(), info=NOT_PERSONAL),
    # NULL in rows of releases without this column; also in webhook_deliveries.
    sa.Column("case_id", sa.String(36), info=KEPT),
    sa.Index(None, "case_id"),
    sa.Index("ix_outbox_to_fan_out", "seq", sqlite_where=sa.text("NOT fanned_out")),
    sqlite_autoincrement=True,  # never reuses a published number, even if the table was emptied
)

# Leases of jobs that only one process may run at a time. Times are in ms since the Unix epoch.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True, info=NOT_PERSONAL),
    sa.Column("holder", sa.String(36), nullable=False, info=NOT_PERSONAL),
    sa.Column("fence", sa.BigInteger, nullable=False, info=NOT_PERSONAL),  # increments with every new holder
    sa.Column("expires_at", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
)

# Events of other services that were applied, so that a duplicate has no effect.
inbound_events = sa.Table(
    "inbound_events",
    metadata,
    sa.Column("source", sa.String(255), primary_key=True, info=NOT_PERSONAL),
    sa.Column("id", sa.String(255), primary_key=True, info=NOT_PERSONAL),
    sa.Column("at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    # Seq of the last case that the event was applied to.
    sa.Column("reached", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
    sa.Column("done", sa.Boolean, nullable=False, info=NOT_PERSONAL),
    sa.Index(None, "at"),
)

webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("endpoint", sa.String(64), nullable=False, info=KEPT),
    sa.Column("type", sa.String(64), nullable=False, info=KEPT),
    sa.Column("event", sa.Text, nullable=False, info=REWRITTEN),
    sa.Column("state", sa.String(16), nullable=False, info=NOT_PERSONAL),  # pending, delivered, failed
    sa.Column("tries", sa.Integer, nullable=False, info=NOT_PERSONAL),
    sa.Column("since", UtcDateTime, nullable=False, info=KEPT),  # start of the day in which delivery is retried
    sa.Column("due", UtcDateTime, nullable=False, info=KEPT),  # time of the next attempt, or of the end of delivery
    sa.Column("reason", sa.String(255), info=KEPT),
    sa.Column("case_id", sa.String(36), info=KEPT),  # the event's case, copied from the outbox
    sa.Index(None, "state", "due"),
    sa.Index(None, "endpoint", "state", "due"),
    sa.Index(None, "case_id"),
)

# The audit log. Triggers reject all updates except two: adding an entry to the hash chain, and erasing its changes.
audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("at", UtcDateTime, nullable=False, info=KEPT),
    sa.Column("actor", sa.String(255), nullable=False, info=KEPT),
    sa.Column("role", sa.String(16), nullable=False, info=KEPT),
    sa.Column("action", sa.String(32), nullable=False, info=KEPT),
    sa.Column("case_id", sa.String(36), info=KEPT),  # no foreign key: entries stay when their case is deleted
    sa.Column("request_id", sa.String(64), info=KEPT),
    sa.Column("changes", sa.Text, info=REWRITTEN),  # JSON, {field: [before, after]}
    sa.Column("position", sa.BigInteger, info=NOT_PERSONAL),  # in the hash chain, from 1 without gaps
    sa.Column("salt", sa.LargeBinary, info=NOT_PERSONAL),
    sa.Column("digest", sa.LargeBinary, info=NOT_PERSONAL),  # hash of salt and changes
    sa.Column("hash", sa.LargeBinary, info=NOT_PERSONAL),  # hash of the previous entry's hash and this entry
    sa.Index(None, "case_id", "seq"),
    sa.Index(None, "at", "seq"),
    sa.Index(None, "actor", "at", "seq"),
    sa.Index(None, "action", "at", "seq"),
    sa.Index(None, "position", unique=True),
    sa.Index("ix_audit_log_unsealed", "seq", sqlite_where=sa.text("position IS NULL")),
)

# A single row with the end of the hash chain; the process that seals entries holds its lock.
audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False, info=NOT_PERSONAL),
    sa.Column("position", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
    sa.Column("hash", sa.LargeBinary, nullable=False, info=NOT_PERSONAL),
)

# Requests with an Idempotency-Key, and their stored responses.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True, info=KEPT),  # SHA-256 of caller and key
    sa.Column("request", sa.String(64), nullable=False, info=KEPT),  # SHA-256 of the request
    # Random id of the attempt that handles the request now.
    sa.Column("owner", sa.String(36), nullable=False, info=REWRITTEN),
    sa.Column("until", UtcDateTime, nullable=False, info=NOT_PERSONAL),  # time from which another owner may take over
    # Claimed, applied (set in the transaction of the change), done.
    sa.Column("state", sa.String(8), nullable=False, info=NOT_PERSONAL),
    sa.Column("created_at", UtcDateTime, nullable=False, info=KEPT),
    sa.Column("status", sa.Integer, info=REWRITTEN),
    sa.Column("headers", JSON_VALUE, info=REWRITTEN),
    sa.Column("body", sa.LargeBinary, info=REWRITTEN),
    sa.Column("case_id", sa.String(36), info=KEPT),  # the case that the response is about
    sa.Column("large_response_of", sa.String(64), info=REWRITTEN),  # SHA-256 of the caller, if the response is large
    sa.Index(None, "created_at"),
    sa.Index(None, "case_id"),
    sa.Index(None, "large_response_of"),
)

# Sessions of browsers. Their secrets are not stored, and decrypt the tokens.
console_sessions = sa.Table(
    "console_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True, info=NOT_PERSONAL),  # hash of the secret in the browser's cookie
    sa.Column("token_hash", sa.String(64), nullable=False, info=NOT_PERSONAL),  # SHA-256 of the token
    sa.Column("sealed_token", sa.Text, nullable=False, info=NOT_PERSONAL),
    sa.Column("created_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    sa.Column("expires_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    sa.Index(None, "token_hash", "created_at"),
    sa.Index(None, "expires_at"),
)

# Texts with variables for answers to customers, which supervisors keep.
macros = sa.Table(
    "macros",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("name", sa.String(64), nullable=False, unique=True, info=NOT_PERSONAL),
    sa.Column("text", sa.Text, nullable=False, info=NOT_PERSONAL),
    sa.Column("status", sa.String(16), info=NOT_PERSONAL),  # for the cases that it is used in, like the tags
    sa.Column("tags", JSON_VALUE, nullable=False, info=NOT_PERSONAL),
    sa.Column("created_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    sa.Column("updated_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    # Increments with every change; starts at the time of creation.
    sa.Column("version", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
)

# Versions of service level policies. One of each name is current, unless the policy was deleted; the others stay,
# because cases are measured by the version that applied when they were opened.
sla_policies = sa.Table(
    "sla_policies",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info=NOT_PERSONAL),
    sa.Column("name", sa.String(64), nullable=False, info=NOT_PERSONAL),
    sa.Column("content", JSON_VALUE, nullable=False, info=NOT_PERSONAL),
    sa.Column("is_current", sa.Boolean, nullable=False, info=NOT_PERSONAL),
    sa.Column("created_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    sa.Column("updated_at", UtcDateTime, nullable=False, info=NOT_PERSONAL),
    # Increments with every change; starts at the time of creation.
    sa.Column("version", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
    sa.Index(None, "name", unique=True, sqlite_where=sa.text("is_current")),
)

# The clocks of cases, one for each target of the policy that has been started. Durations are in microseconds.
case_clocks = sa.Table(
    "case_clocks",
    metadata,
    sa.Column("case_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), primary_key=True, info=KEPT),
    sa.Column("target", sa.String(16), primary_key=True, info=KEPT),
    sa.Column("policy", sa.BigInteger, nullable=False, info=NOT_PERSONAL),  # seq of the version of the policy
    sa.Column("public", sa.Boolean, nullable=False, info=NOT_PERSONAL),  # customers see it
    sa.Column("state", sa.String(16), nullable=False, info=KEPT),  # running, paused, met, breached
    sa.Column("allowance", sa.BigInteger, nullable=False, info=KEPT),
    sa.Column("used", sa.BigInteger, nullable=False, info=KEPT),  # before `running_since`
    sa.Column("running_since", UtcDateTime, info=KEPT),  # NULL while it stands
    sa.Column("due_at", UtcDateTime, info=KEPT),
    sa.Column("ended_at", UtcDateTime, info=KEPT),  # time of what it measures
    sa.Index("ix_case_clocks_running", "due_at", sqlite_where=sa.text("state = 'running'")),
    sa.Index(
        "ix_case_clocks_overdue",
        *("target", "due_at"),
        sqlite_where=sa.text("state = 'breached' AND running_since IS NOT NULL"),
    ),
)

# The number of running clocks by target, kept by triggers on `case_clocks`, like `case_counts`.
clock_counts = sa.Table(
    "clock_counts",
    metadata,
    sa.Column("target", sa.String(16), nullable=False, info=NOT_PERSONAL),
    sa.Column("number", sa.BigInteger, nullable=False, info=NOT_PERSONAL),
)

# Random keys that all replicas share, in hexadecimal.
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True, info=NOT_PERSONAL),
    sa.Column("value", sa.Text, nullable=False, info=NOT_PERSONAL),
)

_UNDECLARED = [
    f"{table.name}.{column.name}"
    for table in metadata.tables.values()
    for column in table.c
    if ERASURE not in column.info
]
if _UNDECLARED:
    raise TypeError(f"columns that do not say what an erasure leaves of them: {', '.join(_UNDECLARED)}")
