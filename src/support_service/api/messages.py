"""Messages of a case, and the changes of its status that may come with one."""

from support_service.api.cases import CASE, TAG, WRITE
from support_service.api.routing.call import Call, EncodedReply, Reply
from support_service.api.routing.decorators import post
from support_service.api.routing.etags import etag_header
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import Permission
from support_service.cases.model.case import Case, CaseSummary, Message
from support_service.cases.model.requests import Closing, NewMessage, StatusChange
from support_service.core.optimistic_lock import ExpectedVersions


@post(
    CASE + "/messages",
    tag=TAG,
    access=Permission("messages:write", {"agent": "own", "supervisor": "all", "customer": "own"}),
    problems=(
        *CASE_PROBLEMS,
        "attachment_not_sendable",
        "case_changed",
        "case_closed",
        "case_full",
        "external_id_taken",
    ),
)
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


@post(
    CASE + "/status",
    tag=TAG,
    access=WRITE,
    query=StatusChange,
    body_required=False,
    headers=("ETag",),
    problems=(*CASE_PROBLEMS, "case_changed", "status_move_not_allowed"),
)
async def set_status(call: Call, case_id: str, body: StatusChange, expected: ExpectedVersions) -> Reply[CaseSummary]:
    """Set the status of a case, and optionally its agent.

    Both can be in the query or in a JSON body; the query takes precedence, and one of them must have a status.
    """
    case = await call.services.cases.set_status(call.write_origin, case_id, body, expected)
    return Reply(case, etag_header(call, case))


@post(
    CASE + "/close",
    tag=TAG,
    access=WRITE,
    body_required=False,
    headers=("ETag",),
    problems=(
        *CASE_PROBLEMS,
        *("attachment_not_sendable", "case_changed", "case_closed", "case_full"),
    ),
)
async def close_case(call: Call, case_id: str, body: Closing, expected: ExpectedVersions) -> EncodedReply[Case]:
    """Close a case, optionally with a last message.

    Closing a closed case again has no effect; the message is added, unless a customer sends it. `timeline`
    of the response has the case's own entries only: context, changes, messages and files.
    """
    files = call.services.attachments.named(body.attachment_ids)
    case = await call.services.cases.close_case(call.write_origin, case_id, body, expected, files)
    return EncodedReply(await call.services.documents.with_own_timeline(call.view, case), etag_header(call, case))
