"""Counters and histograms that pass measurements to the SDK in batches, one batch for each series.

The SDK takes 5 to 10 us for a measurement: it copies, checks and hashes the labels, before it adds a number. A series
that collects its measurements first needs that once for a batch: a read then spends 3 us on its three measurements.
Likewise it takes 40 us to create a series, so that the 350 that a service expects are created with its first scrape.
A measurement that shall have an exemplar is not part of a batch, because the SDK takes its trace from the context.
"""

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Self

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.trace import get_current_span
from opentelemetry.util.types import Attributes

BATCH_SIZE = 256  # measurements of one series; a batch takes a quarter of a millisecond

PassOn = Callable[[list[float]], None]
"""Passes the measurements of one series to the SDK."""


class HistogramBatch(float):
    """Measurements of one series of a histogram, as one value for the SDK; `provider.BatchHistogram` counts each.

    A batch without values creates the series with all counts at 0.
    """

    values: tuple[float, ...]

    def __new__(cls, values: Iterable[float]) -> Self:
        batch = super().__new__(cls)  # 0.0, which the SDK accepts
        batch.values = tuple(values)
        return batch


class Series:
    """Measurements of one series that the SDK has not received yet."""

    __slots__ = ("_is_known", "_pass_on", "_pending")

    def __init__(self, pass_on: PassOn) -> None:
        self._pending: deque[float] = deque()
        self._pass_on = pass_on
        self._is_known = False  # to the SDK

    def append(self, amount: float) -> None:
        """Add a measurement; a full batch is passed on."""
        self._pending.append(amount)
        if len(self._pending) >= BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Pass on what was measured, the first time even if it is nothing. Threads may call this beside `append`."""
        amounts = []
        try:
            for _ in range(len(self._pending)):
                amounts.append(self._pending.popleft())  # noqa: PERF401 - keeps what was taken before an IndexError
        except IndexError:  # another thread took the last one
            pass
        if amounts or not self._is_known:
            self._is_known = True
            self._pass_on(amounts)


class MeasurementBuffer:
    """The series of one app's instruments, with the measurements that the SDK has not received yet."""

    def __init__(self) -> None:
        self._series: list[Series] = []

    def add_series(self, pass_on: PassOn) -> Series:
        """Return a new series, which `flush` includes from now on."""
        series = Series(pass_on)
        self._series.append(series)
        return series

    def flush(self) -> None:
        """Pass on the measurements of all series. Metric readers call this in their own threads before they collect."""
        for series in tuple(self._series):
            series.flush()


class _Batched:
    """The series of one instrument, each with the batch of its measurements."""

    def __init__(self, batches: MeasurementBuffer, pass_on: Callable[[list[float], Attributes], None]) -> None:
        self._batches = batches
        self._pass_on = pass_on
        self._series: dict[tuple[object, ...], Series] = {}

    def expect(self, attributes: Attributes = None) -> Series:
        """Return a series, which starts at 0 before its first measurement."""
        labels = tuple(attributes.items()) if attributes else ()
        series = self._series.get(labels)
        if series is None:
            pass_on, attributes = self._pass_on, dict(attributes or {})
            series = self._batches.add_series(lambda amounts: pass_on(amounts, attributes))
            series = self._series.setdefault(labels, series)
        return series


class BatchedCounter(_Batched, Counter):
    """An SDK counter that receives the sums of batches."""

    def __init__(self, counter: Counter, batches: MeasurementBuffer) -> None:
        super().__init__(batches, lambda amounts, attributes: counter.add(sum(amounts), attributes))
        self._counter = counter

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:  # noqa: ARG002 - no exemplar needs it
        """Add an increment to the batch of its series; an amount that the SDK refuses is passed to it at once."""
        if 0 <= amount < inf:
            self.expect(attributes).append(amount)
        else:
            self._counter.add(amount, attributes)


class BatchedHistogram(_Batched, Histogram):
    """An SDK histogram that receives `HistogramBatch`es, and at once what is measured in a sampled span.

    The latter only with `exemplars`; the SDK keeps one measurement of each bucket with its trace until an export.
    """

    def __init__(self, histogram: Histogram, batches: MeasurementBuffer, *, exemplars: bool = False) -> None:
        super().__init__(batches, lambda amounts, attributes: histogram.record(HistogramBatch(amounts), attributes))
        self._histogram = histogram
        self._exemplars = exemplars

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Add a measurement to the batch of its series; an amount that the SDK refuses is passed to it at once."""
        if not 0 <= amount < inf or (self._exemplars and _is_sampled(context)):
            self._histogram.record(amount, attributes, context)
        else:
            self.expect(attributes).append(amount)


def _is_sampled(context: Context | None) -> bool:
    return get_current_span(context).get_span_context().trace_flags.sampled
