"""Alerts on attachments: the backlog, the disk, the move to S3, and missing or damaged files.

Each replica reports the backlog of the storage that all share, so replicas are joined by `max`, never by `sum`.
"""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds, size

BACKLOG = "max(support_attachment_backlog_bytes)"
FREE = "min(support_attachment_disk_free_bytes)"
AHEAD, AHEAD_NOW = (  # forecasts from the trend of GROWTH_WINDOW and of the last minutes
    f"max(predict_linear(support_attachment_backlog_bytes[{window}], {seconds(t.GROWTH_HORIZON)}))"
    for window in (t.GROWTH_WINDOW, t.WINDOW)
)
LIMIT = size(t.BACKLOG_BYTES)
HOURS = t.GROWTH_HORIZON // 3600
OFFLOADED = "support_attachment_offloaded_total"
# A restarted process reports nothing until its first sweep; meanwhile the last report counts. A sweep that finds the
# repair counts at once, because it is a later report of the same process.
UNREPAIRED = " or ".join(
    f"max by (kind) (last_over_time(support_attachment_unrepaired[{window}]))"
    for window in (t.SWEEP_KEPT, t.SWEEP_UNHEARD)
)
REFUSED = f'sum(increase(support_attachment_rejected_total{{reason=~"storage_full|storage_unavailable"}}[{t.WINDOW}]))'
STORED = f"sum(increase(support_attachment_stored_total[{t.WINDOW}]))"

ALERTS = (
    Alert(
        "SupportUploadsRefused",
        ("files are refused by the disk or S3", "đĩa hoặc S3 từ chối file"),
        f"{REFUSED} / ({REFUSED} + {STORED}) > {t.UPLOADS_REFUSED_SHARE} and {REFUSED} >= {t.UPLOADS_REFUSED}",
        t.CAUSE_FOR,
        "critical",
        "{{ $value | humanizePercentage }} of uploads fail: their store refuses the files",
        f"The disk or S3 refused {{{{ $value | humanizePercentage }}}} of the uploads of {t.WINDOW} (limit "
        f"{t.UPLOADS_REFUSED_SHARE:.0%} and {t.UPLOADS_REFUSED} uploads). They were answered with 503 or 507; stored "
        "files are not lost.",
        "Support uploads refused",
        t.UPLOADS_REFUSED_KEPT,
    ),
    Alert(
        "SupportAttachmentBacklogHigh",
        ("too many files are on the local disk", "quá nhiều file trên đĩa cục bộ"),
        f"{BACKLOG} > {size(t.BACKLOG_BYTES)}"
        f" or ({BACKLOG} and {BACKLOG} / ({BACKLOG} + {FREE}) > {t.BACKLOG_DISK_SHARE})",
        t.SLOW_FOR,
        "warning",
        "The disk of attachments may fill up: local storage holds {{ $value | humanize1024 }}B",
        "{{ $value | humanize1024 }}B of files on local storage are neither purged nor moved to S3 (limit "
        f"{t.BACKLOG_BYTES // t.GIB} GiB, or {t.BACKLOG_DISK_SHARE:.0%} of the disk). A full disk rejects uploads.",
        "Support attachment backlog",
    ),
    Alert(
        "SupportAttachmentGrowthRapid",
        ("the backlog grows too fast", "backlog tăng quá nhanh"),
        f"({AHEAD} > {LIMIT} and {AHEAD_NOW} > {LIMIT} and {BACKLOG} <= {LIMIT})"
        f" or ({AHEAD} - {BACKLOG} > {FREE} and {AHEAD_NOW} - {BACKLOG} > {FREE})",
        t.GROWTH_FOR,
        "warning",
        f"At the current rate attachments reach their limit within {HOURS} h",
        f"At the rate of the last {t.GROWTH_WINDOW} the backlog reaches {{{{ $value | humanize1024 }}}}B within "
        f"{HOURS} h (limit {t.BACKLOG_BYTES // t.GIB} GiB, or the free space of the disk).",
        "Support attachment backlog",
    ),
    Alert(
        "SupportAttachmentDiskFull",
        ("the disk is nearly full", "đĩa sắp đầy"),
        f"{FREE} < {size(t.DISK_FREE)}",
        t.CAUSE_FOR,
        "critical",
        "Uploads are about to be refused: {{ $value | humanize1024 }}B are free on the disk of attachments",
        "{{ $value | humanize1024 }}B are free on the disk of local storage (limit "
        f"{t.DISK_FREE // t.GIB} GiB). At the reserve (SUPPORT_ATTACHMENT_DISK_RESERVE) uploads fail with 507.",
        "Support attachment disk",
    ),
    Alert(
        "SupportAttachmentOffloadFailing",
        ("files cannot be moved to S3", "không chuyển được file sang S3"),
        f'sum(increase({OFFLOADED}{{outcome=~"failed|unreadable"}}[{t.OFFLOAD_WINDOW}])) >= {t.OFFLOAD_FAILURES}'
        f' unless sum(increase({OFFLOADED}{{outcome="moved"}}[{t.WINDOW}])) > 0',
        t.CAUSE_FOR,
        "warning",
        "The disk of attachments fills up: {{ $value | humanize }} files could not be moved to S3",
        f"{{{{ $value | humanize }}}} files could not be moved in the last {t.OFFLOAD_WINDOW} (limit "
        f"{t.OFFLOAD_FAILURES}), and none was moved in the last {t.WINDOW}. They stay on local storage, which "
        "fills up.",
        "Support attachment offload",
    ),
    Alert(
        "SupportAttachmentIntegrity",
        ("files are missing or damaged", "file mất hoặc hỏng"),
        f"sum({UNREPAIRED}) > 0"
        f' or sum(increase(support_attachment_scrubbed_total{{outcome="mismatch"}}[{t.DAMAGE_WINDOW}])) > 0'
        f' or sum(increase({OFFLOADED}{{outcome="mismatch"}}[{t.DAMAGE_WINDOW}])) > 0'
        f" or sum(increase(support_attachment_unreadable_total[{t.DAMAGE_WINDOW}])) > 0",
        t.AT_ONCE,
        "critical",
        "{{ $value | humanize }} stored attachments are missing or damaged",
        "{{ $value | humanize }} files are missing, or have another size or SHA-256 than when they were stored "
        "(limit 0).",
        "Support attachment integrity",
    ),
)
