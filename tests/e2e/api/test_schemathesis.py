"""The service conforms to its OpenAPI document under generated requests.

The short form sends the examples of the document, about a case that exists. The long form runs for SCHEMATHESIS_SECONDS
with a new seed, which the summary shows. The requests have the token of a supervisor, so that responses to requests
without a token are checked too.
"""

import asyncio
import os
import random
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from support_service.api.routes import ROUTES
from tests.support.calls import open_case
from tests.support.process import environment, running
from tests.support.servers import free_port

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "0"))
CONFIG = Path(__file__).parent / "schemathesis.toml"
HOOKS = Path(__file__).parent / "schemathesis_hooks.py"
TIMEOUT = 600  # seconds, after which a run counts as hanging
SHORT_RUN = ("--phases", "examples", "--seed", "1")
WITHOUT_EXAMPLES = 22  # operations that take no value


async def test_service_conforms_to_its_openapi_document(tmp_path):
    """All checks pass for every operation; in the long form also in sequences along the document's links."""
    address = f"http://127.0.0.1:{free_port()}"
    variables = {
        "SUPPORT_PORT": address.rpartition(":")[2],
        "SUPPORT_DATABASE_URL": f"sqlite:///{tmp_path}/support.db",
        "SUPPORT_ATTACHMENT_DIR": str(tmp_path / "attachments"),
        "SUPPORT_AUTH": "token",
        "SUPPORT_TOKENS_FILE": str(tmp_path / "tokens"),
        **dict.fromkeys(("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS"), "off"),  # 429 would hide other responses
        "SUPPORT_ACCESS_LOG": "0",
        "SUPPORT_LOG_LEVEL": "error",
    }
    async with running("token", "create", "tests", "--role", "supervisor", cwd=tmp_path, **variables) as command:
        token = (await command.wait_for_exit())[1].strip()
    async with running("serve", cwd=tmp_path, **variables) as service:
        await service.wait_until_ready(address)
        async with aiohttp.ClientSession(address, headers={"Authorization": f"Bearer {token}"}) as session:
            case = await open_case(session)
        variables = {"SCHEMATHESIS_TOKEN": token, "SCHEMATHESIS_CASE": case["id"]}
        status, summary = await schemathesis(f"{address}/openapi.json", tmp_path, **variables)
        service.stop()
        _, _, errors = await service.wait_for_exit()
    print(summary)  # noqa: T201 - the result of the long form
    assert status == 0, summary + errors
    assert errors == ""
    described = len(ROUTES) - 2  # neither the operation that serves the document is tested, nor the stream
    counts = {name: int(count) for name, count in re.findall(r"^  (Tested|Skipped): (\d+)$", summary, re.MULTILINE)}
    assert sum(counts.values()) == described, summary
    assert counts.get("Skipped", 0) <= (0 if SECONDS else WITHOUT_EXAMPLES), summary


async def schemathesis(location: str, folder: Path, **variables: str) -> tuple[int, str]:
    run_length = ("--max-time", str(SECONDS), "--seed", str(random.randrange(2**32))) if SECONDS else SHORT_RUN
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", location),
        *("--continue-on-failure", "--no-color", "--generation-database", "none", *run_length),
        cwd=folder,
        env=environment(SCHEMATHESIS_HOOKS=str(HOOKS), **variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT + SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, printed.decode()
