"""Route table: the source of the app's routes and of the OpenAPI document."""

from support_service.api import agents, api_docs, attachments, audit, cases, events, health
from support_service.api.route import Route, RouteResponse
from support_service.cases.model import (
    Attachment,
    Case,
    CaseChange,
    CasePage,
    CaseQuery,
    Closing,
    Message,
    NewCase,
    NewMessage,
    StatusChange,
    Ticket,
    Workload,
)
from support_service.events.envelope import STRUCTURED_MEDIA_TYPE

CASES = "/support/cases"
CASE = CASES + "/{case_id}"
ATTACHMENT_PATH = CASE + "/attachments/{attachment_id}"

# Groups of problem codes, see core/problem_codes.py. EVERYWHERE applies to all operations.
COMMON_PROBLEMS = (
    "expectation_failed",
    "headers_too_large",
    "host_not_allowed",
    "internal_error",
    "malformed_request",
    "origin_not_allowed",
    "uri_too_long",
)
ADMISSION_PROBLEMS = ("overloaded", "rate_limited", "too_many_parameters")  # operations other than health and metrics
# Operations that require authentication.
AUTHENTICATION_PROBLEMS = ("keys_unavailable", "permission_missing", "token_expired", "token_invalid", "token_missing")
DATABASE_PROBLEMS = ("database_busy", "database_unavailable")
BODY_PROBLEMS = ("body_too_large", "body_too_slow", "malformed_body", "unsupported_type")
JSON_BODY_PROBLEMS = (
    *DATABASE_PROBLEMS,
    *BODY_PROBLEMS,
    "malformed_json",
    "invalid_request",
)  # operations with a JSON body
CASE_PROBLEMS = (*DATABASE_PROBLEMS, "case_not_found")  # operations on a case

CHANGED = "case_changed"  # changes that accept If-Match
STATUS_PROBLEMS = (CHANGED, "status_move_not_allowed")
IDEMPOTENCY_PROBLEMS = (  # operations that accept an Idempotency-Key
    *("idempotency_answer_lost", "idempotency_key_in_use", "idempotency_key_invalid", "idempotency_key_reused"),
)
IDEMPOTENT_HEADERS = ("Idempotency-Key",)
REPLAY_HEADERS = ("Idempotency-Replayed",)
CHANGE_HEADERS = ("If-Match", *IDEMPOTENT_HEADERS)

DOWNLOAD_HEADERS = ("Accept-Ranges", "Content-Disposition", "ETag")

ROUTES = (
    Route(
        "POST",
        CASES,
        cases.open_case,
        Case,
        status=201,
        headers=("ETag", "Location", *REPLAY_HEADERS),
        body=NewCase,
        takes=IDEMPOTENT_HEADERS,
        refusals=(
            *JSON_BODY_PROBLEMS,
            "case_not_found",
            *IDEMPOTENCY_PROBLEMS,
        ),  # case_not_found: a repeat after the caller lost access
        gives=(("case_id", "/id"),),
    ),
    Route(
        "GET",
        "/support/cases",
        cases.list_cases,
        CasePage,
        query=CaseQuery,
        refusals=(*DATABASE_PROBLEMS, "invalid_request"),
    ),
    Route(
        "GET",
        CASE,
        cases.get_case,
        Case,
        headers=("ETag",),
        others=(RouteResponse(304, "The case is still the one that you have.", headers=("ETag",)),),
        query=cases.CaseDetailQuery,
        takes=("If-None-Match",),
        refusals=(*CASE_PROBLEMS, "invalid_request"),
    ),
    Route(
        "PATCH",
        CASE,
        cases.change_case,
        Ticket,
        headers=("ETag", *REPLAY_HEADERS),
        body=CaseChange,
        takes=CHANGE_HEADERS,
        refusals=(*CASE_PROBLEMS, *JSON_BODY_PROBLEMS, *STATUS_PROBLEMS, *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "DELETE",
        CASE,
        cases.delete_case,
        status=204,
        headers=REPLAY_HEADERS,
        takes=CHANGE_HEADERS,
        refusals=(*CASE_PROBLEMS, CHANGED, "case_not_synthetic", *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "POST",
        CASE + "/messages",
        cases.add_message,
        Message,
        body=NewMessage,
        headers=REPLAY_HEADERS,
        takes=CHANGE_HEADERS,
        refusals=(*CASE_PROBLEMS, *JSON_BODY_PROBLEMS, CHANGED, "case_closed", "case_full", *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "POST",
        CASE + "/status",
        cases.set_status,
        Ticket,
        headers=("ETag", *REPLAY_HEADERS),
        body=StatusChange,
        body_required=False,
        query=StatusChange,
        takes=CHANGE_HEADERS,
        refusals=(*CASE_PROBLEMS, *JSON_BODY_PROBLEMS, *STATUS_PROBLEMS, *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "POST",
        CASE + "/close",
        cases.close_case,
        Case,
        headers=("ETag", *REPLAY_HEADERS),
        body=Closing,
        body_required=False,
        takes=CHANGE_HEADERS,
        refusals=(*CASE_PROBLEMS, *JSON_BODY_PROBLEMS, CHANGED, "case_closed", "case_full", *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "POST",
        CASE + "/timeline/refresh",
        cases.refresh_timeline,
        Case,
        headers=("ETag", *REPLAY_HEADERS),
        takes=IDEMPOTENT_HEADERS,
        refusals=(*CASE_PROBLEMS, *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "POST",
        CASE + "/attachments",
        attachments.upload,
        Attachment,
        status=201,
        headers=("Location", *REPLAY_HEADERS),
        body=attachments.FileForm,
        body_media=("multipart/form-data",),
        query=attachments.UploadQuery,
        takes=("Content-Digest", *CHANGE_HEADERS, "X-Checksum-Sha256"),
        refusals=(
            *CASE_PROBLEMS,
            *BODY_PROBLEMS,
            *("attachment_empty", "attachment_too_large", "checksum_mismatch", "file_missing", "file_repeated"),
            *("invalid_request", "malformed_checksum", "malformed_multipart", "type_not_allowed"),
            *("storage_full", "storage_unavailable", "uploads_busy"),
            *(CHANGED, "case_closed", "case_full"),
            *IDEMPOTENCY_PROBLEMS,
        ),
        gives=(("attachment_id", "/id"), ("filename", "/filename")),
    ),
    Route("GET", CASE + "/attachments", attachments.list_attachments, Attachment, many=True, refusals=CASE_PROBLEMS),
    Route(
        "GET",
        ATTACHMENT_PATH + "/{filename}",
        attachments.download,
        media=("*/*",),
        headers=DOWNLOAD_HEADERS,
        others=(
            RouteResponse(
                206, "The range that was asked for.", media=("*/*",), headers=(*DOWNLOAD_HEADERS, "Content-Range")
            ),
            RouteResponse(304, "The file is still the one that you have.", headers=("ETag",)),
            RouteResponse(307, "The file lies at `Location` for a while.", headers=("ETag", "Location")),
        ),
        takes=("If-None-Match", "If-Range", "Range"),
        refusals=(
            *DATABASE_PROBLEMS,
            *("attachment_not_found", "attachment_unreadable", "range_not_satisfiable", "storage_unavailable"),
        ),
    ),
    Route(
        "DELETE",
        ATTACHMENT_PATH,
        attachments.remove,
        status=204,
        headers=REPLAY_HEADERS,
        takes=CHANGE_HEADERS,
        refusals=(*CASE_PROBLEMS, "attachment_not_found", CHANGED, *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "GET",
        CASE + "/audit",
        audit.list_audit,
        audit.AuditPage,
        query=audit.AuditQuery,
        refusals=(*CASE_PROBLEMS, "invalid_request"),
    ),
    Route("GET", "/support/agents/{agent_id}/workload", agents.workload, Workload, refusals=DATABASE_PROBLEMS),
    Route(
        "POST",
        "/support/events",
        events.receive_event,
        events.Accepted,
        status=202,
        body=events.SentEvent,
        body_media=(STRUCTURED_MEDIA_TYPE, "application/json"),
        headers=REPLAY_HEADERS,
        takes=IDEMPOTENT_HEADERS,
        refusals=(*JSON_BODY_PROBLEMS, "events_busy", "invalid_event", *IDEMPOTENCY_PROBLEMS),
    ),
    Route(
        "GET",
        "/metrics",
        health.metrics,
        media=("text/plain", "application/openmetrics-text"),
        refusals=("metrics_closed", "token_invalid", "token_missing"),
    ),
    Route("GET", "/health", health.health, health.Health),
    Route("GET", "/livez", health.livez, health.Health),
    Route(
        "GET",
        "/readyz",
        health.readyz,
        health.Ready,
        others=(RouteResponse(503, "Send requests elsewhere.", health.Ready),),
    ),
    Route("GET", "/openapi.json", api_docs.openapi, api_docs.Document),
    Route("GET", "/asyncapi.json", api_docs.asyncapi, api_docs.Document),
    Route("GET", "/docs", api_docs.docs, media=("text/html",)),
)
