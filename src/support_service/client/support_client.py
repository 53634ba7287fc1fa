"""The client of the API: its operations, and what needs more than one request or another answer than a model."""

from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any, Self

import aiohttp
import pydantic_core

from support_service.api.models.service import Accepted, Ready
from support_service.cases.model.case import Case, CaseLink, CaseSummary
from support_service.cases.model.vocabulary import LinkKind
from support_service.client.api_operations import ApiOperations
from support_service.client.changes import StreamOperations
from support_service.client.errors import UnexpectedAnswer
from support_service.client.files import BLOCK_BYTES, FileOperations
from support_service.client.operations import JSON, Key, Version, parse_answer, write_headers
from support_service.client.parameters import CaseChangeFields
from support_service.client.retries import Attempts, ClientTimings
from support_service.client.transport import Request, Token, Transport
from support_service.core.errors import VersionConflict
from support_service.reports.report_models import ReportFormat

CLOUD_EVENT = "application/cloudevents+json"
NOT_READY_STATUS = 503  # the status of an answer that says what is not ready


class SupportClient(ApiOperations, FileOperations, StreamOperations):
    """A client of one service.

    Every method raises a SupportError of its kind if the service refuses the call, and after the last attempt. Reads
    and writes are repeated after errors that pass, within the deadline of the timings; a write takes effect once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: Token = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        timings: ClientTimings = ClientTimings(),
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        """`token` is a token, or a function that returns the token to use now. Every request has `headers`.

        `session` is used for all requests, and is not closed.

        Raises UserError if the address has no scheme or host.
        """
        super().__init__(Transport(base_url, token, headers, timings, session))

    async def __aenter__(self) -> Self:
        """Return the client; its connections are closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def update_case(self, case_id: str, change: Callable[[Case], CaseChangeFields | None]) -> CaseSummary:
        """Change a case to what `change` returns for it; None or no fields change nothing.

        If another caller changes the case meanwhile, it is read again and `change` is called again.
        """
        attempts = Attempts(self._transport.timings)
        while True:
            case = await self.get_case(case_id)
            changes = change(case)
            if not changes:
                return case
            try:
                return await self.change_case(case_id, version=case.version, **changes)
            except VersionConflict as conflict:
                await attempts.wait_after(conflict, repeat=True)

    async def add_link(
        self, case_id: str, other_case_id: str, kind: LinkKind, *, version: Version = None, idempotency_key: Key = None
    ) -> CaseLink:
        """Link a case with another one; `kind` says what the case is to the other one."""
        path, body = ("support", "cases", case_id, "links"), {"kind": kind, "case_id": other_case_id}
        return await self._write(CaseLink, "POST", path, body, version, key=idempotency_key)

    async def export_report(
        self,
        *,
        start: date | None = None,
        end: date | None = None,
        format: ReportFormat = "jsonl",  # noqa: A002 - as in the API
    ) -> AsyncGenerator[bytes, None]:
        """Yield the report with a row for each case in blocks of bytes; a broken connection raises NoAnswer."""
        request = Request("GET", ("support", "reports", "cases"), {"from": start, "to": end, "format": format})
        timings = self._transport.timings
        limits = aiohttp.ClientTimeout(total=None, sock_connect=timings.connect, sock_read=timings.attempt)
        async with self._transport.open(request, limits) as response:
            async for block in response.content.iter_chunked(BLOCK_BYTES):
                yield block

    async def send_event(self, event: Mapping[str, Any], *, idempotency_key: Key = None) -> Accepted:
        """Send an event of another service: a structured CloudEvent, or the plain payload of older senders."""
        content_type = CLOUD_EVENT if "specversion" in event else JSON
        headers = write_headers(None, idempotency_key) | {"Content-Type": content_type}
        request = Request("POST", ("support", "events"), body=pydantic_core.to_json(event), headers=headers)
        return parse_answer(Accepted, await self._transport.send(request))

    async def readyz(self) -> Ready:
        """Get whether the service is ready, and the status of each part; a service that is not ready raises nothing."""
        request = Request("GET", ("readyz",), accepts=frozenset({NOT_READY_STATUS}))
        return parse_answer(Ready, await self._transport.send(request))

    async def metrics(self, *, token: Token = None) -> str:
        """Get all metrics in the text format of Prometheus; `token` is the value of `SUPPORT_METRICS_TOKEN`."""
        return (await self._transport.send(Request("GET", ("metrics",), token=token))).body.decode()

    async def openapi(self) -> dict[str, Any]:
        """Get the OpenAPI document."""
        return await self._read_document("openapi.json")

    async def asyncapi(self) -> dict[str, Any]:
        """Get the AsyncAPI document, which describes the events."""
        return await self._read_document("asyncapi.json")

    async def docs(self) -> str:
        """Get the description of the API for people, as HTML."""
        return (await self._transport.send(Request("GET", ("docs",)))).body.decode()

    async def _read_document(self, name: str) -> dict[str, Any]:
        answer = await self._transport.send(Request("GET", (name,)))
        try:
            document: dict[str, Any] = pydantic_core.from_json(answer.body)
        except ValueError as failure:
            raise UnexpectedAnswer("unexpected_answer", f"{name} is not JSON", answer.status) from failure
        return document
