"""What waits for the client of a stream."""

import pytest

from support_service.core.domain.principals import Principal
from support_service.stream.subscribers import QueuedFrame, QueueLimits, Subscriber


@pytest.mark.parametrize("limits", [QueueLimits(events=2), QueueLimits(bytes=20)], ids=["events", "bytes"])
async def test_a_client_that_does_not_read_is_disconnected_at_either_limit(limits):
    """What it has read does not count."""
    aborted = []
    subscriber = Subscriber(Principal("lan", "agent"), "full", lambda: aborted.append(True), limits)
    for _ in range(2):
        for _ in range(2):
            subscriber.offer(QueuedFrame(b"x" * 10))
        assert len(subscriber.take()) == 2
    assert (subscriber.closed, aborted) == (None, [])
    for _ in range(3):
        subscriber.offer(QueuedFrame(b"x" * 10))
    assert (subscriber.closed, aborted) == ("slow", [True])
