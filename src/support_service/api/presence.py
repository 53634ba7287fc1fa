"""Presence: agents say that they view a case or type in it, and staff see it in cases, lists and the stream."""

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pydantic_core
from pydantic import Field

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import put
from support_service.api.routing.problem_groups import CASE_PROBLEMS
from support_service.api.routing.route import Permission, Tag
from support_service.cases.model.case import CaseSummary, Viewer, example_config
from support_service.cases.model.requests import RequestModel
from support_service.core.domain.case_vocabulary import PresenceState

TAG = Tag("stream", "Changes of cases as they happen, and who views a case.")


class PresenceChange(RequestModel):
    """What the caller does with a case."""

    model_config = example_config({"state": "typing"})

    state: PresenceState = Field(description="valid for 15 seconds; send it again for as long as it holds")


@put(
    "/support/cases/{case_id}/presence",
    access=Permission("presence:write", {"agent": "own", "supervisor": "all"}),
    stores_response=False,
    problems=CASE_PROBLEMS,
)
async def put_presence(call: Call, case_id: str, body: PresenceChange) -> Reply[None]:
    """Say that the caller views a case, or types in it.

    Colleagues who may see the case learn it from the stream, from lists and from the case. It is not stored, and is
    valid for 15 seconds. While Redis is unavailable, only clients of the same replica learn it.
    """
    owner = await call.services.cases.expect_visible(call.principal, case_id)
    await call.services.stream.announce(call.principal, case_id, owner, body.state)
    return Reply(None)


def add_viewers(call: Call, cases: Iterable[CaseSummary]) -> None:
    """Add who views each case at present, if the caller may know it."""
    if call.view == "full":
        for case in cases:
            if viewers := call.services.stream.viewers(case.id):
                case.viewers = [Viewer(name=each.name, state=each.state) for each in viewers]


def with_viewers(handler: Callable[..., Awaitable[Reply[Any]]]) -> Callable[..., Awaitable[Reply[Any]]]:
    """Make a handler that returns a case as JSON also return who views it at present, if the caller may know it.

    The viewers are not part of the encoded case, which is kept for as long as its version is current. An answer with
    viewers has an ETag of its own, which is valid in If-Match and matches no later answer.
    """

    @functools.wraps(handler)
    async def read(call: Call, case_id: str, *arguments: Any) -> Reply[Any]:
        reply = await handler(call, case_id, *arguments)
        viewers = call.services.stream.viewers(case_id) if call.view == "full" else []
        if viewers and isinstance(reply.content, bytes):
            shown = pydantic_core.to_json([each._asdict() for each in viewers])
            reply.content = b'%b,"viewers":%b}' % (reply.content[:-1], shown)
            headers = reply.headers or {}
            if "." not in (tag := headers["ETag"]):
                reply.headers = headers | {"ETag": f'{tag[:-1]}.{call.request_id}"'}
        return reply

    return read
