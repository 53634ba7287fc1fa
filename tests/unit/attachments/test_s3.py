"""The S3 storage without a server: its errors, and the stream of an upload."""

import pytest

from support_service.attachments.storage.s3 import HashingStream, S3AttachmentStorage
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import stream
from tests.support.servers import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
async def test_error_names_the_unreachable_server(monkeypatch, host):
    """With its address, its variables and the cause, in one line, without the durations and attempts of the client."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    endpoint = f"http://{host}:{free_port()}"
    storage = S3AttachmentStorage("files", endpoint=endpoint)
    with pytest.raises(Unavailable) as refusal:
        await storage.delete("a" * 32)
    text = str(refusal.value)
    assert text.startswith("The object storage (SUPPORT_S3_ENDPOINT, SUPPORT_S3_BUCKET) can't be reached or rejects ")
    assert endpoint in text
    assert "retries" not in text
    assert "\n" not in text
    if host == "127.0.0.1":
        assert text.endswith(": Connection refused")


async def test_stopped_stream_ends_at_the_next_read():
    """The reader learns that it is incomplete."""
    source = HashingStream(stream(b"first and second", size=6))
    rest = source.remaining_chunks(await source.read_start(1))
    assert await anext(rest) == b"first "
    source.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        await anext(rest)
    assert source.ended
    assert source.size == 6
