"""SupportAttachmentDiskFull: the disk is nearly full: of bytes, or of inodes."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grafana.panel import Panel, Query, lowest_over_replicas

from observability.drill import SIZE_DIVISOR, Action, Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import CAUSE_FOR, GIB, Alert, Signal, scaled_bytes
from observability.signals.attachment_backlog import FREE
from observability.signals.attachment_integrity import MIB, age_large_files, remove_large_files, upload_large_file

DIVIDED_GIB = GIB // SIZE_DIVISOR
SMALL_FILES = 20_000  # of the drill, so that what is free lasts until the repair
OLD_FILES = 2  # of the drill; of less than three quarters of what is not used otherwise
DISK_FREE = GIB  # bytes; four times the reserve at which the service starts to refuse files
INODES_FREE = 0.05  # share; a disk that was made for large files can be out of inodes while it has space
FREE_TEXT = (
    "{{ if not $labels.resource }}{{ $value | humanize1024 }}B"
    "{{ else }}{{ $value | humanizePercentage }} of the {{ $labels.resource }}{{ end }} are"
)
INODES = "support_attachment_disk_inodes_free"


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


@asynccontextmanager
async def _inodes_run_out(deployment: Deployment) -> AsyncIterator[None]:
    """Another program has written thousands of small files. The disk has space."""
    ballast = deployment.disk.path / "ballast"
    await asyncio.to_thread(_write_small_files, ballast)
    disk = os.statvfs(ballast)
    await _set_inodes(deployment, round((disk.f_files - disk.f_ffree) / (1 - INODES_FREE / 2)))
    yield
    await _set_inodes(deployment, 100 * SMALL_FILES)
    shutil.rmtree(ballast)


def _write_small_files(folder: Path) -> None:
    folder.mkdir()
    for number in range(SMALL_FILES):
        (folder / str(number)).touch()


async def _set_inodes(deployment: Deployment, number: int) -> None:
    remount = ("mount", "-o", f"remount,nr_inodes={number}", str(deployment.files))
    process = await asyncio.create_subprocess_exec(*deployment.disk.within, *remount)
    if await process.wait():
        raise RuntimeError(f"{remount} failed")


ON_A_DISK = DrillScenario(disk=18 * DIVIDED_GIB)

SIGNAL = Signal(
    group="attachments",
    alerts=(
        Alert(
            name="SupportAttachmentDiskFull",
            short=("the disk is nearly full", "đĩa sắp đầy"),
            expr=f"{FREE} < {scaled_bytes(DISK_FREE)}"
            f' or label_replace(min({INODES}) < {INODES_FREE}, "resource", "inodes", "", "")',
            for_=CAUSE_FOR,
            severity="critical",
            summary=f"Uploads are about to be refused: {FREE_TEXT} free on the disk of attachments",
            description=f"{FREE_TEXT} free on the disk of local storage (limit {DISK_FREE // GIB} GiB, and "
            f"{INODES_FREE:.0%} of the inodes). Without inodes, and at the reserve (256 MiB), "
            "uploads fail with 507.",
            stated=(f"{DISK_FREE // GIB} GiB", f"{INODES_FREE * 100:g} %", CAUSE_FOR),
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
        Panel(
            "Support attachment inodes",
            "Free share of the inodes on the disk of local storage, on the replica with the least. No data where their "
            "number has no limit.",
            row="attachments",
            place=15,
            queries=(Query(lowest_over_replicas(INODES), "free"),),
            unit="percentunit",
            limit=INODES_FREE,
            low=True,
            top=1,
        ),
    ),
    faults={
        "100 MiB are left on the disk": Fault(
            ("SupportAttachmentDiskFull",),
            {"support_attachment_disk_free_bytes": GaugeValues(DISK_FREE * 2, DISK_FREE / 2)},
        ),
        "the disk has space and hardly an inode": Fault(
            ('SupportAttachmentDiskFull{resource="inodes"}',),
            {
                INODES: GaugeValues(INODES_FREE * 2, INODES_FREE / 2),
                "support_attachment_disk_free_bytes": GaugeValues(DISK_FREE * 9, DISK_FREE * 9),
            },
        ),
    },
    drills=(
        DrillFault(
            "disk nearly full",
            ("SupportAttachmentDiskFull",),
            _disk_fills_up,
            (Cause(2, r"9\d%"),),
            before=_upload_old_files,
            scenario=ON_A_DISK,
            actions=(Action("Move files to S3"),),
        ),
        DrillFault(
            "disk out of inodes",
            ("SupportAttachmentDiskFull",),
            _inodes_run_out,
            (Cause(2, r" 9[5-9]% "),),
            scenario=ON_A_DISK,
            only_repair="the other program has to delete its files",
        ),
    ),
    exercises=(
        Exercise(
            ("fill the attachment disk with one large file", "làm đầy đĩa đính kèm bằng một file lớn"),
            ("delete that file", "xoá file đó"),
        ),
    ),
)
