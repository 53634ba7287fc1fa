"""Attachments: upload, list, download, remove."""

import logging
from contextlib import aclosing
from functools import partial
from typing import Annotated, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from support_service.api.cases import CASE_PATH
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post
from support_service.api.routing.route import (
    BODY_PROBLEMS,
    BYTES,
    CASE_PROBLEMS,
    DATABASE_PROBLEMS,
    Permission,
    RouteResponse,
    Tag,
)
from support_service.cases.case_rules import check_may_attach
from support_service.cases.model.case import ApiModel, Attachment
from support_service.cases.model.files import StoredAttachment, attachment_json, content_disposition
from support_service.cases.model.vocabulary import Visibility
from support_service.core.errors import SupportError, Unavailable
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.guard.problems import problem_response
from support_service.guard.uploads import FileUpload
from support_service.service import Service

TAG = Tag("attachments", "Attachments: upload, list, download, remove.")
ATTACHMENTS_PATH = CASE_PATH + "/attachments"
ATTACHMENT_PATH = ATTACHMENTS_PATH + "/{attachment_id}"
DOWNLOAD_HEADERS = ("Accept-Ranges", "Content-Disposition", "ETag")

log = logging.getLogger(__name__)


class UploadQuery(ApiModel):
    """The query of an upload: the visibility of its file, or whether it waits for its message."""

    visibility: Visibility = "public"
    staged: bool = Field(
        default=False, description="hide the file from everybody else until a message names it by `attachmentIds`"
    )

    @model_validator(mode="after")
    def _check_visibility_or_staged(self) -> Self:
        if self.staged and "visibility" in self.model_fields_set:
            raise ValueError("`visibility` can't be sent with `staged=true`: a staged file gets that of its message")
        return self


class FileForm(BaseModel):
    """A form with a file; other parts are ignored, except `visibility`, which belongs in the query."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"file": "The parcel was left at the neighbour's."}]},
        defer_build=True,  # it only describes what uploads.py reads
    )

    file: Annotated[
        bytes,
        WithJsonSchema({"contentMediaType": "application/octet-stream"}),  # no type: whatever a part holds is bytes
        Field(description="the file's bytes, in a part with a `filename` and a `Content-Type`"),
    ]


@post(
    ATTACHMENTS_PATH,
    access=Permission("attachments:write", {"agent": "own", "supervisor": "all", "customer": "own"}),
    body=FileForm,
    body_media_types=("multipart/form-data",),
    request_headers=("Content-Digest", "X-Checksum-Sha256"),
    status=201,
    headers=("Location",),
    problems=(
        *CASE_PROBLEMS,
        *BODY_PROBLEMS,
        *("attachment_too_large", "checksum_mismatch", "file_missing", "file_repeated"),
        *("malformed_checksum", "malformed_multipart", "type_not_allowed"),
        *("storage_full", "storage_unavailable", "uploads_busy", "case_changed", "case_closed", "case_full"),
        "too_many_staged_files",
    ),
    links=(("attachment_id", "/id"), ("filename", "/filename")),
)
async def upload(
    call: Call, case_id: str, query: UploadQuery, expected: ExpectedVersions, request: web.Request
) -> Reply[Attachment]:
    """Add a file to a case.

    The part `file` of a multipart body, with its name and type. The file is stored after the whole body was received
    and its checksum, if sent, matches.

    With `visibility=internal` customers can't see it until a public message of an agent references it. An internal note
    hides the file that it references, unless a public message has referenced the file before.

    With `staged=true` the file waits for a message of the caller that names it by `attachmentIds`. Until then it is in
    no list, timeline or event. Only the caller can download or delete it; `visibility` of the answer is `internal`.
    It is deleted if no message names it until `stagedUntil`.
    """
    check_may_attach(call.principal, query.visibility)
    service = call.service
    with service.attachments.upload_slots.occupy(call.principal), service.readiness.count_waiting_for_client():
        uploader, files = service.attachments.uploader, service.attachments.files
        check_case = partial(files.check_upload, service.database, call.principal, case_id, expected)
        # A refusal before the body saves the client its bytes. The transaction repeats the check, except that it does
        # not count the files of the case for a staged file.
        check_early = query.staged or not request.content.is_eof()
        if check_early:
            await check_case()
        try:
            incoming = FileUpload(request, service.settings.attachments)
            await incoming.open()
            async with uploader.store_bytes(
                case_id,
                incoming.filename,
                incoming.content_type,
                incoming.chunks(),
                size_hint=request.content_length or 0,
                visibility=query.visibility,
            ) as new:
                await call.check_same_principal()
                stored = await uploader.add_to_case(call.origin, new, expected, staged=query.staged)
        except SupportError as refusal:
            # An error of the case goes first. After a commit of unknown outcome the case may have its next version.
            if not check_early and not isinstance(refusal, Unavailable):
                await check_case()
            raise
    attachment = present_attachment(service, stored)
    if query.staged:
        attachment.visibility, attachment.staged_until = "internal", files.staged_until(stored)
    return Reply(attachment, {"Location": attachment.uri})


@get(
    ATTACHMENTS_PATH,
    access=Permission(
        "attachments:read", {"agent": "own", "supervisor": "all", "analyst": "masked", "customer": "own"}
    ),
    problems=CASE_PROBLEMS,
)
async def list_attachments(call: Call, case_id: str) -> Reply[list[Attachment]]:
    """List a case's attachments, oldest first.

    Each has the URI of its content, its size and its SHA-256.
    """
    service = call.service
    attachments = await service.attachments.list_by_case(call.principal, case_id)
    return Reply([present_attachment(service, stored) for stored in attachments])


@get(
    ATTACHMENT_PATH + "/{filename}",
    access=Permission("attachments:download", {"agent": "own", "supervisor": "all", "customer": "own"}),
    request_headers=("If-None-Match", "If-Range", "Range"),
    response_media_types=(BYTES,),
    headers=DOWNLOAD_HEADERS,
    other_responses=(
        RouteResponse(206, "The requested range.", media_types=(BYTES,), headers=(*DOWNLOAD_HEADERS, "Content-Range")),
        RouteResponse(304, "The file has not changed.", headers=("ETag",)),
        RouteResponse(307, "The file is at `Location`, which expires.", headers=("ETag", "Location")),
    ),
    problems=(
        *DATABASE_PROBLEMS,
        *("attachment_not_found", "attachment_unreadable", "range_not_satisfiable", "storage_unavailable"),
    ),
)
async def download(call: Call, case_id: str, attachment_id: str, request: web.Request) -> web.StreamResponse:
    """Download an attachment, or a range of its bytes.

    The content type is that of the file. Browsers save it and do not display it. The name in the path is for people;
    only the id counts.
    """
    service = call.service.attachments
    attachment = await service.get(call.principal, case_id, attachment_id)
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
    redirects = call.service.settings.attachments.download == "redirect" and request.method != "HEAD"
    if redirects and (link := await service.presigned_url(attachment)):
        return web.Response(status=307, headers=headers | {"Location": link})
    byte_range = _requested_range(request, attachment)
    if byte_range is None:
        refusal = problem_response("range_not_satisfiable", f"The file has only {attachment.size_bytes} bytes.")
        refusal.headers["Content-Range"] = f"bytes */{attachment.size_bytes}"
        return refusal
    partial = len(byte_range) < attachment.size_bytes
    if partial:
        headers["Content-Range"] = f"bytes {byte_range.start}-{byte_range.stop - 1}/{attachment.size_bytes}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_type = attachment.content_type
    response.content_length = len(byte_range)
    if request.method == "HEAD":
        return response
    async with aclosing(service.read(attachment, byte_range.start, len(byte_range))) as blocks:
        # Read the first block before the headers are sent, so that an unreadable file still gets an error response.
        block = await anext(blocks, b"")
        await response.prepare(request)
        try:
            with call.service.readiness.count_waiting_for_client():
                while block:
                    await response.write(block)
                    block = await anext(blocks, b"")
                await response.write_eof()
        except Unavailable as failure:
            log.warning("The download of attachment %s was aborted: %s", attachment.id, failure)
            if request.transport:  # pragma: no branch - else the client left at the same moment
                request.transport.abort()  # headers are sent, so aborting is the only way to signal an error
    return response


@delete(
    ATTACHMENT_PATH,
    access=Permission("attachments:delete", {"agent": "own", "supervisor": "all", "customer": "own"}),
    problems=(*CASE_PROBLEMS, "attachment_not_found", "case_changed"),
)
async def remove(call: Call, case_id: str, attachment_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Remove an attachment, or a staged file of the caller.

    It is removed from the case at once; its bytes are deleted at once, or later if their storage is unavailable.
    Customers remove their staged files only. For these, `If-Match` has no effect.
    """
    await call.service.attachments.remove(call.origin, case_id, attachment_id, expected)
    return Reply(None)


def present_attachment(service: Service, stored: StoredAttachment) -> Attachment:
    return Attachment.model_validate(attachment_json(stored, service.settings.server.url_prefix))


def _requested_range(request: web.Request, attachment: StoredAttachment) -> range | None:
    """Return the requested range of bytes, or None if it is not satisfiable.

    Several ranges, an invalid range, or an If-Range that does not match mean the whole file.
    """
    everything = range(attachment.size_bytes)
    tag = f'"{attachment.sha256}"'
    if "Range" not in request.headers or request.headers.get("If-Range", tag) != tag:
        return everything
    try:
        asked = request.http_range
    except ValueError:
        return everything
    return everything[asked.start : asked.stop] or None
