"""Idempotency-Key: a repeated write is executed once, and its stored response is returned again.

Error responses are not stored: they have changed nothing, and a client may send the corrected request with the same
key.
"""

import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable

import pydantic_core
from aiohttp import web
from multidict import istr

from support_service.api.routing.call import Call
from support_service.api.routing.route import Route
from support_service.cases.model.files import clean_filename
from support_service.core.errors import problem
from support_service.core.ids import is_valid_id
from support_service.events.envelope import HEADER_PREFIX
from support_service.guard.json_body import media_type, read_body
from support_service.guard.uploads import FileUpload
from support_service.platform.idempotency_keys import (
    IdempotencyClaim,
    IdempotencyService,
    StoredResponse,
    hash_caller,
    hash_key,
    key_reused_error,
)

IDEMPOTENCY_KEY = istr("Idempotency-Key")
REPLAYED_HEADER = "Idempotency-Replayed"
IDEMPOTENCY_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")
STORED_HEADERS = ("Content-Type", "ETag", "Location")  # stored response headers; the others are created per response
FIRST_ERROR_STATUS = 400  # lowest status that is an error

log = logging.getLogger(__name__)


async def respond_once(
    request: web.Request, call: Call, route: Route, respond: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Return the response to a write with an Idempotency-Key, which is executed once.

    Raises ValidationFailed for a malformed key, or a key used for another request. Raises Conflict if the first request
    is still running or its response was lost.
    """
    claims, key = call.service.idempotency, hash_key(call.principal, _idempotency_key(request))
    case_id = request.match_info.get("case_id")
    is_upload = route.is_upload and media_type(request).startswith("multipart/")
    digest = await _request_digest(request, with_body=not is_upload)
    claim = await claims.claim_or_read_response(key, digest, case_id if case_id and is_valid_id(case_id) else None)
    if isinstance(claim, StoredResponse):
        if claim.case_id is not None and call.scope == "own":
            # The principal may have lost access to the case since.
            await call.service.cases.read_visible_owner(call.principal, claim.case_id)
        if is_upload:
            await _check_same_file(request, call, claim)
        return web.Response(status=claim.status, headers={**claim.headers, REPLAYED_HEADER: "true"}, body=claim.body)
    try:
        async with claims.renewing(claim):
            call.claim = claim
            response = await respond()
    except Exception:
        await _store_response_or_release(claims, claim, None, call)
        raise
    await _store_response_or_release(claims, claim, response, call)
    return response


def _idempotency_key(request: web.Request) -> str:
    """Return the request's Idempotency-Key. Raises ValidationFailed if it is malformed or given twice."""
    given = request.headers.getall(IDEMPOTENCY_KEY)
    if len(given) != 1 or not IDEMPOTENCY_KEY_PATTERN.fullmatch(given[0]):
        raise problem("idempotency_key_invalid", "An Idempotency-Key has 1 to 255 visible ASCII characters.")
    return given[0]


async def _request_digest(request: web.Request, *, with_body: bool) -> str:
    """Return a digest of method, URL, CloudEvents headers and body.

    An upload's body is left out, because its multipart boundary differs each time. Its file is compared separately.
    """
    attributes = sorted(
        (name.lower(), value) for name, value in request.headers.items() if name.lower().startswith(HEADER_PREFIX)
    )
    asked = json.dumps([request.method, request.rel_url.raw_path_qs, attributes])  # also encodes invalid UTF-8
    digest = hashlib.sha256(asked.encode())
    if with_body:
        digest.update(await read_body(request))
    return digest.hexdigest()


async def _check_same_file(request: web.Request, call: Call, first: StoredResponse) -> None:
    """Read a repeated upload without storing it. Raises ValidationFailed if its file differs from the first one."""
    kept = pydantic_core.from_json(first.body)
    with (
        call.service.attachments.upload_slots.occupy(call.principal),
        call.service.readiness.count_waiting_for_client(),
    ):
        incoming = FileUpload(request, call.service.settings.attachments)
        await incoming.open()
        digest, size = hashlib.sha256(), 0
        async for chunk in incoming.chunks():
            digest.update(chunk)
            size += len(chunk)
            if size > kept["sizeBytes"]:
                raise key_reused_error()
    await call.check_same_principal()
    if (clean_filename(incoming.filename), digest.hexdigest()) != (kept["filename"], kept["sha256"]):
        raise key_reused_error()


async def _store_response_or_release(
    claims: IdempotencyService, claim: IdempotencyClaim, response: web.StreamResponse | None, call: Call
) -> None:
    """Store a successful response; release the key after any other outcome. Errors are logged, not raised."""
    try:
        if isinstance(response, web.Response) and response.status < FIRST_ERROR_STATUS:
            headers = {name: response.headers[name] for name in STORED_HEADERS if name in response.headers}
            body = response.body if isinstance(response.body, bytes) else b""
            await claims.store_response(
                claim, StoredResponse(response.status, headers, body), hash_caller(call.principal)
            )
        else:
            await claims.release(claim)
    except Exception:
        log.exception("The outcome of an idempotency key could not be stored")
