"""Presentation of a case: adds attachment URLs and the merged timeline to the stored case."""

from collections.abc import Iterable

from support_service.api.routing.call import Call
from support_service.api.routing.services import Services
from support_service.attachments.model import StoredAttachment, attachment_url, attachment_view
from support_service.cases.model.case import Attachment, Case
from support_service.core.domain import references
from support_service.timeline.merge import Entry, merge_entries


def set_attachment_urls(services: Services, case: Case) -> Case:
    """Set the URL of each attachment of the case, and return the case."""
    for attachment in case.attachments:
        attachment.uri = attachment_url(services.options.public_url, case.id, attachment.id, attachment.filename)
    return case


def add_own_timeline(services: Services, case: Case) -> Case:
    """Add the case's own entries (context, messages, attachments) as its timeline. No service is called.

    `timeline_sources` stays as without a timeline: each service has the status `none`. Return the case.
    """
    return _merge_timeline(set_attachment_urls(services, case), [])


async def add_timeline(call: Call, case: Case, *, refresh: bool = False) -> Case:
    """Add the timeline to the case: entries of upstream services merged with the case's history. Return the case.

    Entries come from the cache or are fetched; `refresh` bypasses the cache.
    """
    set_attachment_urls(call.services, case)
    wanted = references.references_by_service(case.context)
    collected = await call.services.timeline.collect(
        call.principal, case.id, wanted, epoch=case.timeline_epoch, refresh=refresh
    )
    case.timeline_sources = collected.sources
    return _merge_timeline(case, collected.entries)


def present_attachment(services: Services, stored: StoredAttachment) -> Attachment:
    """Return a stored attachment as its API model."""
    return Attachment.model_validate(attachment_view(stored, services.options.public_url))


def _merge_timeline(case: Case, collected: Iterable[Entry]) -> Case:
    case.timeline = merge_entries(case.created_at, case.context, collected, case.messages, case.attachments)
    return case
