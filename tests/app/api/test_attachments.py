"""Attachments of cases: upload, download, removal, damaged files, and the gauges of the backlog."""

import hashlib
import os

import aiohttp
import pytest
import pytest_asyncio

from tests.support.calls import (
    expect_json,
    expect_problem,
    form,
    open_case,
    read_case,
    read_timeline,
    stored_files,
    upload,
)
from tests.support.scrape import Changes, Scrape
from tests.support.service import empty, service_of

BYTES = "support_attachment_backlog_bytes"
FILES = "support_attachment_backlog_files"
VOLUME = "support_attachment_volume"
UNREADABLE = "support_attachment_unreadable_total"
DATA = bytes(range(256)) * 4  # 1,024 bytes


@pytest.fixture(scope="module")
def attachment_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("attachments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(make_shared_client, attachment_dir):
    return await make_shared_client(SUPPORT_ATTACHMENT_DIR=str(attachment_dir))


@pytest_asyncio.fixture(loop_scope="module")
async def client(shared_client, attachment_dir):
    """The test finds neither cases nor files of others."""
    await empty(shared_client)
    for path in stored_files(attachment_dir):
        path.unlink()
    return shared_client


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    return await open_case(client)


@pytest_asyncio.fixture(loop_scope="module")
async def attachment(client, case):
    return await upload(client, case, DATA, filename="data.bin", content_type="application/pdf")


async def test_uploaded_file_is_downloaded_unchanged(make_client):
    """The response has size and hash, and the same bytes are at its URI with safe headers."""
    client = await make_client()
    metrics, case = Scrape(service_of(client).metrics), await open_case(client)
    assert metrics.value(VOLUME) == 0  # without files, replicas may each have a folder of their own, as with S3
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
    assert (metrics.value(BYTES), metrics.value(FILES), metrics.value(VOLUME) > 0) == (len(data), 1, True)


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


async def test_empty_file_is_a_file(client, case, metric_changes):
    """It is stored, listed, downloaded and removed. It has no range, and its hash is that of no bytes."""
    answer = await upload(client, case, b"", filename="empty.txt", content_type="text/plain")
    assert (answer["sizeBytes"], answer["sha256"]) == (0, hashlib.sha256(b"").hexdigest())
    assert (await read_case(client, case))["attachments"] == [answer]
    assert (metric_changes.value(BYTES), metric_changes.value(FILES)) == (0, 1)
    for headers in ({}, {"If-Range": '"other"', "Range": "bytes=0-1"}, {"If-Range": '"other"', "Range": "bytes=0-"}):
        for method in ("GET", "HEAD"):
            async with client.request(method, answer["uri"], headers=headers) as response:
                assert (response.status, await response.read()) == (200, b"")
                assert response.headers["Content-Length"] == "0"
    for requested in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        response = await client.get(answer["uri"], headers={"Range": requested})
        await expect_problem(response, 416, "range_not_satisfiable")
        assert response.headers["Content-Range"] == "bytes */0"
    await expect_json(client.delete(answer["uri"].rpartition("/")[0]), 204)


async def test_attachments_are_listed_with_the_case(client, case):
    """The list, the case and its timeline have every file at the same URI, oldest first."""
    answers = [await upload(client, case, filename=name) for name in ("a.txt", "b.txt")]
    assert await expect_json(client.get(f"/support/cases/{case['id']}/attachments")) == answers
    assert (await read_case(client, case))["attachments"] == answers
    timeline = [entry["uri"] for entry in await read_timeline(client, case) if entry["type"] == "attachment"]
    assert timeline == [answer["uri"] for answer in answers]


async def test_removed_attachment_is_gone(client, case, attachment, attachment_dir):
    """Removal deletes the row and the file and lowers the gauges. A second removal is 404."""
    address = f"/support/cases/{case['id']}/attachments/{attachment['id']}"
    assert len(stored_files(attachment_dir)) == 1
    changes = Changes(service_of(client).metrics)
    await expect_json(client.delete(address), 204)
    assert stored_files(attachment_dir) == []
    assert (changes.value(BYTES), changes.value(FILES)) == (-len(DATA), -1)
    assert changes.nonzero("support_attachment_deleted_total") == {"request": 1}
    await expect_problem(client.delete(address), 404, "attachment_not_found")
    await expect_problem(client.get(attachment["uri"]), 404, "attachment_not_found")
    assert (await read_case(client, case))["attachments"] == []


async def test_upload_to_a_full_case_is_refused_before_the_file_is_sent(make_client, tmp_path, constants):
    """A client that waits for `100 Continue` gets the problem instead. So does one that sends its file at once."""
    constants("cases.case_files", MAX_FILES_PER_CASE=1)
    client = await make_client()
    case = await open_case(client)
    attachment = await upload(client, case, DATA)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "9999", "Expect": "100-continue"}
    path = f"/support/cases/{case['id']}/attachments"
    await expect_problem(client.post(path, data=b"", headers=headers), 409, "case_full")
    await expect_problem(client.post(path, data=form(DATA)), 409, "case_full")
    assert len(stored_files(tmp_path / "attachments")) == 1
    assert await read_case(client, case) == case | {"attachments": [attachment], "timeline": []}


async def test_backlog_gauges_are_right_after_a_restart(make_client):
    """A new process reports the stored files before its first upload. A URI begins with the public URL that it has."""
    client = await make_client()
    case = await open_case(client)
    await upload(client, case, DATA)
    await upload(client, case, b"12345")
    await client.close()
    client = await make_client(SUPPORT_PUBLIC_URL="https://support.example/")
    restarted = Scrape(service_of(client).metrics)
    assert (restarted.value(BYTES), restarted.value(FILES)) == (len(DATA) + 5, 2)
    assert (await upload(client, case))["uri"].startswith("https://support.example/support/cases/")


DAMAGES = {
    "missing": (DATA, lambda path: path.unlink()),
    "cut": (DATA * 3000, lambda path: os.truncate(path, 1_000_000)),
    "longer": (DATA * 3000, lambda path: os.truncate(path, len(DATA) * 3000 + 1)),
    "changed": (DATA, lambda path: path.write_bytes(DATA[:-1] + b"x")),  # one block is verified before it is sent
}


@pytest.mark.parametrize(
    ("damage", "headers"),
    [*((damage, {}) for damage in DAMAGES), *((damage, {"Range": "bytes=0-9"}) for damage in ("cut", "longer"))],
)
async def test_download_of_a_lost_or_damaged_file_is_a_problem(
    client, case, attachment_dir, metric_changes, damage, headers
):
    """The response is 503 before any byte is sent, also for a range that is still there. The first one is counted."""
    data, change = DAMAGES[damage]
    attachment = await upload(client, case, data)
    (path,) = stored_files(attachment_dir)
    change(path)
    await expect_problem(client.get(attachment["uri"], headers=headers), 503, "attachment_unreadable")
    kind = "missing" if damage == "missing" else "damaged"
    assert metric_changes.value(UNREADABLE, storage="local", kind=kind) == 1


async def test_download_of_a_large_changed_file_breaks_the_connection(client, case, attachment_dir, metric_changes):
    """The client must not take changed bytes for the file: it never receives the last block."""
    attachment = await upload(client, case, b"x" * 3_000_000)
    (path,) = stored_files(attachment_dir)
    path.write_bytes(b"y" + b"x" * 2_999_999)
    async with client.get(attachment["uri"]) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert metric_changes.value(UNREADABLE, storage="local", kind="damaged") == 1
