"""The tables, in the schema of the newest migration."""

import sqlalchemy as sa

from support_service.database.dialect import JSON_VALUE, SEQUENCE, STORAGE_KEY, UtcDateTime
from support_service.database.search_dialect import SEARCH_WORDS

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
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),  # sort key of lists, and key of the search index
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
    sa.Column("search_text", sa.Text, nullable=False),  # folded words of subject, description, customer and tags
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),  # time of the last change that is not an internal note
    sa.Column("internal_updated_at", UtcDateTime),  # time of the last internal note
    sa.Column("waiting_since", UtcDateTime),  # time of the customer's first message that no agent has answered
    sa.Column("answered_at", UtcDateTime),  # time of the first message of an agent
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),  # increments with every change
    sa.Column("internal_changes", sa.Integer, nullable=False, server_default="0"),  # changes that customers can't see
    # Increments with each event of another service about the case: data cached in an older epoch is not current.
    sa.Column("timeline_epoch", sa.Integer, nullable=False, server_default="0"),
    sa.Column("conversation_bytes", sa.BigInteger, nullable=False, server_default="0"),  # size of its messages as JSON
    sa.Column("external_id", sa.String(255)),  # what the system that sent the case calls it; unique in the channel
    sa.Column("sent_at", UtcDateTime),  # time at which that system says that it was sent
    sa.Column("sla_policy", sa.BigInteger),  # seq of the version of the service level policy that applies
    sa.Column("sla_due_at", UtcDateTime),  # first due time of its clocks that run, also of breached ones
    sa.Column("synthetic", sa.Boolean),  # set at opening; NULL in cases of releases without it: see IS_SYNTHETIC
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
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),  # of the case
    sqlite_with_rowid=False,
)

# The number of cases by status and priority without synthetic ones, kept by triggers on `tickets`. On PostgreSQL
# several rows add up to a number; on SQLite each number has one row, by a primary key.
case_counts = sa.Table(
    "case_counts",
    metadata,
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("priority", sa.String(16), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
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
    sa.Column("attachment_ids", JSON_VALUE, nullable=False, server_default="[]"),  # files of the case that it names
    sa.Column("sentiment", sa.String(32)),
    sa.Column("metadata", JSON_VALUE),
    sa.Column("visibility", sa.String(16), nullable=False, server_default="public"),  # internal: not for customers
    sa.Column("external_id", sa.String(255)),  # what the system that sent the message calls it; unique in the case
    sa.Column("sent_at", UtcDateTime),  # time at which that system says that it was sent
    sa.Column("created_at", UtcDateTime, nullable=False),
    # False if a release that knows no search documents has added the message, until a job makes its document.
    sa.Column("has_document", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "ticket_id", "seq"),
    sa.Index(None, "ticket_id", "external_id", unique=True, sqlite_where=HAS_EXTERNAL_ID),
    sa.Index("ix_messages_without_document", "seq", sqlite_where=sa.text("NOT has_document")),
)

# Words of a case (position 0) or of one of its messages. Triggers keep those of cases in step with `search_text`.
search_documents = sa.Table(
    "search_documents",
    metadata,
    # seq of the case * 2**20 + position: the case's version after the message was added. Newer cases have greater ids.
    sa.Column("id", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("internal", sa.Boolean, nullable=False),  # words of an internal note: not for customers
    sa.Column("words", SEARCH_WORDS, nullable=False),  # in the search index, which each database has in its own form
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

# Links between two cases, each stored once. Those of `related` have the lesser id first.
case_links = sa.Table(
    "case_links",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("case_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # what case_id is to other_case_id
    sa.Column("other_case_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("previous_status", sa.String(16)),  # of a duplicate: its status before the link closed it
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index(None, "case_id", "kind", "other_case_id", unique=True),
    sa.Index(None, "other_case_id", "kind"),
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
    sa.Column("detected_type", sa.String(255)),  # content type detected from the file's first bytes, or NULL
    sa.Column("mover", sa.String(36)),  # id of the run that moves the bytes to another storage
    sa.Column("moving_until", UtcDateTime),  # time from which another run may take over
    sa.Column("visibility", sa.String(16), nullable=False, server_default="public"),  # internal: not for customers
    sa.Index(None, "ticket_id", "seq"),
    sa.Index(None, "storage", "storage_key", unique=True),
    sa.Index(None, "storage", "created_at"),
    sa.Index(None, "created_at"),
)

# Stored files to be removed, without an attachment: sources and unfinished copies of moves, and deleted files.
attachment_leftovers = sa.Table(
    "attachment_leftovers",
    metadata,
    sa.Column("storage", sa.String(16), primary_key=True),
    sa.Column("storage_key", STORAGE_KEY, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("mover", sa.String(36)),  # id of the run that is still writing the file
    sa.Column("removing", sa.Boolean, nullable=False),  # if true, no attachment may be created for the file any more
    sa.Index(None, "due_at"),
)

# Files that wait for the message of their uploader. Their bytes are in `attachment_leftovers` until it is sent, so that
# they are deleted in time also by a release that does not know this table.
staged_attachments = sa.Table(
    "staged_attachments",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),  # also of the attachment that it becomes
    sa.Column("ticket_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("content_type", sa.String(255), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("storage", sa.String(16), nullable=False),
    sa.Column("storage_key", STORAGE_KEY, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("detected_type", sa.String(255)),
    sa.Column("staged_by", sa.String(255), nullable=False),  # role of the uploader, and its subject or name
    sa.Column("staged_until", UtcDateTime, nullable=False),
    sa.Index(None, "ticket_id"),
    sa.Index(None, "staged_by"),
    sa.Index(None, "staged_until"),
)

# Records of deleted attachments with the reason; they stay when the file is gone.
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

# Totals per storage, updated by the transactions that add or remove attachments: the backlog without a scan.
attachment_ledger = sa.Table(
    "attachment_ledger",
    metadata,
    sa.Column("storage", sa.String(16), primary_key=True),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

# Temporary overrides set by on-call: a disabled upstream service, or the cache's time to live.
timeline_levers = sa.Table(
    "timeline_levers",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),  # an upstream service, or `ttl`
    sa.Column("value", sa.Double),  # seconds; only for `ttl`
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("until", UtcDateTime, nullable=False),
    sa.Column("set_at", UtcDateTime, nullable=False),
)

# Saved views: the filters of a list of cases. A view belongs to a user or to a team; the other column is NULL.
views = sa.Table(
    "views",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("owner", sa.String(128)),  # subject of the user, or the name of one without a subject
    sa.Column("team", sa.String(36)),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("query", JSON_VALUE, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("owner", "name"),
    sa.UniqueConstraint("team", "name"),
)

# Committed events that are not published yet, each stored as the complete outgoing CloudEvent.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),  # the event's time, in the event's own format
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("fanned_out", sa.Boolean, nullable=False, server_default=sa.false()),  # webhook deliveries are created
    sa.Column("case_id", sa.String(36)),  # NULL in rows of releases without this column; also in webhook_deliveries
    sa.Index(None, "case_id"),
    sa.Index("ix_outbox_to_fan_out", "seq", sqlite_where=sa.text("NOT fanned_out")),
    sqlite_autoincrement=True,  # never reuses a published number, even if the table was emptied
)

# Leases of jobs that only one process may run at a time. Times are in ms since the Unix epoch.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(36), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),  # increments with every new holder
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)

# Events of other services that were applied, so that a duplicate has no effect.
inbound_events = sa.Table(
    "inbound_events",
    metadata,
    sa.Column("source", sa.String(255), primary_key=True),
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("reached", sa.BigInteger, nullable=False),  # seq of the last case that the event was applied to
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
    sa.Column("since", UtcDateTime, nullable=False),  # start of the day in which delivery is retried
    sa.Column("due", UtcDateTime, nullable=False),  # time of the next attempt, or of the end of delivery
    sa.Column("reason", sa.String(255)),
    sa.Column("case_id", sa.String(36)),  # the event's case, copied from the outbox
    sa.Index(None, "state", "due"),
    sa.Index(None, "endpoint", "state", "due"),
    sa.Index(None, "case_id"),
)

# The audit log. Triggers reject all updates except two: adding an entry to the hash chain, and erasing its changes.
audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("case_id", sa.String(36)),  # no foreign key: entries stay when their case is deleted
    sa.Column("request_id", sa.String(64)),
    sa.Column("changes", sa.Text),  # JSON, {field: [before, after]}
    sa.Column("position", sa.BigInteger),  # in the hash chain, from 1 without gaps
    sa.Column("salt", sa.LargeBinary),
    sa.Column("digest", sa.LargeBinary),  # hash of salt and changes
    sa.Column("hash", sa.LargeBinary),  # hash of the previous entry's hash and this entry
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
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

# Requests with an Idempotency-Key, and their stored responses.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # SHA-256 of caller and key
    sa.Column("request", sa.String(64), nullable=False),  # SHA-256 of the request
    sa.Column("owner", sa.String(36), nullable=False),  # random id of the attempt that handles the request now
    sa.Column("until", UtcDateTime, nullable=False),  # time from which another owner may take over
    sa.Column("state", sa.String(8), nullable=False),  # claimed, applied (set in the transaction of the change), done
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("headers", JSON_VALUE),
    sa.Column("body", sa.LargeBinary),
    sa.Column("case_id", sa.String(36)),  # the case that the response is about
    sa.Column("large_response_of", sa.String(64)),  # SHA-256 of the caller, if the response is large
    sa.Index(None, "created_at"),
    sa.Index(None, "case_id"),
    sa.Index(None, "large_response_of"),
)

# Sessions of browsers. Their secrets are not stored, and decrypt the tokens.
console_sessions = sa.Table(
    "console_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # hash of the secret in the browser's cookie
    sa.Column("token_hash", sa.String(64), nullable=False),  # SHA-256 of the token
    sa.Column("sealed_token", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Index(None, "token_hash", "created_at"),
    sa.Index(None, "expires_at"),
)

# Texts with variables for answers to customers, which supervisors keep.
macros = sa.Table(
    "macros",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("status", sa.String(16)),  # for the cases that it is used in, like the tags
    sa.Column("tags", JSON_VALUE, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # increments with every change; starts at the time of creation
)

# Versions of service level policies. One of each name is current, unless the policy was deleted; the others stay,
# because cases are measured by the version that applied when they were opened.
sla_policies = sa.Table(
    "sla_policies",
    metadata,
    sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("content", JSON_VALUE, nullable=False),
    sa.Column("is_current", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # increments with every change; starts at the time of creation
    sa.Index(None, "name", unique=True, sqlite_where=sa.text("is_current")),
)

# The clocks of cases, one for each target of the policy that has been started. Durations are in microseconds.
case_clocks = sa.Table(
    "case_clocks",
    metadata,
    sa.Column("case_id", sa.ForeignKey("tickets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("target", sa.String(16), primary_key=True),
    sa.Column("policy", sa.BigInteger, nullable=False),  # seq of the version of the policy
    sa.Column("public", sa.Boolean, nullable=False),  # customers see it
    sa.Column("state", sa.String(16), nullable=False),  # running, paused, met, breached
    sa.Column("allowance", sa.BigInteger, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False),  # before `running_since`
    sa.Column("running_since", UtcDateTime),  # NULL while it stands
    sa.Column("due_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),  # time of what it measures
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
    sa.Column("target", sa.String(16), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
)

# Random keys that all replicas share, in hexadecimal.
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
