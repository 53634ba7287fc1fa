"""The audit log as clients get it."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from support_service.cases.model import examples
from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor
from support_service.core.domain.principals import Role
from support_service.platform.audit.chain import Action


class AuditQuery(ApiModel):
    """Which entries to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE,
        description="maximum number of entries on a page; a page ends early at 4 MiB of JSON",
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the newest entry"
    )


class AuditEntry(ApiModel):
    """One change of a case; `position` and `hash` are set within seconds, when the entry is sealed."""

    model_config = example_config(examples.AUDIT_ENTRY)

    at: datetime
    actor: str = Field(description="the caller's name")
    role: Role
    action: Action
    request_id: str | None = Field(description="identifies the request in the log")
    changes: dict[str, Annotated[list[Any], Field(min_length=2, max_length=2)]] | None = Field(
        description="the value of each field before and after the change; null after an erasure"
    )
    position: int | None = Field(description="its position in the chain, starting at 1")
    hash: str | None = Field(description="SHA-256 in hex of the previous hash and this entry")


class AuditPage(ApiModel):
    """A page of entries, newest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(examples.AUDIT_PAGE)

    items: list[AuditEntry]
    next_cursor: str | None
