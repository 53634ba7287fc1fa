"""Attachments: upload, list, download, remove."""

import logging
from contextlib import aclosing
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from support_service.api import app_keys
from support_service.api.authorization import is_masked
from support_service.api.case_presenter import present_attachment
from support_service.api.cases import path_case_id
from support_service.api.etags import if_match_versions
from support_service.api.idempotency import write_context
from support_service.attachments.component import ATTACHMENTS
from support_service.attachments.model import Attachment, content_disposition
from support_service.cases.component import CASE_MASKER
from support_service.cases.model import ApiModel
from support_service.cases.policy import check_may_attach
from support_service.cases.vocabulary import Visibility
from support_service.core.errors import Unavailable
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.http.component import READINESS
from support_service.http.json_body import json_response, read_query
from support_service.http.problems import problem_response
from support_service.http.uploads import FileUpload
from support_service.telemetry.logs import REQUEST_ID

log = logging.getLogger(__name__)


class UploadQuery(ApiModel):
    """What the query of an upload says of its file."""

    visibility: Visibility = "public"


class FileForm(BaseModel):
    """A form with a file; other parts are read over, but for one named `visibility`: that belongs into the query."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"file": "The parcel was left at the neighbour's."}]},
        defer_build=True,  # it only describes what uploads.py reads
    )

    file: Annotated[
        bytes,
        WithJsonSchema({"contentMediaType": "application/octet-stream"}),  # no type: whatever a part holds is bytes
        Field(description="the file's bytes, with a `filename` and a `Content-Type` of its own"),
    ]


async def upload(request: web.Request) -> web.Response:
    """Add a file to a case.

    The part `file` of a multipart body, with its name and type. It is kept once the whole body was read and, where a
    checksum came along, is the one that was sent.

    With `visibility=internal` no customer sees it, from the start and until an agent's public message names it. An
    internal note hides the file that it names, unless a public message has named it before.
    """
    visibility = read_query(request, UploadQuery).visibility
    check_may_attach(CURRENT_PRINCIPAL.get(), visibility)
    service = request.app[ATTACHMENTS]
    with service.uploading(), request.app[READINESS].for_client():
        versions = if_match_versions(request)
        await service.expect_takes(path_case_id(request), versions)
        incoming = FileUpload(request, request.app[app_keys.HTTP_OPTIONS].uploads)
        await incoming.open()
        attachment = await service.add(
            path_case_id(request),
            incoming.filename,
            incoming.content_type,
            incoming.chunks(),
            expected=request.content_length or 0,
            visibility=visibility,
            versions=versions,
            context=write_context(request),
        )
    answer = present_attachment(request, attachment)
    return json_response(answer, 201, {"Location": answer.uri})


async def list_attachments(request: web.Request) -> web.Response:
    """List a case's attachments, oldest first.

    Each with the address of its bytes, its size and its SHA-256.
    """
    found = await request.app[ATTACHMENTS].of_case(path_case_id(request))
    views = [present_attachment(request, attachment) for attachment in found]
    return json_response([request.app[CASE_MASKER].attachment(each) for each in views] if is_masked(request) else views)


async def download(request: web.Request) -> web.StreamResponse:
    """Download an attachment, or a range of its bytes.

    The type is that of the file. It is always to be saved, never shown. The name in the path is for people; only the
    id counts.
    """
    service = request.app[ATTACHMENTS]
    attachment = await service.get(path_case_id(request), request.match_info["attachment_id"])
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(attachment.filename),
        "Content-Security-Policy": "sandbox",
        "ETag": f'"{attachment.sha256}"',
    }
    if any(tag.value in (attachment.sha256, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    # A presigned link is valid for GET only.
    redirects = request.app[app_keys.HTTP_OPTIONS].redirect_downloads and request.method != "HEAD"
    if redirects and (link := await service.link(attachment)):
        return web.Response(status=307, headers=headers | {"Location": link})
    byte_range = _requested_range(request, attachment)
    if byte_range is None:
        refusal = problem_response(416, "range_not_satisfiable", f"The file has only {attachment.size_bytes} bytes.")
        refusal.headers["Content-Range"] = f"bytes */{attachment.size_bytes}"
        return refusal
    partial = len(byte_range) < attachment.size_bytes
    if partial:
        headers["Content-Range"] = f"bytes {byte_range.start}-{byte_range.stop - 1}/{attachment.size_bytes}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_type = attachment.content_type
    response.content_length = len(byte_range)
    response.headers["X-Request-Id"] = REQUEST_ID.get() or ""  # headers are sent before the middleware could add it
    if request.method == "HEAD":
        return response
    async with aclosing(service.read(attachment, byte_range.start, len(byte_range))) as blocks:
        # Read the first block before the headers are sent, so that an unreadable file still gets an error response.
        block = await anext(blocks, b"")
        await response.prepare(request)
        try:
            with request.app[READINESS].for_client():
                while block:
                    await response.write(block)
                    block = await anext(blocks, b"")
                await response.write_eof()
        except Unavailable as failure:
            log.warning("The download of attachment %s broke off: %s", attachment.id, failure)
            if request.transport:  # pragma: no branch - else the client left at the same moment
                request.transport.abort()  # headers are sent, so aborting is the only way to signal an error
    return response


async def remove(request: web.Request) -> web.Response:
    """Remove an attachment.

    It is gone from the case at once; its bytes go with it, or later where their storage is out of reach.
    """
    attachment_id = request.match_info["attachment_id"]
    await request.app[ATTACHMENTS].remove(
        path_case_id(request), attachment_id, if_match_versions(request), write_context(request)
    )
    return web.Response(status=204)


def _requested_range(request: web.Request, attachment: Attachment) -> range | None:
    """Return the requested range of bytes, or None if it is not satisfiable.

    Several ranges, an invalid range, or an If-Range that does not match mean the whole file.
    """
    everything = range(attachment.size_bytes)
    if request.headers.get("If-Range", f'"{attachment.sha256}"') != f'"{attachment.sha256}"':
        return everything
    try:
        asked = request.http_range
    except ValueError:
        return everything
    return everything[asked.start : asked.stop] or None
