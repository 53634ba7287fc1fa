"""Messages of a case, and the changes of its status that may come with one."""

from support_service.api.cases import CASE, TAG, WRITE
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.etags import etag_header
from support_service.api.routing.problem_groups import CASE_PROBLEMS, JSON_BODY_PROBLEMS
from support_service.api.routing.route import Permission, Route
from support_service.cases.model.case import Case, CaseSummary, Message
from support_service.cases.model.requests import Closing, NewMessage, StatusChange
from support_service.core.optimistic_lock import ExpectedVersions


async def add_message(call: Call, case_id: str, body: NewMessage, expected: ExpectedVersions) -> Reply[Message]:
    """Add a message to a case.

    `authorType` is the type of the author. Upload files of the message first, with `staged=true`, and name them by
    their ids in `attachmentIds`: other callers see them once the message is sent. `attachmentUri` names one file by
    its `uri`.

    A 412 because of If-Match has the version of the case, `currentVersion`, and the `messages` that were added since.

    A repeat with the same `externalId` adds nothing, and returns the existing message.
    """
    files = call.services.attachments.named(body.attachment_ids)
    return Reply(await call.services.cases.add_message(call.write_origin, case_id, body, expected, files))


async def set_status(call: Call, case_id: str, body: StatusChange, expected: ExpectedVersions) -> Reply[CaseSummary]:
    """Set the status of a case, and optionally its agent.

    Both can be in the query or in a JSON body; the query takes precedence, and one of them must have a status.
    """
    case = await call.services.cases.set_status(call.write_origin, case_id, body, expected)
    return Reply(case, etag_header(call, case))


async def close_case(call: Call, case_id: str, body: Closing, expected: ExpectedVersions) -> Reply[bytes]:
    """Close a case, optionally with a last message.

    Closing a closed case again has no effect; the message is added, unless a customer sends it. `timeline`
    of the response has the case's own entries only: context, changes, messages and files.
    """
    files = call.services.attachments.named(body.attachment_ids)
    case = await call.services.cases.close_case(call.write_origin, case_id, body, expected, files)
    return Reply(await call.services.documents.with_own_timeline(call.view, case), etag_header(call, case))


ROUTES = (
    Route(
        operation="add_message",
        tag=TAG,
        method="POST",
        path=CASE + "/messages",
        handler=add_message,
        access=Permission("messages:write", {"agent": "own", "supervisor": "all", "customer": "own"}),
        body=NewMessage,
        request_headers=("If-Match",),
        response_model=Message,
        problems=(
            *CASE_PROBLEMS,
            *JSON_BODY_PROBLEMS,
            "attachment_not_sendable",
            "case_changed",
            "case_closed",
            "case_full",
            "external_id_taken",
        ),
    ),
    Route(
        operation="set_status",
        tag=TAG,
        method="POST",
        path=CASE + "/status",
        handler=set_status,
        access=WRITE,
        query=StatusChange,
        body=StatusChange,
        body_required=False,
        request_headers=("If-Match",),
        response_model=CaseSummary,
        headers=("ETag",),
        problems=(*CASE_PROBLEMS, *JSON_BODY_PROBLEMS, "case_changed", "status_move_not_allowed"),
    ),
    Route(
        operation="close_case",
        tag=TAG,
        method="POST",
        path=CASE + "/close",
        handler=close_case,
        access=WRITE,
        body=Closing,
        body_required=False,
        request_headers=("If-Match",),
        response_model=Case,
        headers=("ETag",),
        problems=(
            *CASE_PROBLEMS,
            *JSON_BODY_PROBLEMS,
            *("attachment_not_sendable", "case_changed", "case_closed", "case_full"),
        ),
    ),
)
