"""The table of all problem codes, with their meaning and HTTP status.

A new code needs one row here, a line in `runbooks/errors.md` (and its Vietnamese version), and its name in the routes
that return it. Tests compare all three, and the code that raises it, with this table.
"""

from typing import NamedTuple

from support_service.core.upstream_services import UPSTREAM_SERVICES, any_of


class ProblemCode(NamedTuple):
    """A stable, machine-readable problem code. A status of None stands for any 4xx that the HTTP layer chooses."""

    name: str
    status: int | None
    meaning: str


PROBLEM_CODES = (
    ProblemCode("attachment_empty", 422, "the file has no bytes"),
    ProblemCode("attachment_not_found", 404, "no such attachment in this case, or it was deleted"),
    ProblemCode("attachment_too_large", 413, "the file is over `SUPPORT_ATTACHMENT_MAX_BYTES`"),
    ProblemCode("attachment_unreadable", 503, "the row is there, the bytes can't be read"),
    ProblemCode("body_too_large", 413, "the request is over its limit"),
    ProblemCode("body_too_slow", 408, "the body did not arrive in time"),
    ProblemCode("case_changed", 412, "someone else changed the case since it was read"),
    ProblemCode("case_closed", 409, "a closed case takes no message and no file of its customer"),
    ProblemCode("case_full", 409, "the case would have more than 4 MiB of messages, or 1,000 files"),
    ProblemCode("case_not_found", 404, "no such case, or none that the caller may see"),
    ProblemCode("case_not_synthetic", 409, "only the probe's own cases may be removed so"),
    ProblemCode("checksum_mismatch", 422, "the file that came is not the one that was sent"),
    ProblemCode("database_busy", 503, "SQLite is locked by another writer"),
    ProblemCode("database_unavailable", 503, "the database can't be reached"),
    ProblemCode("event_too_large", 400, "an event is over its limit"),
    ProblemCode("events_busy", 503, "more events wait than the service keeps in memory"),
    ProblemCode("expectation_failed", 417, "the request expects what is no `100-continue`"),
    ProblemCode("file_missing", 422, "the form has no part `file`"),
    ProblemCode("file_repeated", 422, "the form has more than one part `file`"),
    ProblemCode("headers_too_large", 431, "more than 100 headers, 8 KiB in one, or 32 KiB in all"),
    ProblemCode("host_not_allowed", 421, "an open service was called by a name that is not loopback"),
    ProblemCode("http_error", None, "a refusal of the HTTP layer itself, such as a bad request line"),
    ProblemCode("idempotency_answer_lost", 409, "the change was made, its answer was not kept"),
    ProblemCode("idempotency_key_in_use", 409, "the same request is in work"),
    ProblemCode("idempotency_key_invalid", 422, "the key is not 1 to 255 visible characters"),
    ProblemCode("idempotency_key_reused", 422, "the key was used for another request"),
    ProblemCode("internal_error", 500, "a defect: the trace is in the log under `requestId`"),
    ProblemCode("invalid_event", 422, "an event breaks its contract"),
    ProblemCode("invalid_request", 422, "a field breaks a rule; `errors` names each"),
    ProblemCode("keys_unavailable", 503, "the keys of `SUPPORT_JWT_KEYS` can't be fetched, and none is known yet"),
    ProblemCode("malformed_body", 400, "the body can't be read (encoding, length)"),
    ProblemCode("malformed_checksum", 400, "the checksum header can't be read"),
    ProblemCode("malformed_json", 400, "the body is no JSON, or nests too deep"),
    ProblemCode("malformed_multipart", 400, "the form is not in order"),
    ProblemCode("malformed_request", 400, "the request line, a header or the framing can't be read"),
    ProblemCode("method_not_allowed", 405, "the path has no such method; `Allow` names those it has"),
    ProblemCode("metrics_closed", 403, "`/metrics` is not open on this port"),
    ProblemCode("origin_not_allowed", 403, "a page of another origin called"),
    ProblemCode("overloaded", 503, "the event loop stays late (`SUPPORT_SHED_LAG`), or `SUPPORT_REQUESTS` are in work"),
    ProblemCode("permission_missing", 403, "the caller's role lacks the permission that is named"),
    ProblemCode("range_not_satisfiable", 416, "the file ends before the range that was asked for"),
    ProblemCode("rate_limited", 429, "the caller asked too often; `Retry-After` says when"),
    ProblemCode("route_not_found", 404, "nothing is served at this path"),
    ProblemCode("status_move_not_allowed", 409, "the case can't go from its status to that one"),
    ProblemCode("storage_full", 507, "the disk is at its reserve"),
    ProblemCode("storage_unavailable", 503, "the attachments' folder or S3 can't be used"),
    ProblemCode("token_expired", 401, "the token is out of date"),
    ProblemCode("token_invalid", 401, "the token is not valid here"),
    ProblemCode("token_missing", 401, "no token was sent"),
    ProblemCode("tokens_unavailable", 503, "`SUPPORT_TOKENS_FILE` can't be read"),
    ProblemCode("too_many_parameters", 400, "the query has more than 64 parameters"),
    ProblemCode("type_not_allowed", 415, "files of this type are not taken"),
    ProblemCode("unsupported_type", 415, "the content type is none that is read here"),
    ProblemCode(
        "uploads_busy", 503, "`SUPPORT_ATTACHMENT_UPLOADS` are in progress, or a quarter of them for one person"
    ),
    ProblemCode("uri_too_long", 414, "the address has more than 8,190 bytes, or its query more than 4,096"),
)
PROBLEM_CODES_BY_NAME = {code.name: code for code in PROBLEM_CODES}

# Codes of the command line only, without an HTTP status.
COMMAND_LINE_ERRORS = (
    ("address_unavailable", "another process listens there, or the address is none of this machine's"),
    ("customer_not_found", "nothing is known of that customer"),
    ("database_missing", "there is no file where `SUPPORT_DATABASE_URL` looks: run it where the service runs"),
    ("database_not_migrated", "run `support-service migrate` first"),
    ("name_taken", "a valid token has that name: take another, or revoke it"),
    ("not_confirmed", "say `--yes` where nobody can be asked"),
    ("reason_missing", "say why with `--reason`"),
    ("subject_missing", "an agent's or a customer's token needs `--subject`"),
    ("unknown_override", any_of(f"`{name}`" for name in (*UPSTREAM_SERVICES, "ttl", "all"))),
    ("unknown_service", any_of(f"`{name}`" for name in UPSTREAM_SERVICES)),
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
COMMAND_LINE_ERRORS_BY_NAME = dict(COMMAND_LINE_ERRORS)
