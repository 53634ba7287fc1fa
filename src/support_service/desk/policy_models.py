"""Service level policies as clients send and get them. No I/O."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.clocks.policy import POLICY_CONTENT_EXAMPLE, PolicyContent
from support_service.cases.model.case import ApiModel, example_config

EXAMPLE: dict[str, Any] = {
    "name": "10-urgent",
    **POLICY_CONTENT_EXAMPLE,
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T09:02:11.480000Z",
}


class SlaPolicyContent(PolicyContent):
    """The content of a policy."""

    model_config = example_config(POLICY_CONTENT_EXAMPLE)


class Policy(PolicyContent):
    """A service level policy."""

    model_config = ConfigDict(
        title="SlaPolicy", json_schema_serialization_defaults_required=True, json_schema_extra={"examples": [EXAMPLE]}
    )

    name: str
    created_at: datetime
    updated_at: datetime
    version: SkipJsonSchema[int] = Field(default=1, exclude=True)  # sent to clients as ETag


class SlaPolicyList(ApiModel):
    """All policies, in the order in which they are tried."""

    model_config = example_config({"items": [EXAMPLE]})

    items: list[Policy]
