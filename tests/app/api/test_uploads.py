"""Refused uploads: each problem has a stable code, and no file, row or count remains."""

import asyncio
import gzip

import pytest
import pytest_asyncio

from support_service.cases.sql import attachment_rows
from tests.support.attachments.raw_uploads import (
    BODIES,
    END,
    FORM,
    MAX,
    OTHER,
    PART,
    chunks,
    send_body,
    send_open,
    write_chunk,
)
from tests.support.calls import eventually, expect_problem, form, open_case, read_case, stored_files
from tests.support.each import each_row
from tests.support.service import service_of


@pytest.fixture(scope="module")
def attachment_dir(tmp_path_factory):
    """The directory in which the service of this module stores attachments."""
    return tmp_path_factory.mktemp("attachments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_shared_client, attachment_dir):
    """A client of one service for all tests of this module, with a small limit on file size."""
    return await make_shared_client(SUPPORT_ATTACHMENT_MAX_BYTES=str(MAX), SUPPORT_ATTACHMENT_DIR=str(attachment_dir))


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    """An open case."""
    return await open_case(client)


@pytest_asyncio.fixture(loop_scope="module")
async def nothing_is_stored(client, case, attachment_dir, metric_changes):
    """Check after the test that no file, row or total was stored and nothing was counted."""
    before = (
        stored_files(attachment_dir),
        await attachment_rows.read_ledger_totals(service_of(client).database, "local"),
    )
    yield
    assert (
        stored_files(attachment_dir),
        await attachment_rows.read_ledger_totals(service_of(client).database, "local"),
    ) == before
    assert (await read_case(client, case))["attachments"] == []
    assert metric_changes.value("support_attachment_backlog_bytes") == 0
    assert metric_changes.total("support_attachment_stored_total") == 0


@each_row("name", BODIES)
async def test_invalid_upload_is_refused(client, case, nothing_is_stored, name):
    """Each kind of invalid body has its own stable code, and nothing is stored."""
    body, content_type, status, code = BODIES[name]
    await expect_problem(await send_body(client, case, body, content_type), status, code)


async def test_refusal_of_a_malformed_header_is_in_words(client, case):
    """It names the rule, without the parser's exception and the bytes that it quotes."""
    problem = await expect_problem(
        await send_body(client, case, BODIES["a filename that is not UTF-8"][0], FORM), 400, "malformed_multipart"
    )
    assert problem["detail"] == "The multipart body is invalid: Segment header failed to decode."


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
@pytest.mark.parametrize("content_type", [FORM, "application/json"])
async def test_compressed_body_is_refused(client, case, nothing_is_stored, encoding, content_type):
    """The service never decompresses a body, valid or not: 1 MB could expand to 1 GB."""
    path = f"/support/cases/{case['id']}/" + ("attachments" if content_type == FORM else "messages")
    for body in (b"this is not compressed", gzip.compress(PART + b"hello" + END)):
        headers = {"Content-Type": content_type, "Content-Encoding": encoding}
        await expect_problem(client.post(path, data=body, headers=headers), 415, "unsupported_type")


@pytest.mark.parametrize("size", [MAX + 1, 200_000])
async def test_chunked_upload_over_the_limit_is_refused(client, case, nothing_is_stored, size):
    """The upload is refused as soon as it exceeds the limit."""
    response = await send_body(client, case, chunks(PART, *[b"x" * 1000] * (size // 1000), b"x", END))
    problem = await expect_problem(response, 413, "attachment_too_large")
    assert problem["limitBytes"] == MAX


@pytest.mark.parametrize("before", [b"", OTHER])
async def test_endless_preamble_or_field_is_refused(client, case, nothing_is_stored, before):
    """The limit also applies to the parts of a chunked body that are not the file."""
    async with send_open(client, case) as (reader, writer):
        await write_chunk(writer, before[:-3] + b"\r\n")
        writer.transport.set_write_buffer_limits(0)
        writing = asyncio.create_task(_write_endlessly(writer))
        status = await reader.readline()
        writing.cancel()
        assert status.split()[1] in (b"400", b"413")


async def test_file_of_exactly_the_size_limit_is_stored(client, case, attachment_dir):
    """This holds with and without a Content-Length."""
    before = len(stored_files(attachment_dir))
    for body in (PART + b"x" * MAX + END, chunks(PART, b"x" * MAX, END)):
        async with await send_body(client, case, body) as response:
            assert response.status == 201
            assert (await response.json())["sizeBytes"] == MAX
    assert len(stored_files(attachment_dir)) == before + 2


async def test_nested_multipart_is_stored_unparsed(client, case):
    """A part that is itself a multipart body is an ordinary file."""
    nested = b"--n\r\nContent-Disposition: form-data; name=file\r\n\r\ninner\r\n--n--\r\n"
    part = PART.replace(b"text/plain", b"multipart/mixed; boundary=n")
    async with await send_body(client, case, part + nested + END) as response:
        answer = await response.json()
    assert answer["contentType"] == "multipart/mixed"
    async with client.get(answer["uri"]) as response:
        assert await response.read() == nested


async def test_other_form_fields_are_ignored(client, case):
    """Fields before and after the file are not part of it."""
    async with await send_body(client, case, OTHER + PART + b"hello\r\n" + OTHER + b"--b--\r\n") as response:
        assert (await response.json())["sizeBytes"] == 5


async def test_upload_to_an_unknown_case_is_not_found(client, case, nothing_is_stored):
    """This holds for any form of the id."""
    for unknown in ("nobody", "%00", "..%2F..%2Fetc", "x" * 5000):
        response = await client.post(f"/support/cases/{unknown}/attachments", data=form(b"hello"))
        await expect_problem(response, 404, "case_not_found")


@each_row("name", BODIES)
async def test_missing_case_is_reported_before_an_invalid_body(client, case, nothing_is_stored, name):
    """A body that has arrived whole is read before the case is. The answer is that of a body that arrives later."""
    body, content_type, *_ = BODIES[name]
    for sent in (body, chunks(body)):
        await expect_problem(await send_body(client, {"id": "nobody"}, sent, content_type), 404, "case_not_found")


@pytest.mark.parametrize("sent", [b"", PART[:20], PART, PART + b"x" * 10])
async def test_nothing_is_stored_when_the_client_disconnects(client, case, nothing_is_stored, sent, metric_changes):
    """The request counts with the status 499, and not as a server error."""
    async with send_open(client, case) as (_, writer):
        await write_chunk(writer, sent)
    upload = "/support/cases/{case_id}/attachments"
    await eventually(lambda: statuses(metric_changes, upload) != [])
    assert statuses(metric_changes, upload) == ["499"]


async def test_partial_file_is_removed_when_the_client_disconnects(make_client, tmp_path):
    """Blocks that were already written are deleted."""
    attachment_dir = tmp_path / "files"
    client = await make_client(SUPPORT_ATTACHMENT_MAX_BYTES="10000000", SUPPORT_ATTACHMENT_DIR=str(attachment_dir))
    async with send_open(client, await open_case(client)) as (_, writer):
        await write_chunk(writer, PART)
        for _ in range(20):
            await write_chunk(writer, b"x" * 65_536)
        await eventually(lambda: len(stored_files(attachment_dir)) == 1)
    await eventually(lambda: stored_files(attachment_dir) == [])


def statuses(metrics, route):
    """Return the response statuses that were counted for a route."""
    counted = metrics.nonzero_labels("http_server_request_duration_seconds_count")
    return [labels["http_response_status_code"] for labels in counted if labels["http_route"] == route]


async def _write_endlessly(writer) -> None:
    while True:
        await write_chunk(writer, b"x" * 1000)
