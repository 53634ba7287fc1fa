"""The processes of a benchmark: Redis, a stub of the upstream services, the baseline and the service."""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import process_stats
from benchmarks.authentication import Authentication
from benchmarks.load_generator import Failed

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 15.0
MAX_UPLOAD = 1 << 30


@dataclass(frozen=True, slots=True)
class Server:
    """One server under load."""

    name: str
    port: int
    pid: int
    header: bytes = b""  # sent with each request


@dataclass(frozen=True, slots=True)
class Environment:
    """The service, the baseline that it is compared with, and the stub of the upstream services."""

    service: Server
    baseline: Server
    upstream_stub: Server


@contextlib.contextmanager
def environment(
    *, baseline_env: Mapping[str, str] | None = None, auth: Authentication | None = None, delay: float = 0.0
) -> Iterator[Environment]:
    """Start every process on a free loopback port with empty stores. At the end stop them and remove their files.

    The baseline is the bare server, or the service itself with the variables `baseline_env`. With `auth` the
    service authenticates its callers. The stub upstream services answer after `delay` seconds. Raises Failed if
    redis-server is missing or a process does not start.
    """
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        raise Failed("redis-server is missing: `make services` installs it")
    var = ROOT / "var"  # on a disk; the system's temporary directory may be in memory
    var.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=var) as name, contextlib.ExitStack() as stack:
        directory = Path(name)

        def start(server: str, port: int, command: list[str], cwd: Path, env: dict[str, str]) -> Server:
            pid = stack.enter_context(running(server, port, command, cwd=cwd, env=env, log=directory / f"{server}.log"))
            return Server(server, port, pid)

        redis_port, stub_port, baseline_port, service_port = (free_port() for _ in range(4))
        in_memory = ["--bind", "127.0.0.1", "--port", str(redis_port), "--save", "", "--appendonly", "no"]
        start("redis", redis_port, [redis_server, *in_memory], directory, {})
        command = [sys.executable, "-m", "benchmarks.upstream_stub", str(stub_port), str(delay)]
        upstream_stub = start("stub", stub_port, command, ROOT, {})
        upstream_url = f"http://127.0.0.1:{stub_port}"
        serve = [sys.executable, "-m", "support_service", "serve"]
        if baseline_env is not None:
            settings = _settings(directory / "baseline", baseline_port, redis_port, upstream_url) | dict(baseline_env)
            baseline = start("baseline", baseline_port, serve, directory, settings)
        else:
            arguments = [str(baseline_port), str(directory / "baseline"), str(redis_port), upstream_url]
            command = [sys.executable, "-m", "benchmarks.baseline", *arguments]
            baseline = start("baseline", baseline_port, command, ROOT, {})
        settings = _settings(directory / "service", service_port, redis_port, upstream_url)
        if auth is not None:
            settings |= auth.variables
        measured = start("service", service_port, serve, directory, settings)
        measured = replace(measured, header=auth.header) if auth else measured
        yield Environment(service=measured, baseline=baseline, upstream_stub=upstream_stub)


def _settings(directory: Path, port: int, redis: int, upstream_url: str) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT / "src"),  # measure this checkout, whatever is installed
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": f"sqlite:///{directory / 'support.db'}",
        "SUPPORT_REDIS_URL": f"redis://127.0.0.1:{redis}/1",
        "SUPPORT_ORDER_URL": upstream_url,
        "SUPPORT_PAYMENT_URL": upstream_url,
        "SUPPORT_FULFILLMENT_URL": upstream_url,
        "SUPPORT_ATTACHMENT_DIR": str(directory / "attachments"),
        "SUPPORT_ATTACHMENT_MAX_BYTES": str(MAX_UPLOAD),
        "SUPPORT_LOG_LEVEL": "warning",
    }


@contextlib.contextmanager
def running(name: str, port: int, command: list[str], *, cwd: Path, env: dict[str, str], log: Path) -> Iterator[int]:
    """Run a process during a `with` block that starts when the process listens on `port`; yield its process id.

    Raises Failed if the process does not start. If the process has ended, the message includes the end of its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        _await_start(name, process, port)
        yield process.pid
    except Failed as failure:
        if process.poll() is None:
            raise
        raise Failed(f"{failure}\n{name} ended with {process.returncode}:\n{_tail(log)}") from None
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_start(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not process_stats.listens(process.pid, port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{name} did not start on port {port}")
        time.sleep(0.05)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
