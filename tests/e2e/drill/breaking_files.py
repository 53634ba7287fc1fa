"""How files, their disk and S3 are broken for the length of a block, and left repaired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.drill import SIZE
from tests.e2e.drill.stage import BUCKET, Stage

MIB = 1024**2
GIB = 1024**3 // SIZE  # a gibibyte, divided


async def keep_one(stage: Stage) -> None:
    """A file that is told from all others by its size."""
    case = await stage.traffic.open_case(read=False)
    stage.kept.append((case, await stage.traffic.upload(case, MIB)))


async def fill(stage: Stage) -> None:
    """Sixteen files, of a size that is one GiB before it is divided."""
    for _ in range(16):
        await keep_one(stage)


@asynccontextmanager
async def backlog_is_high(stage: Stage) -> AsyncIterator[None]:
    yield
    for case, attachment in stage.kept:
        await stage.traffic.remove(case, attachment)


@asynccontextmanager
async def files_pour_in(stage: Stage) -> AsyncIterator[None]:
    stage.traffic.files, stage.traffic.file_size = 4.0, 100_000
    yield
    stage.traffic.files, stage.traffic.file_size = 1.0, 100


@asynccontextmanager
async def uploads_fail(stage: Stage) -> AsyncIterator[None]:
    away = stage.service.files.with_name("attachments-away")
    stage.service.files.rename(away)
    stage.service.files.write_text("no folder")
    yield
    stage.service.files.unlink()
    away.rename(stage.service.files)


@asynccontextmanager
async def disk_fills_up(stage: Stage) -> AsyncIterator[None]:
    ballast = stage.service.disk / "ballast"
    ballast.write_bytes(bytes(stage.disk - GIB * 3 // 4))
    yield
    ballast.unlink()


@asynccontextmanager
async def s3_is_down(stage: Stage) -> AsyncIterator[None]:
    stage.s3.kill()
    yield
    await asyncio.to_thread(stage.s3.start)
    stage.s3.create_bucket(BUCKET)


@asynccontextmanager
async def file_is_missing(stage: Stage) -> AsyncIterator[None]:
    (file,) = (path for path in stage.service.files.rglob("*") if path.is_file() and path.stat().st_size == MIB)
    away = stage.service.files.with_name("away")
    file.rename(away)
    yield
    away.rename(file)
