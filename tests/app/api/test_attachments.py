"""Files of cases: what goes in comes out, and the gauges tell what lies there."""

import hashlib
import os

import aiohttp
import pytest

from support_service.attachments.component import AttachmentTimings
from tests.conftest import both_databases
from tests.support.calls import expect_problem, open_case, read_case, read_timeline, stored_files, upload
from tests.support.scrape import Scrape
from tests.support.timings import patient_timings

BYTES = "support_attachment_backlog_bytes"
FILES = "support_attachment_backlog_files"
DATA = bytes(range(256)) * 4  # 1,024 bytes


@pytest.fixture
async def case(client):
    """A case."""
    return await open_case(client)


@pytest.fixture
async def kept(client, case):
    """Its file."""
    return await upload(client, case, DATA, filename="data.bin", content_type="application/pdf")


@both_databases
async def test_upload_and_download(client, case, metrics):
    """A file is answered with its size and hash, is at its Location and uri, and comes back byte by byte."""
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


@both_databases
async def test_attachments_are_listed_with_the_case(client, case):
    """The list, the detail and the timeline have each file, the oldest first, at the same uri."""
    answers = [await upload(client, case, filename=name) for name in ("a.txt", "b.txt")]
    async with client.get(f"/support/cases/{case['id']}/attachments") as response:
        assert await response.json() == answers
    assert (await read_case(client, case))["attachments"] == answers
    assert [entry["uri"] for entry in await read_timeline(client, case)] == [answer["uri"] for answer in answers]


@both_databases
async def test_remove(client, case, kept, attachment_dir, metrics):
    """Removing takes the row and the file, and the gauges with them; a second time there is nothing to remove."""
    address = f"/support/cases/{case['id']}/attachments/{kept['id']}"
    assert len(stored_files(attachment_dir)) == 1
    async with client.delete(address) as response:
        assert response.status == 204
    assert stored_files(attachment_dir) == []
    assert (metrics.value(BYTES), metrics.value(FILES)) == (0, 0)
    assert metrics.nonzero("support_attachment_deleted_total") == {"request": 1}
    await expect_problem(await client.delete(address), 404, "attachment_not_found")
    await expect_problem(await client.get(kept["uri"]), 404, "attachment_not_found")
    assert (await read_case(client, case))["attachments"] == []


async def test_a_case_that_is_full(make_client, attachment_dir):
    """A file too many is told so before it is sent."""
    client = await make_client(timings=patient_timings(attachments=AttachmentTimings(max_files_per_case=1)))
    case = await open_case(client)
    kept = await upload(client, case, DATA)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "9999", "Expect": "100-continue"}
    path = f"/support/cases/{case['id']}/attachments"
    await expect_problem(await client.post(path, data=b"", headers=headers), 409, "case_full")
    assert len(stored_files(attachment_dir)) == 1
    assert await read_case(client, case) == case | {"attachments": [kept]}


async def test_the_backlog_survives_a_restart(make_client, client, case, metrics):
    """A new process on the same database starts with what lies on the disk, before the first upload."""
    await upload(client, case, DATA)
    await upload(client, case, b"12345")
    await client.close()
    again = Scrape((await make_client()).app)
    assert (again.value(BYTES), again.value(FILES)) == (len(DATA) + 5, 2)


async def test_the_uri_has_the_public_address(make_client):
    """Where the service is known by another address, files are found there."""
    client = await make_client(SUPPORT_PUBLIC_URL="https://support.example/")
    answer = await upload(client, await open_case(client))
    assert answer["uri"].startswith("https://support.example/support/cases/")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=1000-", 1000, 1023),
        ("bytes=-24", 1000, 1023),
        ("bytes=1000-9999", 1000, 1023),
        ("bytes=1023-1023", 1023, 1023),
    ],
)
async def test_a_range_gives_its_bytes(client, kept, asked, first, last):
    """A range is 206 with exactly its bytes, whether it has a start, an end, or a length from the end."""
    async with client.get(kept["uri"], headers={"Range": asked}) as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/1024"
        assert response.headers["Content-Length"] == str(last - first + 1)
        assert await response.read() == DATA[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000"])
async def test_a_range_without_a_byte_is_refused(client, kept, asked):
    """A range that holds nothing is a problem, with the size to choose from."""
    response = await client.get(kept["uri"], headers={"Range": asked})
    await expect_problem(response, 416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "asked", ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=", "bytes=-0", "bytes=-9999"]
)
async def test_what_is_no_single_range_gives_all(client, kept, asked):
    """A range that is none, or more than one, is left aside: the whole file comes."""
    async with client.get(kept["uri"], headers={"Range": asked}) as response:
        assert response.status == 200
        assert await response.read() == DATA


async def test_if_range(client, kept):
    """A range is given for the file that the client knows, and the whole file where it knows another."""
    etag = f'"{kept["sha256"]}"'
    for known, status in ((etag, 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        async with client.get(kept["uri"], headers={"Range": "bytes=0-9", "If-Range": known}) as response:
            assert response.status == status
            assert len(await response.read()) == (10 if status == 206 else 1024)


async def test_if_none_match(client, kept):
    """A client that has the file already gets 304 and no byte."""
    etag = f'"{kept["sha256"]}"'
    for known, status in ((etag, 304), (f'"a", {etag}', 304), (f"W/{etag}", 304), ("*", 304), ('"other"', 200)):
        async with client.get(kept["uri"], headers={"If-None-Match": known}) as response:
            assert response.status == status
            assert response.headers["ETag"] == etag
            assert await response.read() == (b"" if status == 304 else DATA)


async def test_head(client, kept):
    """HEAD gives the head of the download, and no byte."""
    async with client.head(kept["uri"]) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == "1024"
        assert response.headers["ETag"] == f'"{kept["sha256"]}"'
        assert await response.read() == b""


async def test_a_file_that_is_gone_from_the_disk(client, kept, attachment_dir):
    """A row whose file is missing is a problem that says so, never half an answer."""
    for path in stored_files(attachment_dir):
        path.unlink()
    await expect_problem(await client.get(kept["uri"]), 503, "attachment_unreadable")


async def test_a_file_that_breaks_off(client, case, attachment_dir):
    """A file that turns out too short in the middle of a download breaks the connection, never ends as if whole."""
    kept = await upload(client, case, b"x" * 3_000_000)
    (path,) = stored_files(attachment_dir)
    os.truncate(path, 1_000_000)
    async with client.get(kept["uri"]) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
