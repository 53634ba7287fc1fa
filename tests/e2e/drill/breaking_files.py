"""Faults of files, their disk and S3, held for a block and repaired after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.drill import SIZE
from tests.e2e.drill.environment import BUCKET, DrillEnvironment

MIB = 1024**2
GIB = 1024**3 // SIZE  # divided by SIZE


async def upload_large_file(environment: DrillEnvironment) -> None:
    """Upload a file that differs from all others by its size."""
    case = await environment.traffic.open_case(read=False)
    environment.large_files.append((case, await environment.traffic.upload(case, MIB)))


async def fill_backlog(environment: DrillEnvironment) -> None:
    """Upload sixteen files, of 1 GiB before division by SIZE."""
    for _ in range(16):
        await upload_large_file(environment)


@asynccontextmanager
async def backlog_is_high(environment: DrillEnvironment) -> AsyncIterator[None]:
    yield
    for case, attachment in environment.large_files:
        await environment.traffic.remove(case, attachment)


@asynccontextmanager
async def files_grow_fast(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.traffic.uploads, environment.traffic.file_size = 4.0, 100_000
    yield
    environment.traffic.uploads, environment.traffic.file_size = 1.0, 100


@asynccontextmanager
async def uploads_fail(environment: DrillEnvironment) -> AsyncIterator[None]:
    away = environment.service.files.with_name("attachments-away")
    environment.service.files.rename(away)
    environment.service.files.write_text("no folder")
    yield
    environment.service.files.unlink()
    away.rename(environment.service.files)


@asynccontextmanager
async def disk_fills_up(environment: DrillEnvironment) -> AsyncIterator[None]:
    ballast = environment.service.disk / "ballast"
    ballast.write_bytes(bytes(environment.disk - GIB * 3 // 4))
    yield
    ballast.unlink()


@asynccontextmanager
async def s3_is_down(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.s3.kill()
    yield
    await asyncio.to_thread(environment.s3.start)
    environment.s3.create_bucket(BUCKET)


@asynccontextmanager
async def file_is_missing(environment: DrillEnvironment) -> AsyncIterator[None]:
    (file,) = (path for path in environment.service.files.rglob("*") if path.is_file() and path.stat().st_size == MIB)
    away = environment.service.files.with_name("away")
    file.rename(away)
    yield
    away.rename(file)
