"""The JSON of a case, put together from parts that are encoded apart: its timeline and its clocks come last."""

import pydantic_core

from support_service.cases.clocks.shown_clocks import MeasuredClocks
from support_service.cases.model.case import NOT_REQUESTED
from support_service.core.clock import utc_now

NO_SOURCES = pydantic_core.to_json(NOT_REQUESTED)
NO_TIMELINE = b',"timeline":[],"moreCaseEvents":false,"timelineSources":%b}' % NO_SOURCES
NO_CLOCKS = b',"sla":null'


def with_timeline(body: bytes, entries: bytes, sources: bytes, *, more: bool) -> bytes:
    """Return the JSON of a case, which has no timeline in `body`, with a timeline and the freshness of its parts.

    `more` says whether the case has older changes than the entries.
    """
    head = memoryview(body)[: -len(NO_TIMELINE)]
    older = b"true" if more else b"false"
    return b"".join(
        (head, b',"timeline":[', entries, b'],"moreCaseEvents":', older, b',"timelineSources":', sources, b"}")
    )


def with_clocks(body: bytes, clocks: MeasuredClocks | None) -> bytes:
    """Return the JSON of a case with its clocks as they are now, if it has any."""
    if clocks is None:
        return body
    shown = pydantic_core.to_json(clocks.shown(utc_now()), by_alias=True)
    return b"".join((memoryview(body)[:-1], b',"sla":', shown, b"}"))
