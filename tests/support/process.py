"""The service as a process of its own, as an operator starts it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.calls import PATIENCE, eventually
from tests.support.forks import ForkedProcess

START = 120.0  # seconds, on a busy machine
COVERAGE = {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}  # coverage.py measures new interpreters
OURS = ("SUPPORT_", "OTEL_", "PYTHONDONTWRITEBYTECODE")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without variables of ours, and those given.

    Bytecode is kept whatever that environment says: to compile the service anew takes 0.2 s at each start.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return inherited | variables


class Process:
    """A running `support-service` command."""

    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        self._process = process
        self._patience = START + PATIENCE

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop, for which it has less time than for a start and all that a command does."""
        self._patience = PATIENCE
        self._process.send_signal(number)

    async def ended(self, within: float | None = None) -> tuple[int, str, str]:
        """Its exit status, what it printed and what it logged, once it has ended."""
        async with asyncio.timeout(within or self._patience):
            out, errors = await self._process.communicate()
        return self._process.returncode, (out or b"").decode(), errors.decode()

    async def printed(self, *, until: str) -> str:
        """What it prints, up to a line that has the text."""
        lines = ""
        async with asyncio.timeout(START):
            while until not in lines:
                line = await self._process.stdout.readline()
                if not line:
                    raise AssertionError(f"ended early: {lines}{(await self._process.stderr.read()).decode()}")
                lines += line.decode()
        return lines

    async def asked(self, question: str) -> None:
        """Wait until it prints a question, which has no line of its own."""
        async with asyncio.timeout(START):
            await self._process.stdout.readuntil(question.encode())

    async def answers(self, address: str) -> None:
        """Wait until it serves."""
        async with aiohttp.ClientSession() as session:
            await eventually(lambda: self._is_ready(session, address), START)

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
    **variables: str,
) -> AsyncIterator[Process]:
    """A command for the length of a block; it is killed at the end if it still runs.

    What it prints can be read, unless there is an open file that it goes to. It runs in a new interpreter, as an
    operator starts it, if it is not forked or reads from `stdin`.
    """
    env = environment(**variables)
    if forked and stdin == asyncio.subprocess.DEVNULL and not COVERAGE & env.keys():
        process = await ForkedProcess.start(module, arguments, cwd, output, env)
    else:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
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
