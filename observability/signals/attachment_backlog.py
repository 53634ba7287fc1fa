"""SupportAttachmentBacklogHigh and SupportAttachmentGrowthRapid: too many files are on the local disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import FIRST_RUNBOOK, Panel, Query, highest_over_replicas, selector

from observability.drill import (
    SIZE_DIVISOR,
    TIME_DIVISOR,
    Action,
    Cause,
    Deployment,
    DrillFault,
    DrillScenario,
    changed_attributes,
)
from observability.faults import Fault, GaugeValues
from observability.signal import GIB, SLOW_FOR, WINDOW, Alert, Signal, scaled_bytes, scaled_seconds
from observability.signals.attachment_integrity import age_large_files, remove_large_files, upload_large_file
from support_service.attachments.backlog import LOW_SPACE_SHARE

MIB = 1024**2
BACKLOG_BYTES = 15 * GIB  # bytes; three quarters of the 20 GiB volume that the deployment requests
BACKLOG_DISK_SHARE = 0.75  # backlog as a share of backlog plus free space; the same limit on a smaller volume
GROWTH_WINDOW = "1h"  # long enough that a burst is not a trend
LOW_SPACE = LOW_SPACE_SHARE  # of the disk; above it, a trend of one hour says little about the next days
GROWTH_HORIZON = 4 * 3600  # s; enough for a person to move files away, in working hours and at night
DIVIDED_GIB = GIB // SIZE_DIVISOR
GROWING_UPLOADS = 5.0  # per second
GROWTH_FOR = "2m"  # as for a cause: a full disk follows from it
BACKLOG = "max(support_attachment_backlog_bytes)"
FREE = "min(support_attachment_disk_free_bytes)"
BACKLOG_METRIC = "support_attachment_backlog_bytes"
HOURS = GROWTH_HORIZON // 3600
# What arrives within the horizon, at the growth of the whole last hour and at that of the last minutes.
AHEAD = f"({BACKLOG} - max({BACKLOG_METRIC} offset {GROWTH_WINDOW})) * {HOURS}"
AHEAD_NOW = f"max(predict_linear({BACKLOG_METRIC}[{WINDOW}], {scaled_seconds(GROWTH_HORIZON)})) - {BACKLOG}"
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
    """3 GiB an hour, before division, arrive on a disk with 10 GiB of free space."""
    ballast = deployment.disk.path / "ballast"
    ballast.write_bytes(bytes(deployment.scenario.disk - 10 * DIVIDED_GIB))
    size = 3 * DIVIDED_GIB // round(3600 / TIME_DIVISOR * GROWING_UPLOADS)
    async with changed_attributes(deployment.traffic, uploads=GROWING_UPLOADS, file_size=size):
        yield
    ballast.unlink()


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
            expr=f"{AHEAD} > {FREE} and {AHEAD_NOW} > {FREE}"
            f" and {FREE} / max(support_attachment_disk_size_bytes) < {LOW_SPACE}",
            for_=GROWTH_FOR,
            severity="warning",
            summary=f"At the current rate attachments fill their disk within {HOURS} h",
            description=f"At the rate of the last {GROWTH_WINDOW} {{{{ $value | humanize1024 }}}}B of files arrive "
            f"within {HOURS} h (limit: the free space). Less than {LOW_SPACE:.0%} of the disk is free.",
            stated=(f"{LOW_SPACE * 100:g} %", f"{GROWTH_HORIZON // 3600}h", GROWTH_WINDOW, GROWTH_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support attachment backlog",
            "Files on local storage that are neither deleted nor offloaded, at their real size. Dashed: prediction "
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
        "40 MiB arrive each minute on a disk with little space": Fault(
            ("SupportAttachmentGrowthRapid",),
            {
                "support_attachment_backlog_bytes": GaugeValues(GIB, GIB, 40 * MIB),
                "support_attachment_disk_free_bytes": GaugeValues(3 * GIB, 3 * GIB),
                "support_attachment_disk_size_bytes": GaugeValues(20 * GIB, 20 * GIB),
            },
        ),
        "60 MiB arrive each minute on a disk that is three quarters full": Fault(
            (),
            {
                "support_attachment_backlog_bytes": GaugeValues(GIB, GIB, 60 * MIB),
                "support_attachment_disk_free_bytes": GaugeValues(5 * GIB, 5 * GIB),
                "support_attachment_disk_size_bytes": GaugeValues(20 * GIB, 20 * GIB),
            },
        ),
        "16 MiB arrive each minute on a disk with little space": Fault(
            (),
            {
                "support_attachment_backlog_bytes": GaugeValues(GIB, GIB, 16 * MIB),
                "support_attachment_disk_free_bytes": GaugeValues(3 * GIB, 3 * GIB),
                "support_attachment_disk_size_bytes": GaugeValues(20 * GIB, 20 * GIB),
            },
        ),
        "another program takes 320 MB": Fault(
            (),
            {
                "support_attachment_backlog_bytes": GaugeValues(GIB, GIB),
                "support_attachment_disk_free_bytes": GaugeValues(68e9, 68e9 - 320e6),
                "support_attachment_disk_size_bytes": GaugeValues(250e9, 250e9),
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
            (Cause(1, r"^{} 0\.\d"),),
            scenario=DrillScenario(disk=54 * DIVIDED_GIB),
            only_repair="the sender has to stop",
        ),
    ),
)
