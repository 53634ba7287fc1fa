"""Cases and messages with an external id are added once: a repeat gets the one that exists, whatever else it says."""

from typing import NamedTuple

from support_service.cases import changes
from support_service.cases.model.case import Case, Message
from support_service.cases.model.requests import NewMessage
from support_service.cases.policy import check_may_write
from support_service.cases.store import external_ids
from support_service.cases.store.case_reading import StoredCase
from support_service.core.errors import Conflict
from support_service.platform.idempotency.unit_of_work import UnitOfWork
from support_service.sla.clock_tracker import ClockTracker


class ExistingCase(NamedTuple):
    """A case that was opened before with the same external id, as the principal may read it now."""

    id: str
    stored: StoredCase

    @property
    def version(self) -> int:
        """The version of the case."""
        return self.stored.version


async def add_case_once(work: UnitOfWork, clocks: ClockTracker, case: Case, first: Message | None) -> str | None:
    """Insert a new case; if its channel has one with its external id, insert nothing and return the id of that one.

    Raises Conflict if the principal may not see that one.
    """
    while not await changes.add_case(work, clocks, case, first):
        existing = await external_ids.find_case(work.tx, case.channel, case.external_id)
        if existing is None:
            continue  # it was deleted after it had prevented the insert
        if not work.origin.principal.may_see(existing):
            raise external_id_taken()
        work.note_case(existing.id)  # the erasure of that case must find the stored response
        return existing.id
    return None


async def lock_and_find_message(work: UnitOfWork, case_id: str, new: NewMessage) -> Message | None:
    """Lock a case, and return its message with the external id of a new one, or None if the new one must be added.

    The lock is held until the unit of work ends, so that no other request adds such a message meanwhile. Raises
    NotFound, Forbidden, and Conflict if the principal may not see the message.
    """
    principal = work.origin.principal
    check_may_write(principal, new)
    await changes.lock_case(work, case_id)
    existing = await external_ids.find_message(work.tx, case_id, new.external_id)
    if existing and not principal.may_see_visibility(existing.visibility):
        raise external_id_taken()
    return existing


def external_id_taken() -> Conflict:
    """Return the error for the external id of something that the caller may not see, without anything about it."""
    return Conflict("external_id_taken", "This `externalId` is in use; send another one.")
