"""Whether the measured requests have their effect: each is sent once, and the client of the API reads what it left."""

import hashlib
import json
from typing import Any

from benchmarks import scenarios
from benchmarks.environment import Server
from benchmarks.load_generator import Client, Failed
from support_service.client import Attachment, SupportClient, SupportError

WRITTEN = {"attachment", "conversation"}  # entries of a timeline that the check has added to


async def check(server: Server) -> None:
    """Open a case, add a message and upload a file, as the load does. Raises Failed if one is missing."""
    async with Client(server.port, 1, server.header) as load:
        [opened] = await load.bodies([scenarios.create(0)])
        case_id = json.loads(opened)["id"]
        message = scenarios.ALL["message"].request(case_id, 0)
        _, uploaded = await load.bodies([message, scenarios.upload(case_id)])
    try:
        async with SupportClient(f"http://127.0.0.1:{server.port}", headers=_headers(server.header)) as client:
            case = await client.get_case(case_id, include_timeline=True)
            found = {
                "get": (case.subject, case.status, len(case.context), [each.author_type for each in case.messages[:1]]),
                "message": (case.messages[-1].author_type, case.messages[-1].message),
                "timeline_cached": [entry for entry in _types(case.timeline) if entry not in WRITTEN],
                "upload": await _download(client, Attachment.model_validate_json(uploaded)),
            }
    except (SupportError, LookupError, ValueError) as failure:
        raise Failed(f"{server.name}: what was written can't be read: {failure}") from failure
    expected = {name: scenarios.EXPECTED[name] for name in found}
    expected["timeline_cached"] = [entry for entry in expected["timeline_cached"] if entry not in WRITTEN]
    if found != expected:
        raise Failed(f"{server.name}: expected {expected!r}, found {found!r}")


def _types(timeline: list[dict[str, Any]]) -> list[str]:
    types: list[str] = scenarios.CHECKS["timeline_cached"]({"timeline": timeline})
    return types


async def _download(client: SupportClient, file: Attachment) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    async for block in client.download(file):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()


def _headers(header: bytes) -> dict[str, str]:
    """Return a header line of the load as the client takes it."""
    lines = [line.partition(": ") for line in header.decode().splitlines() if line]
    return {name: value for name, _, value in lines}
