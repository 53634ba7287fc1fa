"""Models of cases and attachments as answers to writes: with the URLs of attachments, and the case's own timeline.

Reads answer with the JSON of case_documents.py.
"""

from collections.abc import Iterable
from typing import Any

from support_service.api.routing.services import Services
from support_service.attachments.model import StoredAttachment, attachment_url, attachment_view
from support_service.cases.model.case import Attachment, Case, Message
from support_service.timeline import merge


def add_own_timeline(services: Services, case: Case) -> Case:
    """Set the URL of each attachment of the case, and its own entries (context, messages, attachments) as its timeline.

    No service is called: `timeline_sources` stays as without a timeline, with the status `none` for each service.
    Return the case.
    """
    for attachment in case.attachments:
        attachment.uri = attachment_url(services.options.public_url, case.id, attachment.id, attachment.filename)
    case.timeline = merge.merge(
        merge.context_entries(merge.format_time(case.created_at), case.context),
        merge.message_entries(_members(case.messages)),
        merge.attachment_entries(_members(case.attachments)),
    )
    return case


def _members(rows: Iterable[Message | Attachment]) -> Iterable[dict[str, Any]]:
    """Return messages or attachments as JSON objects, with their times in the form of timeline entries."""
    return ({**row.model_dump(by_alias=True), "createdAt": merge.format_time(row.created_at)} for row in rows)


def present_attachment(services: Services, stored: StoredAttachment) -> Attachment:
    """Return a stored attachment as its API model."""
    return Attachment.model_validate(attachment_view(stored, services.options.public_url))
