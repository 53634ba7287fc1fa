"""The timeline of a case: collect it again."""

from support_service.api.cases import CASE, TAG
from support_service.api.routing.call import Call, EncodedReply
from support_service.api.routing.decorators import post
from support_service.api.routing.etags import live_etag_header
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import Permission
from support_service.cases.model.case import Case


@post(
    CASE + "/timeline/refresh",
    tag=TAG,
    access=Permission("timeline:refresh", {"agent": "own", "supervisor": "all"}),
    stores_response=False,  # it changes no case, and its answer is large
    headers=("ETag",),
    problems=CASE_PROBLEMS,
)
async def refresh_timeline(call: Call, case_id: str) -> EncodedReply[Case]:
    """Refresh the timeline of a case, bypassing the cache.

    Calls every service that the context refers to; if one fails, its last known answer is used.
    Nothing is changed, so an `Idempotency-Key` is ignored: a repeat collects the timeline again.
    """
    principal, view, documents = call.principal, call.view, call.services.documents
    case, document = await documents.read(principal, view, case_id, with_history=True)
    call.services.admission.check_debt(principal.name, len(document.body))
    body = await documents.add_timeline(principal, view, case_id, case, document, refresh=True)
    return EncodedReply(body, live_etag_header(call, case))
