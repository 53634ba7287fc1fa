"""Addition of attachments to a case in a unit of work: rows, events, audit entries and the ledger."""

from collections.abc import Sequence
from functools import partial

from support_service.attachments import ledger, store
from support_service.attachments.backlog import AttachmentBacklog
from support_service.attachments.model import StoredAttachment, attachment_view, audit_fields
from support_service.core.errors import Conflict
from support_service.events import outbox
from support_service.platform.audit import log as audit
from support_service.platform.idempotency.unit_of_work import UnitOfWork


async def add_attachment(work: UnitOfWork, added: StoredAttachment, max_files: int, *, public_url: str) -> None:
    """Add an attachment to a case that `work` has locked. Raises Conflict if the case has `max_files` files.

    At the end of `work`, pass the attachment to `count_attachments`.
    """
    view = attachment_view(added, public_url)
    event = {"actor": audit.actor_of(work.origin.principal), "changeType": "attachment.added", "attachment": view}
    await outbox.append_event(work.tx, added.ticket_id, outbox.CASE_UPDATED, added.created_at, **event)
    changes = {name: (None, value) for name, value in audit_fields(added).items()}
    await audit.record(work, added.ticket_id, "attachment.added", added.created_at, changes)
    if not await store.add(work.tx, added, max_files):
        raise case_full(max_files)


async def count_attachments(work: UnitOfWork, added: Sequence[StoredAttachment], backlog: AttachmentBacklog) -> None:
    """Count added attachments in the ledger and the gauges. This must be the last step of `work`."""
    for storage in sorted({each.storage for each in added}):
        sizes = [each.size_bytes for each in added if each.storage == storage]
        totals = await ledger.add(work.tx, storage, len(sizes), sum(sizes))
        work.after_commit(partial(backlog.update, storage, totals))


def case_full(max_files: int) -> Conflict:
    """Return the error for a case that has as many files as it may have."""
    return Conflict("case_full", f"This case has {max_files:,} files, as many as it may have; open another case.")
