"""The audit log: who changed what and when, with the values before and after."""

from datetime import datetime
from typing import Annotated, Any

import pydantic_core
from pydantic import Field

from support_service.api.cases import CASE
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import Permission, Route, Tag
from support_service.audit import log, store
from support_service.audit.chain import StoredAuditEntry
from support_service.cases.model import examples
from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import CURSOR_PATTERN, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from support_service.core import pagination
from support_service.core.domain.principals import Role
from support_service.core.ids import is_valid_id

TAG = Tag("audit", "The audit log: who changed what and when, with the values before and after.")


READ = Permission("audit:read", {"supervisor": "all"})


class AuditQuery(ApiModel):
    """Which entries to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE,
        description="maximum number of entries on a page; a page ends early at 4 MiB of JSON",
    )
    cursor: Annotated[str, Field(max_length=64, json_schema_extra={"pattern": CURSOR_PATTERN})] | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the newest entry"
    )


class AuditEntry(ApiModel):
    """One change of a case; `position` and `hash` are set within seconds, when the entry is sealed."""

    model_config = example_config(examples.AUDIT_ENTRY)

    at: datetime
    actor: str = Field(description="the caller's name")
    role: Role
    action: log.Action
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


async def list_audit(call: Call, case_id: str, query: AuditQuery) -> Reply[AuditPage]:
    """List the changes of a case, newest first.

    The entries of a deleted case are kept. They do not include the texts of messages.
    """
    before = pagination.decode_cursor(query.cursor)
    page, more = (
        await store.read_case_entries(call.services.database, case_id, before, query.limit)
        if is_valid_id(case_id)
        else ([], False)
    )
    if not page and before is None:
        # The case may be older than the audit log. Raises if there is no such case.
        await call.services.cases.expect_visible(call.principal, case_id)
    cursor = pagination.encode_cursor(page[-1].seq) if more else None
    return Reply(
        AuditPage.model_construct(items=[AuditEntry.model_validate(members(each)) for each in page], next_cursor=cursor)
    )


def members(entry: StoredAuditEntry) -> dict[str, Any]:
    """Return the members of an entry as the API shows it."""
    return {
        "at": entry.at,
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "requestId": entry.request_id,
        "changes": pydantic_core.from_json(entry.changes) if entry.changes is not None else None,
        "position": entry.position,
        "hash": entry.hash.hex() if entry.hash else None,
    }


ROUTES = (
    Route(
        operation="list_audit",
        tag=TAG,
        method="GET",
        path=CASE + "/audit",
        handler=list_audit,
        access=READ,
        query=AuditQuery,
        response_model=AuditPage,
        problems=(*CASE_PROBLEMS, "invalid_request"),
    ),
)
