"""Downloads of attachments: ranges and conditional requests."""

import pytest
import pytest_asyncio

from tests.support.calls import expect_problem, open_case, upload

DATA = bytes(range(256)) * 4  # 1,024 bytes


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attachment(shared_client):
    return await upload(shared_client, await open_case(shared_client), DATA, filename="data.bin")


RANGES = [
    *[("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=1000-", 1000, 1023), ("bytes=-24", 1000, 1023)],
    *[("bytes=1000-9999", 1000, 1023), ("bytes=1023-1023", 1023, 1023)],
]
WHOLE = ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=", "bytes=-0", "bytes=-9999"]


async def test_range_request_returns_exactly_its_bytes(client, attachment):
    """A range has a start and an end, only a start, or a length counted from the end.

    Invalid and multiple ranges return the whole file, and so does another ETag, or a date, in If-Range.
    """
    for requested, first, last in RANGES:
        async with client.get(attachment["uri"], headers={"Range": requested}) as response:
            assert (response.status, await response.read()) == (206, DATA[first : last + 1])
            assert response.headers["Content-Range"] == f"bytes {first}-{last}/1024"
            assert response.headers["Content-Length"] == str(last - first + 1)
    for requested in ("bytes=1024-", "bytes=5000-6000"):
        response = await client.get(attachment["uri"], headers={"Range": requested})
        await expect_problem(response, 416, "range_not_satisfiable")
        assert response.headers["Content-Range"] == "bytes */1024"
    for requested in WHOLE:
        async with client.get(attachment["uri"], headers={"Range": requested}) as response:
            assert (response.status, await response.read()) == (200, DATA)
    for known, status in ((f'"{attachment["sha256"]}"', 206), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)):
        async with client.get(attachment["uri"], headers={"Range": "bytes=0-9", "If-Range": known}) as response:
            assert (response.status, await response.read()) == (status, DATA[:10] if status == 206 else DATA)


async def test_known_file_is_not_sent_again(client, attachment):
    """If-None-Match takes one ETag, a list, a weak ETag, or a star. HEAD returns the headers of the download."""
    etag = f'"{attachment["sha256"]}"'
    for known, status in ((etag, 304), (f'"a", {etag}', 304), (f"W/{etag}", 304), ("*", 304), ('"other"', 200)):
        async with client.get(attachment["uri"], headers={"If-None-Match": known}) as response:
            assert (response.status, response.headers["ETag"]) == (status, etag)
            assert await response.read() == (b"" if status == 304 else DATA)
    async with client.head(attachment["uri"]) as response:
        assert (response.status, response.headers["Content-Length"], response.headers["ETag"]) == (200, "1024", etag)
        assert await response.read() == b""
