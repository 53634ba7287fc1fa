"""Route table: the source of the app's routes and of the OpenAPI document."""

from support_service.api import agents, api_docs, attachments, audit, cases, events, health
from support_service.api.route import Answer, Route
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
from support_service.events.envelope import STRUCTURED

CASES = "/support/cases"
CASE = CASES + "/{case_id}"
FILE = CASE + "/attachments/{attachment_id}"

# Groups of problem codes, see core/problem_codes.py. EVERYWHERE applies to all operations.
EVERYWHERE = (
    "expectation_failed",
    "headers_too_large",
    "host_not_allowed",
    "internal_error",
    "malformed_request",
    "origin_not_allowed",
    "uri_too_long",
)
AT_THE_GATE = ("overloaded", "rate_limited", "too_many_parameters")  # operations other than health and metrics
# Operations that require authentication.
AT_THE_DOOR = ("keys_unavailable", "permission_missing", "token_expired", "token_invalid", "token_missing")
DATABASE = ("database_busy", "database_unavailable")
BODY = ("body_too_large", "body_too_slow", "malformed_body", "unsupported_type")
SENT = (*DATABASE, *BODY, "malformed_json", "invalid_request")  # operations with a JSON body
KNOWN = (*DATABASE, "case_not_found")  # operations on a case

CHANGED = "case_changed"  # changes that accept If-Match
MOVED = (CHANGED, "status_move_not_allowed")
REPEATED = (  # operations that accept an Idempotency-Key
    *("idempotency_answer_lost", "idempotency_key_in_use", "idempotency_key_invalid", "idempotency_key_reused"),
)
KEY = ("Idempotency-Key",)
REPEAT = ("Idempotency-Replayed",)
CHANGE = ("If-Match", *KEY)

DOWNLOADED = ("Accept-Ranges", "Content-Disposition", "ETag")

ROUTES = (
    Route(
        "POST",
        CASES,
        cases.open_case,
        Case,
        status=201,
        headers=("ETag", "Location", *REPEAT),
        body=NewCase,
        takes=KEY,
        refusals=(*SENT, "case_not_found", *REPEATED),  # case_not_found: a repeat after the caller lost access
        gives=(("case_id", "/id"),),
    ),
    Route(
        "GET", "/support/cases", cases.list_cases, CasePage, query=CaseQuery, refusals=(*DATABASE, "invalid_request")
    ),
    Route(
        "GET",
        CASE,
        cases.get_case,
        Case,
        headers=("ETag",),
        others=(Answer(304, "The case is still the one that you have.", headers=("ETag",)),),
        query=cases.DetailQuery,
        takes=("If-None-Match",),
        refusals=(*KNOWN, "invalid_request"),
    ),
    Route(
        "PATCH",
        CASE,
        cases.change_case,
        Ticket,
        headers=("ETag", *REPEAT),
        body=CaseChange,
        takes=CHANGE,
        refusals=(*KNOWN, *SENT, *MOVED, *REPEATED),
    ),
    Route(
        "DELETE",
        CASE,
        cases.delete_case,
        status=204,
        headers=REPEAT,
        takes=CHANGE,
        refusals=(*KNOWN, CHANGED, "case_not_synthetic", *REPEATED),
    ),
    Route(
        "POST",
        CASE + "/messages",
        cases.add_message,
        Message,
        body=NewMessage,
        headers=REPEAT,
        takes=CHANGE,
        refusals=(*KNOWN, *SENT, CHANGED, "case_closed", "case_full", *REPEATED),
    ),
    Route(
        "POST",
        CASE + "/status",
        cases.set_status,
        Ticket,
        headers=("ETag", *REPEAT),
        body=StatusChange,
        body_required=False,
        query=StatusChange,
        takes=CHANGE,
        refusals=(*KNOWN, *SENT, *MOVED, *REPEATED),
    ),
    Route(
        "POST",
        CASE + "/close",
        cases.close_case,
        Case,
        headers=("ETag", *REPEAT),
        body=Closing,
        body_required=False,
        takes=CHANGE,
        refusals=(*KNOWN, *SENT, CHANGED, "case_closed", "case_full", *REPEATED),
    ),
    Route(
        "POST",
        CASE + "/timeline/refresh",
        cases.refresh_timeline,
        Case,
        headers=("ETag", *REPEAT),
        takes=KEY,
        refusals=(*KNOWN, *REPEATED),
    ),
    Route(
        "POST",
        CASE + "/attachments",
        attachments.upload,
        Attachment,
        status=201,
        headers=("Location", *REPEAT),
        body=attachments.FileForm,
        body_media=("multipart/form-data",),
        query=attachments.UploadQuery,
        takes=("Content-Digest", *CHANGE, "X-Checksum-Sha256"),
        refusals=(
            *KNOWN,
            *BODY,
            *("attachment_empty", "attachment_too_large", "checksum_mismatch", "file_missing", "file_repeated"),
            *("invalid_request", "malformed_checksum", "malformed_multipart", "type_not_allowed"),
            *("storage_full", "storage_unavailable", "uploads_busy"),
            *(CHANGED, "case_closed", "case_full"),
            *REPEATED,
        ),
        gives=(("attachment_id", "/id"), ("filename", "/filename")),
    ),
    Route("GET", CASE + "/attachments", attachments.list_attachments, Attachment, many=True, refusals=KNOWN),
    Route(
        "GET",
        FILE + "/{filename}",
        attachments.download,
        media=("*/*",),
        headers=DOWNLOADED,
        others=(
            Answer(206, "The range that was asked for.", media=("*/*",), headers=(*DOWNLOADED, "Content-Range")),
            Answer(304, "The file is still the one that you have.", headers=("ETag",)),
            Answer(307, "The file lies at `Location` for a while.", headers=("ETag", "Location")),
        ),
        takes=("If-None-Match", "If-Range", "Range"),
        refusals=(
            *DATABASE,
            *("attachment_not_found", "attachment_unreadable", "range_not_satisfiable", "storage_unavailable"),
        ),
    ),
    Route(
        "DELETE",
        FILE,
        attachments.remove,
        status=204,
        headers=REPEAT,
        takes=CHANGE,
        refusals=(*KNOWN, "attachment_not_found", CHANGED, *REPEATED),
    ),
    Route(
        "GET",
        CASE + "/audit",
        audit.list_audit,
        audit.AuditPage,
        query=audit.AuditQuery,
        refusals=(*KNOWN, "invalid_request"),
    ),
    Route("GET", "/support/agents/{agent_id}/workload", agents.workload, Workload, refusals=DATABASE),
    Route(
        "POST",
        "/support/events",
        events.receive_event,
        events.Accepted,
        status=202,
        body=events.SentEvent,
        body_media=(STRUCTURED, "application/json"),
        headers=REPEAT,
        takes=KEY,
        refusals=(*SENT, "events_busy", "invalid_event", *REPEATED),
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
        others=(Answer(503, "Send requests elsewhere.", health.Ready),),
    ),
    Route("GET", "/openapi.json", api_docs.openapi, api_docs.Document),
    Route("GET", "/asyncapi.json", api_docs.asyncapi, api_docs.Document),
    Route("GET", "/docs", api_docs.docs, media=("text/html",)),
)
