"""A stream on its way to an object store."""

import pytest

from support_service.attachments.upload.hashing_stream import HashingStream, StreamStopped
from tests.support.attachments.streams import stream


async def test_a_source_that_was_stopped_between_two_reads_ends():
    """The reader does not get what comes after the stop, and learns that the stream is not whole."""
    source = HashingStream(stream(b"first and second", size=6))
    rest = source.rest(await source.take(1))
    assert await anext(rest) == b"first "
    source.stop()
    with pytest.raises(StreamStopped):
        await anext(rest)
    assert source.ended
    assert source.size == 6
