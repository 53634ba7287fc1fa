"""Descriptions of all parts of paths and of all headers, and the response headers that depend on the status."""

from typing import Any, NamedTuple

from support_service.core.ids import NAME_PATTERN
from support_service.guard.problems import RETRY_AFTER_BY_STATUS

TEXT_SCHEMA = {"type": "string"}
BYTES_SCHEMA = TEXT_SCHEMA | {"format": "binary"}
COUNT_SCHEMA = {"type": "integer", "minimum": 0}


class ParameterDescription(NamedTuple):
    """The description and the schema of a header, or of a part of a path.

    If it is not `always` present, the description says when it is.
    """

    description: str
    schema: dict[str, Any]
    always: bool = True  # in a response that lists it


PATH_PARAMETERS = {
    "agent_id": ParameterDescription(
        "The agent's id, as in `assignedAgentId`.", TEXT_SCHEMA | {"examples": ["agent-7"]}
    ),
    "attachment_id": ParameterDescription(
        "The attachment's id.", TEXT_SCHEMA | {"examples": ["7c9e6679-7425-40de-944b-e07fc1f90ae7"]}
    ),
    "bulk_id": ParameterDescription(
        "The bulk change's id.", TEXT_SCHEMA | {"examples": ["c1a5a3a6-2f0e-4c43-9b51-5f3f6a1f4d10"]}
    ),
    "case_id": ParameterDescription(
        "The case's id.", TEXT_SCHEMA | {"examples": ["0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11"]}
    ),
    "customer_id": ParameterDescription(
        "The customer's id, as in `customerId`.", TEXT_SCHEMA | {"examples": ["CUS-42"]}
    ),
    "other_id": ParameterDescription(
        "Another customer's id, of the same person.", TEXT_SCHEMA | {"examples": ["shop-1042"]}
    ),
    "delivery_id": ParameterDescription("The webhook delivery's id.", TEXT_SCHEMA | {"examples": ["1042"]}),
    "letter_id": ParameterDescription("The dead letter's id.", TEXT_SCHEMA | {"examples": ["1778587200000-0"]}),
    "link_id": ParameterDescription(
        "The link's id.", TEXT_SCHEMA | {"examples": ["5d0c7a52-2a0b-4f36-9c1e-0f7b0f7f6c21"]}
    ),
    "macro_name": ParameterDescription(
        "The macro's name.", TEXT_SCHEMA | {"pattern": NAME_PATTERN, "examples": ["late-parcel"]}
    ),
    "policy_name": ParameterDescription(
        "The policy's name.", TEXT_SCHEMA | {"pattern": NAME_PATTERN, "examples": ["10-urgent"]}
    ),
    "override_name": ParameterDescription("The name of a service, or `ttl`.", TEXT_SCHEMA | {"examples": ["payment"]}),
    "filename": ParameterDescription(
        "The file's name from `uri`; any name is accepted.", TEXT_SCHEMA | {"examples": ["label.png"]}
    ),
    "view_id": ParameterDescription(
        "The saved view's id.", TEXT_SCHEMA | {"examples": ["2f1b6a0e-93d4-4c57-8a8e-51f0c7d2b6e4"]}
    ),
}

REQUEST_HEADERS = {
    "Content-Digest": ParameterDescription(
        "`sha-256=:…:` of RFC 9530; the file is refused if its checksum differs. Other algorithms are ignored.",
        TEXT_SCHEMA,
    ),
    "Idempotency-Key": ParameterDescription(
        "Identifies this request for 24 hours: a repeat with the same key is not executed again, and gets the same "
        "response. 1 to 255 visible ASCII characters; a random UUID is best. The key of a "
        "refused request may be used again.",
        TEXT_SCHEMA | {"pattern": "^[!-~]{1,255}$"},
    ),
    "If-Match": ParameterDescription(
        "`ETag`s of what is changed, or `*`: the change is made only if it still has one of them; otherwise 412.",
        TEXT_SCHEMA,
    ),
    "If-None-Match": ParameterDescription(
        "An `ETag` that the client has: 304 if the resource still has it. On a change, `*`: 412 if it exists already.",
        TEXT_SCHEMA,
    ),
    "If-Range": ParameterDescription(
        "The `ETag` of the file that `Range` refers to; if it differs, the whole file is sent.", TEXT_SCHEMA
    ),
    "Last-Event-ID": ParameterDescription(
        "The `id` of the last event that the client received: the changes after it are sent.", TEXT_SCHEMA
    ),
    "Range": ParameterDescription(
        "`bytes=0-1023`: send only these bytes. Anything other than a single range of bytes is ignored.", TEXT_SCHEMA
    ),
    "X-Checksum-Sha256": ParameterDescription(
        "The file's SHA-256 in hex or base64; the file is refused if its checksum differs.",
        TEXT_SCHEMA | {"pattern": "^([0-9A-Fa-f]{64}|[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)?$"},
    ),
    "X-Request-Id": ParameterDescription(
        "Identifies the request in the log and in the response: 1 to 64 characters of `A-Za-z0-9._-`. Another value "
        "is replaced.",
        TEXT_SCHEMA,
    ),
}

RESPONSE_HEADERS = {
    "Accept-Ranges": ParameterDescription("`bytes`: ranges of the file can be requested.", {"const": "bytes"}),
    "Content-Disposition": ParameterDescription("The name under which to save the file.", TEXT_SCHEMA),
    "Content-Range": ParameterDescription(
        "The range of the content, and its total size.", TEXT_SCHEMA | {"pattern": "^bytes "}
    ),
    "ETag": ParameterDescription(
        "Changes with the content, and differs between callers who see different content.",
        TEXT_SCHEMA | {"pattern": '^(W/)?"'},
    ),
    "Idempotency-Replayed": ParameterDescription(
        "Only on a repeat: this is the stored response to the first request with this key.",
        {"const": "true"},
        always=False,
    ),
    "Location": ParameterDescription("URI of the created or requested resource.", TEXT_SCHEMA),
    "RateLimit": ParameterDescription(
        "Remaining requests of each policy, and seconds until the limit is restored.", TEXT_SCHEMA, always=False
    ),
    "RateLimit-Policy": ParameterDescription(
        "The rate limits: requests (`q`) per window in seconds (`w`).", TEXT_SCHEMA, always=False
    ),
    "Retry-After": ParameterDescription("Seconds after which to retry.", COUNT_SCHEMA),
    "WWW-Authenticate": ParameterDescription("The supported authentication.", TEXT_SCHEMA),
    "X-Request-Id": ParameterDescription(
        "Identifies the request in the log.", TEXT_SCHEMA | {"pattern": "^[A-Za-z0-9._-]{1,64}$"}
    ),
}

COMMON_RESPONSE_HEADERS = ("X-Request-Id",)
OPTIONAL_RESPONSE_HEADERS = ("RateLimit", "RateLimit-Policy")  # if rate limits are enabled
HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    **dict.fromkeys(RETRY_AFTER_BY_STATUS, ("Retry-After",)),
}
