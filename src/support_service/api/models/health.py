"""Models of the answers about the service's health."""

from typing import Literal

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.core.domain.upstream_services import UpstreamService


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
        description="`ok`, `keys_unavailable` or `tokens_unavailable`: those that were read before stay valid"
    )
    sources: dict[UpstreamService, str] = Field(
        description="Of each upstream service: `ok`, `off`, or `source_unavailable`: this replica's circuit breaker "
        "rejects calls, because they failed"
    )
