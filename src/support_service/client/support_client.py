"""The client of the API: one method for each of its operations."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import aiohttp

from support_service.client.agent_work import AgentWorkOperations
from support_service.client.attachments import AttachmentOperations
from support_service.client.audit import AuditOperations
from support_service.client.cases import CaseOperations
from support_service.client.changes import StreamOperations
from support_service.client.on_call import OnCallOperations
from support_service.client.retries import ClientTimings
from support_service.client.service import ServiceOperations
from support_service.client.service_levels import ServiceLevelOperations
from support_service.client.transport import Token, Transport


class SupportClient(
    CaseOperations,
    AttachmentOperations,
    AgentWorkOperations,
    ServiceLevelOperations,
    AuditOperations,
    OnCallOperations,
    StreamOperations,
    ServiceOperations,
):
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
        """`token` is a token, or a function that returns the one to use now. Every request has `headers`.

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
