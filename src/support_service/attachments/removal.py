"""Removal of attachments in a unit of work: rows, events, audit entries and the ledger."""

from collections.abc import Sequence
from datetime import datetime

from support_service.attachments import ledger, store
from support_service.attachments.model import StoredAttachment, attachment_view, audit_fields
from support_service.events import outbox
from support_service.platform.audit import log as audit
from support_service.platform.idempotency.unit_of_work import UnitOfWork


async def remove_attachments(
    work: UnitOfWork, ids: Sequence[str], reason: str, at: datetime, *, public_url: str | None
) -> list[StoredAttachment]:
    """Remove attachments of cases that `work` has locked, and return the attachments that existed.

    Append an event about each to the outbox, unless `public_url` is None. This must be the last step of `work`.
    """
    removed = await store.remove(work.tx, ids, reason, at) if ids else []
    if public_url is not None:
        said = {"actor": audit.actor_of(work.origin.principal), "changeType": "attachment.removed"}
        events = [(each.ticket_id, at, {**said, "attachment": attachment_view(each, public_url)}) for each in removed]
        await outbox.append_all(work.tx, outbox.CASE_UPDATED, events)
    await audit_removal(work, removed, reason, at)
    await ledger.subtract(work.tx, removed)
    return removed


async def audit_removal(work: UnitOfWork, removed: Sequence[StoredAttachment], reason: str, at: datetime) -> None:
    """Record in the audit log which attachments `work` removes, and why."""
    changed = [
        (
            each.ticket_id,
            at,
            {name: (value, None) for name, value in audit_fields(each).items()} | {"reason": (None, reason)},
        )
        for each in removed
    ]
    await audit.record_all(work, "attachment.removed", changed)
