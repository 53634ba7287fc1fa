"""Saved views of the list of cases, and what the caller may do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, partial

from pydantic import ValidationError

from support_service.api.cases import check_may_search
from support_service.api.models.service import Me
from support_service.api.request_costs import count_cost
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, patch, post
from support_service.api.routing.etags import count_etag_header, unique_etag_header
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, Routes, Tag
from support_service.cases.model.vocabulary import Json
from support_service.core import pagination
from support_service.core.domain.principals import ROLES, AccessScope, Role
from support_service.core.errors import Forbidden, SupportError
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.view_models import (
    CountedView,
    NewView,
    SavedView,
    StandardView,
    StandardViews,
    ViewChange,
    ViewFilters,
    ViewListQuery,
    ViewNumbers,
    ViewPage,
    standard_queries,
)

MAX_COUNT = 1000  # cases of a view that are counted exactly
MAX_CONCURRENT_COUNTS = 2  # of one request
COUNT_TIMEOUT = 2.0  # seconds of one request; views that are not counted by then have no count
TAG = Tag("views", "Saved views: filters of the list of cases under a name, with the number of cases of each.")
VIEWS_PATH = "/support/views"
VIEW_PATH = VIEWS_PATH + "/{view_id}"

CountCases = Callable[[Json, int], Awaitable[tuple[int | None, int | None]]]

VIEWS_READ = Permission("views:read", {"agent": "own", "supervisor": "all", "analyst": "masked"})
VIEWS_WRITE = Permission("views:write", {"agent": "own", "supervisor": "all", "analyst": "masked"})
VIEW_PROBLEMS = (*DATABASE_PROBLEMS, "view_not_found")
SAVE_PROBLEMS = (*DATABASE_PROBLEMS, "too_many_views", "view_name_taken")


@post(
    VIEWS_PATH,
    access=VIEWS_WRITE,
    status=201,
    headers=("ETag", "Location"),
    problems=SAVE_PROBLEMS,
    links=(("view_id", "/id"),),
)
async def create_view(call: Call, body: NewView) -> Reply[SavedView]:
    """Save a view of the list of cases.

    A view without `team` belongs to the caller, who alone sees it. A view with `team` belongs to the team: its agents
    and every supervisor see and change it. `query` has the query parameters of `GET /support/cases` without `limit` and
    `cursor`; other members are refused. A name is unique among the views of a user, and among the views of a team.
    """
    check_may_search(call, body.query)
    view = await call.service.views.create(call.origin, body.name, body.query.as_query(), body.team)
    return Reply(view, {"Location": f"{VIEWS_PATH}/{view.id}", **count_etag_header(call, view.version)})


@get(VIEWS_PATH, access=VIEWS_READ, problems=DATABASE_PROBLEMS)
async def list_views(call: Call, query: ViewListQuery) -> Reply[ViewPage]:
    """List the saved views of the caller and of the caller's teams, newest first.

    Each has the number of cases that it shows to the caller, exact up to 1,000. Supervisors see the views of all teams.
    """
    before = pagination.decode_cursor(query.cursor)
    found, last = await call.service.views.list_views(call.principal, before, query.limit)
    page = await with_case_counts(found, partial(_count_cases_of_query, call))
    cursor = None if last is None else pagination.encode_cursor(last)
    return Reply(ViewPage.model_construct(items=page, next_cursor=cursor))


# Before the routes of one view, whose ids have another form.
@get(VIEWS_PATH + "/counts", access=VIEWS_READ, problems=DATABASE_PROBLEMS)
async def count_views(call: Call) -> Reply[StandardViews]:
    """Count the cases of the views that every caller has.

    The views are:

    - the caller's cases, and the snoozed ones among them
    - the cases in which the caller is mentioned
    - the cases without an agent
    - the cases of each team of the caller
    - the cases at risk

    The numbers are exact up to 1,000. `late` is the number of cases with a clock that is overdue. `query` lists the
    cases of the view.
    """
    queries = standard_queries(call.principal)
    numbers = await count_queries(list(queries.values()), partial(_count_cases_of_query, call))
    found = zip(queries.items(), numbers, strict=True)
    items = [StandardView.model_construct(id=name, query=query, **dict(each)) for (name, query), each in found]
    return Reply(StandardViews.model_construct(items=items))


@get(VIEW_PATH, access=VIEWS_READ, headers=("ETag",), problems=VIEW_PROBLEMS)
async def get_view(call: Call, view_id: str) -> Reply[CountedView]:
    """Get a saved view with the number of cases that it shows to the caller.

    The number is exact up to 1,000.
    """
    view = await call.service.views.read(call.principal, view_id)
    (found,) = await with_case_counts([view], partial(_count_cases_of_query, call))
    # The number of cases changes without the view, so the tag is unique: it is valid in If-Match only.
    return Reply(found, unique_etag_header(call, found.version))


@patch(VIEW_PATH, access=VIEWS_WRITE, headers=("ETag",), problems=(*VIEW_PROBLEMS, *SAVE_PROBLEMS, "view_changed"))
async def change_view(call: Call, view_id: str, body: ViewChange, expected: ExpectedVersions) -> Reply[SavedView]:
    """Change the name, the query or the team of a saved view.

    Sent fields replace the stored values, `query` as a whole; other fields stay unchanged. With `team` the view is
    handed to that team; null makes it the caller's own.
    """
    changed = body.sent_fields()
    if "query" in changed:
        check_may_search(call, body.query)
        changed["query"] = body.query.as_query()
    view = await call.service.views.change(call.origin, view_id, changed, expected)
    return Reply(view, count_etag_header(call, view.version))


@delete(VIEW_PATH, access=VIEWS_WRITE, problems=(*VIEW_PROBLEMS, "view_changed"))
async def delete_view(call: Call, view_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Delete a saved view.

    The cases that it showed stay as they are.
    """
    await call.service.views.delete(call.origin, view_id, expected)
    return Reply(None)


async def with_case_counts(views: Sequence[SavedView], count: CountCases) -> list[CountedView]:
    """Return views with their numbers of cases, as `count_queries` does."""
    numbers = await count_queries([view.query for view in views], count)
    return [CountedView.model_construct(**dict(view), **dict(each)) for view, each in zip(views, numbers, strict=True)]


async def count_queries(queries: Sequence[Json], count: CountCases) -> list[ViewNumbers]:
    """Return the numbers of cases of queries, which `count` reads up to a number.

    A number that takes too long is None. The first error ends the other counts, and is raised.
    """
    counting = asyncio.Semaphore(MAX_CONCURRENT_COUNTS)
    deadline = asyncio.get_running_loop().time() + COUNT_TIMEOUT

    async def numbers_of(query: Json) -> ViewNumbers:
        counted: tuple[int | None, int | None] = (None, None)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline), counting:
                counted = await count(query, MAX_COUNT + 1)
        shown = [None if number is None else min(number, MAX_COUNT) for number in counted]
        more = [number is not None and number > MAX_COUNT for number in counted]
        return ViewNumbers.model_construct(count=shown[0], more=more[0], late=shown[1], more_late=more[1])

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(numbers_of(query)) for query in queries]
    except ExceptionGroup as failures:
        if all(isinstance(failure, SupportError) for failure in failures.exceptions):
            raise failures.exceptions[0] from None
        raise
    return [task.result() for task in tasks]


async def _count_cases_of_query(call: Call, query: Json, max_count: int) -> tuple[int | None, int | None]:
    """Return how many cases a query shows to the caller, and how many of them are late, at most `max_count` of each.

    Both are None if the caller can't use the query. Late cases of a search are not counted, because that would search
    twice. While the caller has less than half of its rate left, the count waits.
    """
    service, name = call.service, call.principal.name
    try:
        filters = ViewFilters.model_validate(query)
        check_may_search(call, filters)
    except (ValidationError, Forbidden):
        return None, None

    @asynccontextmanager
    async def fair_turn() -> AsyncIterator[None]:
        while wait := call.exchange.charge_optional(1 + count_cost(filters)):  # noqa: ASYNC110 - the rate refills with time
            await asyncio.sleep(wait)
        async with service.turns.occupy(name):
            yield

    if filters.q is not None:
        return await service.cases.count_cases(call.principal, filters, max_count, fair_turn), None
    return await service.cases.count_late_cases(call.principal, filters, max_count, fair_turn)


@cache
def permissions_by_role(routes: Routes) -> dict[Role, dict[str, AccessScope]]:
    """Return the permissions that each role has, with their scopes, in the order of their names."""
    permissions = {route.access.name: route.access for route in routes if isinstance(route.access, Permission)}
    return {
        role: {name: permissions[name].scopes[role] for name in sorted(permissions) if role in permissions[name].scopes}
        for role in ROLES
    }


@get(
    "/support/me",
    tag=Tag("me", "The caller: who it is, and what it may do."),
    access=Permission("me:read", dict.fromkeys(ROLES, "own")),
)
async def get_me(call: Call, routes: Routes) -> Reply[Me]:
    """Tell the caller who it is and what it may do.

    Each operation that needs a permission names it when it refuses a request. With `SUPPORT_AUTH=open` every caller is
    the supervisor `anyone`.
    """
    principal = call.principal
    return Reply(
        Me(
            name=principal.name,
            role=principal.role,
            subject=principal.subject,
            teams=sorted(principal.teams),
            permissions=permissions_by_role(routes)[principal.role],
        )
    )
