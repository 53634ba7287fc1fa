"""What queries name, what there is, and what is still to come."""

import re
from pathlib import Path

from support_service.telemetry import instruments

# The probe is a process of its own, with a table of its own once it is there.
TABLE = (*instruments.TABLE, *getattr(instruments, "PROBE_TABLE", ()))
ROOT = Path(__file__).parent.parent
RULES = sorted((ROOT / "observability" / "prometheus" / "rules").glob("*.yaml"))
NAME = re.compile(
    r"\b(?:support|http_server|db_client|process|cpython)_[a-z0-9_]+\b|\b(?:support|source|service):[\w:]+"
)
PLACES = re.compile(r"\{[^}]*\}|\b(?:by|on|ignoring|without|group_left|group_right) ?\([^)]*\)")
SUFFIXES = ("_bucket", "_sum", "_count")
# What dashboards and runbooks speak of, and no instrument or rule makes yet. What is there is not excused any more.
PENDING = {
    "support_timeline_read_seconds",
    "support_attachment_backlog_age_seconds",
    "support_attachment_disk_free_bytes",
    "support_attachment_uploads",
    "support_attachment_offloaded_total",
    "support_attachment_offloaded_bytes_total",
    "support_attachment_offload_seconds",
    "support_attachment_deleted_total",
    "support_attachment_sweep_repairs_total",
    "support_attachment_unrepaired",
    "support_attachment_scrubbed_total",
    "support_events_published_total",
    "support_events_relay_lag_seconds",
    "support_events_consumed_total",
    "support_events_delivery_lag_seconds",
    "support_events_outbox_pending",
    "support_events_outbox_oldest_seconds",
    "support_events_stream_lag",
    "support_events_dead_letters",
    "support_webhook_deliveries_total",
    "support_webhook_pending",
    "support_probe_success",
    "support_probe_step_seconds",
    "support_probe_last_success_timestamp_seconds",
    "support:tickets_created:expected_low",
    "support:tickets_created:expected_high",
    *(
        f"support:{key}_bad:ratio_rate{window}"
        for key in ("api_requests", "timeline_reads")
        for window in ("1h", "6h", "3d")
    ),
}


def known() -> set[str]:
    """Every series that an instrument or a recording rule makes, without what a histogram's samples append."""
    recorded = {name for path in RULES for name in re.findall(r"record: (\S+)", path.read_text())}
    return {row.prometheus for row in TABLE} | recorded


def pending() -> set[str]:
    """What is still to come."""
    return PENDING - known()


def names(expr: str) -> set[str]:
    """The series that a query asks for, without what a histogram's samples append."""
    return {family(name) for name in NAME.findall(PLACES.sub(" ", expr))}


def family(name: str) -> str:
    """A sample's name without what a histogram appends, where a histogram has that name."""
    histograms = {row.prometheus for row in TABLE if row.kind == "histogram"} | pending()
    for suffix in SUFFIXES:
        bare = name.removesuffix(suffix)
        if bare != name and bare in histograms:
            return bare
    return name
