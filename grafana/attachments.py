"""Panels on attachments: uploads, the disk, the move to S3, and missing or damaged files."""

from observability import thresholds as t

from grafana.panel import JOB, Panel, Query, Row, highest, hourly, lowest, quantile, rate, total

ATTACHMENTS = Row(
    "Attachments and offload",
    (
        Panel(
            "Support attachment disk",
            "Free bytes on the disk of local storage, on the replica with the least.",
            (Query(lowest("support_attachment_disk_free_bytes"), "free"),),
            "bytes",
            t.DISK_FREE,
            low=True,
            alerts=("SupportAttachmentDiskFull",),
        ),
        Panel(
            "Support attachment backlog age",
            "Age of the oldest file on local storage. With SUPPORT_OFFLOAD_AFTER it stays a little above that age.",
            (Query(highest("support_attachment_backlog_age_seconds"), "oldest"),),
            "s",
            alerts=("SupportAttachmentOffloadFailing",),
        ),
        Panel(
            "Support attachment offload",
            "Attempts per hour to move a file between storages, by outcome; only moved moves the file. Normal: only "
            "moved.",
            (Query(hourly("support_attachment_offloaded_total", "to, outcome"), "to {{to}}: {{outcome}}"),),
            "suffix: /h",
            alerts=("SupportAttachmentOffloadFailing",),
        ),
        Panel(
            "Support attachment integrity",
            "Files that the last sweep found missing or damaged (no data before the first sweep), and files that a "
            f"re-hash, a move or a download found changed or missing in the last {t.DAMAGE_WINDOW}. Normal: 0.",
            (
                Query(highest("support_attachment_unrepaired", "kind"), "{{kind}}"),
                Query(
                    f'sum(increase(support_attachment_scrubbed_total{{{JOB},outcome="mismatch"}}[{t.DAMAGE_WINDOW}]))',
                    "re-hashed: mismatch",
                ),
                Query(
                    f'sum(increase(support_attachment_offloaded_total{{{JOB},outcome="mismatch"}}[{t.DAMAGE_WINDOW}]))',
                    "moved: mismatch",
                ),
                Query(
                    f"sum by (kind) (increase(support_attachment_unreadable_total{{{JOB}}}[{t.DAMAGE_WINDOW}]))",
                    "downloaded: {{kind}}",
                ),
            ),
            "short",
            alerts=("SupportAttachmentIntegrity",),
        ),
        Panel(
            "Support attachment offloaded bytes",
            "Moved bytes per second.",
            (Query(rate("support_attachment_offloaded_bytes_total", "to", 'outcome="moved"'), "to {{to}}"),),
            "Bps",
        ),
        Panel(
            "Support attachment offload p95 duration",
            "95 of 100 files are copied, read back and switched within this time.",
            (Query(quantile(0.95, "support_attachment_offload_seconds", "to", window="1h"), "to {{to}}"),),
            "s",
        ),
        Panel(
            "Support attachments stored",
            "Files per hour by the content type that the client declared.",
            (Query(hourly("support_attachment_stored_total", "content_type") + " > 0", "{{content_type}}"),),
            "suffix: /h",
            kind="stacked",
        ),
        Panel(
            "Support uploads refused",
            "Refused and aborted uploads per hour, by reason. storage_full: the disk is at its reserve.",
            (Query(hourly("support_attachment_rejected_total", "reason") + " > 0", "{{reason}}"),),
            "suffix: /h",
            alerts=("SupportUploadsRefused", "SupportAttachmentDiskFull"),
        ),
        Panel(
            "Support uploads in progress",
            "Uploads in progress over all replicas.",
            (Query(total("support_attachment_uploads"), "uploads"),),
            "short",
        ),
        Panel(
            "Support attachment sweep and deletions",
            "Repairs by the hourly sweep, and deletions, per hour.",
            (
                Query(hourly("support_attachment_sweep_repairs_total", "kind"), "repaired: {{kind}}"),
                Query(hourly("support_attachment_deleted_total", "reason"), "deleted: {{reason}}"),
            ),
            "suffix: /h",
            width=24,
        ),
    ),
)
