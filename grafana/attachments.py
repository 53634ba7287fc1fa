"""Panels on attachments: uploads, the disk, the move to S3, and missing or damaged files."""

from observability import thresholds as t

from grafana.panel import JOB, Panel, Query, Row, highest, hourly, lowest, quantile, rate, total

ATTACHMENTS = Row(
    "Attachments and offload",
    (
        Panel(
            "Support attachment disk",
            "Bytes free on the disk of local storage, on the replica that has the least.",
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
            "Files an hour that were taken for a move between storages; every outcome but moved left them where they "
            "were. Normal: moved alone.",
            (Query(hourly("support_attachment_offloaded_total", "to, outcome"), "to {{to}}: {{outcome}}"),),
            "suffix: /h",
            alerts=("SupportAttachmentOffloadFailing",),
        ),
        Panel(
            "Support attachment integrity",
            "Files that the last sweep found missing or damaged (nothing until a process has swept), and that a "
            f"re-hash or a move found changed in the last {t.DAMAGE_WINDOW}. Normal: 0.",
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
            ),
            "short",
            alerts=("SupportAttachmentIntegrity",),
        ),
        Panel(
            "Support attachment offloaded bytes",
            "Bytes a second that were moved.",
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
            "Files an hour, by the content type that their client declared.",
            (Query(hourly("support_attachment_stored_total", "content_type") + " > 0", "{{content_type}}"),),
            "suffix: /h",
            kind="stacked",
        ),
        Panel(
            "Support uploads refused",
            "Uploads an hour that were refused or broke off, by reason. storage_full: the disk is at its reserve.",
            (Query(hourly("support_attachment_rejected_total", "reason") + " > 0", "{{reason}}"),),
            "suffix: /h",
            alerts=("SupportAttachmentDiskFull",),
        ),
        Panel(
            "Support uploads in progress",
            "Over all replicas.",
            (Query(total("support_attachment_uploads"), "uploads"),),
            "short",
        ),
        Panel(
            "Support attachment sweep and deletions",
            "Repairs of the hourly sweep, and deletions, an hour.",
            (
                Query(hourly("support_attachment_sweep_repairs_total", "kind"), "repaired: {{kind}}"),
                Query(hourly("support_attachment_deleted_total", "reason"), "deleted: {{reason}}"),
            ),
            "suffix: /h",
            width=24,
        ),
    ),
)
