"""The stream of changes, as Server-Sent Events, and presence: agents say that they view a case or type in it."""

from time import perf_counter

from aiohttp import web
from multidict import istr
from pydantic import Field

from support_service.api.cases import CASES_READ
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, put
from support_service.api.routing.route import CASE_PROBLEMS, Permission, Tag
from support_service.cases.model.case import example_config
from support_service.cases.model.requests import RequestModel
from support_service.core.domain.case_vocabulary import PresenceState
from support_service.guard.connection import HttpConnection
from support_service.guard.unread_answers import OPEN_STREAM_BYTES

TAG = Tag("stream", "Changes of cases as they happen, and who views a case.")
MEDIA_TYPE = "text/event-stream"
LAST_EVENT_ID = istr("Last-Event-ID")
MAX_UNREAD_BYTES = 16 * 1024  # bytes that a client may leave unread before its changes wait in its queue
MAX_POSITION_LENGTH = 64  # characters


class StreamQuery(RequestModel):
    """The query of a stream."""

    last_event_id: str = Field(
        "",
        max_length=MAX_POSITION_LENGTH,
        description="as the header `Last-Event-ID`, for clients that can't send it; the header takes precedence",
    )


@get(
    "/support/stream",
    access=Permission("stream:read", CASES_READ.scopes),
    request_headers=("Last-Event-ID",),
    masks_itself=True,
    response_media_types=(MEDIA_TYPE,),
    problems=("too_many_streams",),
)
async def follow(call: Call, query: StreamQuery, request: web.Request) -> web.StreamResponse:
    """Follow the changes of cases as they happen (Server-Sent Events).

    The answer does not end. Each change of a case that the caller may see is an event. `id` is its position, and
    `event` its type, such as `support.case.updated.v1`. `data` is JSON with `caseId`, `version`, `changeType`, `at`,
    and for staff `actor`. It has the `case` as in a list, and the `message` that was added, if the caller may read it.
    `Last-Event-ID` replays the changes after it; `event: resync` says that this is not possible, so that the client has
    to read its cases again. `event: presence` tells staff who views a case. Comments keep the connection alive.
    """
    service, exchange = call.service, call.exchange
    response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.content_type = MEDIA_TYPE
    if request.method == "HEAD":
        return response
    connection = request.protocol
    assert isinstance(connection, HttpConnection)  # noqa: S101 - the server of an application makes no other
    exchange.streamed_bytes = OPEN_STREAM_BYTES
    response.force_close()
    with service.stream.slots.occupy(exchange.callers), service.readiness.count_stream():
        await response.prepare(request)
        exchange.stream_began_at = perf_counter()
        subscriber = service.stream.open(call.principal, call.view, call.authenticate_again, connection.abort)
        connection.begin_stream(lambda: subscriber.close("client"), MAX_UNREAD_BYTES)
        last_event_id = request.headers.get(LAST_EVENT_ID) or query.last_event_id
        await service.stream.send(subscriber, last_event_id, response.write)
    return response


class PresenceChange(RequestModel):
    """What the caller does with a case."""

    model_config = example_config({"state": "typing"})

    state: PresenceState = Field(description="valid for 15 seconds; send it again for as long as it holds")


PRESENCE_PATH = "/support/cases/{case_id}/presence"
PRESENCE_WRITE = Permission("presence:write", {"agent": "own", "supervisor": "all"})


@put(PRESENCE_PATH, access=PRESENCE_WRITE, stores_response=False, problems=CASE_PROBLEMS)
async def put_presence(call: Call, case_id: str, body: PresenceChange) -> Reply[None]:
    """Say that the caller views a case, or types in it.

    Colleagues who may see the case learn it from the stream, from lists and from the case. It is not stored, and is
    valid for 15 seconds. While Redis is unavailable, only clients of the same replica learn it.
    """
    owner = await call.service.cases.read_visible_owner(call.principal, case_id)
    await call.service.stream.announce_presence(call.principal, case_id, owner, body.state)
    return Reply(None)


@delete(PRESENCE_PATH, access=PRESENCE_WRITE, stores_response=False, problems=CASE_PROBLEMS)
async def delete_presence(call: Call, case_id: str) -> Reply[None]:
    """Say that the caller has left the case.

    Colleagues learn it at once, rather than after 15 seconds. Another window of the caller, in which the case is still
    open, says so with its next `PUT`.
    """
    owner = await call.service.cases.read_visible_owner(call.principal, case_id)
    await call.service.stream.announce_presence(call.principal, case_id, owner, None)
    return Reply(None)
