"""The audit log across cases, and the state of its chain."""

from support_service.api.audit import READ, TAG, members
from support_service.api.models.audit import (
    AuditLogEntry,
    AuditLogPage,
    AuditLogQuery,
    ChainHead,
    Verification,
    VerificationQuery,
)
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.core import pagination
from support_service.platform.audit.entry_rows import AuditFilters, find_entries
from support_service.platform.audit.verify import verify_part


@get("/support/audit", tag=TAG, access=READ, problems=DATABASE_PROBLEMS)
async def list_audit_log(call: Call, query: AuditLogQuery) -> Reply[AuditLogPage]:
    """List the changes of all cases, overrides, views and macros, newest first.

    They do not include the texts of messages. The entries of deleted cases are kept; their changes are null after an
    erasure.
    """
    before = pagination.decode_timed_cursor(query.cursor)
    filters = AuditFilters(query.actor, query.action, query.case_id, query.start, query.end)
    page, more = await find_entries(call.services.database, filters, before, query.limit)
    cursor = pagination.encode_timed_cursor(page[-1].at, page[-1].seq) if more else None
    items = [AuditLogEntry.model_validate(members(each) | {"caseId": each.case_id}) for each in page]
    return Reply(AuditLogPage.model_construct(items=items, next_cursor=cursor))


@get("/support/audit/verification", tag=TAG, access=READ, problems=DATABASE_PROBLEMS)
async def verify_audit_log(call: Call, query: VerificationQuery) -> Reply[Verification]:
    """Verify a part of the chain, by default its last 1,000 entries.

    A part shows that its entries were not altered since they were sealed. Only `support-service audit verify` verifies
    the whole chain, with the head that you kept outside of the database.
    """
    found = await verify_part(call.services.database, query.after, query.limit)
    return Reply(
        Verification.model_construct(
            holds=found.flaw is None,
            flaw=found.flaw,
            after=found.start,
            verified_to=found.head.position,
            more=found.head.position < found.end.position,
            head=ChainHead.model_construct(position=found.end.position, hash=found.end.hash.hex()),
            oldest_unsealed_at=found.oldest_unsealed,
        )
    )
