"""A case that a unit of work has locked: no other request changes it meanwhile, and each change of it is recorded."""

from typing import Any, Self

from support_service.cases.model.case import CaseSummary, check_status_change
from support_service.cases.policy import check_may_assign
from support_service.cases.recorder import CaseRecorder
from support_service.cases.sql import case_rows
from support_service.core.clock import time_after
from support_service.core.domain import references
from support_service.core.domain.case_vocabulary import Status
from support_service.core.errors import case_not_found
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version
from support_service.platform.unit_of_work import UnitOfWork


class LockedCase:
    """A locked case; `current` is the case after the changes so far."""

    def __init__(self, work: UnitOfWork, recorder: CaseRecorder, case: CaseSummary) -> None:
        self.current = case
        self._work = work
        self._recorder = recorder

    @classmethod
    async def lock(
        cls, work: UnitOfWork, recorder: CaseRecorder, case_id: str, expected: ExpectedVersions = None
    ) -> Self:
        """Lock a case until the unit of work ends. Raises NotFound and VersionConflict."""
        case = await case_rows.lock(work.tx, case_id) if is_valid_id(case_id) else None
        if case is None or not work.origin.principal.may_see(case):
            raise case_not_found(case_id)
        expect_version(case.version, expected)
        return cls(work, recorder, case)

    async def change(self, wanted: dict[str, Any]) -> None:
        """Give fields other values. A field that has its value already does not count as changed.

        Raises Forbidden, and Conflict for a status change that is not allowed.
        """
        before, tx = self.current, self._work.tx
        changed = {name: value for name, value in wanted.items() if not _is_same_json(getattr(before, name), value)}
        if not changed:
            return
        if "assigned_agent_id" in changed:
            check_may_assign(self._work.origin.principal, before.assigned_agent_id, changed["assigned_agent_id"])
        if "status" in changed:
            check_status_change(before.status, changed["status"])
        at = time_after(before.updated_at)
        self.current = before.model_copy(update=changed | {"updated_at": at, "version": before.version + 1})
        await case_rows.update(tx, self.current, changed)
        await self._recorder.fields_changed(self._work, before, self.current, changed)
        if "context" in changed:
            await case_rows.replace_references(tx, self.current.id, references.reference_rows(self.current.context))

    async def set_status(self, status: Status, agent_id: str | None = None) -> None:
        """Set the status and, if given, the agent. Raises the errors of `change`."""
        await self.change({"status": status} | ({"assigned_agent_id": agent_id} if agent_id else {}))


def _is_same_json(before: object, after: object) -> bool:
    """Return whether two values are the same JSON.

    The order of members does not count, because PostgreSQL does not keep it. `1` and `true` differ, although they are
    equal in Python.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            _is_same_json(value, after[name]) for name, value in before.items()
        )
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_same_json, before, after))
    return before == after and isinstance(before, bool) == isinstance(after, bool)
