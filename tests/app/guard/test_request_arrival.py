"""How a file may arrive: fast enough, in time, not too many at once, of an allowed type, and as it was sent."""

import asyncio
import base64
import hashlib
from contextlib import closing, contextmanager

import pytest
import pytest_asyncio

from support_service.guard.guard import GuardTimings
from support_service.timings import Timings
from tests.support.attachments.raw_uploads import END, FORM, PART, send_body, send_open, write_chunk
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_json, expect_problem, form, open_case, stored_files
from tests.support.each import each_row
from tests.support.scrape import Scrape
from tests.support.service import service_of

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


@pytest.fixture(scope="module")
def attachment_dir(tmp_path_factory):
    """The directory in which every service of this module stores attachments."""
    return tmp_path_factory.mktemp("attachments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_shared_client, attachment_dir):
    """A client of one service for all tests of this module."""
    return await make_shared_client(SUPPORT_ATTACHMENT_DIR=str(attachment_dir))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def choosy_client(make_shared_client, attachment_dir):
    """A client of a service that accepts images and PDF."""
    types = "image/*, application/pdf"
    return await make_shared_client(SUPPORT_ATTACHMENT_DIR=str(attachment_dir), SUPPORT_ATTACHMENT_TYPES=types)


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    return await open_case(client)


@contextmanager
def nothing_stored(directory):
    """Fail if a file is added to a directory inside the block, or stays unfinished there."""
    before = sorted(stored_files(directory))
    yield
    assert sorted(stored_files(directory)) == before


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


@each_row("headers", GOOD.values(), GOOD)
async def test_upload_with_a_correct_checksum_is_stored(client, case, headers):
    """Every allowed notation of the checksum is accepted."""
    await expect_json(await post(client, case, PART + DATA + END, **headers), 201)


async def test_upload_with_a_wrong_checksum_is_refused(client, case, attachment_dir, metric_changes):
    """The problem names the header, and nothing is stored."""
    for headers, field in (
        ({"X_Checksum_Sha256": "0" * 64}, "X-Checksum-Sha256"),
        ({"Content_Digest": digest(b"other")}, "Content-Digest"),
        ({"Content_Digest": digest(DATA), "X_Checksum_Sha256": "0" * 64}, "X-Checksum-Sha256"),
    ):
        with nothing_stored(attachment_dir):
            response = await post(client, case, PART + DATA + END, **headers)
            problem = await expect_problem(response, 422, "checksum_mismatch")
        assert [error["field"] for error in problem["errors"]] == [field]
    assert metric_changes.nonzero("support_attachment_rejected_total") == {"checksum_mismatch": 3}


async def test_checksum_of_the_part_covers_the_file_only(client, case):
    """It is in the part's own headers."""
    for value, status in ((SHA256.hex(), 201), ("0" * 64, 422)):
        part = PART.replace(b"Content-Type", b"X-Checksum-Sha256: " + value.encode() + b"\r\nContent-Type")
        async with await post(client, case, part + DATA + END) as response:
            assert response.status == status
    part = PART.replace(b"Content-Type", b"Content-Digest: " + digest(DATA).encode() + b"\r\nContent-Type")
    await expect_json(await post(client, case, part + DATA + END), 201)


async def test_every_line_of_a_repeated_checksum_header_counts(client, case):
    """The order does not matter."""
    address = f"/support/cases/{case['id']}/attachments"
    for name, values, status in (
        ("X-Checksum-Sha256", ("0" * 64, SHA256.hex()), 422),
        ("Content-Digest", (digest(b"other"), "sha-512=:AAAA:"), 422),
        ("Content-Digest", (digest(DATA), "sha-512=:AAAA:"), 201),
    ):
        headers = [("Content-Type", FORM), *((name, value) for value in values)]
        async with client.post(address, data=PART + DATA + END, headers=headers) as response:
            assert response.status == status, (name, values)


MALFORMED = [
    *(("X_Checksum_Sha256", value) for value in ("abc", "g" * 64, "\u00e9" * 44)),
    *(("Content_Digest", value) for value in ("sha-256=:AAAA:", "sha-256=:!:", "sha-256")),
    ("Content_Digest", digest(DATA).replace(":", "")),
    ("Content_Digest", "sha-512=:AAAA:, sha-256=" + "a" * 64),
]


@each_row("name, value", MALFORMED)
async def test_malformed_checksum_is_refused(client, case, attachment_dir, name, value):
    """It does not count as missing."""
    with nothing_stored(attachment_dir):
        response = await post(client, case, PART + DATA + END, **{name: value})
        await expect_problem(response, 400, "malformed_checksum")


@each_row(
    "sent, declared, status",
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
async def test_allowed_types_are_checked_by_declaration_and_content(
    choosy_client, attachment_dir, sent, declared, status
):
    """With a list of types, a file's declared type and its first bytes must be allowed."""
    case = await open_case(choosy_client)
    body = PART.replace(b"text/plain", declared.encode()) + sent + END
    if status == 415:
        with nothing_stored(attachment_dir):
            await expect_problem(await post(choosy_client, case, body), 415, "type_not_allowed")
    else:
        async with await post(choosy_client, case, body) as response:
            assert response.status == status, await response.text()


async def test_body_that_stalls_or_exceeds_the_upload_deadline_is_refused(make_client):
    """The deadline holds however steadily it arrives."""
    for timings in (GuardTimings(upload_time=0.3), GuardTimings(chunk_timeout=0.2)):
        client = await make_client(timings=Timings(guard=timings))
        async with send_open(client, await open_case(client)) as (reader, writer):
            await write_chunk(writer, PART)
            assert b" 408 " in await reader.readline()


async def test_body_below_the_minimum_rate_is_refused(make_client):
    """The client is disconnected once its rate is known to be too low."""
    timings = Timings(guard=GuardTimings(min_rate_grace=0.2, upload_rate=1_000_000))
    client = await make_client(timings=timings)
    async with send_open(client, await open_case(client)) as (reader, writer):
        await write_chunk(writer, PART)
        answer = asyncio.create_task(reader.readline())
        while not answer.done():
            await write_chunk(writer, b"x")
            await asyncio.sleep(0.02)  # the pace of the client
        assert b" 408 " in await answer


async def test_concurrent_uploads_are_limited(make_client, monkeypatch):
    """One over the limit gets Retry-After before its body is read. It is accepted once another has ended."""
    monkeypatch.setattr("support_service.attachments.service.CONCURRENT_UPLOADS", 2)
    client = await make_client()
    metrics = Scrape(service_of(client).metrics)
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
    await expect_json(await send_body(client, case, PART + DATA + END), 201)
    assert metrics.value("support_attachment_rejected_total", reason="uploads_busy") == 1


async def test_upload_that_would_use_the_disk_reserve_is_refused(make_client, attachment_dir, monkeypatch):
    """The response has Retry-After, and nothing is stored."""
    monkeypatch.setattr("support_service.attachments.storage.DISK_RESERVE", 1 << 60)
    client = await make_client(SUPPORT_ATTACHMENT_DIR=str(attachment_dir))
    case = await open_case(client)
    with nothing_stored(attachment_dir):
        response = await client.post(f"/support/cases/{case['id']}/attachments", data=form(DATA))
    assert response.headers["Retry-After"] == "60"
    await expect_problem(response, 507, "storage_full")
    metrics = Scrape(service_of(client).metrics)
    assert metrics.value("support_attachment_rejected_total", reason="storage_full") == 1
    assert metrics.value("support_attachment_disk_free_bytes") > 0


async def test_declared_length_over_the_limit_is_refused(client, case):
    """The response arrives before any byte of the body."""
    json = "application/json"
    for path, given in (
        ("", json),
        ("/{case}/close", json),
        ("/{case}/attachments", json),
        ("/{case}/attachments", FORM),
    ):
        for key in ("", "Idempotency-Key: k\r\n"):
            head = f"POST /support/cases{path.format(case=case['id'])} HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Type: {given}\r\n{key}Content-Length: {2**63 - 1}\r\n\r\n"
            reader, writer = await asyncio.open_connection(client.host, client.port)
            with closing(writer):
                writer.write(head.encode())
                async with asyncio.timeout(GENEROUS_TIMEOUT):
                    assert b" 413 " in await reader.readline(), (path, given, key)
