"""The caller as clients get it."""

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.core.domain.principals import Role, Scope


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

    name: str = Field(description="the name of the token, or `sub` of the JWT")
    role: Role
    subject: str | None = Field(description="the id that cases have for the caller, as agent or customer")
    teams: list[str] = Field(description="the caller's teams, sorted")
    permissions: dict[str, Scope] = Field(
        description="the scope of each permission of the caller: `all` cases, its `own`, or all with customers' data "
        "`masked`"
    )
