"""The table of all problem codes, with their meaning and HTTP status.

A new code needs one row here, a line in `runbooks/errors.md` (and its Vietnamese version), and its name in the routes
that return it. Tests compare all three, and the code that raises it, with this table.
"""

from typing import NamedTuple


class Code(NamedTuple):
    """A stable, machine-readable problem code. A status of None stands for any 4xx that the HTTP layer chooses."""

    name: str
    status: int | None
    meaning: str


TABLE = (
    Code("attachment_empty", 422, "the file has no bytes"),
    Code("attachment_not_found", 404, "no such attachment in this case, or it was deleted"),
    Code("attachment_too_large", 413, "the file is over `SUPPORT_ATTACHMENT_MAX_BYTES`"),
    Code("attachment_unreadable", 503, "the row is there, the bytes can't be read"),
    Code("body_too_large", 413, "the request is over its limit"),
    Code("body_too_slow", 408, "the body did not arrive in time"),
    Code("case_changed", 412, "someone else changed the case since it was read"),
    Code("case_closed", 409, "a closed case takes no message and no file of its customer"),
    Code("case_full", 409, "the case would have more than 4 MiB of messages, or 1,000 files"),
    Code("case_not_found", 404, "no such case, or none that the caller may see"),
    Code("case_not_synthetic", 409, "only the probe's own cases may be removed so"),
    Code("checksum_mismatch", 422, "the file that came is not the one that was sent"),
    Code("database_busy", 503, "SQLite is locked by another writer"),
    Code("database_unavailable", 503, "the database can't be reached"),
    Code("event_too_large", 400, "an event is over its limit"),
    Code("events_busy", 503, "more events wait than the service keeps in memory"),
    Code("expectation_failed", 417, "the request expects what is no `100-continue`"),
    Code("file_missing", 422, "the form has no part `file`"),
    Code("file_repeated", 422, "the form has more than one part `file`"),
    Code("headers_too_large", 431, "more than 100 headers, 8 KiB in one, or 32 KiB in all"),
    Code("host_not_allowed", 421, "an open service was called by a name that is not loopback"),
    Code("http_error", None, "a refusal of the HTTP layer itself, such as a bad request line"),
    Code("idempotency_answer_lost", 409, "the change was made, its answer was not kept"),
    Code("idempotency_key_in_use", 409, "the same request is in work"),
    Code("idempotency_key_invalid", 422, "the key is not 1 to 255 visible characters"),
    Code("idempotency_key_reused", 422, "the key was used for another request"),
    Code("internal_error", 500, "a defect: the trace is in the log under `requestId`"),
    Code("invalid_event", 422, "an event breaks its contract"),
    Code("invalid_request", 422, "a field breaks a rule; `errors` names each"),
    Code("keys_unavailable", 503, "the keys of `SUPPORT_JWT_KEYS` can't be fetched, and none is known yet"),
    Code("malformed_body", 400, "the body can't be read (encoding, length)"),
    Code("malformed_checksum", 400, "the checksum header can't be read"),
    Code("malformed_json", 400, "the body is no JSON, or nests too deep"),
    Code("malformed_multipart", 400, "the form is not in order"),
    Code("malformed_request", 400, "the request line, a header or the framing can't be read"),
    Code("method_not_allowed", 405, "the path has no such method; `Allow` names those it has"),
    Code("metrics_closed", 403, "`/metrics` is not open on this port"),
    Code("origin_not_allowed", 403, "a page of another origin called"),
    Code("overloaded", 503, "the event loop stays late (`SUPPORT_SHED_LAG`), or `SUPPORT_REQUESTS` are in work"),
    Code("permission_missing", 403, "the caller's role lacks the permission that is named"),
    Code("range_not_satisfiable", 416, "the file ends before the range that was asked for"),
    Code("rate_limited", 429, "the caller asked too often; `Retry-After` says when"),
    Code("route_not_found", 404, "nothing is served at this path"),
    Code("status_move_not_allowed", 409, "the case can't go from its status to that one"),
    Code("storage_full", 507, "the disk is at its reserve"),
    Code("storage_unavailable", 503, "the attachments' folder or S3 can't be used"),
    Code("token_expired", 401, "the token is out of date"),
    Code("token_invalid", 401, "the token is not valid here"),
    Code("token_missing", 401, "no token was sent"),
    Code("tokens_unavailable", 503, "`SUPPORT_TOKENS_FILE` can't be read"),
    Code("too_many_parameters", 400, "the query has more than 64 parameters"),
    Code("type_not_allowed", 415, "files of this type are not taken"),
    Code("unsupported_type", 415, "the content type is none that is read here"),
    Code("uploads_busy", 503, "`SUPPORT_ATTACHMENT_UPLOADS` are in progress, or a quarter of them for one person"),
    Code("uri_too_long", 414, "the address has more than 8,190 bytes, or its query more than 4,096"),
)
BY_NAME = {code.name: code for code in TABLE}

# Codes of the command line only, without an HTTP status.
TYPED = (
    ("address_unavailable", "another process listens there, or the address is none of this machine's"),
    ("customer_not_found", "nothing is known of that customer"),
    ("database_missing", "there is no file where `SUPPORT_DATABASE_URL` looks: run it where the service runs"),
    ("database_not_migrated", "run `support-service migrate` first"),
    ("name_taken", "a valid token has that name: take another, or revoke it"),
    ("not_confirmed", "say `--yes` where nobody can be asked"),
    ("reason_missing", "say why with `--reason`"),
    ("subject_missing", "an agent's or a customer's token needs `--subject`"),
    ("unknown_lever", "`order`, `payment`, `fulfillment`, `ttl` or `all`"),
    ("unknown_service", "`order`, `payment` or `fulfillment`"),
    ("unknown_token", "`support-service token list` shows all"),
    ("upload_refused", "the service refused the file, and says why"),
    ("wrong_customer", "a customer's id has 1 to 36 characters"),
    ("wrong_duration", "`90s`, `30m`, `2h` or `1d`, at most `7d`"),
    ("wrong_expiry", "`12h`, `90d` or `52w`"),
    ("wrong_head", "64 hexadecimal digits, as `support-service audit verify` prints them"),
    ("wrong_name", "1 to 64 of `A-Z a-z 0-9 . _ @ -`"),
    ("wrong_reason", "at most 200 printable characters"),
    ("wrong_subject", "`--subject` and `--team` have 1 to 36 printable characters"),
    ("wrong_ttl", "a number of seconds from 1 to 86400"),
)
COMMAND_LINE = dict(TYPED)
