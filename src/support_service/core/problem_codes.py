"""The table of all problem codes, with their HTTP status and meaning. `errors.problem` makes an error of a code.

A new code needs one row here, a line in `runbooks/errors.md` (and its Vietnamese version), and its name in the routes
that return it. Tests compare all three, and the code that raises it, with this table.
"""

from typing import NamedTuple


class ProblemCode(NamedTuple):
    """A stable, machine-readable problem code. A status of None stands for any 4xx that the HTTP layer chooses."""

    name: str
    status: int | None
    meaning: str


PROBLEM_CODES = (
    ProblemCode("agent_changed", 412, "the entry of the directory was changed or deleted since it was read"),
    ProblemCode("agent_exists", 409, "another request has just added this person to the directory"),
    ProblemCode("agent_not_found", 404, "the directory has no person with this id"),
    ProblemCode("already_duplicate", 409, "the case is a duplicate of another case"),
    ProblemCode("answers_unread", 429, "the caller leaves more than 64 MiB of answers unread"),
    ProblemCode("attachment_not_found", 404, "the attachment does not exist in this case, or was deleted"),
    ProblemCode(
        "attachment_not_sendable",
        422,
        "the message names files that are neither in the case nor staged by the caller; `errors` lists them",
    ),
    ProblemCode("attachment_too_large", 413, "the file is over `SUPPORT_ATTACHMENT_MAX_BYTES`"),
    ProblemCode("attachment_unreadable", 503, "the bytes of the file can't be read"),
    ProblemCode("body_too_large", 413, "the request is over its limit"),
    ProblemCode("body_too_slow", 408, "the body did not arrive in time"),
    ProblemCode("broker_unavailable", 503, "the Redis of events can't be reached"),
    ProblemCode(
        "bulk_change_not_found", 404, "the bulk change does not exist, is over an hour old, or is of another caller"
    ),
    ProblemCode("bulk_change_not_undoable", 409, "the bulk change is an undo itself, or has not ended"),
    ProblemCode(
        "bulk_changes_waiting",
        429,
        "the bulk change got no turn in 5 s, behind earlier ones of the caller or of other callers",
    ),
    ProblemCode("bulk_too_large", 422, "the query of the bulk change matches over 500 cases; `detail` has the number"),
    ProblemCode("case_changed", 412, "the case was changed since it was read"),
    ProblemCode("case_changed_since", 409, "the case was changed after the bulk change, which is not undone for it"),
    ProblemCode("case_closed", 409, "customers can't add messages or files to a closed case"),
    ProblemCode("case_full", 409, "the case would have more than 4 MiB of messages, or 1,000 files"),
    ProblemCode("case_not_found", 404, "the case does not exist, or the caller may not see it"),
    ProblemCode("case_not_synthetic", 409, "only synthetic cases can be deleted"),
    ProblemCode("checksum_mismatch", 422, "the checksum of the received file differs from the sent one"),
    ProblemCode("commit_not_replicated", 503, "the change was made, and the synchronous standby has not confirmed it"),
    ProblemCode("customer_already_merged", 409, "the other customer was merged into a third one"),
    ProblemCode("customer_changed", 412, "the record of the customer was changed since it was read"),
    ProblemCode("customer_merged", 409, "the customer was merged into another one, which has the record"),
    ProblemCode("customer_not_found", 404, "the customer has no record, and no case that the caller may see"),
    ProblemCode("database_busy", 503, "another session of the database, or another writer of SQLite, holds a lock"),
    ProblemCode(
        "database_connections_exhausted", 503, "PostgreSQL has reached `max_connections` or another such limit"
    ),
    ProblemCode("database_file_changed", 503, "the file of SQLite was deleted or replaced while it is open"),
    ProblemCode("database_full", 503, "the disk of the database is full"),
    ProblemCode("database_pool_exhausted", 503, "all connections of this replica to PostgreSQL are in use"),
    ProblemCode("database_read_only", 503, "the database accepts reads, but no changes"),
    ProblemCode("database_slow", 503, "a statement takes longer than 15 s"),
    ProblemCode("database_unavailable", 503, "the database can't be reached"),
    ProblemCode("database_without_primary", 503, "each server in `SUPPORT_DATABASE_URL` is a standby, or down"),
    ProblemCode(
        "dead_letter_not_found", 404, "the dead letter does not exist: it was replayed, dropped or never there"
    ),
    ProblemCode("delivery_not_found", 404, "the webhook delivery does not exist, or was deleted"),
    ProblemCode("duplicate_of_closed_case", 409, "the original of the duplicate is closed"),
    ProblemCode("event_too_large", 400, "an event is over its limit"),
    ProblemCode("events_busy", 503, "too many events are waiting in memory"),
    ProblemCode(
        "expectation_failed", 417, "the request has an unsupported `Expect` header; only `100-continue` is supported"
    ),
    ProblemCode("external_id_taken", 409, "the `externalId` is in use by what the caller may not see"),
    ProblemCode("file_missing", 422, "the form has no part `file`"),
    ProblemCode("file_repeated", 422, "the form has more than one part `file`"),
    ProblemCode("headers_too_large", 431, "more than 100 headers, 8 KiB in one, or 32 KiB in all"),
    ProblemCode(
        "host_not_allowed", 421, "a service with `SUPPORT_AUTH=open` was called with a host name other than loopback"
    ),
    ProblemCode("http_error", None, "an error of the HTTP layer, such as a bad request line"),
    ProblemCode("https_required", 403, "sessions of browsers need HTTPS, except on loopback"),
    ProblemCode("idempotency_answer_lost", 409, "the change was made, but its response was not stored"),
    ProblemCode("idempotency_key_in_use", 409, "a request with the same key is in progress"),
    ProblemCode("idempotency_key_invalid", 422, "the key does not have 1 to 255 visible characters"),
    ProblemCode("idempotency_key_reused", 422, "the key was used for another request"),
    ProblemCode("identity_not_found", 404, "the other customer was not merged into this one"),
    ProblemCode(
        "internal_error",
        500,
        "a defect in the service; the log has its place under `requestId`, and its traceback once a minute",
    ),
    ProblemCode("invalid_event", 422, "an event violates its contract"),
    ProblemCode("invalid_request", 422, "fields are invalid; `errors` lists them"),
    ProblemCode(
        "keys_unavailable", 503, "the keys of `SUPPORT_JWT_KEYS` can't be fetched, and no keys were loaded before"
    ),
    ProblemCode("link_cycle", 409, "links of this kind lead from the other case back to this one"),
    ProblemCode("link_not_found", 404, "the link does not exist, or is not one of this case"),
    ProblemCode("macro_changed", 412, "the macro was changed or deleted since it was read"),
    ProblemCode("macro_exists", 409, "there is a macro of this name"),
    ProblemCode("macro_not_found", 404, "there is no macro of this name"),
    ProblemCode("malformed_body", 400, "the body can't be read (encoding, length)"),
    ProblemCode("malformed_checksum", 400, "the checksum header can't be read"),
    ProblemCode("malformed_json", 400, "the body is not JSON, or is nested too deeply"),
    ProblemCode("malformed_multipart", 400, "the multipart form is malformed"),
    ProblemCode("malformed_request", 400, "the request line, a header or the framing can't be read"),
    ProblemCode("method_not_allowed", 405, "the path does not support the method; `Allow` lists the supported ones"),
    ProblemCode("metrics_closed", 403, "`/metrics` is served on the admin port only"),
    ProblemCode("origin_not_allowed", 403, "a web page of another origin sent the request"),
    ProblemCode(
        "overloaded",
        503,
        "the event loop lag exceeds `SUPPORT_SHED_LAG`, or 1,000 requests or 128 large bodies (32 of one "
        "caller) are in progress. Or clients leave more than 256 MiB of answers unread. For a stream of "
        "changes: half of `SUPPORT_CONNECTIONS` are streams",
    ),
    ProblemCode("override_changed", 412, "the override was changed since it was read"),
    ProblemCode("override_not_found", 404, "there is no override of this name, or it is not in effect"),
    ProblemCode("permission_missing", 403, "the role of the caller lacks the permission that `detail` names"),
    ProblemCode(
        "provider_unavailable",
        503,
        "the sign-in provider has not confirmed the session for longer than `SUPPORT_OIDC_OUTAGE_GRACE`",
    ),
    ProblemCode("range_not_satisfiable", 416, "the requested range begins after the end of the file"),
    ProblemCode("rate_limited", 429, "the caller exceeded its rate limit; `Retry-After` says when to retry"),
    ProblemCode("route_not_found", 404, "the path is unknown"),
    ProblemCode(
        "searches_waiting",
        429,
        "the search or count got no turn in 5 s, behind earlier ones of the caller or of other callers",
    ),
    ProblemCode("session_ended", 401, "the session of the browser has ended"),
    ProblemCode("sla_policy_changed", 412, "the service level policy was changed or deleted since it was read"),
    ProblemCode("sla_policy_exists", 409, "another request has just created a service level policy of this name"),
    ProblemCode("sla_policy_not_found", 404, "there is no service level policy of this name"),
    ProblemCode("split_leaves_nothing", 409, "the split would take all messages of a case without a description"),
    ProblemCode("status_move_not_allowed", 409, "the case can't change from its status to the requested one"),
    ProblemCode("storage_full", 507, "the disk is at its reserve"),
    ProblemCode("storage_unavailable", 503, "the attachments' folder or S3 can't be used"),
    ProblemCode("token_expired", 401, "the token has expired"),
    ProblemCode("token_invalid", 401, "the token is invalid"),
    ProblemCode("token_missing", 401, "no token was sent"),
    ProblemCode("tokens_unavailable", 503, "`SUPPORT_TOKENS_FILE` can't be read"),
    ProblemCode("too_many_agents", 409, "the directory has 5,000 people, the limit"),
    ProblemCode("too_many_followers", 409, "the case has 50 followers, the limit"),
    ProblemCode("too_many_identities", 409, "the person would have more than 20 ids, the limit"),
    ProblemCode("too_many_links", 409, "one of the cases has 100 links"),
    ProblemCode("too_many_macros", 409, "there are 1,000 macros, the limit"),
    ProblemCode("too_many_parameters", 400, "the query has more than 64 parameters"),
    ProblemCode("too_many_sla_policies", 409, "there are 100 service level policies, the limit"),
    ProblemCode("too_many_staged_files", 409, "the caller has 100 staged files, the limit"),
    ProblemCode(
        "too_many_streams",
        429,
        "the principal or the address already has `SUPPORT_STREAMS_PER_PRINCIPAL`, or 16 times as many, "
        "open streams in this replica",
    ),
    ProblemCode("too_many_tags", 409, "the bulk change would give the case more than 50 tags"),
    ProblemCode("too_many_views", 409, "the user, or the team, already has 100 saved views"),
    ProblemCode("type_not_allowed", 415, "files of this type are not allowed"),
    ProblemCode("unsupported_type", 415, "the content type of the request is not supported"),
    ProblemCode("uploads_busy", 503, "64 uploads are in progress, or a quarter of them for one caller"),
    ProblemCode("uri_too_long", 414, "the address has more than 8,190 bytes, or its query more than 4,096"),
    ProblemCode(
        "variables_unfilled", 422, "the public message has variables of macros without a value; `errors` names them"
    ),
    ProblemCode("version_not_supported", 505, "the request is neither HTTP/1.0 nor HTTP/1.1"),
    ProblemCode("view_changed", 412, "the saved view was changed since it was read"),
    ProblemCode("view_name_taken", 409, "the user, or the team, has another saved view of this name"),
    ProblemCode("view_not_found", 404, "the saved view does not exist, or the caller may not see it"),
    ProblemCode("writes_waiting", 503, "too many changes wait for the same case, or too many uploads for their turn"),
)
PROBLEM_CODES_BY_NAME = {code.name: code for code in PROBLEM_CODES}

# Codes of the command line only, without an HTTP status.
COMMAND_LINE_ERRORS = (
    ("address_unavailable", "another process listens on the address, or it is not an address of this machine"),
    ("archive_in_use", "another process writes to the folder of `retention --export`: wait until it ends"),
    ("customer_not_found", "the customer is unknown"),
    ("database_copy_failed", "the target of `database copy` refuses a row, which the message names"),
    ("database_copy_unfinished", "run `support-service database copy` until it has compared both databases"),
    (
        "database_missing",
        "the file of `SUPPORT_DATABASE_URL` does not exist: run the command in the service's environment",
    ),
    ("database_not_empty", "the target of `database copy` must have no rows"),
    ("database_not_migrated", "run `support-service migrate` first"),
    (
        "database_of_earlier_release",
        "finish the upgrade to 0.2.0 with that release first: run its `support-service migrate`, then start it",
    ),
    (
        "database_of_earlier_service",
        "`SUPPORT_DATABASE_URL` names the database of the earlier support-service: use a database or schema of its own",
    ),
    ("file_exists", "name a file that does not exist yet"),
    ("file_missing", "name the files to upload after the id of the case"),
    ("file_unreadable", "the file can't be read; the message has the reason"),
    ("line_too_long", "a line of an import has at most 16 MiB"),
    ("name_taken", "a valid token has that name: choose another name, or revoke it"),
    ("no_entries", "the audit log has no sealed entry before that time"),
    ("not_confirmed", "confirm with `--yes` if stdin is not a terminal"),
    ("other_segment", "the file is not the oldest part of this audit log; the message has the difference"),
    ("reason_missing", "give a reason with `--reason`"),
    ("subject_missing", "an agent's or a customer's token needs `--subject`"),
    ("unknown_override", "an upstream service, `ttl` or `all`; the message lists the services"),
    ("unknown_service", "an upstream service; the message lists them"),
    ("unknown_token", "`support-service token list` lists all tokens"),
    ("wrong_agent", "an id of 1 to 128 printable characters; the message says what is allowed for the other fields"),
    ("wrong_arguments", "the arguments of the command do not fit together; the message has the reason"),
    ("wrong_case", "the id of a case comes before the files: the variable that holds it is empty or not set"),
    ("wrong_columns", "the first line of the CSV file names its columns: id, name, teams, role"),
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
STATUS_BY_CODE = dict.fromkeys(COMMAND_LINE_ERRORS_BY_NAME) | {code.name: code.status for code in PROBLEM_CODES}
