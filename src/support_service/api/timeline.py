"""The timeline of a case: collect it again."""

from support_service.api.cases import CASE, TAG
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.etags import live_etag_header
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import Permission, Route
from support_service.cases.model.case import Case


async def refresh_timeline(call: Call, case_id: str) -> Reply[bytes]:
    """Refresh the timeline of a case, bypassing the cache.

    Calls every service that the context refers to; if one fails, its last known answer is used.
    Nothing is changed, so an `Idempotency-Key` is ignored: a repeat collects the timeline again.
    """
    principal, view, documents = call.principal, call.view, call.services.documents
    case, document = await documents.read(principal, view, case_id, with_history=True)
    call.services.admission.check_debt(principal.name, len(document.body))
    body = await documents.add_timeline(principal, view, case_id, case, document, refresh=True)
    return Reply(body, live_etag_header(call, case))


ROUTES = (
    Route(
        operation="refresh_timeline",
        tag=TAG,
        method="POST",
        path=CASE + "/timeline/refresh",
        handler=refresh_timeline,
        access=Permission("timeline:refresh", {"agent": "own", "supervisor": "all"}),
        stores_response=False,  # it changes no case, and its answer is large
        response_model=Case,
        headers=("ETag",),
        problems=CASE_PROBLEMS,
    ),
)
