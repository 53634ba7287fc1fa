"""Attachments of cases: upload, download, ranges, conditional requests, removal, and the gauges of the backlog."""

import hashlib
import os

import aiohttp
import pytest

from support_service.attachments.component import AttachmentTimings
from tests.conftest import both_databases
from tests.support.calls import expect_problem, form, open_case, read_case, read_timeline, stored_files, upload
from tests.support.scrape import Scrape
from tests.support.timings import patient_timings

BYTES = "support_attachment_backlog_bytes"
FILES = "support_attachment_backlog_files"
UNREADABLE = "support_attachment_unreadable_total"
DATA = bytes(range(256)) * 4  # 1,024 bytes


@pytest.fixture
async def case(client):
    """An open case."""
    return await open_case(client)


@pytest.fixture
async def attachment(client, case):
    """An attachment of the case."""
    return await upload(client, case, DATA, filename="data.bin", content_type="application/pdf")


@both_databases
async def test_uploaded_file_is_downloaded_unchanged(client, case, metrics):
    """The response has size and hash, and the same bytes are at its URI with safe headers."""
    data = b"x" * 700_000 + b"\r\n--boundary\r\n" + DATA
    answer = await upload(client, case, data, filename="a b.bin", content_type="image/png")
    names = ("id", "ticketId", "filename", "contentType", "sizeBytes", "sha256", "visibility", "uri", "createdAt")
    assert answer.keys() == {*names}
    assert (answer["ticketId"], answer["filename"], answer["contentType"]) == (case["id"], "a b.bin", "image/png")
    assert (answer["sizeBytes"], answer["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert answer["uri"] == f"/support/cases/{case['id']}/attachments/{answer['id']}/a%20b.bin"
    async with client.get(answer["uri"], headers={"X-Request-Id": "mine"}) as response:
        assert response.status == 200
        assert await response.read() == data
        assert response.headers["X-Request-Id"] == "mine"
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Content-Length"] == str(len(data))
        assert response.headers["ETag"] == f'"{answer["sha256"]}"'
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"] == "sandbox"
        assert response.headers["Content-Disposition"].startswith('attachment; filename="a b.bin"')
    assert metrics.nonzero("support_attachment_stored_total") == {"image/png": 1}
    assert (metrics.value(BYTES), metrics.value(FILES)) == (len(data), 1)


async def test_bytes_besides_the_file_are_limited_however_large_files_may_be(client, case):
    """Other parts, headers and the end have 64 KiB, and none of what a file may have."""
    for size, status in ((60_000, 201), (66_000, 413)):
        body = form(b"x")
        body.add_field("other", "x" * size)
        async with client.post(f"/support/cases/{case['id']}/attachments", data=body) as response:
            assert (response.status, (await response.json(content_type=None)).get("code")) == (
                status,
                "body_too_large" if status == 413 else None,
            )


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_empty_file_is_stored_like_any_other(make_client, environment, request, store):
    """It is listed with a size of 0, downloaded with every kind of request, and removed."""
    if store == "s3":
        s3 = request.getfixturevalue("s3")
        environment |= {"SUPPORT_S3_BUCKET": s3.create_bucket(), "SUPPORT_S3_ENDPOINT": s3.url}
    client = await make_client(SUPPORT_ATTACHMENT_STORE=store)
    case = await open_case(client)
    stored = await upload(client, case, b"", filename="empty.txt", content_type="text/plain")
    assert (stored["sizeBytes"], stored["sha256"]) == (0, hashlib.sha256(b"").hexdigest())
    assert (await read_case(client, case))["attachments"] == [stored]
    for headers in ({}, {"If-Range": '"other"', "Range": "bytes=0-1"}):
        for method in ("GET", "HEAD"):
            async with client.request(method, stored["uri"], headers=headers) as response:
                assert (response.status, await response.read()) == (200, b"")
                assert response.headers["Content-Length"] == "0"
    async with client.delete(stored["uri"].rpartition("/")[0]) as response:
        assert response.status == 204


@both_databases
async def test_attachments_are_listed_with_the_case(client, case):
    """The list, the case and its timeline have every file at the same URI, oldest first."""
    answers = [await upload(client, case, filename=name) for name in ("a.txt", "b.txt")]
    async with client.get(f"/support/cases/{case['id']}/attachments") as response:
        assert await response.json() == answers
    assert (await read_case(client, case))["attachments"] == answers
    timeline = [entry["uri"] for entry in await read_timeline(client, case) if entry["type"] == "attachment"]
    assert timeline == [answer["uri"] for answer in answers]


@both_databases
async def test_removed_attachment_is_gone(client, case, attachment, attachment_dir, metrics):
    """Removal deletes the row and the file and lowers the gauges. A second removal is 404."""
    address = f"/support/cases/{case['id']}/attachments/{attachment['id']}"
    assert len(stored_files(attachment_dir)) == 1
    async with client.delete(address) as response:
        assert response.status == 204
    assert stored_files(attachment_dir) == []
    assert (metrics.value(BYTES), metrics.value(FILES)) == (0, 0)
    assert metrics.nonzero("support_attachment_deleted_total") == {"request": 1}
    await expect_problem(await client.delete(address), 404, "attachment_not_found")
    await expect_problem(await client.get(attachment["uri"]), 404, "attachment_not_found")
    assert (await read_case(client, case))["attachments"] == []


async def test_upload_to_a_full_case_is_refused_before_the_file_is_sent(make_client, attachment_dir):
    """The client waits for `100 Continue` and gets the problem instead."""
    client = await make_client(timings=patient_timings(attachments=AttachmentTimings(max_files_per_case=1)))
    case = await open_case(client)
    attachment = await upload(client, case, DATA)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "9999", "Expect": "100-continue"}
    path = f"/support/cases/{case['id']}/attachments"
    await expect_problem(await client.post(path, data=b"", headers=headers), 409, "case_full")
    assert len(stored_files(attachment_dir)) == 1
    assert await read_case(client, case) == case | {"attachments": [attachment], "timeline": []}


async def test_backlog_gauges_are_right_after_a_restart(make_client, client, case, metrics):
    """A new process reports the stored files before its first upload."""
    await upload(client, case, DATA)
    await upload(client, case, b"12345")
    await client.close()
    restarted = Scrape((await make_client()).app)
    assert (restarted.value(BYTES), restarted.value(FILES)) == (len(DATA) + 5, 2)


async def test_attachment_uri_starts_with_the_public_url(make_client):
    client = await make_client(SUPPORT_PUBLIC_URL="https://support.example/")
    answer = await upload(client, await open_case(client))
    assert answer["uri"].startswith("https://support.example/support/cases/")


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=1000-", 1000, 1023),
        ("bytes=-24", 1000, 1023),
        ("bytes=1000-9999", 1000, 1023),
        ("bytes=1023-1023", 1023, 1023),
    ],
)
async def test_range_request_returns_exactly_its_bytes(client, attachment, requested, first, last):
    """A range has a start and an end, only a start, or a length counted from the end."""
    async with client.get(attachment["uri"], headers={"Range": requested}) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/1024"
        assert response.headers["Content-Length"] == str(last - first + 1)
        assert await response.read() == DATA[first : last + 1]


@pytest.mark.parametrize("requested", ["bytes=1024-", "bytes=5000-6000"])
async def test_range_beyond_the_end_of_the_file_is_refused(client, attachment, requested):
    """Content-Range has the size of the file."""
    response = await client.get(attachment["uri"], headers={"Range": requested})
    await expect_problem(response, 416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "requested", ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=", "bytes=-0", "bytes=-9999"]
)
async def test_invalid_or_multiple_ranges_return_the_whole_file(client, attachment, requested):
    async with client.get(attachment["uri"], headers={"Range": requested}) as response:
        assert response.status == 200
        assert await response.read() == DATA


async def test_if_range_returns_a_range_only_of_the_known_version(client, attachment):
    """Another ETag or a date returns the whole file."""
    etag = f'"{attachment["sha256"]}"'
    for known, status in ((etag, 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        async with client.get(attachment["uri"], headers={"Range": "bytes=0-9", "If-Range": known}) as response:
            assert response.status == status
            assert len(await response.read()) == (10 if status == 206 else 1024)


@both_databases
async def test_empty_file_is_a_file(client, case, metrics):
    """It is stored, listed and downloaded. It has no range, and its hash is that of no bytes."""
    answer = await upload(client, case, b"", filename="empty.txt")
    assert (answer["sizeBytes"], answer["sha256"]) == (0, hashlib.sha256().hexdigest())
    assert (await read_case(client, case))["attachments"] == [answer]
    for method in ("GET", "HEAD"):
        async with client.request(method, answer["uri"]) as response:
            assert (response.status, response.headers["Content-Length"], await response.read()) == (200, "0", b"")
    for requested in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        response = await client.get(answer["uri"], headers={"Range": requested})
        await expect_problem(response, 416, "range_not_satisfiable")
        assert response.headers["Content-Range"] == "bytes */0"
    async with client.get(answer["uri"], headers={"Range": "bytes=0-", "If-Range": '"other"'}) as response:
        assert (response.status, await response.read()) == (200, b"")
    assert (metrics.value(BYTES), metrics.value(FILES)) == (0, 1)


async def test_known_file_is_not_sent_again(client, attachment):
    """If-None-Match takes one ETag, a list, a weak ETag, or a star."""
    etag = f'"{attachment["sha256"]}"'
    for known, status in ((etag, 304), (f'"a", {etag}', 304), (f"W/{etag}", 304), ("*", 304), ('"other"', 200)):
        async with client.get(attachment["uri"], headers={"If-None-Match": known}) as response:
            assert response.status == status
            assert response.headers["ETag"] == etag
            assert await response.read() == (b"" if status == 304 else DATA)


async def test_head_returns_the_headers_of_the_download(client, attachment):
    async with client.head(attachment["uri"]) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == "1024"
        assert response.headers["ETag"] == f'"{attachment["sha256"]}"'
        assert await response.read() == b""


async def test_download_of_a_missing_file_is_a_problem(client, attachment, attachment_dir, metrics):
    """The response is 503 before any byte of the file is sent, and the first such download is counted."""
    for path in stored_files(attachment_dir):
        path.unlink()
    await expect_problem(await client.get(attachment["uri"]), 503, "attachment_unreadable")
    assert metrics.value(UNREADABLE, storage="local", kind="missing") == 1


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}])
@pytest.mark.parametrize("size", [1_000_000, 3_000_001])
async def test_download_of_a_file_of_another_size_is_a_problem(client, case, attachment_dir, metrics, size, headers):
    """Also for a range that is still there."""
    attachment = await upload(client, case, b"x" * 3_000_000)
    (path,) = stored_files(attachment_dir)
    os.truncate(path, size)
    await expect_problem(await client.get(attachment["uri"], headers=headers), 503, "attachment_unreadable")
    assert metrics.value(UNREADABLE, storage="local", kind="damaged") == 1


async def test_download_of_a_small_changed_file_is_a_problem(client, attachment, attachment_dir, metrics):
    """A file of one block is verified before its first byte is sent."""
    (path,) = stored_files(attachment_dir)
    path.write_bytes(DATA[:-1] + b"x")
    await expect_problem(await client.get(attachment["uri"]), 503, "attachment_unreadable")
    assert metrics.value(UNREADABLE, storage="local", kind="damaged") == 1


async def test_download_of_a_large_changed_file_breaks_the_connection(client, case, attachment_dir, metrics):
    """The client must not take changed bytes for the file: it never receives the last block."""
    attachment = await upload(client, case, b"x" * 3_000_000)
    (path,) = stored_files(attachment_dir)
    path.write_bytes(b"y" + b"x" * 2_999_999)
    async with client.get(attachment["uri"]) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert metrics.value(UNREADABLE, storage="local", kind="damaged") == 1
