"""Processes that are forked from one that has already imported the service.

The import takes a second of CPU, and more than a hundred tests start the service. Forks differ from new interpreters
only in this; `running(..., forked=False)` starts a new interpreter for tests of the interpreter's start or end.
"""

import asyncio
import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["__main__", "tests.support.preload"])


class ForkedProcess:
    """A forked process, with the interface of `asyncio.subprocess.Process` as far as tests use it."""

    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader

    @classmethod
    async def start(
        cls, module: str, arguments: tuple[str, ...], cwd: Path, stdin: int, output: int, env: dict[str, str]
    ) -> Self:
        """Run a module as `python -m` does: it reads an open file or nothing, and writes to an open file or a pipe."""
        # The forkserver raises no audit event here, so raise it for the guard of tests/support/plugins/tiers.py.
        sys.audit("subprocess.Popen", sys.executable, ["-m", module, *arguments], cwd, env)
        in_end = os.open(os.devnull, os.O_RDONLY) if stdin == asyncio.subprocess.DEVNULL else os.dup(stdin)
        reads_output = output == asyncio.subprocess.PIPE
        out, out_end = os.pipe() if reads_output else (-1, os.dup(output))
        errors, errors_end = os.pipe()
        ends = Connection(in_end), Connection(out_end, readable=False), Connection(errors_end, readable=False)
        process = context.Process(target=_run, args=(module, arguments, cwd, env, *ends))
        process.start()
        for end in ends:
            end.close()
        started = cls(process)
        started.stdout = await started._reader(out) if reads_output else None
        started.stderr = await started._reader(errors)
        return started

    def __init__(self, process: multiprocessing.Process) -> None:
        self._process = process
        self._pipes: list[asyncio.ReadTransport] = []
        self._ended = asyncio.Event()
        self.returncode: int | None = None
        asyncio.get_running_loop().add_reader(process.sentinel, self._end)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def communicate(self) -> tuple[bytes | None, bytes]:
        """Wait for the end of the process; return its output that was not read yet."""
        out, errors = await asyncio.gather(self.stdout.read() if self.stdout else _nothing(), self.stderr.read())
        await self._ended.wait()
        return out, errors

    def close(self) -> None:
        """Close the pipes of a process that has ended."""
        for pipe in self._pipes:
            pipe.close()
        self._process.close()

    async def _reader(self, end: int) -> asyncio.StreamReader:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        pipe = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", 0))
        self._pipes.append(pipe[0])
        return reader

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self.returncode = self._process.exitcode
        self._ended.set()


async def _nothing() -> None:
    """Return no output, since it was written to a file."""


def _run(module: str, arguments: tuple[str, ...], cwd: Path, env: dict[str, str], *standard: Connection) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for descriptor, end in enumerate(standard):
        os.dup2(end.fileno(), descriptor)
        end.close()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing closed it
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without them
