"""The files that a message names. Its transaction makes the staged ones files of the case."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from support_service.attachments import staged_store, store
from support_service.attachments.addition import add_attachment, count_attachments
from support_service.attachments.backlog import AttachmentBacklog
from support_service.attachments.ledger import LEDGER_ROW
from support_service.attachments.model import StoredAttachment, attachment_url
from support_service.core.clock import utc_now
from support_service.core.errors import FieldError, ValidationFailed
from support_service.platform.idempotency.unit_of_work import UnitOfWork


class NamedFiles:
    """The files that one message names by their ids: staged files of its author, and files of the case.

    It implements `MessageFiles` of the cases.
    """

    rows = (LEDGER_ROW,)

    def __init__(self, ids: Sequence[str], backlog: AttachmentBacklog, max_files: int, *, public_url: str) -> None:
        self._ids = ids
        self._backlog = backlog
        self._max_files = max_files
        self._public_url = public_url
        self._staged: list[StoredAttachment] = []

    async def find(self, work: UnitOfWork, case_id: str) -> str:
        """Return the URI of the first file. `work` must have locked the case. Raises ValidationFailed."""
        principal = work.origin.principal
        found = await staged_store.list_by_ids(work.tx, principal, case_id, self._ids, utc_now())
        by_id = {each.id: each for each in found}
        for each in await store.list_by_ids(work.tx, case_id, self._ids):
            if principal.may_see_visibility(each.visibility):
                by_id[each.id] = each
        if missing := set(self._ids) - by_id.keys():
            raise self._unknown(missing)
        self._staged = [by_id[each] for each in self._ids if by_id[each] in found]
        first = by_id[self._ids[0]]
        return attachment_url(self._public_url, case_id, first.id, first.filename)

    async def add_staged(self, work: UnitOfWork, at: datetime, visibility: str) -> None:
        """Add the staged files to the case, with the time and the visibility of the message.

        Raises ValidationFailed if a staged file has expired, and Conflict if the case is full.
        """
        if not self._staged:
            return
        if not await staged_store.take(work.tx, self._staged):
            raise self._unknown({each.id for each in self._staged})
        self._staged = [replace(each, created_at=at, visibility=visibility) for each in self._staged]
        for each in self._staged:
            await add_attachment(work, each, self._max_files, public_url=self._public_url)

    async def count(self, work: UnitOfWork) -> None:
        """Count the added files. This must be the last step of `work`."""
        await count_attachments(work, self._staged, self._backlog)

    def _unknown(self, ids: set[str]) -> ValidationFailed:
        named = ", ".join(each for each in self._ids if each in ids)
        return ValidationFailed(
            "attachment_not_sendable",
            f"These files are neither in the case nor staged by you, or they have expired: {named}. Upload them again.",
            [
                FieldError(f"attachmentIds.{index}", "is neither a file of the case nor a staged file of yours")
                for index, each in enumerate(self._ids)
                if each in ids
            ],
        )
