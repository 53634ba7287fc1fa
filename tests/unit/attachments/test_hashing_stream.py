"""A stream on its way to an object store."""

import pytest

from support_service.attachments.upload.hashing_stream import HashingStream, StreamStopped
from tests.support.attachments.streams import stream


async def test_stopped_stream_ends_at_the_next_read():
    """The reader learns that it is incomplete."""
    source = HashingStream(stream(b"first and second", size=6))
    rest = source.rest(await source.take(1))
    assert await anext(rest) == b"first "
    source.stop()
    with pytest.raises(StreamStopped):
        await anext(rest)
    assert source.ended
    assert source.size == 6
