"""Files on S3 are served as those on the disk are: through the service, or by an address of their own."""

import hashlib

import pytest

from support_service.attachments.component import AttachmentTimings, configured_storages
from support_service.attachments.maintenance.jobs import MaintenanceTimings
from support_service.commands.runtime.maintenance import open_maintenance
from support_service.core.clock import utc_now
from support_service.settings import Settings
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_problem, open_case, stored_files, upload
from tests.support.scrape import Scrape
from tests.support.timings import patient_timings

DATA = bytes(range(256)) * 4
SAME = ("Content-Type", "Content-Length", "ETag", "Accept-Ranges", "Cache-Control", "Content-Disposition")
SAME += ("X-Content-Type-Options", "Content-Security-Policy")


@pytest.fixture
def environment(environment, s3):
    """A service with a bucket."""
    return environment | {"SUPPORT_S3_BUCKET": s3.create_bucket(), "SUPPORT_S3_ENDPOINT": s3.url}


async def offload(environment):
    """Move every file."""
    async with open_maintenance(Settings.load(environment)) as maintenance:
        await maintenance.offloader().run(utc_now())


@both_databases
async def test_a_moved_file_is_served_as_before(client, environment):
    """The same bytes, the same headers, the same ranges, the same 304 and HEAD, before and after the move."""
    kept = await upload(client, await open_case(client), DATA, filename="a b.pdf", content_type="application/pdf")

    async def look(method, **headers):
        async with client.request(method, kept["uri"], headers=headers | {"X-Request-Id": "same"}) as response:
            shown = {name: response.headers.get(name) for name in (*SAME, "Content-Range")}
            return response.status, shown, await response.read()

    requests = [
        ("GET", {}),
        ("HEAD", {}),
        ("GET", {"Range": "bytes=10-99"}),
        ("GET", {"Range": "bytes=-1"}),
        ("GET", {"Range": "bytes=5000-"}),
        ("GET", {"If-None-Match": f'"{kept["sha256"]}"'}),
    ]
    before = [await look(method, **headers) for method, headers in requests]
    await offload(environment)
    assert [await look(method, **headers) for method, headers in requests] == before
    assert before[0][2] == DATA


async def test_a_redirected_download(make_client, environment):
    """With `redirect` the client is sent to the bucket, which gives bytes, type and name; local files are not."""
    client = await make_client(**environment, SUPPORT_ATTACHMENT_DOWNLOAD="redirect")
    case = await open_case(client)
    kept = await upload(client, case, DATA, filename="a.pdf", content_type="application/pdf")
    await offload(environment)
    young = await upload(client, case, b"young")
    async with client.get(kept["uri"], allow_redirects=False) as response:
        assert response.status == 307
        assert response.headers["ETag"] == f'"{kept["sha256"]}"'
        assert response.headers["Location"].startswith(environment["SUPPORT_S3_ENDPOINT"])
    async with client.session.get(client.make_url(kept["uri"])) as response:
        assert await response.read() == DATA
        assert response.headers["Content-Type"] == "application/pdf"
        assert response.headers["Content-Disposition"].startswith('attachment; filename="a.pdf"')
    async with client.get(young["uri"], allow_redirects=False) as response:
        assert await response.read() == b"young"
    async with client.head(kept["uri"], allow_redirects=False) as response:  # the address is signed for GET alone
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(DATA)))


async def test_a_redirect_to_a_server_that_is_down(make_client, environment, s3):
    """Nobody is sent to where nothing answers: a file on S3 is 503, as without redirects."""
    client = await make_client(**environment, SUPPORT_ATTACHMENT_DOWNLOAD="redirect")
    kept = await upload(client, await open_case(client), DATA)
    await offload(environment)
    s3.kill()
    try:
        response = await client.get(kept["uri"], allow_redirects=False)
        assert response.headers["Retry-After"]
        await expect_problem(response, 503, "storage_unavailable")
    finally:
        s3.start()


async def test_new_files_go_straight_to_s3(make_client, environment, attachment_dir):
    """With `s3` as the store nothing touches the disk, its gauges stay at 0, and a removal takes the object."""
    client = await make_client(**environment, SUPPORT_ATTACHMENT_STORE="s3")
    case = await open_case(client)
    kept = await upload(client, case, DATA)
    assert kept["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert stored_files(attachment_dir) == []
    async with client.get(kept["uri"]) as response:
        assert await response.read() == DATA
    metrics = Scrape(client.app)
    assert metrics.value("support_attachment_backlog_files") == 0
    assert metrics.value("support_attachment_backlog_age_seconds") == 0
    async with client.delete(f"/support/cases/{case['id']}/attachments/{kept['id']}") as response:
        assert response.status == 204
    settings = Settings.load(environment)
    bucket = configured_storages(settings.attachments, settings.s3)["s3"]
    await bucket.open()
    assert [found async for found in bucket.list()] == []
    await bucket.close()


async def test_s3_is_down(make_client, environment, s3, attachment_dir):
    """Files on S3 are 503 with the time to come again, an upload to it too; files on the disk are served."""
    client = await make_client(**environment)
    case = await open_case(client)
    far = await upload(client, case, b"far")
    await offload(environment)
    near = await upload(client, case, b"near")
    s3.kill()
    response = await client.get(far["uri"])
    assert response.headers["Retry-After"]
    await expect_problem(response, 503, "storage_unavailable")
    async with client.get(near["uri"]) as response:
        assert await response.read() == b"near"
    await client.close()
    direct = await make_client(**environment, SUPPORT_ATTACHMENT_STORE="s3")
    response = await direct.post(
        f"/support/cases/{case['id']}/attachments",
        data=b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n',
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    await expect_problem(response, 503, "storage_unavailable")
    s3.start()


async def test_a_bucket_that_is_not_set_up_any_more(make_client, environment):
    """A file on a storage that this process was not told of is 503, and says why."""
    client = await make_client(**environment)
    kept = await upload(client, await open_case(client), DATA)
    await offload(environment)
    without = await make_client(**environment | {"SUPPORT_S3_BUCKET": None})
    problem = await expect_problem(await without.get(kept["uri"]), 503, "attachment_unreadable")
    assert "s3" in problem["detail"]


async def test_the_service_moves_files_by_itself(make_client, environment, attachment_dir):
    """With SUPPORT_OFFLOAD_AFTER files leave the disk without a command, and the gauges follow."""
    shorter = MaintenanceTimings(
        offload_interval=0.05,
        garbage_collection_interval=0.05,
        first_reconcile_delay=(0.5, 0.5),
        reconcile_interval=0.5,
    )
    timings = patient_timings(attachments=AttachmentTimings(backlog_refresh_interval=0.05, maintenance=shorter))
    client = await make_client(
        timings=timings,
        **environment,
        SUPPORT_OFFLOAD_AFTER="0s",
        SUPPORT_OFFLOAD_GRACE="0s",
        SUPPORT_SCRUB_SAMPLE="100%",
    )
    metrics = Scrape(client.app)
    kept = await upload(client, await open_case(client), DATA)
    await eventually(lambda: stored_files(attachment_dir) == [])
    await shown(metrics, "support_attachment_backlog_files", lambda value: value == 0)
    await shown(metrics, "support_attachment_unrepaired", lambda value: value == 0, kind="missing")
    await shown(metrics, "support_attachment_scrubbed_total", lambda value: value > 0, outcome="ok")
    assert metrics.value("support_attachment_scrubbed_total", outcome="mismatch") == 0
    async with client.get(kept["uri"]) as response:
        assert await response.read() == DATA


async def test_the_sweep_fails_and_the_scrub_does_not(make_client, environment, s3):
    """What the service does each hour fails part by part: with S3 down files on the disk are hashed all the same."""
    soon = MaintenanceTimings(first_reconcile_delay=(0.2, 0.2), reconcile_interval=0.2)
    timings = patient_timings(attachments=AttachmentTimings(maintenance=soon))
    client = await make_client(timings=timings, **environment, SUPPORT_SCRUB_SAMPLE="100%")
    await upload(client, await open_case(client), DATA)
    s3.kill()
    try:
        await shown(Scrape(client.app), "support_attachment_scrubbed_total", lambda value: value > 0, outcome="ok")
    finally:
        s3.start()


async def shown(metrics, name, right, **labels):
    """Wait until a series has a value that is right."""
    await eventually(
        lambda: (value := metrics.value(name, **labels)) is not None and right(value), 6 * GENEROUS_TIMEOUT
    )
