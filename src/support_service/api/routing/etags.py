"""ETags of cases, and the conditional request headers If-Match and If-None-Match (RFC 9110, section 13)."""

import re
from typing import NewType

from multidict import CIMultiDictProxy, istr

from support_service.api.routing.call import Call
from support_service.core.domain.principals import CaseView
from support_service.core.optimistic_lock import ExpectedVersions

IF_MATCH, IF_NONE_MATCH = istr("If-Match"), istr("If-None-Match")
ANY_VERSION = "*"
# "VERSION.ID" is the unique tag of a response with a live timeline; "VERSION+VIEW" is the tag of a restricted view.
ENTITY_TAG = re.compile(r'\s*(W/)?"(\d{1,18})(?:[.+][\w.-]*)?"\s*')
TAG_ENDS: dict[CaseView, str] = {"full": "", "public": "+customer", "masked": "+masked"}
TAG_SEPARATOR = re.compile(r',(?=\s*(?:W/)?")')

KnownTags = NewType("KnownTags", frozenset[str])
"""The entity tags in If-None-Match, without the mark of weak tags."""
NO_TAGS = KnownTags(frozenset())


def etag_header(call: Call, version: int) -> dict[str, str]:
    """Return the ETag header of a case: its version, and the principal's view if it is restricted."""
    return {"ETag": f'"{version}{TAG_ENDS[call.view]}"'}


def version_etag_header(version: int) -> dict[str, str]:
    """Return the ETag header of a resource that every caller sees alike: its version."""
    return {"ETag": f'"{version}"'}


def unique_etag_header(call: Call, version: int) -> dict[str, str]:
    """Return a unique ETag header, for a response that depends on more than the case's version, such as a timeline.

    The tag is valid in If-Match, but never matches a cached response.
    """
    return {"ETag": f'"{version}.{call.request_id}"'}


def if_match_versions(headers: CIMultiDictProxy[str]) -> ExpectedVersions:
    """Return the versions that If-Match allows, or None for any. Weak and malformed tags match no version."""
    given = _entity_tags(headers, IF_MATCH)
    if not given or given == [ANY_VERSION]:
        return None
    found = [ENTITY_TAG.fullmatch(tag) for tag in given]
    return {int(match[2]) for match in found if match and not match[1]}  # If-Match uses strong comparison


def known_tags(headers: CIMultiDictProxy[str]) -> KnownTags:
    """Return the tags of the responses that the client has, according to If-None-Match."""
    if IF_NONE_MATCH not in headers:
        return NO_TAGS
    return KnownTags(frozenset(tag.strip().removeprefix("W/") for tag in _entity_tags(headers, IF_NONE_MATCH)))


def is_known_etag(etag: dict[str, str], known: KnownTags) -> bool:
    """Return True if the client has the response with this ETag header."""
    return etag["ETag"] in known or ANY_VERSION in known


def _entity_tags(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """Return the entity tags of a header; none if the request lacks it."""
    lines = headers.getall(name, ())
    return TAG_SEPARATOR.split(",".join(lines).strip()) if lines else []
