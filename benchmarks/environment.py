"""The processes of a benchmark: Redis, a stub of the upstream services, and the compared servers."""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import balancer, process_stats
from benchmarks.authentication import Authentication
from benchmarks.configurations import DEFAULT, Configuration
from benchmarks.databases import Databases, databases
from benchmarks.load_generator import Failed
from support_service.platform.database import migrate

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 15.0
MAX_UPLOAD = 1 << 30
REDIS_DATABASES = {"service": 1, "peer": 3, "floor": 4, "baseline": 5}  # 2: timelines of the bare server and the floor


@dataclass(frozen=True, slots=True)
class Server:
    """One server under load: the port of its process, or of the load balancer in front of its replicas."""

    name: str
    port: int
    pids: tuple[int, ...]
    header: bytes = b""  # sent with each request

    @property
    def pid(self) -> int:
        """Return the process id of the first replica."""
        return self.pids[0]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all replicas in seconds."""
        return sum(map(process_stats.cpu_seconds, self.pids))

    def resident_mib(self) -> float:
        """Return the current memory of all replicas in MiB."""
        return sum(map(process_stats.resident_mib, self.pids))


@dataclass(frozen=True, slots=True)
class Environment:
    """The service, and the servers that it is compared with; the stub; the databases."""

    service: Server
    baseline: Server
    floor: Server | None
    peer: Server | None
    upstream_stub: Server
    databases: Databases

    @property
    def compared(self) -> list[Server]:
        """Return the servers under load."""
        return [each for each in (self.service, self.baseline, self.floor, self.peer) if each]


@contextlib.contextmanager
def environment(
    configuration: Configuration = DEFAULT,
    *,
    baseline_env: Mapping[str, str] | None = None,
    auth: Authentication | None = None,
    delay: float = 0.0,
    others: bool = False,
) -> Iterator[Environment]:
    """Start every process on a free loopback port with empty stores. At the end stop them and remove their files.

    The baseline is the bare server, or the service itself in one process: with the variables `baseline_env`, or as it
    is, beside several replicas. With `auth` the service authenticates its callers. The stub upstream services answer
    after `delay` seconds. With `others` the floor and the peer run too. Raises Failed if a server is not installed or a
    process does not start.
    """
    var = ROOT / "var"  # on a disk; the system's temporary directory may be in memory
    var.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=var) as name, contextlib.ExitStack() as stack:
        starter = _Starter(Path(name), stack)
        store = stack.enter_context(databases(configuration.database, Path(name)))
        redis_port = starter.redis()
        stub = starter.upstream_stub(delay)
        upstream_url = f"http://127.0.0.1:{stub.port}"

        def settings(name: str) -> dict[str, str]:
            url = store.create(name)
            migrate.upgrade(url)
            redis_url = f"redis://127.0.0.1:{redis_port}/{REDIS_DATABASES[name]}"
            return _settings(starter.directory / name, url, redis_url, upstream_url)

        def service(name: str, variables: Mapping[str, str], header: bytes = b"", replicas: int = 1) -> Server:
            given = settings(name) | dict(variables)
            serve = [sys.executable, "-m", "support_service", "serve"]
            return starter.replicas(
                name,
                lambda _: serve,
                lambda port: given | {"SUPPORT_PORT": str(port)},
                starter.directory,
                header=header,
                count=replicas,
            )

        def floor() -> Server:
            recorded = settings("floor") | {"SUPPORT_PORT": "0"}  # of the service whose requests it records
            module = [sys.executable, "-m", "benchmarks.floor"]
            arguments = [str(redis_port), upstream_url]
            return starter.replicas("floor", lambda port: [*module, str(port), *arguments], lambda _: recorded, ROOT)

        variables, header = (auth.variables, auth.header) if auth else ({}, b"")
        if configuration.replicas > 1:
            baseline = service("baseline", variables, header)
        elif baseline_env is not None:
            baseline = service("baseline", baseline_env)
        else:
            arguments = [str(starter.directory / "baseline"), str(redis_port), upstream_url, store.create("baseline")]
            module = [sys.executable, "-m", "benchmarks.baseline"]
            baseline = starter.replicas("baseline", lambda port: [*module, str(port), *arguments], lambda _: {}, ROOT)
        yield Environment(
            service=service("service", variables, header, configuration.replicas),
            baseline=baseline,
            floor=floor() if others else None,
            peer=_peer(starter, store.create("peer"), redis_port, upstream_url) if others else None,
            upstream_stub=stub,
            databases=store,
        )


class _Starter:
    """Starts the processes of an environment; the exit stack ends them."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def redis(self) -> int:
        """Start Redis and return its port."""
        redis_server = shutil.which("redis-server")
        if redis_server is None:
            raise Failed("redis-server is missing: `make services` installs it")
        port = free_port()
        in_memory = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        self._start("redis", port, [redis_server, *in_memory], {}, self.directory)
        return port

    def upstream_stub(self, delay: float) -> Server:
        """Start the stub of the upstream services."""
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.upstream_stub", str(port), str(delay)]
        return Server("stub", port, (self._start("stub", port, command, {}, ROOT),))

    def replicas(
        self,
        name: str,
        command: Callable[[int], list[str]],
        env: Callable[[int], dict[str, str]],
        cwd: Path,
        *,
        header: bytes = b"",
        count: int = 1,
    ) -> Server:
        """Start the replicas of a server, each by the command and variables for its port, and their load balancer."""
        ports = [free_port() for _ in range(count)]
        pids = tuple(
            self._start(f"{name}-{number}", port, command(port), env(port), cwd) for number, port in enumerate(ports)
        )
        port = ports[0]
        if count > 1:
            port = free_port()
            balance = balancer.command(self.directory, name, port, ports)
            self._start(f"{name}-balancer", port, balance, {}, self.directory)
        return Server(name, port, pids, header)

    def _start(self, name: str, port: int, command: list[str], env: dict[str, str], cwd: Path) -> int:
        log = self.directory / f"{name}.log"
        return self._stack.enter_context(running(name, port, command, cwd=cwd, env=env, log=log))


def _peer(starter: _Starter, url: str, redis_port: int, upstream_url: str) -> Server:
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    scheme, _, rest = url.partition("://")
    variables = {
        "PEER_DATABASE_URL": f"{driver[scheme]}://{rest}",
        "PEER_REDIS_URL": f"redis://127.0.0.1:{redis_port}/{REDIS_DATABASES['peer']}",
        "PEER_UPSTREAM_URL": upstream_url,
        "PEER_ATTACHMENT_DIR": str(starter.directory / "peer"),
    }
    serve = [sys.executable, "-m", "uvicorn", "benchmarks.peer.app:app", "--no-access-log", "--log-level", "warning"]
    return starter.replicas("peer", lambda port: [*serve, "--port", str(port)], lambda _: variables, ROOT)


def _settings(directory: Path, url: str, redis_url: str, upstream_url: str) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT / "src"),  # measure this checkout, whatever is installed
        "SUPPORT_DATABASE_URL": url,
        "SUPPORT_REDIS_URL": redis_url,
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
