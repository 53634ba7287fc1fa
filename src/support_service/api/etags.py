"""Versions of cases as HTTP has them: the ETag of an answer, and the conditions of a request (RFC 9110, section 13)."""

import re

from aiohttp import web

from support_service.api.authorization import is_masked
from support_service.cases.model import Ticket
from support_service.core.optimistic_lock import Versions
from support_service.core.principals import CALLER
from support_service.telemetry.logs import REQUEST_ID

ANY = "*"
# After the point stands what makes a live answer's tag unique, after the plus what its reader is shown of a case.
TAG = re.compile(r'\s*(W/)?"(\d{1,18})(?:[.+][\w.-]*)?"\s*')
LISTED = re.compile(r',(?=\s*(?:W/)?")')


def tagged(request: web.Request, ticket: Ticket, *, live: bool = False) -> dict[str, str]:
    """The header that names a case's version, and where that is not all of it, what the caller is shown.

    An answer that holds more than the version decides, as a timeline does, has a tag that no other has: a change may be
    meant for its version, and no one takes it for one that was kept.
    """
    return {"ETag": f'"{ticket.version}.{REQUEST_ID.get()}"' if live else f'"{ticket.version}{_view(request)}"'}


def expected(request: web.Request) -> Versions:
    """The versions that a change is meant for by its If-Match; what can't be read means none."""
    given = _given(request, "If-Match")
    if given is None or given == [ANY]:
        return None
    found = [TAG.fullmatch(tag) for tag in given]
    return {int(match[2]) for match in found if match and not match[1]}  # a weak tag never matches here


def is_known(request: web.Request, ticket: Ticket) -> bool:
    """Whether the client says by If-None-Match that it has this version of a case already."""
    given = _given(request, "If-None-Match")
    if given is None:
        return False
    known = (tagged(request, ticket)["ETag"], ANY)
    return any(each.strip().removeprefix("W/") in known for each in given)


def _view(request: web.Request) -> str:
    """What sets an answer apart from those that other callers get of the same version."""
    if is_masked(request):
        return "+masked"
    return "" if CALLER.get().hears("internal") else "+public"


def _given(request: web.Request, header: str) -> list[str] | None:
    lines = request.headers.getall(header, ())
    return LISTED.split(",".join(lines).strip()) if lines else None
