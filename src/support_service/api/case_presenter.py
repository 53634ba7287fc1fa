"""Presentation of a case: adds attachment URLs and the merged timeline to the stored case."""

from aiohttp import web

from support_service.api import app_keys
from support_service.attachments.model import Attachment as KeptAttachment
from support_service.attachments.model import attachment_url
from support_service.attachments.model import attachment_view as public_view
from support_service.cases.model import Attachment, Case
from support_service.core import references
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.timeline.component import TIMELINE
from support_service.timeline.merge import merge_entries


def with_attachment_urls(request: web.Request, case: Case) -> Case:
    """Set the URL of each attachment of the case, and return the case."""
    for attachment in case.attachments:
        attachment.uri = _attachment_url(request, case.id, attachment.id, attachment.filename)
    return case


async def with_timeline(request: web.Request, case: Case, *, refresh: bool = False) -> Case:
    """Add the timeline to the case: entries of upstream services merged with the case's history. Return the case.

    Entries come from the cache or are fetched; `refresh` bypasses the cache.
    """
    with_attachment_urls(request, case)
    wanted = references.references_by_service(case.context)
    collected = await request.app[TIMELINE].collect(
        CURRENT_PRINCIPAL.get(), case.id, wanted, epoch=case.timeline_epoch, refresh=refresh
    )
    case.timeline = merge_entries(case.created_at, case.context, collected.entries, case.messages, case.attachments)
    case.timeline_sources = collected.sources
    return case


def present_attachment(request: web.Request, kept: KeptAttachment) -> Attachment:
    """Return a stored attachment as its API model."""
    return Attachment.model_validate(public_view(kept, request.app[app_keys.HTTP_OPTIONS].public_url))


def _attachment_url(request: web.Request, case_id: str, attachment_id: str, filename: str) -> str:
    return attachment_url(request.app[app_keys.HTTP_OPTIONS].public_url, case_id, attachment_id, filename)
