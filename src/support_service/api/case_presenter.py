"""A case as one answer: its own rows, its attachments with their addresses, and the merged timeline."""

from aiohttp import web

from support_service.api import app_keys
from support_service.attachments.model import Attachment as KeptAttachment
from support_service.attachments.model import address
from support_service.attachments.model import view as public_view
from support_service.cases.model import Attachment, Case
from support_service.core import references
from support_service.timeline.merge import merge


def addressed(request: web.Request, case: Case) -> Case:
    """The case with an address for each attachment."""
    for attachment in case.attachments:
        attachment.uri = _address(request, case.id, attachment.id, attachment.filename)
    return case


async def with_timeline(request: web.Request, case: Case, *, refresh: bool = False) -> Case:
    """The case with its timeline: what the services know, from the cache or asked anew, merged with its own history."""
    addressed(request, case)
    wanted = references.find(case.context)
    collected = await request.app[app_keys.TIMELINE].collect(
        case.id, wanted, epoch=case.timeline_epoch, refresh=refresh
    )
    case.timeline = merge(case.created_at, case.context, collected.entries, case.messages, case.attachments)
    case.timeline_sources = collected.sources
    return case


def view(request: web.Request, kept: KeptAttachment) -> Attachment:
    """An attachment as clients see it."""
    return Attachment.model_validate(public_view(kept, request.app[app_keys.HTTP].public_url))


def _address(request: web.Request, case_id: str, attachment_id: str, filename: str) -> str:
    return address(request.app[app_keys.HTTP].public_url, case_id, attachment_id, filename)
