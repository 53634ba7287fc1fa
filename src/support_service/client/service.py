"""Operations on the service itself: the caller, health, metrics, documents, and events of other services."""

from collections.abc import Mapping
from typing import Any

import pydantic_core

from support_service.api.models.service import Accepted, Health, Me, Ready
from support_service.client.errors import UnexpectedAnswer
from support_service.client.operations import JSON, Operations, parse
from support_service.client.transport import Request, Token

CLOUD_EVENT = "application/cloudevents+json"
NOT_READY = 503  # the status of an answer that says what is not ready


class ServiceOperations(Operations):
    """Operations on the service itself."""

    async def get_me(self) -> Me:
        """Get the caller as the service knows it, with its permissions."""
        return await self._read(Me, "support", "me")

    async def send_event(self, event: Mapping[str, Any], *, idempotency_key: str | None = None) -> Accepted:
        """Send an event of another service: a structured CloudEvent, or the plain payload of older senders."""
        content_type = CLOUD_EVENT if "specversion" in event else JSON
        path = ("support", "events")
        sent = await self._write("POST", *path, body=event, content_type=content_type, key=idempotency_key)
        return parse(Accepted, sent)

    async def health(self) -> Health:
        """Get the status of the service in the format of the old service."""
        return await self._read(Health, "health")

    async def livez(self) -> Health:
        """Check that the process answers."""
        return await self._read(Health, "livez")

    async def readyz(self) -> Ready:
        """Get whether the service is ready, and the status of each part; a service that is not ready raises nothing."""
        request = Request("GET", ("readyz",), accepts=frozenset({NOT_READY}))
        return parse(Ready, await self._transport.send(request))

    async def metrics(self, *, token: Token = None) -> str:
        """Get all metrics in the text format of Prometheus; `token` is that of `SUPPORT_METRICS_TOKEN`."""
        return (await self._transport.send(Request("GET", ("metrics",), token=token))).body.decode()

    async def openapi(self) -> dict[str, Any]:
        """Get the OpenAPI document."""
        return await self._document("openapi.json")

    async def asyncapi(self) -> dict[str, Any]:
        """Get the AsyncAPI document, which describes the events."""
        return await self._document("asyncapi.json")

    async def docs(self) -> str:
        """Get the description of the API for people, as HTML."""
        return (await self._transport.send(Request("GET", ("docs",)))).body.decode()

    async def _document(self, name: str) -> dict[str, Any]:
        answer = await self._transport.send(Request("GET", (name,)))
        try:
            document: dict[str, Any] = pydantic_core.from_json(answer.body)
        except ValueError as failure:
            raise UnexpectedAnswer("unexpected_answer", f"{name} is not JSON", answer.status) from failure
        return document
