"""Taking the events of a case out of a stream."""

from support_service.events.broker.base import Delivery
from support_service.events.event_erasure import delete_from_stream


class Stream:
    def __init__(self, *events):
        self.left = [Delivery(f"{number}-0", event, 1) for number, event in enumerate(events, start=1)]

    async def entries(self, _, __, after):
        return [] if after else list(self.left)

    async def remove(self, _, ids):
        self.left = [each for each in self.left if each.id not in ids]
        return len(ids)


async def test_only_events_of_the_case_are_removed():
    """What is no JSON, no object or of another case stays."""
    others = [b"{", b"[1]", b'{"subject":"other"}']
    stream = Stream(*others, b'{"subject":"case"}')
    assert await delete_from_stream(stream, "support.events", ["case"]) == 1
    assert [each.event for each in stream.left] == others
