"""Downloads of attachments: ranges and conditional requests."""

import pytest
import pytest_asyncio

from tests.support.calls import expect_problem, open_case, upload
from tests.support.each import each_row

DATA = bytes(range(256)) * 4  # 1,024 bytes


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attachment(shared_client):
    """An attachment."""
    return await upload(shared_client, await open_case(shared_client), DATA, filename="data.bin")


RANGE_REQUEST_RETURNS_EXACTLY_ITS = [
    *(("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=1000-", 1000, 1023), ("bytes=-24", 1000, 1023)),
    *(("bytes=1000-9999", 1000, 1023), ("bytes=1023-1023", 1023, 1023)),
]


@each_row("requested, first, last", RANGE_REQUEST_RETURNS_EXACTLY_ITS)
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


INVALID_OR_MULTIPLE_RANGES_RETURN = [
    "bytes=9-1",
    "bytes=a-b",
    "lines=1-2",
    "bytes=0-1,5-6",
    "bytes=",
    "bytes=-0",
    "bytes=-9999",
]


@each_row("requested", INVALID_OR_MULTIPLE_RANGES_RETURN)
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
