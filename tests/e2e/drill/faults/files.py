"""Faults of files, their disk and S3, held for a block and repaired after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.e2e.drill import SIZE
from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.fault import PROBE, fault
from tests.e2e.drill.injection import changed
from tests.e2e.drill.runbook_checks import Cause

MIB = 1024**2
GIB = 1024**3 // SIZE  # divided by SIZE


async def upload_large_file(deployment: Deployment) -> None:
    """Upload a file that differs from all others by its size."""
    case = await deployment.traffic.open_case(read=False)
    deployment.large_files.append((case, await deployment.traffic.upload(case, MIB)))


async def fill_backlog(deployment: Deployment) -> None:
    """Upload sixteen files, of 1 GiB before division by SIZE."""
    for _ in range(16):
        await upload_large_file(deployment)


async def remove_large_files(deployment: Deployment) -> None:
    """Delete the files of `upload_large_file`."""
    while deployment.large_files:
        await deployment.traffic.remove(*deployment.large_files.pop())


S3_STORE = Scenario(settings={"SUPPORT_ATTACHMENT_STORE": "s3"})
OFFLOADING = Scenario(settings={"SUPPORT_OFFLOAD_AFTER": "1s", "SUPPORT_OFFLOAD_GRACE": "1s"})


@asynccontextmanager
async def backlog_is_high(deployment: Deployment) -> AsyncIterator[None]:
    yield
    await remove_large_files(deployment)


@asynccontextmanager
async def files_grow_fast(deployment: Deployment) -> AsyncIterator[None]:
    async with changed(deployment.traffic, uploads=4.0, file_size=100_000):
        yield


@asynccontextmanager
async def uploads_fail(deployment: Deployment) -> AsyncIterator[None]:
    away = deployment.files.with_name("attachments-away")
    deployment.files.rename(away)
    deployment.files.write_text("no folder")
    yield
    deployment.files.unlink()
    away.rename(deployment.files)


@asynccontextmanager
async def disk_fills_up(deployment: Deployment) -> AsyncIterator[None]:
    ballast = deployment.disk.path / "ballast"
    ballast.write_bytes(bytes(deployment.scenario.disk - GIB * 3 // 4))
    yield
    ballast.unlink()


@asynccontextmanager
async def s3_is_down(deployment: Deployment) -> AsyncIterator[None]:
    def disconnect(request: web.Request) -> web.Response:
        request.transport.abort()
        return web.Response()

    async with changed(deployment.s3_proxy, answer=disconnect):
        yield


@asynccontextmanager
async def s3_refuses_credentials(deployment: Deployment) -> AsyncIterator[None]:
    """The credentials of the service have expired."""
    expired = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    answer = lambda _: web.Response(status=400, text=expired, content_type="application/xml")  # noqa: E731
    async with changed(deployment.s3_proxy, answer=answer):
        yield


@asynccontextmanager
async def s3_is_slow(deployment: Deployment) -> AsyncIterator[None]:
    async with changed(deployment.s3_proxy, delay=3.5):
        yield


@asynccontextmanager
async def file_is_missing(deployment: Deployment) -> AsyncIterator[None]:
    (file,) = (path for path in deployment.files.rglob("*") if path.is_file() and path.stat().st_size == MIB)
    away = deployment.files.with_name("away")
    file.rename(away)
    yield
    away.rename(file)
    await remove_large_files(deployment)


FAULTS = (
    fault(
        "backlog high",
        "SupportAttachmentBacklogHigh",
        backlog_is_high,
        Cause(1, r"1\.[67]\d*e\+07"),
        before=fill_backlog,
    ),
    fault(
        "disk nearly full",
        "SupportAttachmentDiskFull",
        disk_fills_up,
        Cause(2, r"9\d%"),
        scenario=Scenario(disk=18 * GIB, settings={"SUPPORT_ATTACHMENT_DISK_RESERVE": str(GIB // 4)}),
    ),
    fault("fast growth", "SupportAttachmentGrowthRapid", files_grow_fast, Cause(1, r"^{} [1-9]\d")),
    fault(
        "S3 down",
        "SupportAttachmentOffloadFailing",
        s3_is_down,
        Cause(1, r'"failed"} [1-9]'),
        scenario=OFFLOADING,
    ),
    fault(
        "S3 credentials expired",
        "SupportUploadsRefused",
        s3_refuses_credentials,
        Cause(3, "ExpiredToken"),
        scenario=S3_STORE,
        resolved_within=8,  # the alert is kept for longer than others
    ),
    fault(
        "S3 slow",
        PROBE,
        s3_is_slow,
        Cause(5, r'"upload".*} [3-9]'),
        scenario=S3_STORE,
    ),
    fault(
        "file missing",
        "SupportAttachmentIntegrity",
        file_is_missing,
        Cause(1, '"missing"} 1'),
        before=upload_large_file,
        scenario=Scenario(settings={"DRILL_SWEEP_EVERY": "1"}),  # the default of an hour is too long for a drill
        resolved_within=10,  # each replica has to end a sweep that began before the repair, and the next one
    ),
    fault(
        "5 % of requests fail",
        "SupportUploadsRefused SupportApiErrorBudgetBurnFast",
        uploads_fail,
        Cause(4, "-rw"),
        resolved_within=8,
    ),
)
