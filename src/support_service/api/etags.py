"""ETags of cases, and the conditional request headers If-Match and If-None-Match (RFC 9110, section 13)."""

import re

from aiohttp import web

from support_service.api.authorization import is_masked
from support_service.cases.model import Ticket
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.telemetry.logs import REQUEST_ID

WILDCARD = "*"
# "VERSION.ID" is the unique tag of a response with a live timeline; "VERSION+VIEW" is the tag of a restricted view.
TAG = re.compile(r'\s*(W/)?"(\d{1,18})(?:[.+][\w.-]*)?"\s*')
TAG_SEPARATOR = re.compile(r',(?=\s*(?:W/)?")')


def etag_header(request: web.Request, ticket: Ticket, *, live: bool = False) -> dict[str, str]:
    """Return the ETag header of a case: its version, and the caller's view if it is restricted.

    With `live`, the response depends on more than the version, such as a timeline, so its tag is unique: it is valid in
    If-Match, but never matches a cached response.
    """
    return {"ETag": f'"{ticket.version}.{REQUEST_ID.get()}"' if live else f'"{ticket.version}{_view_suffix(request)}"'}


def if_match_versions(request: web.Request) -> ExpectedVersions:
    """Return the versions that If-Match allows, or None for any. Weak and malformed tags match no version."""
    given = _entity_tags(request, "If-Match")
    if given is None or given == [WILDCARD]:
        return None
    found = [TAG.fullmatch(tag) for tag in given]
    return {int(match[2]) for match in found if match and not match[1]}  # If-Match uses strong comparison


def matches_if_none_match(request: web.Request, ticket: Ticket) -> bool:
    """Return True if If-None-Match says that the client already has this version of the case."""
    given = _entity_tags(request, "If-None-Match")
    if given is None:
        return False
    known = (etag_header(request, ticket)["ETag"], WILDCARD)
    return any(each.strip().removeprefix("W/") in known for each in given)


def _view_suffix(request: web.Request) -> str:
    """Return the tag's suffix for the caller's view of a version: masked, public or (empty) full."""
    if is_masked(request):
        return "+masked"
    return "" if CURRENT_PRINCIPAL.get().may_see_visibility("internal") else "+public"


def _entity_tags(request: web.Request, header: str) -> list[str] | None:
    """Return the entity tags of a header, or None if the request lacks it."""
    lines = request.headers.getall(header, ())
    return TAG_SEPARATOR.split(",".join(lines).strip()) if lines else None
