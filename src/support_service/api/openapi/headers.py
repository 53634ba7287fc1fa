"""Descriptions of all request and response headers, and the response headers that depend on the status."""

from typing import Any, NamedTuple

from support_service.http.problems import RETRY_AFTER_BY_STATUS

TEXT = {"type": "string"}
BYTES = TEXT | {"format": "binary"}
COUNT = {"type": "integer", "minimum": 0}


class Header(NamedTuple):
    """A header's description and schema. If not `always` present, the description says when it is."""

    description: str
    schema: dict[str, Any]
    always: bool = True  # in a response that lists it


REQUEST_HEADERS = {
    "Content-Digest": Header(
        "`sha-256=:…:` as RFC 9530 has it; the file is refused where it has another. Other algorithms are left aside.",
        TEXT,
    ),
    "Idempotency-Key": Header(
        "Names this request, for 24 hours: a repeat with the same key is not done again, and gets the same answer. Any "
        "1 to 255 visible ASCII characters; a random UUID is best. A request that was refused may use its key again.",
        TEXT | {"pattern": "^[!-~]{1,255}$"},
    ),
    "If-Match": Header(
        "`ETag`s of the case, or `*`: the change is made only where one of them is still the case's, and else is 412.",
        TEXT,
    ),
    "If-None-Match": Header("An `ETag` that you have already: 304 where it is still that of what is asked for.", TEXT),
    "If-Range": Header("The `ETag` of the file that `Range` is a part of; another file is sent whole.", TEXT),
    "Range": Header("`bytes=0-1023`: send only these. What is no single range of bytes is left aside.", TEXT),
    "X-Checksum-Sha256": Header(
        "The file's SHA-256, in hex or base64; the file is refused where it has another.",
        TEXT | {"pattern": "^([0-9A-Fa-f]{64}|[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)?$"},
    ),
    "X-Request-Id": Header(
        "Names the request in the log and in the answer: 1 to 64 of `A-Za-z0-9._-`. Any other is replaced.", TEXT
    ),
}

RESPONSE_HEADERS = {
    "Accept-Ranges": Header("`bytes`: parts of the file can be asked for.", {"const": "bytes"}),
    "Content-Disposition": Header("The file's name, to save it under.", TEXT),
    "Content-Range": Header("Which bytes of how many these are.", TEXT | {"pattern": "^bytes "}),
    "ETag": Header(
        "Changes when the content does, and differs where callers are shown different things.",
        TEXT | {"pattern": '^(W/)?"'},
    ),
    "Idempotency-Replayed": Header(
        "Only on a repeat: this is what the first request with this key was answered.", {"const": "true"}, always=False
    ),
    "Location": Header("Where what was made, or what was asked for, is found.", TEXT),
    "RateLimit": Header(
        "How many requests each policy still lets through, and seconds until all are.", TEXT, always=False
    ),
    "RateLimit-Policy": Header(
        "The rates that hold here: so many requests (`q`) in so many seconds (`w`).", TEXT, always=False
    ),
    "Retry-After": Header("Seconds after which to try again.", COUNT),
    "WWW-Authenticate": Header("How to say who you are.", TEXT),
    "X-Request-Id": Header("Finds the request in the log.", TEXT | {"pattern": "^[A-Za-z0-9._-]{1,64}$"}),
}

COMMON_RESPONSE_HEADERS = ("X-Request-Id",)
OPTIONAL_RESPONSE_HEADERS = ("RateLimit", "RateLimit-Policy")  # if rate limits are enabled
HEADERS_BY_STATUS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    **dict.fromkeys(RETRY_AFTER_BY_STATUS, ("Retry-After",)),
}
