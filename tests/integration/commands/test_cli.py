"""The command line: each command has its help, prints its result, and reports an error in one line.

Here the commands run in this process. Tests in tests/e2e run them as processes of their own.
"""

import os

import pytest

from support_service import __version__
from support_service.platform.database import migrate
from tests.support.process import START_TIMEOUT, running


@pytest.mark.parametrize(
    "command", ["openapi", "migrate", "sweep", "demo --port 0", "probe --base-url http://127.0.0.1:1"]
)
@pytest.mark.usefixtures("processes")
async def test_command_ends_quietly_when_its_reader_is_gone(tmp_path, command):
    """The status is that of a shell when a pipe such as `export | head` closes."""
    migrate.upgrade(f"sqlite:///{tmp_path}/var/support.db")
    reader, writer = os.pipe()
    os.close(reader)
    forked = command != "openapi"  # what the end of an interpreter writes is the same for all
    async with running(*command.split(), cwd=tmp_path, output=writer, forked=forked) as process:
        os.close(writer)
        status, out, errors = await process.wait_for_exit(START_TIMEOUT)
    assert (status, out) == (141, "")
    if command.startswith("demo"):  # one of its sources fails, and it ends while it is busy
        allowed = ("fulfillment answered", "Events stay in the outbox")
        errors = "".join(line for line in errors.splitlines() if not any(text in line for text in allowed))
    assert errors == ""


@pytest.mark.usefixtures("processes")
async def test_command_reports_output_that_cannot_be_written(tmp_path):
    """The error is one line, with status 2, for example on a full disk."""
    full = os.open("/dev/full", os.O_WRONLY)
    async with running("asyncapi", cwd=tmp_path, output=full) as process:
        os.close(full)
        assert await process.wait_for_exit(START_TIMEOUT) == (
            2,
            "",
            "support-service: [Errno 28] No space left on device\n",
        )


@pytest.mark.usefixtures("processes")
async def test_version_option_prints_the_release(tmp_path):
    """`python -m support_service` is the same command."""
    async with running("--version", cwd=tmp_path) as command:
        assert await command.wait_for_exit() == (0, f"support-service {__version__}\n", "")
