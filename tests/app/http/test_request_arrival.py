"""How a file may arrive: fast enough, in time, not too many at once, of an allowed type, and as it was sent."""

import asyncio
import base64
import hashlib
from contextlib import closing

import pytest

from support_service.app import Timings
from support_service.http.component import HttpTimings
from tests.app.api.test_uploads import END, FORM, PART, send, send_open, write_chunk
from tests.support.calls import eventually, expect_problem, form, open_case, stored_files
from tests.support.scrape import Scrape

DATA = b"hello"
SHA256 = hashlib.sha256(DATA).digest()
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100)


def digest(data):
    """A Content-Digest of these bytes."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


async def post(client, case, body, **headers):
    """Upload a raw body with headers of the request."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(
        f"/support/cases/{case['id']}/attachments", data=body, headers={"Content-Type": FORM} | given
    )


@pytest.fixture
async def case(client):
    """A case."""
    return await open_case(client)


GOOD = {
    "in hex": {"X_Checksum_Sha256": SHA256.hex()},
    "in capitals": {"X_Checksum_Sha256": SHA256.hex().upper()},
    "in base64": {"X_Checksum_Sha256": base64.b64encode(SHA256).decode()},
    "the file's digest": {"Content_Digest": digest(DATA)},
    "the body's digest": {"Content_Digest": digest(PART + DATA + END)},
    "several digests": {"Content_Digest": f"sha-512=:AAAA:, {digest(DATA)}"},
    "an algorithm that nobody knows": {"Content_Digest": "md5=:AAAA:"},
    "both": {"Content_Digest": digest(DATA), "X_Checksum_Sha256": SHA256.hex()},
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_file_as_it_was_sent(client, case, name):
    """A checksum that is right lets the file in, whichever way it is written."""
    async with await post(client, case, PART + DATA + END, **GOOD[name]) as response:
        assert response.status == 201, await response.text()


WRONG = {
    "hex": ({"X_Checksum_Sha256": "0" * 64}, "X-Checksum-Sha256"),
    "digest": ({"Content_Digest": digest(b"other")}, "Content-Digest"),
    "one of both": ({"Content_Digest": digest(DATA), "X_Checksum_Sha256": "0" * 64}, "X-Checksum-Sha256"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_file_that_is_not_what_was_sent(client, case, attachment_dir, metrics, name):
    """A checksum that is wrong refuses the file by the header's name, and nothing is kept."""
    headers, field = WRONG[name]
    problem = await expect_problem(await post(client, case, PART + DATA + END, **headers), 422, "checksum_mismatch")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert stored_files(attachment_dir) == []
    assert metrics.nonzero("support_attachment_rejected_total") == {"checksum_mismatch": 1}


async def test_a_checksum_of_the_part(client, case):
    """A checksum in the part's own headers is the file's alone."""
    for value, status in ((SHA256.hex(), 201), ("0" * 64, 422)):
        part = PART.replace(b"Content-Type", b"X-Checksum-Sha256: " + value.encode() + b"\r\nContent-Type")
        async with await post(client, case, part + DATA + END) as response:
            assert response.status == status
    part = PART.replace(b"Content-Type", b"Content-Digest: " + digest(DATA).encode() + b"\r\nContent-Type")
    async with await post(client, case, part + DATA + END) as response:
        assert response.status == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("X-Checksum-Sha256", "0" * 64), ("X-Checksum-Sha256", SHA256.hex())], 422),
        ([("Content-Digest", digest(b"other")), ("Content-Digest", "sha-512=:AAAA:")], 422),
        ([("Content-Digest", digest(DATA)), ("Content-Digest", "sha-512=:AAAA:")], 201),
    ],
)
async def test_a_header_that_comes_again(client, case, headers, status):
    """Each line of a header counts, whichever is the last."""
    address = f"/support/cases/{case['id']}/attachments"
    async with client.post(address, data=PART + DATA + END, headers=[("Content-Type", FORM), *headers]) as response:
        assert response.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Checksum_Sha256": "abc"},
        {"X_Checksum_Sha256": "g" * 64},
        {"X_Checksum_Sha256": "\u00e9" * 44},
        {"Content_Digest": "sha-256=:AAAA:"},
        {"Content_Digest": "sha-256=" + base64.b64encode(hashlib.sha256(DATA).digest()).decode()},
        {"Content_Digest": "sha-256=:!:"},
        {"Content_Digest": "sha-512=:AAAA:, sha-256=" + "a" * 64},
        {"Content_Digest": "sha-256"},
    ],
)
async def test_a_checksum_that_can_not_be_read(client, case, attachment_dir, headers):
    """What is no checksum is refused, and not taken for none."""
    await expect_problem(await post(client, case, PART + DATA + END, **headers), 400, "malformed_checksum")
    assert stored_files(attachment_dir) == []


@pytest.mark.parametrize(
    ("sent", "declared", "status"),
    [
        (PNG, "image/png", 201),
        (b"%PDF-1.7 ", "application/pdf", 201),
        (b"plain words", "image/png", 201),  # nothing is detected, so the declaration stands
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", "image/heic", 201),
        (b"plain words", "text/plain", 415),
        (b"\x7fELF" + bytes(60), "image/png", 415),
        (PNG, "application/octet-stream", 415),
        (b"%PDF-1.7 ", "application/zip", 415),
        (b"<html><script>" + bytes(4000), "image/png", 415),
    ],
)
async def test_a_list_of_types(make_client, attachment_dir, sent, declared, status):
    """With a list of types a file is taken by what it declares, and by what its first bytes say."""
    client = await make_client(SUPPORT_ATTACHMENT_TYPES="image/*, application/pdf")
    case = await open_case(client)
    body = PART.replace(b"text/plain", declared.encode()) + sent + END
    response = await post(client, case, body)
    if status == 415:
        await expect_problem(response, 415, "type_not_allowed")
        assert stored_files(attachment_dir) == []
    else:
        async with response:
            assert response.status == status, await response.text()


async def test_a_body_that_takes_too_long(make_client):
    """A body that is not whole by its deadline is refused, however steadily it comes."""
    client = await make_client(SUPPORT_ATTACHMENT_DEADLINE="0.3")
    async with send_open(client, await open_case(client)) as (reader, writer):
        await write_chunk(writer, PART)
        assert b" 408 " in await reader.readline()


async def test_a_body_that_comes_too_slowly(make_client):
    """A client that sends a byte now and then is sent away once its rate is known to be too low."""
    timings = Timings(http=HttpTimings(min_rate_grace=0.2))
    client = await make_client(timings=timings, SUPPORT_ATTACHMENT_MIN_RATE="1000000")
    async with send_open(client, await open_case(client)) as (reader, writer):
        await write_chunk(writer, PART)
        answer = asyncio.create_task(reader.readline())
        while not answer.done():
            await write_chunk(writer, b"x")
            await asyncio.sleep(0.02)
        assert b" 408 " in await answer


async def test_a_body_that_stops(make_client):
    """A client that sends nothing any more is sent away."""
    client = await make_client(timings=Timings(http=HttpTimings(chunk_timeout=0.2)))
    async with send_open(client, await open_case(client)) as (reader, writer):
        await write_chunk(writer, PART)
        assert b" 408 " in await reader.readline()


async def test_no_more_uploads_at_once_than_there_may_be(make_client):
    """One upload too many is told to come again, before its body is read; when one has ended, the next is taken."""
    client = await make_client(SUPPORT_ATTACHMENT_UPLOADS="2")
    metrics = Scrape(client.app)
    case = await open_case(client)
    gauge = "support_attachment_uploads"
    async with send_open(client, case) as (_, one), send_open(client, case) as (_, two):
        for writer in (one, two):
            await write_chunk(writer, PART)
        await eventually(lambda: metrics.value(gauge) == 2)
        response = await client.post(f"/support/cases/{case['id']}/attachments", data=form(DATA))
        assert response.headers["Retry-After"]
        await expect_problem(response, 503, "uploads_busy")
    await eventually(lambda: metrics.value(gauge) == 0)
    async with await send(client, case, PART + DATA + END) as response:
        assert response.status == 201
    assert metrics.value("support_attachment_rejected_total", reason="uploads_busy") == 1


async def test_the_reserve_of_the_disk(make_client, attachment_dir):
    """Before a file would eat into the reserve it is refused with the time to come again, and nothing is kept."""
    client = await make_client(SUPPORT_ATTACHMENT_DISK_RESERVE=str(1 << 60))
    case = await open_case(client)
    response = await client.post(f"/support/cases/{case['id']}/attachments", data=form(DATA))
    assert response.headers["Retry-After"] == "60"
    await expect_problem(response, 507, "storage_full")
    assert stored_files(attachment_dir) == []
    metrics = Scrape(client.app)
    assert metrics.value("support_attachment_rejected_total", reason="storage_full") == 1
    assert metrics.value("support_attachment_disk_free_bytes") > 0


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("", "application/json"),
        ("/{case}/close", "application/json"),
        ("/{case}/attachments", "application/json"),
        ("/{case}/attachments", FORM),
    ],
)
@pytest.mark.parametrize("key", ["", "Idempotency-Key: k\r\n"])
async def test_a_length_beyond_the_limit(make_client, path, given, key):
    """It is refused before any byte of the body arrives."""
    client = await make_client(timings=Timings(http=HttpTimings(body_timeout=1.0, chunk_timeout=1.0)))
    path = path.format(case=(await open_case(client))["id"])
    head = f"POST /support/cases{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {given}\r\n{key}"
    reader, writer = await asyncio.open_connection(client.host, client.port)
    with closing(writer):
        writer.write(f"{head}Content-Length: {2**63 - 1}\r\n\r\n".encode())
        assert b" 413 " in await reader.readline()
