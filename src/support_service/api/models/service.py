"""What clients get of the service itself: its health, who they are, and the receipt of an event."""

from typing import Annotated, Literal

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.core.domain.principals import AccessScope, Role
from support_service.core.domain.upstream_services import UpstreamService
from support_service.core.personal import NOT_PERSONAL


class Health(ApiModel):
    """The status in the format of the old service."""

    model_config = example_config({"status": "ok"})

    status: str


class Ready(ApiModel):
    """Whether the service is ready, and the status of each dependency: `ok`, or a code."""

    model_config = example_config(
        {
            "status": "ready",
            "database": "ok",
            "cache": "ok",
            "events": "ok",
            "storage": "ok",
            "access": "ok",
            "sources": {"order": "ok", "payment": "ok", "fulfillment": "off"},
        }
    )

    status: Literal["ready", "unavailable", "stopping"]
    database: str = Field(description="`ok`, or the problem code of requests, such as `database_read_only`")
    cache: str = Field(description="`ok`, or `cache_unavailable`: Redis does not answer")
    events: str = Field(description="`ok`, or `broker_unavailable`: the Redis of events does not answer")
    storage: str = Field(description="`ok`, or the problem code of the last upload, such as `storage_unavailable`")
    access: str = Field(
        description="`ok`, `keys_unavailable` or `tokens_unavailable`: what was read before stays valid"
    )
    sources: dict[UpstreamService, str] = Field(
        description="Of each upstream service: `ok`, `off`, or `source_unavailable`: this replica's circuit breaker "
        "rejects calls, because they failed"
    )


class Me(ApiModel):
    """The caller as the service knows it, and its permissions."""

    model_config = example_config(
        {
            "name": "lan",
            "role": "agent",
            "subject": "agent-7",
            "teams": ["deliveries"],
            "permissions": {"cases:read": "own", "cases:write": "own", "me:read": "own", "views:read": "own"},
        }
    )

    name: Annotated[str, NOT_PERSONAL] = Field(description="the name of the token, or `sub` of the JWT")
    role: Annotated[Role, NOT_PERSONAL]
    subject: Annotated[str | None, NOT_PERSONAL] = Field(
        description="the id that cases have for the caller, as agent or customer"
    )
    teams: Annotated[list[str], NOT_PERSONAL] = Field(description="the caller's teams, sorted")
    permissions: Annotated[dict[str, AccessScope], NOT_PERSONAL] = Field(
        description="the scope of each permission of the caller: `all` cases, its `own`, or all with customers' data "
        "`masked`"
    )


class Accepted(ApiModel):
    """An accepted event; it is applied soon, and only once if it is sent repeatedly."""

    model_config = example_config({"id": "e-1", "type": "fulfillment.shipment.updated.v1", "ignored": False})

    id: str
    type: str
    ignored: bool = Field(description="true for an event of an unknown type, which has no effect")
