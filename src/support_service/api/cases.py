"""Cases: open, list, read, change, close."""

from aiohttp import web
from pydantic import Field

from support_service.api.authorization import is_masked
from support_service.api.case_presenter import with_attachment_urls, with_timeline
from support_service.api.etags import etag_header, if_match_versions, matches_if_none_match
from support_service.api.idempotency import write_context
from support_service.attachments.component import ATTACHMENTS
from support_service.attachments.model import Attachment
from support_service.cases.component import CASE_MASKER, CASES
from support_service.cases.model import (
    ApiModel,
    Case,
    CaseChange,
    CaseQuery,
    Closing,
    NewCase,
    NewMessage,
    StatusChange,
)
from support_service.cases.policy import permission_missing
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.http.json_body import json_response, read_body_and_query, read_model, read_query
from support_service.idempotency.unit_of_work import UnitOfWork
from support_service.telemetry.logs import CASE_ID
from support_service.timeline.component import TIMELINE


class CaseDetailQuery(ApiModel):
    """What a detail holds."""

    include_timeline: bool = Field(default=False, description="collect the timeline, live or from the cache")


async def open_case(request: web.Request) -> web.Response:
    """Open a case, with its first message if one is sent.

    `Location` and `id` say where it is from now on. What `context` names is looked up in the order, payment and
    fulfillment services whenever the timeline is read. Fields that nobody knows are ignored.
    """
    case = await request.app[CASES].open_case(write_context(request), await read_model(request, NewCase))
    CASE_ID.set(case.id)  # for the access log line, after which the variable is reset
    return json_response(case, 201, {"Location": f"/support/cases/{case.id}", **etag_header(request, case)})


async def list_cases(request: web.Request) -> web.Response:
    """List cases, newest first.

    Every filter that is given must hold; an empty one counts as not given. `nextCursor` asks for the next page, and
    is null on the last one. Made-up cases (channel `synthetic`) are in no list.
    """
    query = read_query(request, CaseQuery)
    if is_masked(request) and (query.q or query.customer_id):
        raise permission_missing("cases:search", "What is masked can't be searched for.")
    page = await request.app[CASES].list_cases(CURRENT_PRINCIPAL.get(), query)
    if is_masked(request):
        page.items = [request.app[CASE_MASKER].ticket(ticket) for ticket in page.items]
    return json_response(page)


async def get_case(request: web.Request) -> web.Response:
    """Read a case, with its messages and attachments.

    `includeTimeline=true` merges in what the order, payment and fulfillment services know, from the cache or asked now;
    `timelineSources` says what each one's part is worth. A service that is down costs its own entries and nothing else.
    """
    wanted = read_query(request, CaseDetailQuery)
    case = await request.app[CASES].get_case(CURRENT_PRINCIPAL.get(), path_case_id(request))
    if wanted.include_timeline:
        return json_response(
            _mask_if_required(request, await with_timeline(request, case)),
            headers=etag_header(request, case, live=True),
        )
    if matches_if_none_match(request, case):
        return web.Response(status=304, headers=etag_header(request, case))
    return json_response(
        _mask_if_required(request, with_attachment_urls(request, case)), headers=etag_header(request, case)
    )


async def change_case(request: web.Request) -> web.Response:
    """Change some fields of a case.

    Fields that are sent replace what was there, lists as a whole; the others stay as they are. A `description` or
    `assignedAgentId` of null empties it.
    """
    change = await read_model(request, CaseChange)
    ticket = await request.app[CASES].change_case(
        write_context(request), path_case_id(request), change, if_match_versions(request)
    )
    if "context" in change.model_fields_set:
        await request.app[TIMELINE].invalidate(ticket.id)
    return json_response(ticket, headers=etag_header(request, ticket))


async def add_message(request: web.Request) -> web.Response:
    """Add a message to a case.

    `authorType` says who wrote it; a file that belongs to it is sent before as an attachment, and named by its `uri`.
    """
    body = await read_model(request, NewMessage)
    return json_response(
        await request.app[CASES].add_message(
            write_context(request), path_case_id(request), body, if_match_versions(request)
        )
    )


async def set_status(request: web.Request) -> web.Response:
    """Give a case a status, and an agent if one is named.

    Both may come in the query or as JSON; the query has the last word, and one of the two must name a status.
    """
    change = await read_body_and_query(request, StatusChange)
    ticket = await request.app[CASES].set_status(
        write_context(request), path_case_id(request), change, if_match_versions(request)
    )
    return json_response(ticket, headers=etag_header(request, ticket))


async def close_case(request: web.Request) -> web.Response:
    """Close a case, with a last message if one is sent.

    A closed case stays closed, and takes the message all the same, unless it is its customer's.
    """
    closing = await read_body_and_query(request, Closing)
    case = await request.app[CASES].close_case(
        write_context(request), path_case_id(request), closing, if_match_versions(request)
    )
    return json_response(with_attachment_urls(request, case), headers=etag_header(request, case))


async def delete_case(request: web.Request) -> web.Response:
    """Delete a made-up case with its files.

    The synthetic check removes so what it made. Cases of any channel but `synthetic` are refused: close them.
    """
    case, files = path_case_id(request), request.app[ATTACHMENTS]
    removed: list[Attachment] = []

    async def remove_files(work: UnitOfWork) -> None:
        removed.extend(await files.remove_all(work, case))

    await request.app[CASES].remove_synthetic(write_context(request), case, remove_files, if_match_versions(request))
    await files.discard(removed)
    return web.Response(status=204)


async def refresh_timeline(request: web.Request) -> web.Response:
    """Collect a case's timeline anew, whatever is cached.

    Every service that the context refers to is asked; where one fails, what is known from before stands in for it.
    """
    case = await request.app[CASES].get_case(CURRENT_PRINCIPAL.get(), path_case_id(request))
    return json_response(
        await with_timeline(request, case, refresh=True), headers=etag_header(request, case, live=True)
    )


def path_case_id(request: web.Request) -> str:
    """Return the case id of the path."""
    return request.match_info["case_id"]


def _mask_if_required(request: web.Request, case: Case) -> Case:
    return request.app[CASE_MASKER].case(case) if is_masked(request) else case
