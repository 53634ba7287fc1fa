"""`support-service` as a process, as an operator starts it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.forks import ForkedProcess
from tests.support.times import count_service

START_TIMEOUT = 120.0  # seconds, on a busy machine
COVERAGE = {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}  # coverage.py measures new interpreters only
# For a service on a machine that may stall: arguments of `running`.
PATIENT_SOURCES = {"SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60"}
LONG_TIMEOUTS = {
    "module": "tests.support.long_timeouts",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")))),
}
SERVICE_VARIABLES = ("SUPPORT_", "OTEL_", "PYTHONDONTWRITEBYTECODE")


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without variables of the service, plus those given.

    Bytecode is always written, since compiling the service takes 0.2 s at each start.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SERVICE_VARIABLES)}
    return inherited | variables


class Process:
    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        self._process = process
        self._exit_timeout = START_TIMEOUT + GENEROUS_TIMEOUT

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a stop signal; from then on the shorter exit timeout applies."""
        self._exit_timeout = GENEROUS_TIMEOUT
        self._process.send_signal(number)

    async def wait_for_exit(self, within: float | None = None) -> tuple[int, str, str]:
        async with asyncio.timeout(within or self._exit_timeout):
            out, errors = await self._process.communicate()
        return self._process.returncode, (out or b"").decode(), errors.decode()

    async def read_output(self, *, until: str) -> str:
        """Return the output up to a line that contains a text."""
        lines = ""
        async with asyncio.timeout(START_TIMEOUT):
            while until not in lines:
                line = await self._process.stdout.readline()
                if not line:
                    raise AssertionError(f"ended early: {lines}{(await self._process.stderr.read()).decode()}")
                lines += line.decode()
        return lines

    async def wait_for_prompt(self, question: str) -> None:
        """Wait until the process prints a prompt, which ends without a newline."""
        async with asyncio.timeout(START_TIMEOUT):
            await self._process.stdout.readuntil(question.encode())

    async def wait_until_ready(self, address: str) -> None:
        async with aiohttp.ClientSession() as session:
            await eventually(lambda: self._is_ready(session, address), START_TIMEOUT)

    async def _is_ready(self, session: aiohttp.ClientSession, address: str) -> bool:
        try:
            async with session.get(f"{address}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            if self._process.returncode is not None:
                raise AssertionError((await self._process.stderr.read()).decode()) from None
            return False


@asynccontextmanager
async def running(
    *arguments: str,
    cwd: Path,
    module: str = "support_service",
    stdin: int = asyncio.subprocess.DEVNULL,
    output: int = asyncio.subprocess.PIPE,
    forked: bool = True,
    python: str = sys.executable,
    **variables: str,
) -> AsyncIterator[Process]:
    """Run a command for the length of a block, and kill it at the end if it still runs.

    Its output can be read unless it goes to an open file. If it is not forked, it runs in a new interpreter, as for an
    operator. `python` names the interpreter of another environment. A service sheds no load on a
    busy machine, unless a variable asks for it.
    """
    if arguments[:1] == ("serve",):
        count_service(shared=False)
    env = environment(**{"SUPPORT_SHED_LAG": "0"} | variables)
    if forked and python == sys.executable and not COVERAGE & env.keys():
        process = await ForkedProcess.start(module, arguments, cwd, stdin, output, env)
    else:
        process = await asyncio.create_subprocess_exec(
            *(python, "-m", module, *arguments),
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=output,
            stderr=asyncio.subprocess.PIPE,
        )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        if isinstance(process, ForkedProcess):
            process.close()


async def run(*arguments: str, cwd: Path, **variables: str) -> tuple[int, dict[str, Any], str]:
    """Run a command to its end; return its exit status, its last line of JSON and its errors."""
    async with running(*arguments, cwd=cwd, **variables) as process:
        status, out, errors = await process.wait_for_exit()
    return status, json.loads(out.splitlines()[-1]) if out else {}, errors
