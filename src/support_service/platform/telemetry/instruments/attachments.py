"""Instruments of attachments: uploads, local storage, offload, and maintenance."""

from support_service.core.domain.content_types import KNOWN_CONTENT_TYPES
from support_service.platform.telemetry.instruments.spec import OTHER, InstrumentSpec

CONTENT_TYPES = (*KNOWN_CONTENT_TYPES, OTHER)
REJECTIONS = (
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

ATTACHMENT_STORED = InstrumentSpec(
    "support.attachment.stored",
    "counter",
    "{attachment}",
    "Stored attachments by the content type that the client declared",
    {"content_type": CONTENT_TYPES},
)
ATTACHMENT_REJECTED = InstrumentSpec(
    "support.attachment.rejected",
    "counter",
    "{upload}",
    "Refused and aborted uploads",
    {"reason": REJECTIONS},
)
ATTACHMENT_BACKLOG = InstrumentSpec(
    "support.attachment.backlog",
    "gauge",
    "By",
    "Bytes on local storage that are neither deleted nor offloaded",
    {},
)
ATTACHMENT_BACKLOG_FILES = InstrumentSpec(
    "support.attachment.backlog_files",
    "gauge",
    "{file}",
    "Files on local storage that are neither deleted nor offloaded",
    {},
)
ATTACHMENT_BACKLOG_AGE = InstrumentSpec(
    "support.attachment.backlog_age",
    "gauge",
    "s",
    "Age of the oldest file on local storage; 0 if there is none",
    {},
)
ATTACHMENT_DISK_FREE = InstrumentSpec(
    "support.attachment.disk_free",
    "gauge",
    "By",
    "Free bytes on the disk of local storage",
    {},
)
ATTACHMENT_UPLOADS = InstrumentSpec(
    "support.attachment.uploads",
    "observed sum",
    "{upload}",
    "Uploads in progress",
    {},
)
ATTACHMENT_OFFLOADED = InstrumentSpec(
    "support.attachment.offloaded",
    "counter",
    "{file}",
    "Attempts to move a file between storages, by outcome; only moved moves the file",
    {"to": STORAGES, "outcome": OFFLOAD_OUTCOMES},
)
ATTACHMENT_OFFLOADED_BYTES = InstrumentSpec(
    "support.attachment.offloaded_bytes",
    "counter",
    "By",
    "Bytes of the moved files",
    {"to": STORAGES, "outcome": OFFLOAD_OUTCOMES},
)
ATTACHMENT_OFFLOAD = InstrumentSpec(
    "support.attachment.offload",
    "histogram",
    "s",
    "Time to copy a file, read it back and update its row",
    {"to": STORAGES},
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
ATTACHMENT_DELETED = InstrumentSpec(
    "support.attachment.deleted",
    "counter",
    "{file}",
    "Deleted attachments: by a request, by retention, or by an erasure",
    {"reason": ("request", "retention", "erasure")},
)
ATTACHMENT_SWEEP_REPAIRS = InstrumentSpec(
    "support.attachment.sweep_repairs",
    "counter",
    "{repair}",
    "Repairs by the sweep, by kind",
    {"kind": ("unfinished", "orphan", "leftover", "ledger")},
)
ATTACHMENT_UNREPAIRED = InstrumentSpec(
    "support.attachment.unrepaired",
    "gauge",
    "{file}",
    "Files that the last sweep of this process found missing or with a size other than in their row; "
    "no value before the first sweep",
    {"kind": ("missing", "damaged")},
)
ATTACHMENT_UNREADABLE = InstrumentSpec(
    "support.attachment.unreadable",
    "counter",
    "{read}",
    "Downloads that failed because the stored file is missing, or its bytes are not those of its row",
    {"storage": STORAGES, "kind": ("missing", "damaged")},
)
ATTACHMENT_SCRUBBED = InstrumentSpec(
    "support.attachment.scrubbed",
    "counter",
    "{file}",
    "Stored files that were hashed again; mismatch: the file has changed",
    {"outcome": ("ok", "mismatch")},
)
