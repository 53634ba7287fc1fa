"""Checks of the case that a file is added to or removed from, and their errors."""

from support_service.attachments import store
from support_service.attachments.store import CaseForUpload
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, Forbidden, NotFound, case_not_found
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version, visible_version
from support_service.platform.database import Reader, Transaction
from support_service.platform.idempotency.unit_of_work import UnitOfWork


async def lock_visible_case(
    work: UnitOfWork, case_id: str, expected: ExpectedVersions, *, visibility: str
) -> CaseForUpload:
    """Lock the case and increment its version, for a change of a file. Raises NotFound and VersionConflict."""
    principal = work.origin.principal
    locked = await store.lock_case_and_bump_version(work.tx, case_id, internal=visibility == "internal")
    case = require_visible(principal, case_id, locked)
    expect_version(visible_version(principal, case.version, case.internal_changes) - 1, expected)
    return case


async def read_accepting_case(
    reader: Reader, principal: Principal, case_id: str, expected: ExpectedVersions
) -> CaseForUpload:
    """Return a case that the principal may add a file to, without locking it.

    Raises NotFound (the case is unknown, or the principal may not see it), Conflict and VersionConflict.
    """
    found = await store.get_case(reader, case_id) if is_valid_id(case_id) else None
    return _require_accepting(principal, case_id, found, expected)


async def hold_accepting_case(
    tx: Transaction, principal: Principal, case_id: str, expected: ExpectedVersions
) -> CaseForUpload:
    """Return a case that the principal may add a file to; nobody else changes it until `tx` ends.

    Raises the errors of `read_accepting_case`.
    """
    return _require_accepting(principal, case_id, await store.hold_case(tx, case_id), expected)


def _require_accepting(
    principal: Principal, case_id: str, found: CaseForUpload | None, expected: ExpectedVersions
) -> CaseForUpload:
    case = require_visible(principal, case_id, found)
    require_accepting_files(principal, case)
    expect_version(visible_version(principal, case.version, case.internal_changes), expected)
    return case


def require_visible(principal: Principal, case_id: str, case: CaseForUpload | None) -> CaseForUpload:
    """Return the case. Raises NotFound if there is none, or if the principal may not see it."""
    if case is None or not principal.may_see(case.owner):
        raise case_not_found(case_id)
    return case


def require_accepting_files(principal: Principal, case: CaseForUpload) -> None:
    """Raise Conflict if the case is closed and the principal is its customer."""
    if case.status == "closed" and principal.role == "customer":
        raise Conflict("case_closed", "The case is closed and takes no more files of its customer; open a new one.")


def require_may_remove(principal: Principal) -> None:
    """Raise Forbidden if the principal is a customer: customers delete files only before they are sent."""
    if principal.role == "customer":
        raise Forbidden(
            "permission_missing",
            "The permission 'attachments:delete' covers a customer's staged files only; this file is in the case.",
        )


def attachment_not_found(attachment_id: str) -> NotFound:
    """Return the error for an attachment that does not exist, or that the principal may not see."""
    return NotFound("attachment_not_found", f"There is no attachment {attachment_id[:64]!r} in this case.")
