"""An S3 server that loses or changes bytes, or says something else than S3: no such bytes pass for a file."""

from collections import Counter
from functools import partial
from random import Random

import pytest
from aiohttp import web

from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.base import UnreadableFile
from support_service.attachments.storage.s3 import PART_BYTES, READ_BLOCK_BYTES
from support_service.cases.sql import attachment_rows
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import NotFound, Unavailable
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.attachments.faulty_proxy import FaultyProxy, with_last_bit_flipped
from tests.support.attachments.harness import AttachmentHarness

UNREADABLE = "support_attachment_unreadable_total"
SMALL, LARGE = b"hello", b"x" * (2 * PART_BYTES + 7)
HTML = "<html>It works!</html>"


@pytest.fixture
async def proxy(s3):
    proxy = FaultyProxy(s3.url)
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
async def harness(database, tmp_path, s3, proxy, metrics_and_scrape, constants):
    """An empty attachment harness behind the proxy, whose service stores new files on S3."""
    constants("attachments.storage.s3", REPEAT_PAUSE=0.001)
    instruments = Instruments(metrics_and_scrape[0].meter)
    harness = AttachmentHarness(database, tmp_path / "files", proxy.url, s3.create_bucket(), instruments)
    storages = {"s3": harness.s3, "local": harness.local}
    harness.service = AttachmentService(database, storages, instruments, AttachmentSettings(max_bytes=100_000_000))
    await harness.open()
    yield harness
    await harness.local.close()


def page(request, *, methods):
    """Return a page as of a wrong server, for the requests of these methods."""
    headers = {"ETag": '"5d41402abc4b2a76b9719d911017c592"', "Last-Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}
    return web.Response(text=HTML, content_type="text/html", headers=headers) if request.method in methods else None


def spoil_sent(proxy):
    """Change a byte on the way to the server."""
    proxy.send = partial(with_last_bit_flipped, methods=("PUT",))


def shorten_sent(proxy):
    """Lose a byte on the way to the server."""
    proxy.send = lambda method, body: body[:-1] if method == "PUT" else body


def swallow(proxy):
    """Acknowledge what is sent, and keep nothing."""
    headers = {"ETag": '"5d41402abc4b2a76b9719d911017c592"'}
    proxy.answer = lambda request: web.Response(headers=headers) if request.method == "PUT" else None


def answer_with_page(proxy):
    """Acknowledge what is sent with a page."""
    proxy.answer = partial(page, methods=("PUT", "HEAD"))


@pytest.mark.parametrize("fault", [spoil_sent, shorten_sent, swallow, answer_with_page])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_upload_that_s3_did_not_store_is_refused(harness, proxy, fault, data):
    """The client may send the file again. Neither a row nor an object stays. Empty files are verified as well."""
    fault(proxy)
    if fault in (swallow, answer_with_page):
        with pytest.raises(Unavailable):
            await harness.add(b"")
    with pytest.raises(Unavailable) as refusal:
        await harness.add(data)
    assert refusal.value.code == "storage_unavailable"
    proxy.answer = lambda _request: None
    assert await attachment_rows.list_by_case(harness.database, harness.case_id) == []
    assert await harness.stored_keys("s3") == set()


@pytest.mark.parametrize("fault", [spoil_sent, shorten_sent, swallow, answer_with_page])
async def test_local_file_is_kept_until_its_copy_is_verified(harness, proxy, fault):
    """No fault of the server makes the offload delete the only good copy."""
    harness.service = AttachmentService(
        harness.database, harness.storages, harness.instruments, AttachmentSettings(max_bytes=100_000_000)
    )
    kept = await harness.add(SMALL)
    fault(proxy)
    try:
        outcomes = {moved.outcome for moved in await harness.offload()}
    except Unavailable:
        outcomes = {"failed"}
    assert outcomes <= {"failed", "mismatch"}
    proxy.answer = lambda _request: None
    proxy.send = lambda _method, body: body
    assert (await harness.reload(kept)).storage == "local"
    assert await harness.read_content(kept) == SMALL
    await harness.reconcile_later()
    assert len(await harness.check_consistency()) == 1


async def received(harness, attachment, offset=0, length=None):
    """Return what a download receives until it ends or fails, and its failure."""
    data = bytearray()
    try:
        async for block in harness.service.read(attachment, offset, length or attachment.size_bytes):
            data += block
    except (Unavailable, NotFound) as failure:
        return bytes(data), failure
    return bytes(data), None


@pytest.mark.parametrize("data", [SMALL, b"x" * 3 * READ_BLOCK_BYTES], ids=["small", "large"])
async def test_download_of_changed_bytes_is_never_complete(harness, proxy, scrape, data):
    """The last block is withheld, the fault is counted at once, and an intact download works again afterwards."""
    kept = await harness.add(data)
    proxy.give = partial(with_last_bit_flipped, methods=("GET",))
    seen, failure = await received(harness, kept)
    assert len(seen) < len(data)
    assert (type(failure), failure.fault) == (UnreadableFile, "damaged")
    assert scrape.value(UNREADABLE, storage="s3", kind="damaged") == 1
    proxy.give = lambda _method, body: body
    assert await received(harness, kept) == (data, None)


@pytest.mark.parametrize(("offset", "length"), [(0, 5), (0, 2), (3, 2)])
async def test_object_of_another_size_is_damaged(harness, s3, scrape, offset, length):
    """Also for a range within the object, and before the first byte is sent."""
    kept = await harness.add(SMALL)
    for number, other in enumerate((b"hell", b"hello!"), start=1):
        s3.replace(harness.bucket, kept.storage_key, other)
        seen, failure = await received(harness, kept, offset, length)
        assert (seen, failure.code, failure.fault) == (b"", "attachment_unreadable", "damaged")
        assert scrape.value(UNREADABLE, storage="s3", kind="damaged") == number
        assert await harness.service.presigned_url(kept) is None


async def test_missing_object_is_counted_at_its_first_read(harness, scrape):
    """A file that was deleted meanwhile is no fault."""
    kept, deleted = await harness.add(SMALL), await harness.add(SMALL)
    empty = await harness.add(b"")
    await harness.s3.delete(kept.storage_key)
    await harness.s3.delete(empty.storage_key)
    for number, each in enumerate((kept, empty), start=1):
        _, failure = await received(harness, each)
        assert failure.fault == "missing"
        assert scrape.value(UNREADABLE, storage="s3", kind="missing") == number
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, deleted.id)
    _, failure = await received(harness, deleted)
    assert failure.code == "attachment_not_found"
    assert scrape.value(UNREADABLE, storage="s3", kind="missing") == 2
    assert len(await harness.service.list_by_case(SYSTEM, harness.case_id)) == 2


CALLS, REPEATS = "support_s3_calls_total", "support_s3_repeats_total"
TRANSFERS = "support_attachment_transfers_total"


def xml(status, code):
    return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml")


async def test_transfers_succeed_while_s3_refuses_three_calls_of_ten(harness, proxy, scrape):
    """Calls are repeated, and each answer counts."""
    chance, answers = Random(0), []  # three tries do not suffice for all of these files

    def answer(_request):
        answers.append(chance.random() < 0.3)
        return xml(503, "SlowDown") if answers[-1] else None

    proxy.answer = answer
    for number in range(20):
        data = SMALL + bytes([number])
        assert await received(harness, await harness.add(data)) == (data, None)
    for transfer in ("upload", "download"):
        assert scrape.value(TRANSFERS, transfer=transfer, outcome="ok") == scrape.total(TRANSFERS) / 2 == 20
    refused = sum(answers)
    by_outcome = Counter()
    for _, labels, value in scrape.samples(CALLS):
        by_outcome[labels["outcome"]] += value
    assert +by_outcome == {"slow_down": refused, "ok": len(answers) - refused}
    assert scrape.total(REPEATS) == refused


@pytest.mark.parametrize(
    ("status", "code", "outcome", "repeats"),
    [
        (503, "SlowDown", "slow_down", 5),
        (500, "InternalError", "server_error", 5),
        (403, "AccessDenied", "denied", 0),
        (400, "ExpiredToken", "expired", 0),
        (404, "NoSuchBucket", "no_bucket", 0),
        (403, "RequestTimeTooSkewed", "other", 0),
    ],
)
async def test_refused_transfer_is_counted_by_what_s3_answered(harness, proxy, scrape, status, code, outcome, repeats):
    """Uploads and downloads that S3 refuses in the end; a call is repeated only if that can help."""
    kept = await harness.add(SMALL)
    proxy.answer = lambda _request: xml(status, code)
    seen, failure = await received(harness, kept)
    assert (seen, failure.code, scrape.total(UNREADABLE)) == (b"", "storage_unavailable", 0)
    with pytest.raises(Unavailable):
        await harness.add(SMALL)
    for transfer, operation in (("upload", "put"), ("download", "read")):
        assert scrape.value(TRANSFERS, transfer=transfer, outcome=outcome) == 1
        assert scrape.value(CALLS, operation=operation, outcome=outcome) == 1 + repeats
        assert scrape.value(REPEATS, operation=operation) == repeats


async def test_page_instead_of_an_answer_of_s3_is_unavailable(harness, proxy, scrape):
    """It does not count as a damaged file, and is not passed on to the client."""
    kept = await harness.add(SMALL)
    proxy.answer = partial(page, methods=("GET", "HEAD"))
    seen, failure = await received(harness, kept)
    assert (seen, failure.code) == (b"", "storage_unavailable")
    assert scrape.total(UNREADABLE) == 0


async def test_interrupted_download_is_resumed(harness, proxy):
    """The rest is requested again, and the whole file is verified."""
    data = b"x" * 3 * READ_BLOCK_BYTES
    kept = await harness.add(data)
    proxy.cut = 2 * READ_BLOCK_BYTES + 10
    assert await received(harness, kept) == (data, None)


async def test_deletion_without_a_valid_answer_is_retried(harness, proxy):
    """The object stays on the garbage list until S3 confirms its deletion."""
    kept = await harness.add(SMALL)
    proxy.answer = lambda request: web.Response(text=HTML) if request.method in ("POST", "DELETE") else None
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, kept.id)
    proxy.answer = lambda _request: None
    assert await harness.stored_keys("s3") == {kept.storage_key}
    await harness.reconcile_later()
    assert await harness.check_consistency() == []
