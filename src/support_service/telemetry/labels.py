"""Closed label vocabularies: all values that each label may take.

A value from a client (a channel, a content type) goes through `known_or_other`, so that clients can't create series.
Those of cases are in core/case_vocabulary.py.
"""

from collections.abc import Collection

OTHER = "other"

SOURCE_OUTCOMES = ("ok", "not_found", "timeout", "error", "invalid", "open")
BREAKER_STATES = ("closed", "half_open", "open")
TIMELINE_ORIGINS = ("cache", "remote")
COMPLETENESS = ("complete", "stale", "partial")
CACHE_EVENTS = ("hit", "miss", "write", "invalidate", "error")
FAILURE_STAGES = ("http", "cache", "cache_decode", "aggregate")
CONTENT_TYPES = (
    "application/json",
    "application/msword",
    "application/octet-stream",
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/zip",
    "audio/mpeg",
    "image/gif",
    "image/heic",
    "image/jpeg",
    "image/png",
    "image/webp",
    "message/rfc822",
    "text/csv",
    "text/html",
    "text/plain",
    "video/mp4",
    OTHER,
)
REJECTIONS = (
    "attachment_empty",
    "attachment_too_large",
    "body_too_large",
    "body_too_slow",
    "case_not_found",
    "checksum_mismatch",
    "client_left",
    "file_missing",
    "file_repeated",
    "malformed_checksum",
    "malformed_multipart",
    "storage_full",
    "storage_unavailable",
    "type_not_allowed",
    "unsupported_type",
    "uploads_busy",
    OTHER,
)
STORAGES = ("local", "s3")
OFFLOAD_OUTCOMES = ("moved", "mismatch", "unreadable", "gone", "failed")
DELETIONS = ("request", "retention", "erasure")
REPAIRS = ("unfinished", "orphan", "leftover", "ledger")
UNREPAIRED = ("missing", "damaged")
SCRUBS = ("ok", "mismatch")
CPU_MODES = ("user", "system")
GENERATIONS = ("0", "1", "2")
DATABASE_OPERATIONS = ("SELECT", "TRANSACTION")
REDIS_OPERATIONS = ("MGET", "EVAL", "DEL", "PING")
BROKER_OPERATIONS = ("XADD", "XCLAIM", "XACK", "XRANGE", "XINFO", "XTRIM", "XDEL")
CONNECTION_STATES = ("used", "idle")
OTHER_ERROR = "_OTHER"  # the semantic conventions' fallback value
ERRORS = ("", "timeout", OTHER_ERROR)  # an empty value means that the label is absent
STORES = ("sqlite", "postgresql", "redis")
POOLS = ("database", "cache", "events")
EVENTS_OUT = ("support.case.opened.v1", "support.case.updated.v1", "support.case.closed.v1")
EVENTS_IN = ("fulfillment.shipment.updated.v1", "order.status.changed.v1", "payment.status.changed.v1", OTHER)
PUBLICATIONS = ("ok", "error")
# applied: to at least one case; unmatched: no open case refers to its order; failed: retried later; dead: given up.
CONSUMPTIONS = ("applied", "unmatched", "duplicate", "ignored", "failed", "dead")
WEBHOOK_OUTCOMES = ("delivered", "retried", "failed")
PROBE_STEPS = ("open", "message", "upload", "download", "event", "timeline", "refresh", "close", "delete")
AUTHENTICATIONS = ("accepted", "missing", "invalid", "expired", "unavailable")
CONNECTION_CUT_REASONS = ("full", "share", "idle", "head", "unread")
REJECTED_REQUEST_REASONS = ("address", "principal", "lag", "requests")
OTHER_METHOD = "_OTHER"  # the semantic conventions' fallback value
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", OTHER_METHOD)


def known_or_other(value: str, vocabulary: Collection[str]) -> str:
    """Return the value if the vocabulary contains it, else `other`."""
    return value if value in vocabulary else OTHER
