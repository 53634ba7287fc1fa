"""Requests that tests send to the service, and checks of its responses."""

import asyncio
import inspect
import io
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient

from support_service.attachments.storage.local import VOLUME_FILE

Case = dict[str, Any]
Answer = AbstractAsyncContextManager[aiohttp.ClientResponse]  # a response, or a request that is not sent yet
Value = TypeVar("Value")
GENEROUS_TIMEOUT = 20.0  # seconds to wait for what must happen, on a busy machine


def api_routes(app: web.Application) -> set[tuple[str, str]]:
    """Return the method and path of every route that an app serves, without the pages of the console."""
    served = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    return {each for each in served if each[1] != "/" and not each[1].startswith("/console")}


async def open_case(client: TestClient, **fields: Any) -> Case:
    """Open a case, with default fields unless given."""
    return await expect_json(
        client.post("/support/cases", json={"subject": "A parcel", "channel": "email"} | fields), 201
    )


async def read_case(client: TestClient, case: Case, **query: str) -> Case:
    return await expect_json(client.get(f"/support/cases/{case['id']}", params=query))


async def read_detail(client: TestClient, case: Case) -> Case:
    """Return a case with its timeline."""
    return await read_case(client, case, includeTimeline="true")


async def read_timeline(client: TestClient, case: Case) -> list[dict[str, Any]]:
    return (await read_detail(client, case))["timeline"]


def without_case_events(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of a timeline that are no changes of the case."""
    return [entry for entry in timeline if entry["type"] != "case-event"]


async def refresh(client: TestClient, case: Case) -> Case:
    """Refresh the timeline of a case; return the case with it."""
    return await expect_json(client.post(f"/support/cases/{case['id']}/timeline/refresh"))


async def add_message(client: TestClient, case: Case, message: str = "Hello", **fields: Any) -> dict[str, Any]:
    body = {"authorType": "agent", "message": message} | fields
    return await expect_json(client.post(f"/support/cases/{case['id']}/messages", json=body))


async def list_cases(client: TestClient, **query: str) -> dict[str, Any]:
    """Return a page of cases."""
    return await expect_json(client.get("/support/cases", params=query))


async def list_subjects(client: TestClient, **query: str) -> list[str]:
    """Return the subjects of a page of cases."""
    return [case["subject"] for case in (await list_cases(client, **query))["items"]]


def form(
    data: bytes, filename: str = "note.txt", content_type: str = "text/plain", *, field: str = "file"
) -> aiohttp.FormData:
    document = aiohttp.FormData(quote_fields=False)
    document.add_field(field, io.BytesIO(data), filename=filename, content_type=content_type)
    return document


async def upload(client: TestClient, case: Case, data: bytes = b"hello", **file: str) -> dict[str, Any]:
    return await expect_json(client.post(f"/support/cases/{case['id']}/attachments", data=form(data, **file)), 201)


async def expect_json(answer: Answer, status: int = 200) -> Any:
    """Return the JSON of an answer, or `None` without one; fail unless it has this status."""
    async with answer as response:
        assert response.status == status, await response.text()
        return await response.json(content_type=None) if "json" in response.content_type else None


async def expect_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """Return the problem of an answer; fail unless it has this status and code."""
    async with answer as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/problem+json"
        problem = await response.json(content_type=None)
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"]
    assert problem["requestId"] == response.headers["X-Request-Id"]
    return problem


async def eventually(condition: Callable[[], Value | Awaitable[Value]], within: float = GENEROUS_TIMEOUT) -> Value:
    """Poll a condition, plain or async, until it is true; return its value.

    Fails after `within` seconds with the last value, so that the report shows what was there instead.
    """
    pause = 0.005
    value = None
    try:
        async with asyncio.timeout(within):
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, 0.1)  # back off: the code under test needs the CPU more than the poll does
    except TimeoutError:
        raise AssertionError(f"still {value!r} after {within} s") from None


def parse_log(lines: str) -> list[dict[str, Any]]:
    """Return the log entries of a stopped service, except warnings about events left in the outbox."""
    entries = [json.loads(line) for line in lines.splitlines()]
    return [entry for entry in entries if not entry["message"].startswith("Events stay in the outbox")]


def stored_files(directory: Path) -> list[Path]:
    """Return every file below an attachment directory, including unfinished uploads, without the name of the volume."""
    return [path for path in directory.rglob("*") if path.is_file() and path.name != VOLUME_FILE]
