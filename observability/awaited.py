"""Metrics that rules name and that no instrument records yet, by Prometheus's name.

They come with the move of attachments to S3, with events, and with the probe. A test fails once the table of
instruments has one of them, so that none stays here.
"""

AWAITED = frozenset(
    {
        "support_attachment_disk_free_bytes",
        "support_attachment_offloaded_total",
        "support_attachment_scrubbed_total",
        "support_attachment_unrepaired",
        "support_events_consumed_total",
        "support_events_dead_letters",
        "support_events_outbox_oldest_seconds",
        "support_events_stream_lag",
        "support_probe_success",
    }
)
