"""Descriptions of all parts of paths and of all headers, and the response headers that depend on the status."""

from typing import Any, NamedTuple

from support_service.core.ids import NAME_PATTERN
from support_service.guard.problems import RETRY_AFTER_BY_STATUS

TEXT = {"type": "string"}
BYTES = TEXT | {"format": "binary"}
COUNT = {"type": "integer", "minimum": 0}


class Header(NamedTuple):
    """The description and the schema of a header, or of a part of a path.

    If it is not `always` present, the description says when it is.
    """

    description: str
    schema: dict[str, Any]
    always: bool = True  # in a response that lists it


PATH_PARAMETERS = {
    "agent_id": Header("The agent's id, as in `assignedAgentId`.", TEXT | {"examples": ["agent-7"]}),
    "attachment_id": Header("The attachment's id.", TEXT | {"examples": ["7c9e6679-7425-40de-944b-e07fc1f90ae7"]}),
    "case_id": Header("The case's id.", TEXT | {"examples": ["0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11"]}),
    "customer_id": Header("The customer's id, as in `customerId`.", TEXT | {"examples": ["CUS-42"]}),
    "delivery_id": Header("The webhook delivery's id.", TEXT | {"examples": ["1042"]}),
    "letter_id": Header("The dead letter's id.", TEXT | {"examples": ["1778587200000-0"]}),
    "link_id": Header("The link's id.", TEXT | {"examples": ["5d0c7a52-2a0b-4f36-9c1e-0f7b0f7f6c21"]}),
    "macro_name": Header("The macro's name.", TEXT | {"pattern": NAME_PATTERN, "examples": ["late-parcel"]}),
    "policy_name": Header("The policy's name.", TEXT | {"pattern": NAME_PATTERN, "examples": ["10-urgent"]}),
    "override_name": Header("The name of a service, or `ttl`.", TEXT | {"examples": ["payment"]}),
    "filename": Header("The file's name from `uri`; any name is accepted.", TEXT | {"examples": ["label.png"]}),
    "view_id": Header("The saved view's id.", TEXT | {"examples": ["2f1b6a0e-93d4-4c57-8a8e-51f0c7d2b6e4"]}),
}

REQUEST_HEADERS = {
    "Content-Digest": Header(
        "`sha-256=:…:` of RFC 9530; the file is refused if its checksum differs. Other algorithms are ignored.", TEXT
    ),
    "Idempotency-Key": Header(
        "Identifies this request for 24 hours: a repeat with the same key is not executed again, and gets the same "
        "response. 1 to 255 visible ASCII characters; a random UUID is best. The key of a "
        "refused request may be used again.",
        TEXT | {"pattern": "^[!-~]{1,255}$"},
    ),
    "If-Match": Header(
        "`ETag`s of what is changed, or `*`: the change is made only if it still has one of them; otherwise 412.", TEXT
    ),
    "If-None-Match": Header("An `ETag` that the client has: 304 if the resource still has it.", TEXT),
    "If-Range": Header("The `ETag` of the file that `Range` refers to; if it differs, the whole file is sent.", TEXT),
    "Last-Event-ID": Header(
        "The `id` of the last event that the client received: the changes after it are sent.", TEXT
    ),
    "Range": Header(
        "`bytes=0-1023`: send only these bytes. Anything other than a single range of bytes is ignored.", TEXT
    ),
    "X-Checksum-Sha256": Header(
        "The file's SHA-256 in hex or base64; the file is refused if its checksum differs.",
        TEXT | {"pattern": "^([0-9A-Fa-f]{64}|[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)?$"},
    ),
    "X-Request-Id": Header(
        "Identifies the request in the log and in the response: 1 to 64 characters of `A-Za-z0-9._-`. Another value "
        "is replaced.",
        TEXT,
    ),
}

RESPONSE_HEADERS = {
    "Accept-Ranges": Header("`bytes`: ranges of the file can be requested.", {"const": "bytes"}),
    "Content-Disposition": Header("The name under which to save the file.", TEXT),
    "Content-Range": Header("The range of the content, and its total size.", TEXT | {"pattern": "^bytes "}),
    "ETag": Header(
        "Changes with the content, and differs between callers who see different content.",
        TEXT | {"pattern": '^(W/)?"'},
    ),
    "Idempotency-Replayed": Header(
        "Only on a repeat: this is the stored response to the first request with this key.",
        {"const": "true"},
        always=False,
    ),
    "Location": Header("URI of the created or requested resource.", TEXT),
    "RateLimit": Header(
        "Remaining requests of each policy, and seconds until the limit is restored.", TEXT, always=False
    ),
    "RateLimit-Policy": Header("The rate limits: requests (`q`) per window in seconds (`w`).", TEXT, always=False),
    "Retry-After": Header("Seconds after which to retry.", COUNT),
    "WWW-Authenticate": Header("The supported authentication.", TEXT),
    "X-Request-Id": Header("Identifies the request in the log.", TEXT | {"pattern": "^[A-Za-z0-9._-]{1,64}$"}),
}

COMMON_RESPONSE_HEADERS = ("X-Request-Id",)
OPTIONAL_RESPONSE_HEADERS = ("RateLimit", "RateLimit-Policy")  # if rate limits are enabled
HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    **dict.fromkeys(RETRY_AFTER_BY_STATUS, ("Retry-After",)),
}
