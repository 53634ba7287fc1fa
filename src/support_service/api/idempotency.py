"""Idempotency-Key middleware: a repeated write is executed once, and its stored response is returned again.

Error responses are not stored: they have changed nothing, and a client may send the corrected request with the same
key.
"""

import hashlib
import json
import logging
import re

import pydantic_core
from aiohttp import web
from aiohttp.typedefs import Handler

from support_service.api import app_keys
from support_service.api.authorization import is_limited_to_own_cases, operation_name
from support_service.attachments.component import ATTACHMENTS
from support_service.attachments.model import clean_filename
from support_service.core.errors import ValidationFailed
from support_service.core.ids import is_valid_id
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.events.envelope import HEADER_PREFIX
from support_service.http.component import READINESS
from support_service.http.json_body import media_type, read_body
from support_service.http.uploads import FileUpload
from support_service.idempotency.claims import (
    IdempotencyClaim,
    IdempotencyService,
    StoredResponse,
    key_reused_error,
    stored_key,
)
from support_service.idempotency.component import CLAIMS
from support_service.idempotency.unit_of_work import WriteContext
from support_service.telemetry.logs import REQUEST_ID

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
WRITE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")
STORED_HEADERS = ("Content-Type", "ETag", "Location")  # stored response headers; the others are created per response
FIRST_ERROR_STATUS = 400  # lowest status that is an error

log = logging.getLogger(__name__)


@web.middleware
async def idempotent(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Execute a write with an Idempotency-Key once; pass other requests through.

    Raises ValidationFailed for a malformed key, or a key used for another request; Conflict if the first request is
    still running or its response was lost.
    """
    if (
        HEADER not in request.headers
        or request.method not in WRITE_METHODS
        or request.match_info.http_exception is not None
    ):
        return await handler(request)
    claims = request.app[CLAIMS]
    case_id = request.match_info.get("case_id", "")
    about = case_id if is_valid_id(case_id) else None
    taken = await claims.take(
        stored_key(CURRENT_PRINCIPAL.get(), _idempotency_key(request)), await _request_digest(request), about
    )
    if isinstance(taken, StoredResponse):
        if taken.case_id is not None and is_limited_to_own_cases(request):
            await request.app[ATTACHMENTS].expect(taken.case_id)  # the caller may have lost access since
        if _is_upload(request):
            await _expect_same_file(request, taken)
        return web.Response(status=taken.status, headers={**taken.headers, REPLAYED: "true"}, body=taken.body)
    request[app_keys.CLAIM] = taken
    try:
        async with claims.renewing(taken):
            response = await handler(request)
    except Exception:
        await _finish(claims, taken, None)
        raise
    await _finish(claims, taken, response)
    return response


def write_context(request: web.Request) -> WriteContext:
    """Return the context of the changes that a request makes."""
    return WriteContext(CURRENT_PRINCIPAL.get(), REQUEST_ID.get(), request.get(app_keys.CLAIM))


def _idempotency_key(request: web.Request) -> str:
    """Return the request's Idempotency-Key. Raises ValidationFailed if it is malformed or given twice."""
    given = request.headers.getall(HEADER)
    if len(given) != 1 or not KEY_PATTERN.fullmatch(given[0]):
        raise ValidationFailed("idempotency_key_invalid", "An Idempotency-Key has 1 to 255 visible ASCII characters.")
    return given[0]


async def _request_digest(request: web.Request) -> str:
    """Return a digest of method, URL, CloudEvents headers and body.

    An upload's body is left out, because its multipart boundary differs each time. Its file is compared separately.
    """
    attributes = sorted(
        (name.lower(), value) for name, value in request.headers.items() if name.lower().startswith(HEADER_PREFIX)
    )
    asked = json.dumps([request.method, request.rel_url.raw_path_qs, attributes])  # also encodes invalid UTF-8
    digest = hashlib.sha256(asked.encode())
    if not _is_upload(request):
        digest.update(await read_body(request))
    return digest.hexdigest()


def _is_upload(request: web.Request) -> bool:
    return operation_name(request) == "upload" and media_type(request).startswith("multipart/")


async def _expect_same_file(request: web.Request, answer: StoredResponse) -> None:
    """Read a repeated upload without storing it. Raises ValidationFailed if its file differs from the first one."""
    kept = pydantic_core.from_json(answer.body)
    with request.app[ATTACHMENTS].uploading(), request.app[READINESS].for_client():
        incoming = FileUpload(request, request.app[app_keys.HTTP_OPTIONS].uploads)
        await incoming.open()
        digest, size = hashlib.sha256(), 0
        async for chunk in incoming.chunks():
            digest.update(chunk)
            size += len(chunk)
            if size > kept["sizeBytes"]:
                raise key_reused_error()
    if (clean_filename(incoming.filename), digest.hexdigest()) != (kept["filename"], kept["sha256"]):
        raise key_reused_error()


async def _finish(claims: IdempotencyService, claim: IdempotencyClaim, response: web.StreamResponse | None) -> None:
    """Store a successful response; release the key after any other outcome. Errors are logged, not raised."""
    try:
        if isinstance(response, web.Response) and response.status < FIRST_ERROR_STATUS:
            headers = {name: response.headers[name] for name in STORED_HEADERS if name in response.headers}
            body = response.body if isinstance(response.body, bytes) else b""
            await claims.keep(claim, StoredResponse(response.status, headers, body))
        else:
            await claims.release(claim)
    except Exception:
        log.exception("What became of an idempotency key could not be kept")
