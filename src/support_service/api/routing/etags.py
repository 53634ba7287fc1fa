"""ETags of cases, and the conditional request headers If-Match and If-None-Match (RFC 9110, section 13).

Versions of cases and saved views are counts, which clients see with the base of the database: see
`platform/database/shared.py`. Versions of other resources are times, which never repeat.
"""

import re
from typing import NewType
from zlib import crc32

from multidict import CIMultiDictProxy, istr

from support_service.api.routing.call import Call
from support_service.core.domain.principals import CaseView
from support_service.core.ids import new_id
from support_service.core.optimistic_lock import MISSING, ExpectedVersions

IF_MATCH, IF_NONE_MATCH = istr("If-Match"), istr("If-None-Match")
ANY_VERSION = "*"
# "VERSION.ID" is the unique tag of a response with a live timeline; "VERSION.nDIGEST" is the tag of one with names;
# "VERSION+VIEW" is the tag of a restricted view.
ENTITY_TAG = re.compile(r'\s*(W/)?"(\d{1,18})(?:[.+][\w.-]*)?"\s*')
TAG_ENDS: dict[CaseView, str] = {"full": "", "public": "+customer", "masked": "+masked"}
MIN_TIME_VERSION = 10**15  # a version from this on is a time in microseconds; counts with a base are below it
TAG_SEPARATOR = re.compile(r',(?=\s*(?:W/)?")')

KnownTags = NewType("KnownTags", frozenset[str])
"""The entity tags in If-None-Match, without the mark of weak tags."""
NO_TAGS = KnownTags(frozenset())


def etag_header(call: Call, version: int, names: bytes = b"") -> dict[str, str]:
    """Return the ETag header of a case: its version, and the principal's view if it is restricted.

    `names` are the names of people and of the customer in the answer, which change without the case.
    """
    end = TAG_ENDS[call.view] + (f".n{crc32(names):x}" if names else "")
    return {"ETag": f'"{call.service.version_base + version}{end}"'}


def count_etag_header(call: Call, version: int) -> dict[str, str]:
    """Return the ETag header of a resource that every caller sees alike, and whose version is a count."""
    return {"ETag": f'"{call.service.version_base + version}"'}


def version_etag_header(version: int) -> dict[str, str]:
    """Return the ETag header of a resource that every caller sees alike, and whose version is a time."""
    return {"ETag": f'"{version}"'}


def unique_etag_header(call: Call, version: int) -> dict[str, str]:
    """Return a unique ETag header, for a response that depends on more than the case's version, such as a timeline.

    The tag is valid in If-Match, but never matches a cached response. It does not have the id of the request, which a
    client may send more than once.
    """
    return {"ETag": f'"{call.service.version_base + version}.{new_id()}"'}


def unique_version_etag_header(version: int) -> dict[str, str]:
    """Return the unique ETag header of a resource whose version is a time; see `unique_etag_header`."""
    return {"ETag": f'"{version}.{new_id()}"'}


def expected_versions(method: str, headers: CIMultiDictProxy[str], base: int) -> ExpectedVersions:
    """Return the versions that a request accepts by If-Match, or None for any; `MISSING` for a PUT of a new resource.

    Such a PUT has `If-None-Match: *`. Weak and malformed tags match no version. Tags from before a restore are below
    `base`, and match none either.
    """
    if method == "PUT" and _entity_tags(headers, IF_NONE_MATCH) == [ANY_VERSION]:
        return {MISSING}
    given = _entity_tags(headers, IF_MATCH)
    if not given or given == [ANY_VERSION]:
        return None
    found = [ENTITY_TAG.fullmatch(tag) for tag in given]
    versions = [int(match[2]) for match in found if match and not match[1]]  # If-Match uses strong comparison
    return {version if version >= MIN_TIME_VERSION else version - base for version in versions} - {MISSING}


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
