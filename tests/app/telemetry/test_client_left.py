"""Metrics of clients that disconnect and of rejected uploads."""

import asyncio
import errno

import pytest_asyncio

from support_service.attachments.uploader import REJECTION_CODES
from tests.support.attachments.raw_uploads import BODIES, END, MAX, PART, chunks, send_body, send_open, write_chunk
from tests.support.calls import eventually, expect_json, form, open_case, read_detail
from tests.support.each import each_row
from tests.support.scrape import Changes, Scrape
from tests.support.service import service_of

REJECTED = "support_attachment_rejected_total"
HTTP = "http_server_request_duration_seconds_count"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_shared_client):
    """A client of one service for all tests of this module, with a small size limit for attachments."""
    return await make_shared_client(SUPPORT_ATTACHMENT_MAX_BYTES=str(MAX))


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    return await open_case(client)


@each_row("body, content_type, status, code", BODIES.values(), BODIES)
async def test_rejected_upload_is_counted_by_problem_code(client, case, body, content_type, status, code):
    """Each rejected body counts once, under the code of the problem that the client got."""
    changes = Changes(service_of(client).metrics)
    async with await send_body(client, case, body, content_type) as response:
        assert (await response.json(content_type=None))["code"] == code
    assert changes.nonzero(REJECTED) == {code: 1}


async def test_other_rejected_uploads_are_counted(client, case, metric_changes):
    """Too much data around the file, and an unknown case."""
    body = chunks(PART, b"x" * 10, END, *[b"y" * 10_000] * 20)
    await expect_json(await send_body(client, case, body), 413)
    await expect_json(client.post("/support/cases/nobody/attachments", data=form(b"x")), 404)
    assert metric_changes.nonzero(REJECTED) == {"body_too_large": 1, "case_not_found": 1}


async def test_upload_to_a_full_disk_is_counted_as_storage_full(client, case, metric_changes, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        patch.setattr("os.fsync", full)
        async with client.post(f"/support/cases/{case['id']}/attachments", data=form(b"x")) as response:
            status = response.status
    assert status == 507
    assert metric_changes.nonzero(REJECTED) == {"storage_full": 1}


async def test_aborted_upload_is_counted_as_client_left(client, case):
    """An aborted upload counts once as client_left, as a rejection and as a request."""
    for sent in (b"", PART[:20], PART, PART + b"x" * 10):
        changes = Changes(service_of(client).metrics)
        async with send_open(client, case) as (_, writer):
            await write_chunk(writer, sent)
        await eventually(lambda changes=changes: changes.nonzero(REJECTED) == {"client_left": 1})
        counted = await counted_requests(changes, "/support/cases/{case_id}/attachments")
        assert (counted["error_type"], counted["http_response_status_code"]) == ("client_left", "499")
        assert changes.total("http_server_active_requests") == 0


async def counted_requests(scrape, route):
    """Wait for a request of a route; return the labels with which it counts."""

    def found():
        return [given for given in scrape.nonzero_labels(HTTP) if given["http_route"] == route]

    await eventually(found)
    (counted,) = found()
    return counted


async def test_stored_upload_counts_no_rejection(client, case, metric_changes):
    """After a successful upload each rejection reason is 0."""
    await expect_json(client.post(f"/support/cases/{case['id']}/attachments", data=form(b"x")), 201)
    assert metric_changes.nonzero(REJECTED) == {}
    assert sorted(given["reason"] for given in metric_changes.label_sets(REJECTED)) == sorted(REJECTION_CODES)


async def test_aborted_download_is_counted_as_client_left(make_client):
    """A download that the client aborts is counted as client_left, and not as a success."""
    client = await make_client(SUPPORT_ATTACHMENT_MAX_BYTES="100000000")
    case = await open_case(client)
    async with client.post(f"/support/cases/{case['id']}/attachments", data=form(b"x" * 30_000_000)) as response:
        path = (await response.json())["uri"]
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    writer.transport.abort()
    scrape = Scrape(service_of(client).metrics)
    route = "/support/cases/{case_id}/attachments/{attachment_id}/{filename}"
    counted = await counted_requests(scrape, route)
    assert (counted["http_request_method"], counted["error_type"]) == ("GET", "client_left")


async def test_aborted_timeline_read_is_counted_as_client_left(make_client, orders):
    """A read whose client disconnects counts as client_left, and one whose client waits counts as 200."""
    client = await make_client(SUPPORT_ORDER_URL=orders.url)
    scrape = Scrape(service_of(client).metrics)
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    release = orders.hang()
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET /support/cases/{case['id']}?includeTimeline=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await eventually(lambda: orders.waiting == 2)
    writer.close()
    await writer.wait_closed()
    release.set()
    read = "/support/cases/{case_id}"
    counted = await counted_requests(scrape, read)
    assert (counted["error_type"], counted["http_response_status_code"]) == ("client_left", "499")
    await read_detail(client, case)
    statuses = {
        given["http_response_status_code"] for given in scrape.nonzero_labels(HTTP) if given["http_route"] == read
    }
    assert statuses == {"200", "499"}
