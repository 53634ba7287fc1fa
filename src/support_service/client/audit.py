"""Operations on the audit log."""

from collections.abc import AsyncGenerator
from datetime import datetime

from support_service.api.models.audit import AuditEntry, AuditLogEntry, AuditLogPage, AuditPage, Verification
from support_service.client.cases import CASES
from support_service.client.operations import Operations
from support_service.platform.audit.chain import Action

AUDIT = ("support", "audit")


class AuditOperations(Operations):
    """Operations on the audit log. Lists are read page by page; `page_size` is the size of a page."""

    def list_audit(self, case_id: str, *, page_size: int | None = None) -> AsyncGenerator[AuditEntry, None]:
        """Yield the changes of a case, newest first."""
        return self._items(
            lambda cursor: self._read(AuditPage, *CASES, case_id, "audit", limit=page_size, cursor=cursor)
        )

    def list_audit_log(
        self,
        *,
        actor: str | None = None,
        action: Action | None = None,
        case_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncGenerator[AuditLogEntry, None]:
        """Yield the changes of all cases, overrides, views and macros, newest first; every filter given must hold.

        `start` is inclusive, `end` is exclusive.
        """
        filters = {"actor": actor, "action": action, "case_id": case_id, "from": start, "to": end}
        return self._items(lambda cursor: self._read(AuditLogPage, *AUDIT, **filters, limit=page_size, cursor=cursor))

    async def verify_audit_log(self, *, after: int | None = None, limit: int | None = None) -> Verification:
        """Verify the entries after a position, at most 1,000; by default the last ones."""
        return await self._read(Verification, *AUDIT, "verification", after=after, limit=limit)
