"""SupportAttachmentBacklogHigh and SupportAttachmentGrowthRapid: too many files are on the local disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import FIRST_RUNBOOK, Panel, Query, highest_over_replicas, selector

from observability.drill import Action, Cause, Deployment, DrillFault, changed_attributes
from observability.faults import Fault, GaugeValues
from observability.signal import GIB, SLOW_FOR, WINDOW, Alert, Signal, scaled_bytes, scaled_seconds
from observability.signals.attachment_integrity import age_large_files, remove_large_files, upload_large_file

BACKLOG_BYTES = 15 * GIB  # bytes; three quarters of the 20 GiB volume that the deployment requests
BACKLOG_DISK_SHARE = 0.75  # backlog as a share of backlog plus free space; the same limit on a smaller volume
GROWTH_WINDOW = "10m"  # long enough that one large file is not a trend
GROWTH_HORIZON = 4 * 3600  # s; enough for a person to move files away, in working hours and at night
GROWTH_FOR = "2m"  # as for a cause: a full disk follows from it
BACKLOG = "max(support_attachment_backlog_bytes)"
FREE = "min(support_attachment_disk_free_bytes)"
AHEAD, AHEAD_NOW = (  # forecasts from the trend of GROWTH_WINDOW and of the last minutes
    f"max(predict_linear(support_attachment_backlog_bytes[{window}], {scaled_seconds(GROWTH_HORIZON)}))"
    for window in (GROWTH_WINDOW, WINDOW)
)
HOURS = GROWTH_HORIZON // 3600
LIMIT = scaled_bytes(BACKLOG_BYTES)
BACKLOG_METRIC = "support_attachment_backlog_bytes"
PREDICTED = f"predict_linear({selector(BACKLOG_METRIC)}[{GROWTH_WINDOW}], {GROWTH_HORIZON})"


@asynccontextmanager
async def _backlog_is_high(deployment: Deployment) -> AsyncIterator[None]:
    yield
    await remove_large_files(deployment)


async def _fill_backlog(deployment: Deployment) -> None:
    """Upload sixteen files, of 1 GiB before division by SIZE, that are old enough to be moved to S3."""
    for _ in range(16):
        await upload_large_file(deployment)
    await age_large_files(deployment)


@asynccontextmanager
async def _files_grow_fast(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.traffic, uploads=6.0, file_size=100_000):
        yield


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportAttachmentBacklogHigh",
            short=("too many files are on the local disk", "quá nhiều file trên đĩa cục bộ"),
            expr=f"{BACKLOG} > {scaled_bytes(BACKLOG_BYTES)}"
            f" or ({BACKLOG} and {BACKLOG} / ({BACKLOG} + {FREE}) > {BACKLOG_DISK_SHARE})",
            for_=SLOW_FOR,
            severity="warning",
            summary="The disk of attachments may fill up: local storage holds {{ $value | humanize1024 }}B",
            description="{{ $value | humanize1024 }}B of files on local storage are neither purged nor moved to S3 "
            f"(limit {BACKLOG_BYTES // GIB} GiB, or {BACKLOG_DISK_SHARE:.0%} of the disk). A full disk rejects "
            "uploads.",
            stated=(f"{BACKLOG_BYTES // GIB} GiB", f"{BACKLOG_DISK_SHARE * 100:g} %", SLOW_FOR),
        ),
        Alert(
            name="SupportAttachmentGrowthRapid",
            short=("the backlog grows too fast", "backlog tăng quá nhanh"),
            expr=f"({AHEAD} > {LIMIT} and {AHEAD_NOW} > {LIMIT} and {BACKLOG} <= {LIMIT})"
            f" or ({AHEAD} - {BACKLOG} > {FREE} and {AHEAD_NOW} - {BACKLOG} > {FREE})",
            for_=GROWTH_FOR,
            severity="warning",
            summary=f"At the current rate attachments reach their limit within {HOURS} h",
            description=f"At the rate of the last {GROWTH_WINDOW} the backlog reaches "
            f"{{{{ $value | humanize1024 }}}}B within {HOURS} h (limit {BACKLOG_BYTES // GIB} GiB, or the free space "
            "of the disk).",
            stated=(f"{BACKLOG_BYTES // GIB} GiB", f"{GROWTH_HORIZON // 3600}h", GROWTH_WINDOW, GROWTH_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support attachment backlog",
            "Files on local storage that are neither deleted nor offloaded, at their real size; dashed: prediction "
            f"for {GROWTH_HORIZON // 3600} h at the growth of the last {GROWTH_WINDOW}.",
            row="first",
            place=20,
            queries=(
                Query(highest_over_replicas(BACKLOG_METRIC), "bytes"),
                Query(f"clamp_min(max({PREDICTED}), 0)", f"bytes in {GROWTH_HORIZON // 3600} h", dashed=True),
                Query(highest_over_replicas("support_attachment_backlog_files"), "files", right="short"),
            ),
            unit="bytes",
            limit=BACKLOG_BYTES,
            runbook=FIRST_RUNBOOK,
            width=12,
        ),
    ),
    faults={
        "16 GiB wait": Fault(
            ("SupportAttachmentBacklogHigh",),
            {
                "support_attachment_backlog_bytes": GaugeValues(GIB, 16 * GIB),
                "support_attachment_disk_free_bytes": GaugeValues(99e9, 99e9),
            },
        ),
        "the backlog takes most of a small disk": Fault(
            ("SupportAttachmentBacklogHigh",),
            {
                "support_attachment_backlog_bytes": GaugeValues(2 * GIB, 8 * GIB),
                "support_attachment_disk_free_bytes": GaugeValues(8 * GIB, 2 * GIB),
            },
        ),
        "200 MiB arrive each minute": Fault(
            ("SupportAttachmentGrowthRapid",),
            {
                "support_attachment_backlog_bytes": GaugeValues(GIB, GIB, 200 * 1024**2),
                "support_attachment_disk_free_bytes": GaugeValues(99e9, 99e9),
            },
        ),
    },
    drills=(
        DrillFault(
            "backlog high",
            ("SupportAttachmentBacklogHigh",),
            _backlog_is_high,
            (Cause(1, r"1\.[67]\d*e\+07"),),
            before=_fill_backlog,
            actions=(Action("Move files to S3 now"),),
        ),
        DrillFault(
            "fast growth",
            ("SupportAttachmentGrowthRapid",),
            _files_grow_fast,
            (Cause(1, r"^{} [1-9]\d"),),
            only_repair="the sender has to stop",
        ),
    ),
)
