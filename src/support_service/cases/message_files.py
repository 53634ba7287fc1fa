"""What cases need of the files that a message names. It is a Protocol because attachments lie above cases."""

from datetime import datetime
from typing import Protocol

from support_service.platform.database import ContendedRow
from support_service.platform.idempotency.unit_of_work import UnitOfWork


class MessageFiles(Protocol):
    """The files that one message names by `attachmentIds`."""

    @property
    def rows(self) -> tuple[ContendedRow, ...]:
        """The contended rows that adding the files changes, besides the case."""

    async def find(self, work: UnitOfWork, case_id: str) -> str:
        """Find the files, and return the URI of the first one. `work` has locked the case. Raises ValidationFailed."""

    async def add_staged(self, work: UnitOfWork, at: datetime, visibility: str) -> None:
        """Add the staged files to the case. Raises ValidationFailed and Conflict."""

    async def count(self, work: UnitOfWork) -> None:
        """Count the added files, as the last step of `work`."""
