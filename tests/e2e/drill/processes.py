"""Replicas of the service and the probe, as processes that can be killed and restarted at the same address."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp

from tests.support.calls import eventually
from tests.support.process import environment
from tests.support.servers import START_TIMEOUT, Server, find_binary, free_port

ROOT = Path(__file__).parents[3]
ENDS_WITHIN = 5.0  # seconds in which a process ends, before it is killed
COMMAND = (sys.executable, "-m", "tests.e2e.drill.scaled_service")
LOG = "support.log"  # of all replicas, as the runbooks call it
# A separate disk for processes of this namespace: invisible to others, and gone when the last of them ends.
SEPARATE_DISK = 'mount -t tmpfs -o size="$0" none "$1" && echo && exec sleep infinity'


class Command(Server):
    """A `support-service` command that listens; it is ready once its path answers with 200."""

    def __init__(self, folder: Path, log: str, path: str, variables: dict[str, str]) -> None:
        self._port = free_port()
        self.target = f"127.0.0.1:{self._port}"
        self.address = f"http://{self.target}"
        self._ready_at = f"{self.address}{path}"
        self._log = folder / log
        self._arguments: tuple[str, ...] = ()
        self.environment = environment(**variables)
        self.within: tuple[str, ...] = ()  # a command that runs the command

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    @property
    def _program(self) -> tuple[str, ...]:
        return COMMAND

    def spawn(self) -> None:
        """Start the process, and do not wait for it."""
        command = (*self.within, *self._program, *self._arguments)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    async def start(self) -> None:
        """Start the process unless it runs, and wait until it is ready."""
        if not self.is_running():
            self.spawn()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            await eventually(lambda: self.is_ready(session), START_TIMEOUT)

    async def stop(self) -> int:
        """Stop the process as an orchestrator does, and wait until it has ended; return its exit status."""
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait)

    async def restart(self) -> None:
        """Start the process anew; it is killed if it does not end in time."""
        if self.is_running():
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, ENDS_WITHIN)
            self.kill()
        await self.start()

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._ready_at) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            if not self.is_running():
                raise RuntimeError(self._log.read_text()[-2000:]) from None
            return False


class Replica(Command):
    """`support-service serve`, with a port for health and metrics."""

    def __init__(self, folder: Path, number: int, variables: dict[str, str]) -> None:
        super().__init__(folder, LOG, "/readyz", variables)
        self.name, self.node = f"replica-{number}", f"node-{number}"
        self.admin_target = f"127.0.0.1:{free_port()}"
        self.environment |= {"SUPPORT_PORT": str(self._port), "SUPPORT_ADMIN_PORT": self.admin_target.partition(":")[2]}
        self._arguments = ("serve",)


class Probe(Command):
    """`support-service probe`, once in `interval` seconds."""

    def __init__(self, folder: Path, interval: float, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
        super().__init__(folder, "probe.log", "/metrics", variables)
        usual = (f"--listen={self.target}", f"--interval={interval:g}s", "--event-threshold=1s")
        self._arguments = ("probe", *usual, *arguments)


class SeparateDisk:
    """A disk of some bytes at a folder, for processes that start within it."""

    def __init__(self, folder: Path, size: int) -> None:
        unshare = (find_binary("unshare"), "--mount", "--map-root-user", "sh", "-c", SEPARATE_DISK)
        self._process = subprocess.Popen((*unshare, str(size), str(folder)), stdout=subprocess.PIPE)
        self._process.stdout.readline()
        enter = (find_binary("nsenter"), "--user", "--mount", "--preserve-credentials")
        self.within = (*enter, f"--wd={ROOT}", "--target", str(self._process.pid))
        self.path = Path(f"/proc/{self._process.pid}/root{folder}")  # as seen from here

    def close(self) -> None:
        """End the holder of the disk."""
        self._process.kill()
        self._process.wait()


async def run_command(arguments: tuple[str, ...], variables: dict[str, str]) -> str:
    """Run another command in the environment of a replica; return its output, or raise if it fails."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments), cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode())
    return out.decode()
