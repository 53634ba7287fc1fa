"""Groups of problem codes that several routes share, see core/problem_codes.py."""

# Every operation.
COMMON_PROBLEMS = (
    "expectation_failed",
    "headers_too_large",
    "host_not_allowed",
    "internal_error",
    "malformed_request",
    "origin_not_allowed",
    "uri_too_long",
    "version_not_supported",
)
# Operations other than health and metrics.
ADMISSION_PROBLEMS = ("answers_unread", "overloaded", "rate_limited", "too_many_parameters")
# Operations that require authentication.
AUTHENTICATION_PROBLEMS = (
    *("keys_unavailable", "permission_missing", "session_ended"),
    *("token_expired", "token_invalid", "token_missing"),
)
# Operations that accept an Idempotency-Key.
IDEMPOTENCY_PROBLEMS = (
    "idempotency_answer_lost",
    "idempotency_key_in_use",
    "idempotency_key_invalid",
    "idempotency_key_reused",
)

# Operations that name the group.
DATABASE_PROBLEMS = (
    "database_busy",
    "database_connections_exhausted",
    "database_file_changed",
    "database_full",
    "database_pool_exhausted",
    "database_read_only",
    "database_slow",
    "database_unavailable",
    "writes_waiting",
)
BODY_PROBLEMS = ("body_too_large", "body_too_slow", "malformed_body", "unsupported_type")
CASE_PROBLEMS = (*DATABASE_PROBLEMS, "case_not_found")  # operations on one case
# Operations that take a JSON body.
JSON_BODY_PROBLEMS = (*BODY_PROBLEMS, "malformed_json", "invalid_request")
