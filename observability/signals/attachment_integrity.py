"""SupportAttachmentIntegrity: files are missing or damaged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import JOB_SELECTOR, Panel, Query, highest_over_replicas

from observability.drill import Cause, Deployment, DrillFault, DrillScenario
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault, GaugeValues, RestartedValues
from observability.signal import AT_ONCE, Alert, Signal, duration_seconds
from observability.signals.attachment_offload_failing import OFFLOADED
from observability.signals.volume_not_shared import VOLUMES_APART, volume

SWEEP_KEPT = "15m"  # a process's last report on lost files; it or its successor sweeps within minutes of its start
SWEEP_UNHEARD = "2h"  # validity of the last report if no sweep has run since; a failed sweep is repeated within an hour
DAMAGE_WINDOW = "1h"  # a re-hash or a download reports a file once, and the alert must not resolve within minutes
# A restarted process reports nothing until its first sweep; meanwhile the last report counts. A sweep that finds the
# repair counts at once, because it is a later report of the same process.
UNREPAIRED = " or ".join(
    f"max by (kind) (last_over_time(support_attachment_unrepaired[{window}]))" for window in (SWEEP_KEPT, SWEEP_UNHEARD)
)
LOST = f"sum({UNREPAIRED}) > 0 or sum(increase(support_attachment_unreadable_total[{DAMAGE_WINDOW}])) > 0"
DAMAGED = " or ".join(
    f'sum(increase({checked}{{outcome="mismatch"}}[{DAMAGE_WINDOW}])) > 0'
    for checked in ("support_attachment_scrubbed_total", OFFLOADED)
)
# A replica misses the files of another volume, and so does its last report. SupportVolumeNotShared tells why.
ON_SEVERAL_VOLUMES = f"max_over_time({VOLUMES_APART}[{DAMAGE_WINDOW}]) > 0"


def _missing(instance: str) -> str:
    return f'support_attachment_unrepaired{{instance="{instance}",kind="missing"}}'


MIB = 1024**2


async def upload_large_file(deployment: Deployment) -> None:
    """Upload a file that differs from all others by its size."""
    case = await deployment.traffic.open_case(read=False)
    deployment.large_files.append((case, await deployment.traffic.upload(case, MIB)))


async def age_large_files(deployment: Deployment) -> None:
    """Make these files two days old."""
    older = "UPDATE attachments SET created_at = created_at - interval '2 days'"
    await deployment.database.run(f"{older} WHERE size_bytes = {MIB}")


async def remove_large_files(deployment: Deployment) -> None:
    """Delete the files of `upload_large_file`."""
    while deployment.large_files:
        await deployment.traffic.remove(*deployment.large_files.pop())


@asynccontextmanager
async def _file_is_missing(deployment: Deployment) -> AsyncIterator[None]:
    (file,) = (path for path in deployment.files.rglob("*") if path.is_file() and path.stat().st_size == MIB)
    away = deployment.files.with_name("away")
    file.rename(away)
    yield
    away.rename(file)
    await remove_large_files(deployment)


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportAttachmentIntegrity",
            short=("files are missing or damaged", "file mất hoặc hỏng"),
            expr=f"({LOST}) unless on () {ON_SEVERAL_VOLUMES} or {DAMAGED}",
            for_=AT_ONCE,
            severity="critical",
            summary="{{ $value | humanize }} stored attachments are missing or damaged",
            description="{{ $value | humanize }} files are missing, or have another size or SHA-256 than when they "
            "were stored (limit 0).",
            stated=(DAMAGE_WINDOW, SWEEP_KEPT, SWEEP_UNHEARD),
        ),
    ),
    panels=(
        Panel(
            "Support attachment integrity",
            "Files that the last sweep found missing or damaged. Files that a "
            f"re-hash, a move or a download found changed or missing in the last {DAMAGE_WINDOW}. "
            "No data before the first sweep. Normal: 0.",
            row="attachments",
            place=40,
            queries=(
                Query(highest_over_replicas("support_attachment_unrepaired", "kind"), "{{kind}}"),
                Query(
                    f'sum(increase(support_attachment_scrubbed_total{{{JOB_SELECTOR},outcome="mismatch"}}[{DAMAGE_WINDOW}]))',
                    "re-hashed: mismatch",
                ),
                Query(
                    f'sum(increase(support_attachment_offloaded_total{{{JOB_SELECTOR},outcome="mismatch"}}[{DAMAGE_WINDOW}]))',
                    "moved: mismatch",
                ),
                Query(
                    f"sum by (kind) (increase(support_attachment_unreadable_total{{{JOB_SELECTOR}}}[{DAMAGE_WINDOW}]))",
                    "downloaded: {{kind}}",
                ),
            ),
            unit="short",
        ),
    ),
    faults={
        "a file is missing": Fault(("SupportAttachmentIntegrity",), {_missing("a"): GaugeValues(0, 1)}),
        "a file is missing, and the service restarts": Fault(
            ("SupportAttachmentIntegrity",), {_missing("a"): RestartedValues(0, 1, silent=6)}
        ),
        "a file is missing, and the first sweep after a restart fails": Fault(
            ("SupportAttachmentIntegrity",), {_missing("a"): RestartedValues(0, 1, silent=36)}
        ),
        "a file is missing, and the replica that has swept since restarts": Fault(
            ("SupportAttachmentIntegrity",),
            {_missing("a"): GaugeValues(0, 0), _missing("b"): RestartedValues(0, 1, silent=6)},
        ),
        "a file is missing, and another replica takes the place of the replica that knew": Fault(
            ("SupportAttachmentIntegrity",),
            {_missing("a"): RestartedValues(0, 1, silent=6, returns=False), _missing("b"): GaugeValues(0, None)},
            resolved_after=REPAIRED_MINUTE - 6 + duration_seconds(SWEEP_KEPT) // 60,
        ),
        "files are missing, since a replica has a volume of its own": Fault(
            ('SupportVolumeNotShared{instance="b"}', 'SupportVolumeNotShared{instance="c"}'),
            {_missing("c"): GaugeValues(0, 9), volume("b"): GaugeValues(7, 7), volume("c"): GaugeValues(7, 9)},
        ),
        "a file's hash is another": Fault(
            ("SupportAttachmentIntegrity",),
            {'support_attachment_scrubbed_total{outcome="mismatch"}': CounterValues(0, 0.1)},
            resolved_after=REPAIRED_MINUTE + duration_seconds(DAMAGE_WINDOW) // 60 - 2,
            still_firing=("SupportAttachmentIntegrity",),
        ),
        "a download finds its file missing": Fault(
            ("SupportAttachmentIntegrity",),
            {'support_attachment_unreadable_total{storage="local",kind="missing"}': CounterValues(0, 0.1)},
            resolved_after=REPAIRED_MINUTE + duration_seconds(DAMAGE_WINDOW) // 60 - 2,
            still_firing=("SupportAttachmentIntegrity",),
        ),
    },
    drills=(
        DrillFault(
            "file missing",
            ("SupportAttachmentIntegrity",),
            _file_is_missing,
            (Cause(1, '"missing"} 1'),),
            before=upload_large_file,
            scenario=DrillScenario(settings={"DRILL_SWEEP_EVERY": "1"}),
            resolved_within=10,  # each replica has to end a sweep that began before the repair, and the next one
            only_repair="the file has to come from the backup",
        ),
    ),
)
