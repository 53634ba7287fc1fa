"""Downloads of attachments on S3: through the service, or by redirect to a presigned URL."""

import hashlib
from datetime import timedelta

import pytest

from support_service.attachments.storage import configured_storages
from support_service.commands.runtime import open_maintenance
from support_service.core.clock import utc_now
from support_service.platform.settings import Settings
from tests.support.calls import (
    GENEROUS_TIMEOUT,
    eventually,
    expect_json,
    expect_problem,
    open_case,
    stored_files,
    upload,
)
from tests.support.scrape import Scrape
from tests.support.service import service_of

DATA = bytes(range(256)) * 4
SAME = ("Content-Type", "Content-Length", "ETag", "Accept-Ranges", "Cache-Control", "Content-Disposition")
SAME += ("X-Content-Type-Options", "Content-Security-Policy")


@pytest.fixture
def environment(environment, s3):
    return environment | {"SUPPORT_S3_BUCKET": s3.create_bucket(), "SUPPORT_S3_ENDPOINT": s3.url}


async def offload(environment):
    async with open_maintenance(Settings.load(environment)) as maintenance:
        await maintenance.offloader().run(utc_now())


async def test_offloaded_file_is_served_as_before(client, environment):
    """Bytes, headers, ranges, 304 and HEAD are the same before and after the move."""
    attachment = await upload(client, await open_case(client), DATA, filename="a b.pdf", content_type="application/pdf")

    async def fetch(method, **headers):
        async with client.request(method, attachment["uri"], headers=headers | {"X-Request-Id": "same"}) as response:
            headers_seen = {name: response.headers.get(name) for name in (*SAME, "Content-Range")}
            return response.status, headers_seen, await response.read()

    requests = [
        ("GET", {}),
        ("HEAD", {}),
        ("GET", {"Range": "bytes=10-99"}),
        ("GET", {"Range": "bytes=-1"}),
        ("GET", {"Range": "bytes=5000-"}),
        ("GET", {"If-None-Match": f'"{attachment["sha256"]}"'}),
    ]
    before = [await fetch(method, **headers) for method, headers in requests]
    await offload(environment)
    assert [await fetch(method, **headers) for method, headers in requests] == before
    assert before[0][2] == DATA


async def test_download_is_redirected_to_the_bucket(make_client, environment, s3):
    """The bucket serves bytes, type and name. Local files and HEAD are not redirected.

    While the bucket is unavailable, the response is 503, as without redirects.
    """
    client = await make_client(**environment, SUPPORT_ATTACHMENT_DOWNLOAD="redirect")
    case = await open_case(client)
    attachment = await upload(client, case, DATA, filename="a.pdf", content_type="application/pdf")
    await offload(environment)
    local_file = await upload(client, case, b"young")
    async with client.get(attachment["uri"], allow_redirects=False) as response:
        assert (response.status, response.headers["ETag"]) == (307, f'"{attachment["sha256"]}"')
        assert response.headers["Location"].startswith(environment["SUPPORT_S3_ENDPOINT"])
    async with client.session.get(client.make_url(attachment["uri"])) as response:
        assert await response.read() == DATA
        assert response.headers["Content-Type"] == "application/pdf"
        assert response.headers["Content-Disposition"].startswith('attachment; filename="a.pdf"')
    async with client.get(local_file["uri"], allow_redirects=False) as response:
        assert await response.read() == b"young"
    async with client.head(attachment["uri"], allow_redirects=False) as response:  # the URL is signed for GET only
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(DATA)))
    s3.kill()
    try:
        response = await client.get(attachment["uri"], allow_redirects=False)
        assert response.headers["Retry-After"]
        await expect_problem(response, 503, "storage_unavailable")
    finally:
        s3.start()


async def test_uploads_go_directly_to_s3_when_it_is_the_store(make_client, environment, s3, attachment_dir):
    """The local disk stays empty, its gauges stay at 0, and a removal deletes the object.

    An empty file is stored, downloaded and removed, too. It has no range. While S3 is down, uploads get 503.
    """
    client = await make_client(**environment, SUPPORT_ATTACHMENT_STORE="s3")
    case = await open_case(client)
    attachment = await upload(client, case, DATA)
    assert attachment["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert stored_files(attachment_dir) == []
    async with client.get(attachment["uri"]) as response:
        assert await response.read() == DATA
    metrics = Scrape(service_of(client).metrics)
    assert metrics.value("support_attachment_backlog_files") == 0
    assert metrics.value("support_attachment_backlog_age_seconds") == 0
    await expect_json(client.delete(f"/support/cases/{case['id']}/attachments/{attachment['id']}"), 204)
    stored = await upload(client, case, b"")
    assert (stored["sizeBytes"], stored["sha256"]) == (0, hashlib.sha256(b"").hexdigest())
    for method in ("GET", "HEAD"):
        async with client.request(method, stored["uri"], headers={"If-Range": '"x"', "Range": "bytes=0-"}) as response:
            assert (response.status, await response.read(), response.headers["Content-Length"]) == (200, b"", "0")
    response = await client.get(stored["uri"], headers={"Range": "bytes=0-0"})
    await expect_problem(response, 416, "range_not_satisfiable")
    await expect_json(client.delete(stored["uri"].rpartition("/")[0]), 204)
    settings = Settings.load(environment)
    bucket = configured_storages(settings.attachments, settings.s3)["s3"]
    await bucket.open()
    assert [found async for found in bucket.list()] == []
    await bucket.close()
    s3.kill()
    boundary = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    sent = {"data": boundary, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}
    await expect_problem(client.post(f"/support/cases/{case['id']}/attachments", **sent), 503, "storage_unavailable")
    s3.start()


async def test_files_on_s3_are_unavailable_while_s3_is_down(make_client, client, environment, s3):
    """Downloads get 503 with Retry-After. Files on the local disk are served.

    Without the bucket in its settings, a service says that the file is unreadable, and names the storage.
    """
    case = await open_case(client)
    on_s3 = await upload(client, case, b"far")
    await offload(environment)
    on_disk = await upload(client, case, b"near")
    without = await make_client(**environment | {"SUPPORT_S3_BUCKET": None})
    assert "s3" in (await expect_problem(without.get(on_s3["uri"]), 503, "attachment_unreadable"))["detail"]
    s3.kill()
    response = await client.get(on_s3["uri"])
    assert response.headers["Retry-After"]
    await expect_problem(response, 503, "storage_unavailable")
    async with client.get(on_disk["uri"]) as response:
        assert await response.read() == b"near"
    s3.start()


async def test_service_offloads_files_in_the_background(make_client, environment, attachment_dir, constants):
    """SUPPORT_OFFLOAD_AFTER needs no command, and the gauges follow."""
    constants("attachments.maintenance.offload", DELETE_GRACE=timedelta(0))
    often = {"OFFLOAD_INTERVAL": 0.05, "GARBAGE_COLLECTION_INTERVAL": 0.05}
    constants("attachments.maintenance.jobs", FIRST_RECONCILE_DELAY=(0.5, 0.5), RECONCILE_INTERVAL=0.5, **often)
    constants("service", ATTACHMENT_BACKLOG_INTERVAL=0.05)
    client = await make_client(**environment, SUPPORT_OFFLOAD_AFTER="0s", SUPPORT_SCRUB_SAMPLE="100%")
    metrics = Scrape(service_of(client).metrics)
    attachment = await upload(client, await open_case(client), DATA)
    await eventually(lambda: stored_files(attachment_dir) == [])
    await wait_for_value(metrics, "support_attachment_backlog_files", lambda value: value == 0)
    await wait_for_value(metrics, "support_attachment_unrepaired", lambda value: value == 0, kind="missing")
    await wait_for_value(metrics, "support_attachment_scrubbed_total", lambda value: value > 0, outcome="ok")
    assert metrics.value("support_attachment_scrubbed_total", outcome="mismatch") == 0
    async with client.get(attachment["uri"]) as response:
        assert await response.read() == DATA


async def test_scrub_runs_although_reconciliation_fails(make_client, environment, s3, constants):
    """While S3 is down, files on the local disk are still hashed."""
    constants("attachments.maintenance.jobs", FIRST_RECONCILE_DELAY=(0.2, 0.2), RECONCILE_INTERVAL=0.2)
    client = await make_client(**environment, SUPPORT_SCRUB_SAMPLE="100%")
    await upload(client, await open_case(client), DATA)
    s3.kill()
    try:
        await wait_for_value(
            Scrape(service_of(client).metrics),
            "support_attachment_scrubbed_total",
            lambda value: value > 0,
            outcome="ok",
        )
    finally:
        s3.start()


async def wait_for_value(metrics, name, condition, **labels):
    await eventually(
        lambda: (value := metrics.value(name, **labels)) is not None and condition(value), 6 * GENEROUS_TIMEOUT
    )
