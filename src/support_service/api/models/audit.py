"""The audit log as clients get it, of one case and across cases, and the state of its chain."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from support_service.cases.model import examples
from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor
from support_service.cases.model.vocabulary import Identifier, Moment
from support_service.core.domain.principals import Role
from support_service.core.units import MAX_INTEGER
from support_service.platform.audit.chain import CURRENT_ACTION_NAMES, MAX_ACTOR_LENGTH, Action

MAX_VERIFIED_ENTRIES = 1000  # entries per request
AUDIT_LOG_ENTRY_EXAMPLE = examples.AUDIT_ENTRY | {"caseId": "0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11"}
CHAIN_HEAD_EXAMPLE = {"position": 1834, "hash": examples.AUDIT_ENTRY["hash"]}


class AuditQuery(ApiModel):
    """Which entries to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of entries on a page; a page ends early at 4 MiB of JSON"
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


class ChainHead(ApiModel):
    """An end of the chain."""

    model_config = example_config(CHAIN_HEAD_EXAMPLE)

    position: int
    hash: str = Field(description="SHA-256 in hex")


Detached = Annotated[
    ChainHead | None,
    Field(description="the last entry of the log that was moved to a file; older entries are there, too; null if none"),
]


class AuditPage(ApiModel):
    """A page of entries, newest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(examples.AUDIT_PAGE | {"detached": None})

    items: list[AuditEntry]
    next_cursor: str | None
    detached: Detached = None


def current_action_name(value: object) -> object:
    """Return the current name of an action that is given by its former name; any other value as it is."""
    return CURRENT_ACTION_NAMES.get(value, value) if isinstance(value, str) else value


class AuditLogQuery(ApiModel):
    """Which entries to list; all filters must match."""

    actor: Annotated[str, Field(min_length=1, max_length=MAX_ACTOR_LENGTH)] | None = Field(
        None, description="the name of the caller; all customers are `customer`"
    )
    action: Annotated[Action, BeforeValidator(current_action_name)] | None = Field(None, description="what was done")
    case_id: Identifier | None = Field(None, description="entries of one case, also of a deleted one")
    start: Moment | None = Field(None, alias="from", description="entries from this time on")
    end: Moment | None = Field(None, alias="to", description="entries before this time")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of entries on a page; a page ends early at 4 MiB of JSON"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the newest entry"
    )


class AuditLogEntry(AuditEntry):
    """One change; `position` and `hash` are set within seconds, when the entry is sealed."""

    model_config = example_config(AUDIT_LOG_ENTRY_EXAMPLE)

    case_id: str | None = Field(description="the changed case; null for what belongs to no case, such as an override")


class AuditLogPage(ApiModel):
    """A page of entries, newest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(
        {
            "items": [AUDIT_LOG_ENTRY_EXAMPLE],
            "subjects": {AUDIT_LOG_ENTRY_EXAMPLE["caseId"]: "Where is my parcel?"},
            "nextCursor": None,
            "detached": None,
        }
    )

    items: list[AuditLogEntry]
    subjects: dict[str, str] = Field(
        {}, description="subjects of the cases of these entries, by their ids, as they are now"
    )
    next_cursor: str | None
    detached: Detached = None


class VerificationQuery(ApiModel):
    """Which part of the chain to verify."""

    after: Annotated[int, Field(ge=0, le=MAX_INTEGER)] | None = Field(
        None, description="position of the entry before the part, which is taken as valid; by default the last entries"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_VERIFIED_ENTRIES)] = Field(
        MAX_VERIFIED_ENTRIES, description="maximum number of entries to verify"
    )


class Verification(ApiModel):
    """The result of the verification of a part of the chain."""

    model_config = example_config(
        {
            "holds": True,
            "flaw": None,
            "after": 834,
            "verifiedTo": 1834,
            "more": False,
            "head": CHAIN_HEAD_EXAMPLE,
            "oldestUnsealedAt": None,
            "detached": None,
        }
    )

    holds: bool = Field(description="true if no flaw was found in this part")
    flaw: str | None
    after: int = Field(
        description="position of the entry before the part; `detached.position` if what was asked for is detached"
    )
    verified_to: int = Field(description="position of the last valid entry")
    more: bool = Field(description="true if the chain goes on after `verifiedTo`")
    head: ChainHead = Field(description="the end of the whole chain: keep it outside of the database")
    oldest_unsealed_at: datetime | None = Field(description="time of the oldest entry that is not in the chain yet")
    detached: Detached = None
