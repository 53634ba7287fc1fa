"""The tables, in the schema of the newest migration, and what an erasure of a customer leaves in their columns."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

import sqlalchemy as sa

from support_service.core.domain.case_vocabulary import STAFF_AUTHOR_TYPES
from support_service.core.personal import Erasure
from support_service.platform.database.dialect import (
    JSON_VALUE,
    SEARCH_WORDS,
    SEQUENCE,
    SORTED_TEXT,
    STORAGE_KEY,
    JsonValue,
    UtcDateTime,
)
from support_service.platform.telemetry.instruments import OTHER

# What an erasure of a customer leaves of a column in the rows about them. Each column says it, in the words of
# core/personal.py. Some are `deleted` with their row, others are `rewritten` by the erasure of their feature.
ColumnErasure = Erasure | Literal["deleted", "rewritten"]
ERASURE: Final = "erasure"  # its name in the `info` of a column
ERASED_TEXT = "[erased]"

ID = sa.String(36)
PRINCIPAL_ID = sa.String(128)  # the subject of a principal, or the name of one without a subject
TIME = UtcDateTime()

HAS_EXTERNAL_ID = "external_id IS NOT NULL"
HAS_DUE_TIME = "sla_due_at IS NOT NULL"
IS_WAITING = "waiting_since IS NOT NULL AND status IN ('open', 'pending')"
IS_NOT_WAITING = "status IN ('open', 'pending') AND waiting_since IS NULL"
IS_SNOOZED = "snoozed_until IS NOT NULL AND status = 'pending'"
HAS_NO_DUE_TIME = "status IN ('open', 'pending') AND sla_due_at IS NULL"
# Lists that are filtered by one of these have an index in the order of waiting, and one in the order of due times.
FILTER_COLUMNS = ("status", "assigned_agent_id", "team", "priority")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts, **options)


def optional(name: str, kind: Any, erasure: ColumnErasure) -> sa.Column[Any]:
    return sa.Column(name, kind, info={ERASURE: erasure})


def required(
    name: str, kind: Any, erasure: ColumnErasure, *, default: Any = None, unique: bool | None = None
) -> sa.Column[Any]:
    """Return a column without NULL; `default` is for the rows of a release that does not know the column."""
    return sa.Column(name, kind, nullable=False, server_default=default, unique=unique, info={ERASURE: erasure})


def key(name: str, kind: Any, erasure: ColumnErasure, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, info={ERASURE: erasure}, **options)


def sequence() -> sa.Column[Any]:
    """Return the primary key `seq`, which grows in the order of insertion."""
    return sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True, info={ERASURE: "not personal"})


def of_case() -> sa.ForeignKey:
    """Return the reference to a case, with which the row is deleted."""
    return sa.ForeignKey("tickets.id", ondelete="CASCADE")


def index(*columns: str, where: str | None = None, name: str | None = None, unique: bool = False) -> sa.Index:
    """Return an index, of the rows that meet a condition; migrations/env.py gives PostgreSQL the same condition."""
    return sa.Index(name, *columns, unique=unique, sqlite_where=None if where is None else sa.text(where))


tickets = table(
    "tickets",
    sequence(),  # sort key of lists, and key of the search index
    required("id", ID, "kept", unique=True),
    required("subject", sa.String(255), "replaced"),
    optional("description", sa.Text, "removed"),
    optional("customer_id", ID, "rewritten"),
    required("status", sa.String(16), "kept"),
    required("priority", sa.String(16), "kept"),
    required("channel", sa.String(32), "replaced if unknown"),
    optional("assigned_agent_id", ID, "kept"),
    optional("team", ID, "kept"),
    required("context", JSON_VALUE, "emptied"),
    required("tags", JSON_VALUE, "emptied"),
    required("search_text", sa.Text, "emptied"),  # folded words of subject, description, customer and tags
    required("created_at", TIME, "kept"),
    required("updated_at", TIME, "kept"),  # time of the last change that is not an internal note
    optional("internal_updated_at", TIME, "kept"),  # time of the last internal note
    optional("waiting_since", TIME, "kept"),  # time of the customer's first message that no agent has answered
    optional("answered_at", TIME, "kept"),  # time of the first message of an agent
    required("version", sa.Integer, "not personal", default="1"),  # increments with every change
    required("internal_changes", sa.Integer, "not personal", default="0"),  # changes that customers can't see
    # Increments with each event of another service about the case: data cached in an older epoch is not current.
    required("timeline_epoch", sa.Integer, "not personal", default="0"),
    required("conversation_bytes", sa.BigInteger, "rewritten", default="0"),  # size of its messages as JSON
    # Id of the case in the system that sent it, unique in the channel.
    optional("external_id", sa.String(255), "removed"),
    optional("sent_at", TIME, "kept"),  # time of sending, as that system gives it
    # Seq of the version of the service level policy that applies.
    optional("sla_policy", sa.BigInteger, "not personal"),
    optional("sla_due_at", TIME, "kept"),  # earliest due time of its running clocks, also of breached ones
    # Until when it is snoozed. A trigger removes it from a case that is not pending.
    optional("snoozed_until", TIME, "kept"),
    # Set at opening; NULL in cases of releases without it: see IS_SYNTHETIC.
    optional("synthetic", sa.Boolean, "not personal"),
    # Ids of the people who follow it: they are read with each change, and no other table is. NULL for none.
    optional("followers", JSON_VALUE, "kept"),
    index("status", "seq"),
    index("status", "priority", "seq"),
    index("priority", "seq"),
    index("team", "seq", where="team IS NOT NULL"),
    index("channel", "seq"),
    index("channel", "external_id", unique=True, where=HAS_EXTERNAL_ID),
    index("external_id", where=HAS_EXTERNAL_ID),  # of a search, which names no channel
    index("customer_id", "seq"),
    index("created_at", "seq"),  # the cases of a report
    index("sla_due_at", "seq", where=HAS_DUE_TIME),
    # Has all that the count of a workload reads.
    index("assigned_agent_id", "status", "seq", "synthetic", "channel", where="assigned_agent_id IS NOT NULL"),
    index("snoozed_until", "seq", where=IS_SNOOZED),
    index("seq", where=IS_SNOOZED, name="ix_tickets_snoozed"),
    index("waiting_since", "seq", where=IS_WAITING),
    *(index(column, "waiting_since", "seq", where=IS_WAITING) for column in FILTER_COLUMNS),
    *(index(column, "sla_due_at", "seq", where=HAS_DUE_TIME) for column in FILTER_COLUMNS),
    # The active cases that follow those with a time in the order of waiting, or of due times.
    index("status", "seq", where=IS_NOT_WAITING, name="ix_tickets_without_wait"),
    index("status", "seq", where=HAS_NO_DUE_TIME, name="ix_tickets_without_due_time"),
    index("seq", where="assigned_agent_id IS NULL", name="ix_tickets_without_agent"),
    index("seq", where="team IS NULL", name="ix_tickets_without_team"),
    # And ix_tickets_latest_change_seq, on an expression that each database writes in its own form: LATEST_CHANGE, seq;
    # ix_tickets_assigned_agent_id_latest_change_seq has the agent before it.
)

# The tags of each case, kept by triggers on `tickets`: lists read the cases of a tag in order.
ticket_tags = table(
    "ticket_tags",
    key("tag", sa.Text, "deleted"),
    key("seq", SEQUENCE, "not personal", autoincrement=False),  # of the case
    sqlite_with_rowid=False,
)

# The number of cases by status and priority without synthetic ones, kept by triggers on `tickets`. On PostgreSQL
# several rows add up to a number; on SQLite each number has one row, by a primary key.
case_counts = table(
    "case_counts",
    required("status", sa.String(16), "not personal"),
    required("priority", sa.String(16), "not personal"),
    required("number", sa.BigInteger, "not personal"),
)

# The number of open and pending cases of each agent without synthetic ones, kept by triggers like `case_counts`.
agent_counts = table(
    "agent_counts",
    required("agent_id", ID, "not personal"),
    required("status", sa.String(16), "not personal"),
    required("number", sa.BigInteger, "not personal"),
)

messages = table(
    "messages",
    sequence(),
    required("id", ID, "kept", unique=True),
    required("ticket_id", of_case(), "kept"),
    required("author_type", sa.String(16), "kept"),
    optional("author_id", PRINCIPAL_ID, "customer removed"),  # NULL in messages of earlier releases
    required("message", sa.Text, "replaced"),
    optional("attachment_uri", sa.Text, "removed"),
    required("attachment_ids", JSON_VALUE, "emptied", default="[]"),  # files of the case that it names
    optional("sentiment", sa.String(32), "removed"),
    optional("metadata", JSON_VALUE, "removed"),
    required("visibility", sa.String(16), "kept", default="public"),  # internal: not for customers
    # Id of the message in the system that sent it, unique among the public messages, and the notes, of the case.
    optional("external_id", sa.String(255), "removed"),
    optional("sent_at", TIME, "kept"),  # time of sending, as that system gives it
    required("created_at", TIME, "kept"),
    # False for a message of a release without search documents, until a job makes its document.
    required("has_document", sa.Boolean, "not personal", default=sa.false()),
    # The version that the message gave its case, for staff and for customers, who do not see notes. Null in messages of
    # earlier releases.
    optional("version", sa.Integer, "not personal"),
    optional("public_version", sa.Integer, "not personal"),
    index("ticket_id", "seq"),
    index("ticket_id", "external_id", "visibility", unique=True, where=HAS_EXTERNAL_ID),
    index("seq", where="NOT has_document", name="ix_messages_without_document"),
)

# Words of a case (position 0) or of one of its messages. Triggers keep the words of cases in step with `search_text`.
search_documents = table(
    "search_documents",
    # seq of the case * 2**20 + position: the case's version after the message was added. Newer cases have greater ids.
    key("id", SEQUENCE, "not personal", autoincrement=False),
    required("internal", sa.Boolean, "not personal"),  # words of an internal note: not for customers
    required("words", SEARCH_WORDS, "rewritten"),  # in the search index, which each database has in its own form
)

ticket_references = table(
    "ticket_references",
    key("ticket_id", of_case(), "not personal"),
    key("kind", sa.String(16), "deleted"),
    key("value", sa.String(200), "deleted"),
    index("kind", "value"),
    sqlite_with_rowid=False,
)

# Links between two cases, each stored once. Links of `related` have the lesser id first.
case_links = table(
    "case_links",
    sequence(),
    required("id", ID, "kept", unique=True),
    required("case_id", of_case(), "kept"),
    required("kind", sa.String(16), "kept"),  # what case_id is to other_case_id
    required("other_case_id", of_case(), "kept"),
    # Of a duplicate: its status before the link closed it. A trigger removes it once the case is reopened.
    optional("previous_status", sa.String(16), "kept"),
    optional("previous_snoozed_until", TIME, "kept"),  # and until when it was snoozed
    required("created_at", TIME, "kept"),
    index("case_id", "kind", "other_case_id", unique=True),
    index("other_case_id", "kind"),
)

attachments = table(
    "attachments",
    sequence(),
    required("id", ID, "kept", unique=True),
    required("ticket_id", of_case(), "kept"),
    required("filename", sa.String(255), "deleted"),
    required("content_type", sa.String(255), "deleted"),
    required("size_bytes", sa.BigInteger, "kept"),
    required("sha256", sa.String(64), "deleted"),
    required("storage", sa.String(16), "not personal"),  # which storage holds the bytes
    required("storage_key", STORAGE_KEY, "deleted"),
    required("created_at", TIME, "deleted"),
    optional("detected_type", sa.String(255), "deleted"),  # content type detected from the file's first bytes, or NULL
    optional("mover", ID, "deleted"),  # id of the run that moves the bytes to another storage
    optional("moving_until", TIME, "deleted"),  # time from which another run may take over
    required("visibility", sa.String(16), "deleted", default="public"),  # internal: not for customers
    index("ticket_id", "seq"),
    index("storage", "storage_key", unique=True),
    index("storage", "created_at"),
    index("created_at"),
)

# Stored files to be removed, without an attachment: sources and unfinished copies of moves, and deleted files.
garbage = table(
    "attachment_leftovers",  # the name in 0.1.0
    key("storage", sa.String(16), "not personal"),
    key("storage_key", STORAGE_KEY, "not personal"),
    required("size_bytes", sa.BigInteger, "not personal"),
    required("due_at", TIME, "not personal"),
    optional("mover", ID, "not personal"),  # id of the run that is still writing the file
    required("removing", sa.Boolean, "not personal"),  # if true, no attachment may be created for the file any more
    index("due_at"),
)

# Files that wait for the message of their uploader. Their bytes are in `garbage` until it is sent, so that they are
# deleted in time also by a release that does not know this table.
staged_attachments = table(
    "staged_attachments",
    key("id", ID, "deleted"),  # also of the attachment that it becomes
    required("ticket_id", of_case(), "not personal"),
    required("filename", sa.String(255), "deleted"),
    required("content_type", sa.String(255), "deleted"),
    required("size_bytes", sa.BigInteger, "deleted"),
    required("sha256", sa.String(64), "deleted"),
    required("storage", sa.String(16), "not personal"),
    required("storage_key", STORAGE_KEY, "deleted"),
    required("created_at", TIME, "deleted"),
    optional("detected_type", sa.String(255), "deleted"),
    required("staged_by", sa.String(255), "deleted"),  # role of the uploader, and its subject or name
    required("staged_until", TIME, "deleted"),
    index("ticket_id"),
    index("staged_by"),
    index("staged_until"),
)

# Records of deleted attachments with the reason; they stay when the file is gone.
attachment_deletions = table(
    "attachment_deletions",
    key("attachment_id", ID, "kept"),
    required("ticket_id", ID, "kept"),
    required("filename", sa.String(255), "replaced"),
    required("size_bytes", sa.BigInteger, "kept"),
    required("sha256", sa.String(64), "emptied"),
    required("reason", sa.String(16), "not personal"),  # request, retention or erasure
    required("deleted_at", TIME, "kept"),
    index("ticket_id"),
)

# Totals per storage: the backlog without a scan. Each transaction that adds or removes attachments adds its change to
# the second table; the service merges the changes into the totals.
attachment_ledger = table(
    "attachment_ledger",
    key("storage", sa.String(16), "not personal"),
    required("files", sa.BigInteger, "not personal"),
    required("bytes", sa.BigInteger, "not personal"),
)
attachment_ledger_changes = table(
    "attachment_ledger_changes",
    required("storage", sa.String(16), "not personal"),
    required("files", sa.BigInteger, "not personal"),
    required("bytes", sa.BigInteger, "not personal"),
)

# Temporary overrides set by on-call: a disabled upstream service, or the cache's time to live.
timeline_overrides = table(
    "timeline_levers",  # the name in 0.1.0
    key("name", sa.String(16), "not personal"),  # an upstream service, or `ttl`
    optional("value", sa.Double, "not personal"),  # seconds; only for `ttl`
    required("reason", sa.Text, "not personal"),
    required("until", TIME, "not personal"),
    required("set_at", TIME, "not personal"),
)

# Saved views: the filters of a list of cases. A view belongs to a user or to a team; the other column is NULL.
views = table(
    "views",
    sequence(),
    required("id", ID, "kept", unique=True),
    optional("owner", PRINCIPAL_ID, "kept"),
    optional("team", ID, "kept"),
    required("name", sa.String(255), "deleted"),
    required("query", JSON_VALUE, "deleted"),
    required("version", sa.Integer, "not personal", default="1"),
    required("created_at", TIME, "deleted"),
    required("updated_at", TIME, "deleted"),
    sa.UniqueConstraint("owner", "name"),
    sa.UniqueConstraint("team", "name"),
)

# Committed events that are not published yet, each stored as the complete outgoing CloudEvent.
outbox = table(
    "outbox",
    sequence(),
    required("type", sa.String(64), "kept"),
    required("at", sa.String(32), "kept"),  # the event's time, in the event's own format
    required("event", sa.Text, "rewritten"),
    required("fanned_out", sa.Boolean, "not personal", default=sa.false()),  # webhook deliveries are created
    optional("case_id", ID, "kept"),  # NULL in events of the whole database; also in webhook_deliveries
    index("case_id"),
    index("seq", where="NOT fanned_out", name="ix_outbox_to_fan_out"),
    sqlite_autoincrement=True,  # never reuses a published number, even if the table was emptied
)

# Events that were published to Redis and stay for a while: a failover of Redis loses what its replica did not have yet.
published_events = table(
    "published_events",
    key("seq", sa.BigInteger, "not personal", autoincrement=False),  # that of the outbox
    required("publication", sa.BigInteger, "not personal"),  # number of its batch in Redis; 0: to be published again
    required("published_at", TIME, "kept"),
    required("type", sa.String(64), "kept"),
    required("event", sa.Text, "rewritten"),
    optional("case_id", ID, "kept"),
    index("publication", "seq"),
    index("case_id"),
)

# Leases of jobs that only one process may run at a time. Times are in ms since the Unix epoch.
leases = table(
    "leases",
    key("name", sa.String(32), "not personal"),
    required("holder", ID, "not personal"),
    required("fence", sa.BigInteger, "not personal"),  # increments with every new holder
    required("expires_at", sa.BigInteger, "not personal"),
)

# Events of other services that were applied, so that a duplicate has no effect.
inbound_events = table(
    "inbound_events",
    key("source", sa.String(255), "not personal"),
    key("id", sa.String(255), "not personal"),
    required("at", TIME, "not personal"),
    required("reached", sa.BigInteger, "not personal"),  # seq of the last case that the event was applied to
    required("done", sa.Boolean, "not personal"),
    index("at"),
)

webhook_deliveries = table(
    "webhook_deliveries",
    sequence(),
    required("endpoint", sa.String(64), "kept"),
    required("type", sa.String(64), "kept"),
    required("event", sa.Text, "rewritten"),
    required("state", sa.String(16), "not personal"),  # pending, delivered, failed
    required("tries", sa.Integer, "not personal"),
    required("since", TIME, "kept"),  # start of the day in which delivery is retried
    required("due", TIME, "kept"),  # time of the next attempt, or of the end of delivery
    optional("reason", sa.String(255), "kept"),
    optional("case_id", ID, "kept"),  # the event's case, copied from the outbox
    index("state", "due"),
    index("endpoint", "state", "due"),
    index("case_id"),
)

# The audit log. Triggers reject all updates except two: adding an entry to the hash chain, and erasing its changes.
# They reject deletions of entries that are not detached.
audit_log = table(
    "audit_log",
    sequence(),
    required("at", TIME, "kept"),
    required("actor", sa.String(255), "kept"),
    required("role", sa.String(16), "kept"),
    required("action", sa.String(32), "kept"),
    optional("case_id", ID, "kept"),  # no foreign key: entries stay when their case is deleted
    optional("request_id", sa.String(64), "kept"),
    optional("changes", sa.Text, "rewritten"),  # JSON, {field: [before, after]}
    optional("position", sa.BigInteger, "not personal"),  # in the hash chain, from 1 without gaps
    optional("salt", sa.LargeBinary, "not personal"),
    optional("digest", sa.LargeBinary, "not personal"),  # hash of salt and changes
    optional("hash", sa.LargeBinary, "not personal"),  # hash of the previous entry's hash and this entry
    index("case_id", "seq"),
    index("at", "seq"),
    index("actor", "at", "seq"),
    index("action", "at", "seq"),
    index("position", unique=True),
    index("seq", where="position IS NULL", name="ix_audit_log_unsealed"),
)

# A single row with the end of the hash chain; the process that seals entries holds its lock. Entries up to the detached
# position are in exported files: only they may be deleted.
audit_head = table(
    "audit_head",
    key("id", sa.Integer, "not personal", autoincrement=False),
    required("position", sa.BigInteger, "not personal"),
    required("hash", sa.LargeBinary, "not personal"),
    optional("detached_position", sa.BigInteger, "not personal"),
    optional("detached_hash", sa.LargeBinary, "not personal"),
    optional("verified_position", sa.BigInteger, "not personal"),  # up to which the current pass has verified it
)

# Requests with an Idempotency-Key, and their stored responses.
idempotency_keys = table(
    "idempotency_keys",
    key("id", sa.String(64), "kept"),  # SHA-256 of caller and key
    required("request", sa.String(64), "kept"),  # SHA-256 of the request
    required("owner", ID, "rewritten"),  # random id of the attempt that handles the request now
    required("until", TIME, "not personal"),  # time from which another owner may take over
    required("state", sa.String(8), "not personal"),  # claimed, applied (set in the transaction of the change), done
    required("created_at", TIME, "kept"),
    optional("status", sa.Integer, "rewritten"),
    optional("headers", JSON_VALUE, "rewritten"),
    optional("body", sa.LargeBinary, "rewritten"),
    optional("case_id", ID, "kept"),  # the case that the response is about
    optional("large_response_of", sa.String(64), "rewritten"),  # SHA-256 of the caller, if the response is large
    index("created_at"),
    index("case_id"),
    index("large_response_of"),
)

# Bulk changes of the last day, also those that undo another one. The id and the request stay for as long as a key.
bulk_changes = table(
    "bulk_changes",
    key("id", ID, "kept"),
    optional("idempotency_key", sa.String(64), "kept"),  # SHA-256 of caller and key
    optional("undoes", ID, "kept"),  # id of the bulk change that it undoes
    required("owner", sa.String(128), "kept"),  # subject of the caller, or the name of one without a subject
    required("request", sa.String(64), "kept"),  # SHA-256 of the request
    required("case_ids", JSON_VALUE, "kept"),
    required("created_at", TIME, "kept"),
    optional("finished_at", TIME, "kept"),  # NULL until each case has an outcome
    required("expires_at", TIME, "not personal"),
    index("idempotency_key", unique=True),
    index("undoes", unique=True),
    index("expires_at"),
)

# The outcome of each case of a bulk change, added in the transaction that changes the case.
bulk_items = table(
    "bulk_items",
    key("bulk_id", sa.ForeignKey("bulk_changes.id", ondelete="CASCADE"), "not personal"),
    key("case_id", ID, "kept"),  # no foreign key: a refused id may be of no case
    required("outcome", sa.String(16), "not personal"),  # changed, unchanged, refused, undone
    optional("code", sa.String(64), "not personal"),  # the problem code of a refused one
    optional("former", JSON_VALUE, "removed"),  # the values of the changed fields before
    optional("version", sa.Integer, "not personal"),  # of the case after its change
    index("case_id"),
)

# Sessions of browsers. Their secrets are not stored, and decrypt the tokens.
console_sessions = table(
    "console_sessions",
    key("id", sa.String(64), "not personal"),  # hash of the secret in the browser's cookie
    required("token_hash", sa.String(64), "not personal"),  # SHA-256 of the token, or of the person at the provider
    required("sealed_token", sa.Text, "not personal"),
    required("created_at", TIME, "not personal"),
    required("expires_at", TIME, "not personal"),
    optional("refresh_at", TIME, "not personal"),  # when the provider is asked again; NULL in sessions of tokens
    optional("refreshing_until", TIME, "not personal"),  # while one request asks the provider
    index("token_hash", "created_at"),
    index("expires_at"),
)

# Sign-ins at the provider that have begun.
console_sign_ins = table(
    "console_sign_ins",
    key("id", sa.String(64), "not personal"),  # hash of the secret in the browser's cookie and of the `state`
    required("sealed", sa.Text, "not personal"),
    required("expires_at", TIME, "not personal"),
    index("expires_at"),
)

# Texts with variables for answers to customers, which supervisors keep.
macros = table(
    "macros",
    sequence(),
    required("name", sa.String(64), "not personal", unique=True),
    required("text", sa.Text, "not personal"),
    optional("status", sa.String(16), "not personal"),  # for the cases that it is used in, like the tags
    required("tags", JSON_VALUE, "not personal"),
    required("created_at", TIME, "not personal"),
    required("updated_at", TIME, "not personal"),
    required("version", sa.BigInteger, "not personal"),  # increments with every change; starts at the time of creation
)

# The people who work on cases. `id` is what `assigned_agent_id`, `author_id` and audit entries call them.
agents = table(
    "agents",
    sequence(),
    required("id", PRINCIPAL_ID, "not personal", unique=True),
    optional("display_name", sa.String(128), "not personal"),
    required("teams", JSON_VALUE, "not personal"),
    optional("role", sa.String(16), "not personal"),
    required("away", sa.Boolean, "not personal"),
    required("name_from_claims", sa.Boolean, "not personal"),  # the provider gave the name: nobody has set another one
    required("created_at", TIME, "not personal"),
    required("updated_at", TIME, "not personal"),
    required("version", sa.BigInteger, "not personal"),  # increments with every change; starts at the time of creation
)

# What people are told of changes of cases. Only people who may see the case by then are shown it.
notifications = table(
    "notifications",
    sequence(),
    required("id", ID, "deleted", unique=True),
    required("recipient", PRINCIPAL_ID, "deleted"),
    required("kind", sa.String(16), "deleted"),
    required("case_id", of_case(), "deleted"),
    optional("message_id", ID, "deleted"),
    required("actor", PRINCIPAL_ID, "deleted"),  # who made the change; `customer` for every customer
    required("at", TIME, "deleted"),
    optional("read_at", TIME, "deleted"),
    index("recipient", "seq"),
    index("recipient", "seq", where="read_at IS NULL", name="ix_notifications_unread"),
    index("case_id"),
)

# What staff know of customers, by `customer_id` of their cases. Of a person with several ids, one has the record.
customers = table(
    "customers",
    key("id", ID, "deleted"),
    optional("name", sa.String(128), "deleted"),
    required("contacts", JSON_VALUE, "deleted"),
    optional("notes", sa.Text, "deleted"),
    optional("merged_into", ID, "deleted"),  # id of the same person, as somebody has said
    optional("person", ID, "deleted"),  # id that has the record of the person; NULL for a person with one id
    optional("person_name", sa.String(128), "deleted"),  # name of that record
    required("audit_id", ID, "kept"),  # random: what the audit log calls the customer, also once the row is deleted
    required("created_at", TIME, "deleted"),
    required("updated_at", TIME, "deleted"),
    required("version", sa.BigInteger, "deleted"),  # increments with every change; starts at the time of creation
    index("person", where="person IS NOT NULL"),
)

# By what customers are found: the words of their name, and each contact.
customer_terms = table(
    "customer_terms",
    sa.Column(
        "customer_id",
        ID,
        sa.ForeignKey("customers.id", ondelete="CASCADE"),
        primary_key=True,
        info={ERASURE: "deleted"},
    ),
    key("term", SORTED_TEXT, "deleted"),
    index("term", "customer_id"),
    sqlite_with_rowid=False,
)

# Versions of service level policies. One of each name is current, unless the policy was deleted; the others stay,
# because cases are measured by the version that applied when they were opened.
sla_policies = table(
    "sla_policies",
    sequence(),
    required("name", sa.String(64), "not personal"),
    required("content", JSON_VALUE, "not personal"),
    required("is_current", sa.Boolean, "not personal"),
    required("created_at", TIME, "not personal"),
    required("updated_at", TIME, "not personal"),
    required("version", sa.BigInteger, "not personal"),  # increments with every change; starts at the time of creation
    index("name", unique=True, where="is_current"),
)

# The clocks of cases, one for each target of the policy that has been started. Durations are in microseconds.
case_clocks = table(
    "case_clocks",
    key("case_id", of_case(), "kept"),
    key("target", sa.String(16), "kept"),
    required("policy", sa.BigInteger, "not personal"),  # seq of the version of the policy
    required("public", sa.Boolean, "not personal"),  # customers see it
    required("state", sa.String(16), "kept"),  # running, paused, met, breached
    required("allowance", sa.BigInteger, "kept"),
    required("used", sa.BigInteger, "kept"),  # before `running_since`
    optional("running_since", TIME, "kept"),  # NULL while the clock is paused or has ended
    optional("due_at", TIME, "kept"),
    optional("ended_at", TIME, "kept"),  # time of the event that the clock measures
    index("due_at", where="state = 'running'", name="ix_case_clocks_running"),
    index("target", "due_at", where="state = 'breached' AND running_since IS NOT NULL", name="ix_case_clocks_overdue"),
)

# The number of running clocks by target, kept by triggers on `case_clocks`, like `case_counts`.
clock_counts = table(
    "clock_counts", required("target", sa.String(16), "not personal"), required("number", sa.BigInteger, "not personal")
)

# What happened to cases, until a job adds it to `report_counts`; kept by triggers. See reports/measures.py.
report_changes = table(
    "report_changes",
    sequence(),
    required("measure", sa.String(16), "kept"),
    required("case_id", ID, "kept"),
    required("at", TIME, "kept"),
    required("since", TIME, "kept"),  # start of the duration that is measured
    optional("team", ID, "kept"),  # as they were at that moment, like the agent and the channel
    optional("agent", ID, "kept"),
    required("channel", sa.String(32), "replaced if unknown"),
)

# Counts of what happened to cases, for each block of days and each combination of team, agent and channel.
report_counts = table(
    "report_counts",
    key("grain", sa.String(24), "not personal"),  # which of team, agent and channel are told apart
    key("span", sa.Integer, "not personal", autoincrement=False),  # days of a block
    key("day", sa.Integer, "not personal", autoincrement=False),  # its first day, since 1970-01-01
    key("team", ID, "not personal"),  # empty for none, and if it is not told apart
    key("agent", ID, "not personal"),
    key("channel", sa.String(32), "not personal"),  # a known one, or `other`
    required("counts", sa.Text, "not personal"),  # JSON, {measure or bucket of durations: number}
    sqlite_with_rowid=False,
)

# How often a case was reopened and has breached service levels, and when it was solved; kept by triggers, from the
# first of these on.
case_results = table(
    "case_results",
    key("case_id", of_case(), "kept"),
    optional("solved_at", TIME, "kept"),  # NULL while the case is open or pending
    required("reopened", sa.Integer, "kept"),
    required("breaches", sa.Integer, "kept"),
)

# A single row: from where on reports count what happens. 0.2.0 writes the other columns when it counts what was before.
report_state = table(
    "report_state",
    key("id", sa.Integer, "not personal", autoincrement=False),
    optional("since", TIME, "not personal"),  # NULL: there were no cases before
    required("last_case", sa.BigInteger, "not personal"),  # seq of the last case before
    required("last_entry", sa.BigInteger, "not personal"),  # seq of the last entry of the audit log before
    optional("rebuilt_from", TIME, "not personal"),  # start of what was counted later
    optional("rebuilding_from", TIME, "not personal"),  # start of what a rebuild counts that has not ended
    required("position", sa.BigInteger, "not personal"),  # seq of the last case that it has counted
)

# Restores of the database from a backup; empty until the first. From the last one on, versions that clients see count
# from its base, so that no version of the undone time is given a second time.
restores = table(
    "database_restores",
    key("version_base", sa.BigInteger, "not personal", autoincrement=False),  # the time of the restore in ms
    optional("undone_after", TIME, "not personal"),  # time of the last change that the backup has
)

# Random keys that all replicas share, in hexadecimal.
secrets = table("secrets", key("name", sa.String(32), "not personal"), required("value", sa.Text, "not personal"))


def erased_values(table: sa.Table, known: Mapping[str, Collection[str]] = {}) -> dict[str, Any]:
    """Return the value of each column of a table that an erasure overwrites, for an UPDATE.

    `known` has the values that stay of a column which is `replaced if unknown`. Columns that are `rewritten` are
    missing: their feature knows their values.
    """
    values: dict[str, Any] = {}
    for column in table.c:
        match column.info[ERASURE]:
            case "replaced":
                values[column.name] = ERASED_TEXT
            case "replaced if unknown":
                values[column.name] = sa.case((column.in_(known[column.name]), column), else_=OTHER)
            case "emptied":
                values[column.name] = [] if isinstance(column.type, JsonValue) else ""
            case "removed":
                values[column.name] = None
            case "customer removed":
                values[column.name] = sa.case((table.c.author_type.in_(STAFF_AUTHOR_TYPES), column))
    return values
