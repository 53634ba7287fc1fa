"""The caller as clients get it."""

from typing import Annotated

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.core.domain.principals import Role, Scope
from support_service.core.personal import NOT_PERSONAL


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
    permissions: Annotated[dict[str, Scope], NOT_PERSONAL] = Field(
        description="the scope of each permission of the caller: `all` cases, its `own`, or all with customers' data "
        "`masked`"
    )
