"""What cases need of the files that a message names; the attachments provide it."""

from datetime import datetime
from typing import Protocol

from support_service.database import ContendedRow
from support_service.idempotency.unit_of_work import UnitOfWork


class MessageFiles(Protocol):
    """The files that one message names by `attachmentIds`."""

    @property
    def rows(self) -> tuple[ContendedRow, ...]:
        """The contended rows that change beside the case."""

    async def find(self, work: UnitOfWork, case_id: str) -> str:
        """Return the URI of the first file of a locked case. Raises ValidationFailed if the case lacks one."""

    async def add_staged(self, work: UnitOfWork, at: datetime, visibility: str) -> None:
        """Add those to the case that were staged. Raises ValidationFailed and Conflict."""

    async def count(self, work: UnitOfWork) -> None:
        """Count those that were added, as the last step of `work`."""
