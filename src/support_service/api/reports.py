"""Reports: what happened to cases in a time, and a row for each case."""

import logging

from aiohttp import web

from support_service.api.request_costs import charged_turn
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, Tag
from support_service.cases.model.vocabulary import NONE_FILTER
from support_service.core import pagination
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unavailable, problem
from support_service.reports.case_report import CaseRowWriter, read_pages
from support_service.reports.counters import ReportQuestion
from support_service.reports.measures import day_number
from support_service.reports.report_models import ReportedCasesQuery, ReportPage, ReportQuery, ReportRow

TAG = Tag("reports", "Reports: what happened to cases, by day, team, agent and channel, and a row for each case.")
REPORTS_PATH = "/support/reports"
REPORT_COST = 4  # requests: a report adds up to thousands of counters
MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson"}

log = logging.getLogger(__name__)


@get(
    REPORTS_PATH,
    access=Permission("reports:read", {"agent": "own", "supervisor": "all", "analyst": "masked"}),
    problems=DATABASE_PROBLEMS,
)
async def read_report(call: Call, query: ReportQuery) -> Reply[ReportPage]:
    """Report what happened to cases.

    Each change counts for the day, team, agent and channel that the case had at that moment. Days are in UTC. A page by
    days ends with a whole day. Agents read what happened to their own cases, or with `team` to the cases of one of
    their teams. They do not see the figures of each colleague.
    """
    first, last = map(day_number, query.days)
    start = pagination.decode_cursor(query.cursor)
    filters = query.filters if call.scope != "own" else _own_filters(call.principal, query)
    question = ReportQuestion(query.by, first if start is None else max(first, start), last, filters)
    async with charged_turn(call, REPORT_COST):
        answer = await call.service.reports.read(question, query.limit)
    rows = [ReportRow.of(dict(zip(query.by, key, strict=True)), counts) for key, counts in sorted(answer.rows.items())]
    cursor = None if answer.next_day is None else pagination.encode_cursor(answer.next_day)
    return Reply(ReportPage.model_construct(items=rows, next_cursor=cursor, complete_since=answer.since))


def _own_filters(agent: Principal, query: ReportQuery) -> dict[str, str]:
    """Return the filters of an agent's report: of their own cases, or of a whole team of theirs.

    Raises Forbidden for the figures of colleagues, which the directory hides, too.
    """
    of_team = query.team in agent.teams and query.team != NONE_FILTER and query.agent is None
    if query.agent not in (None, agent.id) or (of_team and "agent" in query.by):
        raise problem(
            "permission_missing",
            "The permission 'reports:read' is missing. Agents read reports of their own cases (with `agent`), and of "
            "their teams, but not of each colleague.",
        )
    return query.filters if of_team else query.filters | {"agent": agent.id}


@get(
    REPORTS_PATH + "/cases",
    access=Permission("reports:export", {"supervisor": "all", "analyst": "masked"}),
    masks_itself=True,
    response_media_types=tuple(MEDIA_TYPES.values()),
    problems=DATABASE_PROBLEMS,
)
async def export_report(call: Call, query: ReportedCasesQuery, request: web.Request) -> web.StreamResponse:
    """Report each case that was opened in a time, in the order of the openings.

    The answer is streamed. If it can't be completed, the connection is aborted, so that no part passes for the whole.
    """
    writer = CaseRowWriter(query.format, call.service.masker if call.is_masked else None)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type, response.charset = MEDIA_TYPES[query.format], "utf-8"
    if request.method == "HEAD":
        return response
    pages = read_pages(call.service.database, *query.days)
    async with charged_turn(call, REPORT_COST):
        page = await anext(pages)  # before the headers are sent, so that an error still gets an error response
    await response.prepare(request)
    try:
        with call.service.readiness.count_waiting_for_client():
            await response.write(writer.head + writer.rows(page))
            async for page in pages:
                await response.write(writer.rows(page))
            await response.write_eof()
    except Unavailable as failure:
        log.warning("A report was aborted: %s", failure)
        if request.transport:  # pragma: no branch - else the client left at the same moment
            request.transport.abort()
    return response
