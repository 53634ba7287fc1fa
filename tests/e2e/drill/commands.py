"""The service and the probe as processes that can be killed and restarted at the same address."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import aiohttp

from tests.support.calls import eventually
from tests.support.process import environment
from tests.support.servers import find_binary, free_port

ROOT = Path(__file__).parents[3]
START_TIMEOUT = 60.0  # seconds, on a busy machine
COMMAND = (sys.executable, "-m", "tests.e2e.drill.command")
# A separate disk for a process and its children: invisible to others, and gone when they end.
WITH_SEPARATE_DISK = 'mount -t tmpfs -o size="$0" none "$1" && shift && exec "$@"'


class Command:
    """A `support-service` command that listens; it is ready once its path answers with 200."""

    def __init__(self, folder: Path, name: str, path: str) -> None:
        self._port = free_port()
        self.target = f"127.0.0.1:{self._port}"
        self.address = f"http://{self.target}"
        self._ready_at = f"{self.address}{path}"
        self._log = folder / f"{name}.log"
        self._command: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the process, and wait until it is ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        async with aiohttp.ClientSession() as session:
            await eventually(lambda: self._is_ready(session), START_TIMEOUT)

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """Suspend the process."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        self.process.send_signal(signal.SIGCONT)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._ready_at) as response:
                return response.status == 200
        except aiohttp.ClientError:
            if self.process.poll() is not None:
                raise RuntimeError(self._log.read_text()[-2000:]) from None
            return False


class Service(Command):
    """`support-service serve`, on this machine's disk or, with `disk` bytes, on a separate one."""

    def __init__(self, folder: Path, disk: int | None, **variables: str) -> None:
        super().__init__(folder, "service", "/readyz")
        self._database = folder / "support.db"
        self.files = folder / "attachments"
        self.files.mkdir()
        self.environment = environment(
            SUPPORT_PORT=str(self._port),
            SUPPORT_DATABASE_URL=f"sqlite:///{self._database}",
            SUPPORT_ATTACHMENT_DIR=str(self.files),
            SUPPORT_ACCESS_LOG="0",
            SUPPORT_LOG_LEVEL="warning",
            **variables,
        )
        self._command = (*COMMAND, "serve")
        if disk is not None:
            unshare = (find_binary("unshare"), "--mount", "--map-root-user", "sh", "-c", WITH_SEPARATE_DISK)
            self._command = (*unshare, str(disk), str(self.files), *self._command)

    @property
    def disk(self) -> Path:
        """The attachment directory as the service sees it."""
        return Path(f"/proc/{self.process.pid}/root{self.files}")

    async def change_database(self, statement: str) -> None:
        """Run a statement on the service's database."""

        def change() -> None:
            with closing(sqlite3.connect(self._database, timeout=START_TIMEOUT, isolation_level=None)) as connection:
                connection.execute(statement)

        await asyncio.to_thread(change)

    async def run(self, *arguments: str) -> str:
        """Run another command in the service's environment; return its output, or raise if it fails."""
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *arguments), cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, errors = await process.communicate()
        if process.returncode:
            raise RuntimeError(errors.decode())
        return out.decode()


class Probe(Command):
    """`support-service probe`, once a minute."""

    def __init__(self, folder: Path, service: Service, interval: float, *arguments: str) -> None:
        super().__init__(folder, "probe", "/metrics")
        self.environment = environment()
        addresses = (f"--base-url={service.address}", f"--listen={self.target}", f"--interval={interval:g}s")
        self._command = (*COMMAND, "probe", *addresses, "--event-threshold=1s", *arguments)
