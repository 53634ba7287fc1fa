"""Links between cases: add, remove. The detail of a case lists them."""

from support_service.api.cases import CASE, CASES, WRITE
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, post
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import RouteResponse, Tag
from support_service.cases.model.case import CaseLink
from support_service.cases.model.requests import NewLink
from support_service.core.optimistic_lock import ExpectedVersions

TAG = Tag("links", "Links between cases: related cases, duplicates, parents.")
LINKS = CASE + "/links"


@post(
    LINKS,
    access=WRITE,
    status=201,
    headers=("Location",),
    other_responses=(RouteResponse(200, "The link exists already.", CaseLink, headers=("Location",)),),
    problems=(
        *CASE_PROBLEMS,
        *("already_duplicate", "case_changed", "duplicate_of_closed_case", "link_cycle", "too_many_links"),
    ),
    links=(("link_id", "/id"),),
)
async def add_link(call: Call, case_id: str, body: NewLink, expected: ExpectedVersions) -> Reply[CaseLink]:
    """Link a case with another one.

    `kind` says what this case is to the other one, whose link has the inverse kind: `duplicated-by` or `child-of`. A
    link `duplicate-of` closes this case. A link that exists already is returned with 200. Both cases must be visible
    to the caller, and both get a new version.
    """
    link, is_new = await call.services.links.add(call.write_origin, case_id, body, expected)
    return Reply(link, {"Location": f"{CASES}/{case_id}/links/{link.id}"}, 201 if is_new else 200)


@delete(LINKS + "/{link_id}", access=WRITE, problems=(*CASE_PROBLEMS, "case_changed", "link_not_found"))
async def remove_link(call: Call, case_id: str, link_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Remove a link, from either of its cases.

    A duplicate that the link closed gets its former status back, unless it was reopened since.
    """
    await call.services.links.remove(call.write_origin, case_id, link_id, expected)
    return Reply(None)
