"""SupportAttachmentDiskFull: the disk is nearly full."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, lowest_over_replicas

from observability.drill import SIZE_DIVISOR, Action, Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import CAUSE_FOR, GIB, Alert, Signal, scaled_bytes
from observability.signals.attachment_backlog import FREE
from observability.signals.attachment_integrity import MIB, age_large_files, remove_large_files, upload_large_file

DIVIDED_GIB = GIB // SIZE_DIVISOR
OLD_FILES = 2  # of the drill; of less than three quarters of what is not used otherwise
DISK_FREE = GIB  # bytes; four times the reserve at which the service starts to refuse files


@asynccontextmanager
async def _disk_fills_up(deployment: Deployment) -> AsyncIterator[None]:
    """Another program leaves less free space than the alert needs, until old files are moved away."""
    ballast = deployment.disk.path / "ballast"
    ballast.write_bytes(bytes(deployment.scenario.disk - (OLD_FILES + 1) * MIB * 15 // 16))
    yield
    ballast.unlink()
    await remove_large_files(deployment)


async def _upload_old_files(deployment: Deployment) -> None:
    for _ in range(OLD_FILES):
        await upload_large_file(deployment)
    await age_large_files(deployment)


SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportAttachmentDiskFull",
            short=("the disk is nearly full", "đĩa sắp đầy"),
            expr=f"{FREE} < {scaled_bytes(DISK_FREE)}",
            for_=CAUSE_FOR,
            severity="critical",
            summary="Uploads are about to be refused: {{ $value | humanize1024 }}B are free on the disk of attachments",
            description="{{ $value | humanize1024 }}B are free on the disk of local storage (limit "
            f"{DISK_FREE // GIB} GiB). At the reserve (SUPPORT_ATTACHMENT_DISK_RESERVE) uploads fail with 507.",
            stated=(f"{DISK_FREE // GIB} GiB", CAUSE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support attachment disk",
            "Free bytes on the disk of local storage, on the replica with the least.",
            row="attachments",
            place=10,
            queries=(Query(lowest_over_replicas("support_attachment_disk_free_bytes"), "free"),),
            unit="bytes",
            limit=DISK_FREE,
            low=True,
        ),
    ),
    faults={
        "100 MiB are left on the disk": Fault(
            ("SupportAttachmentDiskFull",),
            {"support_attachment_disk_free_bytes": GaugeValues(DISK_FREE * 2, DISK_FREE / 2)},
        )
    },
    drills=(
        DrillFault(
            "disk nearly full",
            ("SupportAttachmentDiskFull",),
            _disk_fills_up,
            (Cause(2, r"9\d%"),),
            before=_upload_old_files,
            scenario=DrillScenario(
                disk=18 * DIVIDED_GIB, settings={"SUPPORT_ATTACHMENT_DISK_RESERVE": str(DIVIDED_GIB // 4)}
            ),
            actions=(Action("Move files to S3"),),
        ),
    ),
    exercises=(
        Exercise(
            ("fill the attachment disk with one large file", "làm đầy đĩa đính kèm bằng một file lớn"),
            ("delete that file", "xoá file đó"),
        ),
    ),
)
