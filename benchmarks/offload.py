"""Offload to S3: many small files against a bare copy loop, and one file of 2 GiB in bounded memory.

The S3 server is moto, one Python process. It limits both sides alike, so only their ratio is meaningful.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import obstore
import uvloop
from obstore.store import S3Store
from tests.support.attachments.harness import add_file
from tests.support.cases import recorder

from benchmarks import process_stats
from benchmarks.environment import ROOT, free_port, running
from benchmarks.load_generator import Failed
from support_service.attachments.maintenance import offload as offload_files
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage import configured_storages
from support_service.cases.model.requests import NewCase
from support_service.cases.service import CaseService
from support_service.client import Attachment, SupportClient, SupportError
from support_service.commands.runtime import open_maintenance
from support_service.platform.database import migrate
from support_service.platform.database.shared import create_database
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.platform.unit_of_work import SYSTEM_ORIGIN

FILES, SMALL = 10_000, 4096
HUGE = 2 << 30
BLOCK = 1 << 20
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Offload:
    """Files per second: moved by the service, and copied by a bare loop without and with reading back."""

    service: float
    copied: float
    copied_and_read: float


@dataclass(frozen=True, slots=True)
class Huge:
    """Peak memory of each process in MiB, and the rate of each step in MiB per second."""

    peaks: dict[str, float]
    rates: dict[str, float]


@contextlib.contextmanager
def s3_environment() -> Iterator[dict[str, str]]:
    """Run an S3 server and provide a directory during a `with` block; yield the service's variables for both."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "benchmark")  # noqa: TID251 - the S3 client reads it from the environment
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "benchmark")  # noqa: TID251
    var = ROOT / "var"
    var.mkdir(exist_ok=True)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=var) as name:
        folder = Path(name)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        env = {"PATH": os.environ["PATH"]}  # noqa: TID251 - passed on
        with running("s3", port, command, cwd=folder, env=env, log=folder / "s3.log"):
            yield {
                "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}",
                "SUPPORT_ATTACHMENT_DIR": str(folder / "attachments"),
                "SUPPORT_ATTACHMENT_MAX_BYTES": str(HUGE),
                "SUPPORT_S3_BUCKET": "files",
                "SUPPORT_S3_ENDPOINT": f"http://127.0.0.1:{port}",
                "SUPPORT_LOG_LEVEL": "warning",
            }


def offload(progress: Progress) -> Offload:
    """Move FILES small files, and copy the same number with a bare loop at the same concurrency."""
    with s3_environment() as variables:
        settings = Settings.load(variables)
        migrate.upgrade(settings.database.url)
        return uvloop.run(_offload(settings, progress))


async def _offload(settings: Settings, progress: Progress) -> Offload:
    offload_files.DELETE_GRACE = timedelta(0)
    await _create_bucket(settings)
    progress(f"storing {FILES:,} files")
    paths = await _store(settings)
    bare = S3Store(
        "files",
        config={"endpoint": settings.s3.endpoint or "", "region": "us-east-1"},
        client_options={"allow_http": True},
    )

    async def copy(path: Path) -> None:
        await obstore.put_async(bare, f"bare/{path.name}", path.read_bytes())  # noqa: ASYNC240 - minimal on purpose

    async def copy_and_read(path: Path) -> None:
        key = f"read/{path.name}"
        await obstore.put_async(bare, key, path.read_bytes())  # noqa: ASYNC240
        hashlib.sha256(await (await obstore.get_async(bare, key)).bytes_async()).hexdigest()

    progress("a bare copy loop")
    copied = await _rate(paths, copy)
    progress("a bare copy loop that reads back")
    copied_and_read = await _rate(paths, copy_and_read)
    progress("offload")
    async with open_maintenance(settings) as maintenance:
        started = time.perf_counter()
        await maintenance.offloader().run(datetime.now(UTC))
        service = FILES / (time.perf_counter() - started)
        left = await maintenance.offloader().pending_totals(datetime.now(UTC))
    if left.files:
        raise Failed(f"{left.files} files were not moved")
    return Offload(service, copied, copied_and_read)


async def _rate(paths: list[Path], work: Callable[[Path], object]) -> float:
    """Return files per second at the concurrency with which the service moves files."""
    left = iter(paths)

    async def worker() -> None:
        for path in left:
            await work(path)  # type: ignore[misc]

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(offload_files.WORKERS)))
    return len(paths) / (time.perf_counter() - started)


async def _store(settings: Settings) -> list[Path]:
    """Store small files as uploads do and return their paths."""
    connection = create_database(settings.database.url)
    await connection.open()
    metrics = Metrics((), build_resource())
    instruments = Instruments(metrics.meter)
    storage_by_name = configured_storages(settings.attachments, settings.s3)
    local = storage_by_name["local"]
    await local.open()
    case = await CaseService(connection, recorder(connection, instruments)).open_case(
        SYSTEM_ORIGIN, NewCase(subject="A", channel="email")
    )
    service = AttachmentService(connection, {"local": local}, instruments, AttachmentSettings(max_bytes=HUGE))

    async def chunks() -> AsyncIterator[bytes]:
        yield os.urandom(SMALL)

    for _ in range(FILES):
        await add_file(service, case.id, "a.bin", None, chunks())
    await local.close()
    await connection.close()
    metrics.close()
    return [path for path in settings.attachments.directory.rglob("*") if path.is_file()]


def huge(progress: Progress) -> Huge:
    """Upload a file of 2 GiB, move it to S3 and download it, and measure the memory of each process."""
    with s3_environment() as variables:
        port = free_port()
        folder = Path(variables["SUPPORT_ATTACHMENT_DIR"]).parent
        env = {**os.environ, **variables, "SUPPORT_PORT": str(port)}  # noqa: TID251 - passed on
        command = [sys.executable, "-m", "support_service", "serve"]
        with running("service", port, command, cwd=folder, env=env, log=folder / "service.log") as pid:
            return uvloop.run(_huge(Settings.load(variables), f"http://127.0.0.1:{port}", pid, env, progress))


async def _huge(settings: Settings, address: str, pid: int, env: dict[str, str], progress: Progress) -> Huge:
    await _create_bucket(settings)
    mib = HUGE >> 20
    block = os.urandom(BLOCK)
    digest = hashlib.sha256()
    for _ in range(mib):
        digest.update(block)
    rates: dict[str, float] = {}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(mib):
            yield block

    async with aiohttp.ClientSession(address, timeout=aiohttp.ClientTimeout()) as session:
        async with session.post("/support/cases", json={"subject": "A", "channel": "email"}) as response:
            case = (await response.json())["id"]
        progress("up")
        with aiohttp.MultipartWriter("form-data") as form:
            form.append(chunks()).set_content_disposition("form-data", name="file", filename="huge.bin")
            started = time.perf_counter()
            async with session.post(f"/support/cases/{case}/attachments", data=form) as response:
                answer = await response.json()
                if response.status != 201 or answer["sha256"] != digest.hexdigest():
                    raise Failed(f"the upload failed: {answer}")
        rates["up"] = mib / (time.perf_counter() - started)
        progress("to S3")
        started = time.perf_counter()
        moved, offload_peak = await asyncio.to_thread(_run_offload, env)
        if moved != 1:
            raise Failed(f"{moved} files were moved")
        rates["to S3 and read back"] = mib / (time.perf_counter() - started)
        progress("down")
        started = time.perf_counter()
        try:
            async for _ in SupportClient(address, session=session).download(Attachment.model_validate(answer)):
                pass  # the client compares the SHA-256
        except SupportError as failure:
            raise Failed(f"the download failed: {failure}") from failure
        rates["down"] = mib / (time.perf_counter() - started)
    return Huge({"service": process_stats.peak_mib(pid), "offload": offload_peak}, rates)


def _run_offload(env: dict[str, str]) -> tuple[int, float]:
    """Run the command, and return the number of files that it moved and its peak memory in MiB."""
    command = [sys.executable, "-m", "support_service", "offload", "--older-than", "0s"]
    peak = 0.0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=env, stdout=output)
        while process.poll() is None:
            with contextlib.suppress(LookupError, OSError):  # the process may end between poll() and the read
                peak = max(peak, process_stats.peak_mib(process.pid))
            time.sleep(0.05)
        output.seek(0)
        *_, summary = output.read().splitlines() or ["{}"]
    return json.loads(summary).get("moved", 0), peak


async def _create_bucket(settings: Settings) -> None:
    async with aiohttp.ClientSession() as session, session.put(f"{settings.s3.endpoint}/files") as response:
        response.raise_for_status()
