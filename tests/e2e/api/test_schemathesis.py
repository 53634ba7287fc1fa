"""The service does what its OpenAPI document says, whatever is made of the document and sent to it.

The short form makes the same requests in every run. `make schemathesis` goes on for SCHEMATHESIS_SECONDS with a new
seed, which the summary names. Who asks is a supervisor with a token, so that what comes without one is held against the
document too.
"""

import asyncio
import os
import random
import re
import sys
from pathlib import Path

import pytest

from support_service.api.routes import ROUTES
from tests.support.process import environment, running
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "0"))
CONFIG = Path(__file__).parent / "schemathesis.toml"
HOOKS = Path(__file__).parent / "schemathesis_hooks.py"
WITHIN = 600  # seconds, for a run that hangs
SHORT = ("--max-examples", "3", "--seed", "1")


async def test_the_service_does_what_it_says(tmp_path):
    """All checks hold for every call, alone and in sequences along the document's links."""
    address = f"http://127.0.0.1:{free_port()}"
    variables = {
        "SUPPORT_PORT": address.rpartition(":")[2],
        "SUPPORT_DATABASE_URL": f"sqlite:///{tmp_path}/support.db",
        "SUPPORT_ATTACHMENT_DIR": str(tmp_path / "attachments"),
        "SUPPORT_AUTH": "token",
        "SUPPORT_TOKENS_FILE": str(tmp_path / "tokens"),
        **dict.fromkeys(
            ("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS"), "off"
        ),  # they would answer for all others
        "SUPPORT_SHED_LAG": "0",  # a busy machine is no failure
        "SUPPORT_ACCESS_LOG": "0",
        "SUPPORT_LOG_LEVEL": "error",
    }
    async with running("token", "create", "tests", "--role", "supervisor", cwd=tmp_path, **variables) as command:
        _, token, _ = await command.wait_for_exit()
    async with running("serve", cwd=tmp_path, **variables) as service:
        await service.wait_until_ready(address)
        status, summary = await schemathesis(f"{address}/openapi.json", token.strip(), tmp_path)
        service.stop()
        _, _, errors = await service.wait_for_exit()
    print(summary)  # noqa: T201 - what `make schemathesis` is run for
    assert status == 0, summary + errors
    assert errors == ""
    described = len(ROUTES) - 1  # it leaves out the call that gives the document itself
    assert re.search(rf"Tested: {described}$", summary, re.MULTILINE), summary


async def schemathesis(location: str, token: str, folder: Path) -> tuple[int, str]:
    """Run it; gives its exit status and what it printed."""
    length = ("--max-time", str(SECONDS), "--seed", str(random.randrange(2**32))) if SECONDS else SHORT
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", location, "--checks", "all"),
        *("--continue-on-failure", "--no-color", "--generation-database", "none", *length),
        cwd=folder,
        env=environment(SCHEMATHESIS_HOOKS=str(HOOKS), SCHEMATHESIS_TOKEN=token),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN + SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, printed.decode()
