"""Counters and histograms that hand what they are told to the SDK a batch at a time.

The SDK takes 10 us for a record between other work, and half of that for one right after another, when all that it
touches lies in the processor's caches: a read takes 5 % less of the processor so, a message 8 %.
"""

from collections import deque
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.util.types import Attributes

BATCH = 64  # records, which take a third of a millisecond

Take = Callable[[float, Attributes], None]


class Batches:
    """What the instruments of an app were told and the SDK was not."""

    def __init__(self) -> None:
        self._told: deque[tuple[Take, float, Attributes]] = deque()

    def tell(self, take: Take, amount: float, attributes: Attributes) -> None:
        """Keep a record for the next batch; its attributes must stay as they are."""
        self._told.append((take, amount, attributes))
        if len(self._told) >= BATCH:
            self.hand_over()

    def hand_over(self) -> None:
        """Hand over all there is; readers do so, in threads of theirs, before they look at anything."""
        for _ in range(len(self._told)):
            try:
                take, amount, attributes = self._told.popleft()
            except IndexError:  # another thread was faster
                return
            take(amount, attributes)


class BatchedCounter(Counter):
    """A counter of the SDK's, told by batches."""

    def __init__(self, counter: Counter, batches: Batches) -> None:
        self._add = counter.add
        self._tell = batches.tell

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:  # noqa: ARG002 - no exemplar needs it
        """Count."""
        self._tell(self._add, amount, attributes)


class BatchedHistogram(Histogram):
    """A histogram of the SDK's, told by batches."""

    def __init__(self, histogram: Histogram, batches: Batches) -> None:
        self._record = histogram.record
        self._tell = batches.tell

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:  # noqa: ARG002 - no exemplar needs it
        """Record."""
        self._tell(self._record, amount, attributes)
