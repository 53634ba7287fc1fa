"""Ctrl-C never prints a traceback: while the program starts, while it runs and while it ends.

The moments are steps that the process itself takes, so no clock decides which one is tested. They begin with the first
import after `support_service.cli.main` was called. Before that, the interpreter starts and imports
`support_service.cli`, which loads only two small modules of the service; the effect of a signal is then undefined.
"""

import asyncio
import signal
import socket
import sys
from contextlib import asynccontextmanager

import pytest

from tests.support.process import START_TIMEOUT, Process, environment, running
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

AT = """
import os, signal, sys
def interrupt(event, arguments, wanted=sys.argv[1], kill=os.kill, number=signal.SIGINT, own=os.getpid()):
    if wanted in (event, f"{event}:{arguments[0] if arguments else None}"):
        kill(own, number)
moment, sys.argv[1:] = sys.argv[1], sys.argv[2:]
sys.addaudithook(interrupt)
from support_service.cli import main
main()
"""
AT_EXIT = """
import atexit, os, signal
atexit.register(os.kill, os.getpid(), signal.SIGINT)
from support_service.cli import main
main()
"""
STUBBORN = """
import asyncio
from support_service.core import interrupts
from support_service.commands.runtime import run_coroutine
async def stubborn():
    print("running", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)
        await asyncio.Event().wait()
interrupts.exit_on_interrupt()
run_coroutine(stubborn())
"""
# The steps of `serve`, which takes the most, and what only another command does.
MOMENTS = [("serve", "import:argparse"), ("migrate", "sqlite3.connect")]
IMPORTED = ("asyncio", "support_service.commands.tokens", "pydantic", "sqlalchemy", "uvloop", "support_service.app")
MORE_MOMENTS = [
    *(("serve", f"import:{each}") for each in (*IMPORTED, "alembic")),
    ("serve", "sqlite3.connect"),
    ("demo", "import:support_service.demo.services"),
    ("openapi", "import:support_service.api.openapi.document"),
]
LONG_CHECK, LONG_PROBE, LONG_VERSION = (
    pytest.param(command, marks=pytest.mark.long)
    for command in ("openapi --check", "probe --base-url http://127.0.0.1:1", "--version")
)


@asynccontextmanager
async def started(*command, cwd, **variables):
    """A process of Python for the length of a block. It is killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=cwd,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(*command, cwd, **variables):
    async with started(*command, cwd=cwd, **variables) as process:
        return await Process(process).wait_for_exit()


@pytest.mark.parametrize(
    ("command", "moment"), [*MOMENTS, *(pytest.param(*each, marks=pytest.mark.long) for each in MORE_MOMENTS)]
)
async def test_ctrl_c_while_a_command_starts(tmp_path, command, moment):
    """The process ends with status 130 and no output, at whichever import or step the signal arrives."""
    assert await ended("-c", AT, moment, command, cwd=tmp_path, SUPPORT_PORT="0") == (130, "", "")


async def test_ctrl_c_while_a_command_waits_for_a_response(tmp_path):
    """The command is cancelled, and ends with status 130 and no output."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        async with running("probe", "--base-url", url, "--threshold", "10m", cwd=tmp_path) as command:
            async with asyncio.timeout(START_TIMEOUT):
                connection, _ = await loop.sock_accept(server)
            with connection:
                command.stop(signal.SIGINT)
                assert await command.wait_for_exit() == (130, "", "")


async def test_a_second_ctrl_c_does_not_wait_for_the_first(tmp_path):
    """The first cancels the command. If that takes too long, the second ends the process."""
    async with started("-c", STUBBORN, cwd=tmp_path) as process:
        command = Process(process)
        for printed in ("running", "cancelled"):
            await command.read_output(until=printed)
            command.stop(signal.SIGINT)
        assert await command.wait_for_exit() == (130, "", "")


@pytest.mark.parametrize("arguments", ["--what", LONG_CHECK, LONG_PROBE, LONG_VERSION])
async def test_ctrl_c_while_the_interpreter_ends(tmp_path, arguments):
    """A signal after the command's last line gives status 130, and adds no traceback to the output."""
    status, out, errors = await ended("-c", AT_EXIT, *arguments.split(), cwd=tmp_path)
    assert (status, [each for each in ("Traceback", "KeyboardInterrupt") if each in out + errors]) == (130, [])


@pytest.mark.long
async def test_ctrl_c_while_the_interpreter_ends_after_serving(tmp_path):
    """The event loop has handled SIGTERM before."""
    port = free_port()
    async with started("-c", AT_EXIT, "serve", cwd=tmp_path, SUPPORT_PORT=str(port)) as process:
        service = Process(process)
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        service.stop(signal.SIGTERM)
        status, _, errors = await service.wait_for_exit()
    assert (status, "Traceback" in errors, "Stopped" in errors) == (130, False, True)


@pytest.mark.parametrize("arguments", ["--version", LONG_CHECK])
async def test_ignored_ctrl_c_stays_ignored(tmp_path, arguments):
    """Ctrl-C in a script does not end the commands that the script runs in the background."""
    ignored = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{AT}"
    status, _, errors = await ended("-c", ignored, "import:argparse", *arguments.split(), cwd=tmp_path)
    assert (status, errors) == (0, "")
