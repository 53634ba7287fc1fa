"""Uploads and downloads of the client."""

import asyncio
import dataclasses
import hashlib

import pytest
import pytest_asyncio
from aiohttp import web

from support_service.client import (
    Attachment,
    NoAnswer,
    NotFound,
    SupportClient,
    UnexpectedAnswer,
    ValidationFailed,
    VersionConflict,
)
from tests.support.client.fixtures import QUICK

DATA = bytes(range(256)) * 4096  # a mebibyte: four blocks
FILE = Attachment.model_construct(
    id="a", ticket_id="c", filename="photo.jpg", size_bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest()
)


@pytest_asyncio.fixture(loop_scope="module")
async def case(api):
    return await api.open_case(subject="Parcel late", channel="email")


async def received(blocks):
    """Return the bytes of a download."""
    return b"".join([block async for block in blocks])


async def test_file_is_uploaded_with_progress_and_downloaded(api, case, tmp_path):
    path = tmp_path / "màn hình.jpg"
    path.write_bytes(DATA)
    steps = []
    stored = await api.upload(case.id, path, visibility="internal", progress=lambda *sent: steps.append(sent))
    assert (stored.filename, stored.content_type, stored.visibility) == ("màn hình.jpg", "image/jpeg", "internal")
    assert steps == [(size, len(DATA)) for size in range(len(DATA) // 4, len(DATA) + 1, len(DATA) // 4)]
    assert await api.list_attachments(case.id) == [stored]
    assert await received(api.download(stored)) == DATA
    await api.remove_attachment(case.id, stored.id)
    assert await api.list_attachments(case.id) == []
    with pytest.raises(NotFound):
        await received(api.download(stored))


async def test_bytes_are_uploaded_under_a_name_for_an_expected_version(api, case):
    for data in (b"", b"hello"):
        stored = await api.upload(case.id, data, filename='a "note"\n.txt', content_type="text/plain")
        assert (stored.filename, stored.content_type, stored.size_bytes) == ('a "note".txt', "text/plain", len(data))
        assert await received(api.download(stored)) == data
    await api.add_message(case.id, author_type="agent", message="On it.")
    with pytest.raises(VersionConflict):
        await api.upload(case.id, b"hello", version=case.version)


async def test_refused_upload_is_an_exception(make_client):
    """The service refuses a large file before it has read all of it."""
    service = await make_client(SUPPORT_ATTACHMENT_MAX_BYTES="1000")
    async with SupportClient(str(service.make_url("/")), timings=QUICK) as api:
        case = await api.open_case(subject="Parcel late", channel="email")
        with pytest.raises(ValidationFailed, match="large"):
            await api.upload(case.id, DATA * 20)
        with pytest.raises(NotFound):
            await api.upload("nobody", DATA * 20)


async def test_upload_is_repeated_with_its_key(answering):
    seen = []

    async def answer(request):
        assert request.content_length > len(DATA)
        if not seen:
            seen.append(request.headers["Idempotency-Key"])
            await request.content.read(1000)
            request.transport.abort()
            return web.Response()
        seen.append(request.headers["Idempotency-Key"])
        part = await (await request.multipart()).next()
        assert part.headers["X-Checksum-Sha256"] == FILE.sha256
        digest = hashlib.sha256(await part.read())
        return stored(digest.hexdigest())

    api = await answering(answer)
    steps = []
    await api.upload("c", DATA, progress=lambda *sent: steps.append(sent))
    assert (len(seen), len(set(seen))) == (2, 1)
    assert steps[-1] == (len(DATA), len(DATA))


def stored(digest):
    """Return the answer to an upload."""
    fields = {"id": "a", "ticketId": "c", "filename": "file", "contentType": "image/jpeg", "sizeBytes": len(DATA)}
    fields |= {"sha256": digest, "visibility": "public", "uri": "", "createdAt": "2026-05-12T08:41:07Z"}
    return web.json_response(fields, status=201)


async def test_answer_must_confirm_the_bytes(answering):
    async def answer(request):
        await request.read()
        return stored("0" * 64)

    with pytest.raises(UnexpectedAnswer, match="other bytes"):
        await (await answering(answer)).upload("c", DATA)


async def test_file_that_changes_meanwhile_is_refused(api, case, tmp_path):
    """The service compares the bytes with the checksum that was taken before."""
    path = tmp_path / "a.txt"
    path.write_bytes(DATA)

    def change(sent, _total):
        if sent < len(DATA):
            with path.open("r+b") as file:
                file.seek(-1, 2)
                file.write(b"!")

    with pytest.raises(ValidationFailed) as refused:
        await api.upload(case.id, path, progress=change)
    assert refused.value.code == "checksum_mismatch"
    assert await api.list_attachments(case.id) == []


async def test_errors_of_the_callback_and_of_the_file_reach_the_caller(api, case, tmp_path):
    def fail(*_sent):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await api.upload(case.id, DATA, progress=fail)
    with pytest.raises(FileNotFoundError):
        await api.upload(case.id, tmp_path / "nowhere")


async def test_upload_that_the_server_does_not_read_ends(answering):
    """An attempt lasts as long as bytes are sent, and no longer."""
    ended = asyncio.Event()

    async def answer(_request):
        await ended.wait()
        return web.Response()

    api = await answering(answer, timings=dataclasses.replace(QUICK, attempt=0.05, attempts=2))
    with pytest.raises(NoAnswer, match="no answer in time"):
        await api.upload("c", DATA * 20)
    ended.set()


@pytest.mark.parametrize("ranges", [True, False])
async def test_download_goes_on_where_it_broke_off(answering, ranges):
    starts = []

    async def answer(request):
        start = request.http_range.start or 0
        starts.append(start)
        assert start == 0 or request.headers["If-Range"] == f'"{FILE.sha256}"'
        response = web.StreamResponse(status=206 if start and ranges else 200)
        rest = DATA[start:] if ranges else DATA
        response.content_length = len(rest)
        await response.prepare(request)
        if len(starts) > 3:
            await response.write(rest)
            return response
        await response.write(rest[: 100_000 * len(starts)])
        request.transport.close()
        return response

    assert await received((await answering(answer)).download(FILE)) == DATA
    assert (len(starts), starts[0], starts[1] > 0) == (4, 0, True)


async def test_damaged_download_is_an_error(answering):
    async def answer(_request):
        return web.Response(body=DATA[:-1] + b"!")

    with pytest.raises(UnexpectedAnswer, match="differ"):
        await received((await answering(answer)).download(FILE))
