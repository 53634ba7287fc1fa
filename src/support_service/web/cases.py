"""Cases: open, list, read, change, close."""

from aiohttp import web
from pydantic import Field

from support_service.cases.model import CaseChange, CaseQuery, Closing, NewCase, NewMessage, StatusChange, Wire
from support_service.cases.rights import missing
from support_service.cases.service import expect_synthetic
from support_service.telemetry.logs import CASE_ID
from support_service.web import keys
from support_service.web.access import is_masked
from support_service.web.detail import addressed, with_timeline
from support_service.web.wire import read, read_optional, read_query, reply


class DetailQuery(Wire):
    """What a detail holds."""

    include_timeline: bool = Field(default=False, description="collect the timeline, live or from the cache")


async def open_case(request: web.Request) -> web.Response:
    """Open a case, with its first message if one is sent."""
    case = await request.app[keys.SUPPORT].open_case(await read(request, NewCase))
    CASE_ID.set(case.id)  # for the request's own line in the log, which ends the setting
    return reply(case, 201, {"Location": f"/support/cases/{case.id}"})


async def list_cases(request: web.Request) -> web.Response:
    """List cases, newest first; every filter given must hold, and `q` searches subject, description and customer."""
    query = read_query(request, CaseQuery)
    if is_masked(request) and (query.q or query.customer_id):
        raise missing("cases:search", "What is masked can't be searched for.")
    page = await request.app[keys.SUPPORT].list_cases(query)
    if is_masked(request):
        page.items = [request.app[keys.MASK].ticket(ticket) for ticket in page.items]
    return reply(page)


async def get_case(request: web.Request) -> web.Response:
    """Read a case; `includeTimeline=true` merges in what the order, payment and fulfillment services know."""
    wanted = read_query(request, DetailQuery)
    case = await request.app[keys.SUPPORT].get_case(case_id(request))
    case = await with_timeline(request, case) if wanted.include_timeline else addressed(request, case)
    return reply(request.app[keys.MASK].case(case) if is_masked(request) else case)


async def change_case(request: web.Request) -> web.Response:
    """Change the fields that are sent, and leave the others as they are."""
    change = await read(request, CaseChange)
    ticket = await request.app[keys.SUPPORT].change_case(case_id(request), change)
    if "context" in change.model_fields_set:
        await request.app[keys.TIMELINE].invalidate(ticket.id)
    return reply(ticket)


async def add_message(request: web.Request) -> web.Response:
    """Add a message to a case."""
    body = await read(request, NewMessage)
    return reply(await request.app[keys.SUPPORT].add_message(case_id(request), body))


async def set_status(request: web.Request) -> web.Response:
    """Give a case a status, and an agent if one is named; by query or JSON."""
    change = await read_optional(request, StatusChange)
    return reply(await request.app[keys.SUPPORT].set_status(case_id(request), change))


async def close_case(request: web.Request) -> web.Response:
    """Close a case, with a last message if one is sent; a closed case stays closed."""
    case = await request.app[keys.SUPPORT].close_case(case_id(request), await read_optional(request, Closing))
    return reply(addressed(request, case))


async def delete_case(request: web.Request) -> web.Response:
    """Delete a made-up case (channel `synthetic`) with its files; any other is refused."""
    case = await request.app[keys.SUPPORT].get_case(case_id(request))
    expect_synthetic(case)
    for attachment in case.attachments:
        await request.app[keys.ATTACHMENTS].remove(case.id, attachment.id)
    await request.app[keys.SUPPORT].remove_synthetic(case.id)
    return web.Response(status=204)


async def refresh_timeline(request: web.Request) -> web.Response:
    """Collect the timeline anew from every service, whatever is cached."""
    case = await request.app[keys.SUPPORT].get_case(case_id(request))
    return reply(await with_timeline(request, case, refresh=True))


def case_id(request: web.Request) -> str:
    """The case that the path names."""
    return request.match_info["case_id"]
