"""The audit log: who changed what and when, of one case and across cases, and the state of its chain."""

from typing import Any

import pydantic_core

from support_service.api.cases import CASE_PATH
from support_service.api.models.audit import (
    AuditEntry,
    AuditLogEntry,
    AuditLogPage,
    AuditLogQuery,
    AuditPage,
    AuditQuery,
    ChainHead,
    Verification,
    VerificationQuery,
)
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import CASE_PROBLEMS, DATABASE_PROBLEMS, Permission, Tag
from support_service.core import pagination
from support_service.core.errors import case_not_found
from support_service.core.ids import is_valid_id
from support_service.platform.audit import chain
from support_service.platform.audit.chain import StoredAuditEntry
from support_service.platform.audit.entry_rows import AuditFilters, find_entries, read_case_entries
from support_service.platform.audit.verify import verify_part

TAG = Tag("audit", "The audit log: who changed what and when, with the values before and after.")

AUDIT_READ = Permission("audit:read", {"supervisor": "all"})


@get(CASE_PATH + "/audit", access=AUDIT_READ, problems=CASE_PROBLEMS)
async def list_audit(call: Call, case_id: str, query: AuditQuery) -> Reply[AuditPage]:
    """List the changes of a case, newest first.

    The entries of a deleted case are kept. They do not include the texts of messages.
    """
    before = pagination.decode_cursor(query.cursor)
    if not is_valid_id(case_id):
        raise case_not_found(case_id)
    page, more, detached = await read_case_entries(call.service.database, case_id, before, query.limit)
    if not page and before is None:
        # The case may be older than the audit log. Raises if there is no such case.
        await call.service.cases.read_visible_owner(call.principal, case_id)
    cursor = pagination.encode_cursor(page[-1].seq) if more else None
    items = [AuditEntry.model_validate(audit_entry_members(each)) for each in page]
    return Reply(AuditPage.model_construct(items=items, next_cursor=cursor, detached=_shown_detached(detached)))


def _shown_detached(head: chain.ChainHead) -> ChainHead | None:
    return _shown_head(head) if head.position else None


def _shown_head(head: chain.ChainHead) -> ChainHead:
    return ChainHead.model_construct(position=head.position, hash=head.hash.hex())


def audit_entry_members(entry: StoredAuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "actor": entry.actor,
        "role": entry.role,
        "action": chain.CURRENT_ACTION_NAMES.get(entry.action, entry.action),
        "requestId": entry.request_id,
        "changes": pydantic_core.from_json(entry.changes) if entry.changes is not None else None,
        "position": entry.position,
        "hash": entry.hash.hex() if entry.hash else None,
    }


@get("/support/audit", access=AUDIT_READ, problems=DATABASE_PROBLEMS)
async def list_audit_log(call: Call, query: AuditLogQuery) -> Reply[AuditLogPage]:
    """List the changes of all cases, overrides, views and macros, newest first.

    They do not include the texts of messages. The entries of deleted cases are kept; their changes are null after an
    erasure.
    """
    before = pagination.decode_timed_cursor(query.cursor)
    filters = AuditFilters(query.actor, query.action, query.case_id, query.start, query.end)
    (page, more, detached), subjects = await find_entries(call.service.database, filters, before, query.limit)
    cursor = pagination.encode_timed_cursor(page[-1].at, page[-1].seq) if more else None
    items = [AuditLogEntry.model_validate(audit_entry_members(each) | {"caseId": each.case_id}) for each in page]
    return Reply(
        AuditLogPage.model_construct(
            items=items, subjects=subjects, next_cursor=cursor, detached=_shown_detached(detached)
        )
    )


@get("/support/audit/verification", access=AUDIT_READ, problems=DATABASE_PROBLEMS)
async def verify_audit_log(call: Call, query: VerificationQuery) -> Reply[Verification]:
    """Verify a part of the chain, by default its last 1,000 entries.

    A part shows that its entries were not altered since they were sealed. Only `support-service audit verify` verifies
    the whole chain, with the head that you kept outside of the database.
    """
    found = await verify_part(call.service.database, query.after, query.limit)
    return Reply(
        Verification.model_construct(
            holds=found.flaw is None,
            flaw=found.flaw,
            after=found.start,
            verified_to=found.head.position,
            more=found.head.position < found.end.position,
            head=_shown_head(found.end),
            oldest_unsealed_at=found.oldest_unsealed,
            detached=_shown_detached(found.detached),
        )
    )
