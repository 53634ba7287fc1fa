"""What runs commands on a migrated database, and a Redis that keeps its data."""

import asyncio
import json
import os
from contextlib import suppress

import pytest

from tests.support.events.fixtures import durable_redis  # noqa: F401 - a fixture
from tests.support.process import START_TIMEOUT, running


@pytest.fixture
def variables(tmp_path, database_url):
    """The folder and the variables of commands."""
    return {"cwd": tmp_path, "SUPPORT_DATABASE_URL": database_url, "SUPPORT_LOG_LEVEL": "warning"}


@pytest.fixture
def run(variables):
    async def run(*arguments, **more):
        async with running(*map(str, arguments), **variables | more) as process:
            return await process.wait_for_exit(START_TIMEOUT)

    return run


@pytest.fixture
def run_json(run):
    """Run a command; return its status, its lines as JSON, and its errors."""

    async def run_json(*arguments):
        status, out, errors = await run(*arguments)
        return status, [json.loads(line) for line in out.splitlines()], errors

    return run_json


def read_all(terminal):
    """Read what was written to a terminal until its last writer has closed it."""
    written = b""
    with suppress(OSError):  # what Linux raises at the end
        while read := os.read(terminal, 4096):
            written += read
    return written.decode().replace("\r\n", "\n")


@pytest.fixture
def on_terminal(variables):
    """Run a command whose output is a terminal; return its status, what it printed there, and its errors."""

    async def run(*arguments):
        terminal, end = os.openpty()
        try:
            async with running(*map(str, arguments), output=end, **variables) as process:
                os.close(end)
                printed = await asyncio.to_thread(read_all, terminal)
                status, _, errors = await process.wait_for_exit()
        finally:
            os.close(terminal)
        return status, printed, errors

    return run
