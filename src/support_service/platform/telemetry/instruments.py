"""Instruments: each is one row, declared beside the code that records it, and measurements are recorded by their row.

The SDK takes 5 to 10 us for a measurement: it copies, checks and hashes the labels, before it adds a number. So a
series collects its measurements, and passes them on in batches: a read then spends 3 us on its three measurements.
Likewise it takes 40 us to create a series, so that the 350 that a service expects are created with its first scrape.
A measurement that shall have an exemplar is not part of a batch, because the SDK takes its trace from the context.
"""

import platform
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from math import inf
from threading import Lock
from time import monotonic
from types import MappingProxyType
from typing import Generic, Literal, Self, TypeVar

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.trace import get_current_span

from support_service import __version__
from support_service.core.clock import utc_now

BATCH_SIZE = 256  # measurements of one series; a batch takes a quarter of a millisecond
PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}  # units in braces, and 1, do not appear in a Prometheus name
OTHER = "other"  # the label value that stands for every value outside of a closed vocabulary
Labels = Mapping[str, str | int]
NO_LABELS: Labels = MappingProxyType({})
Observations = Iterable[tuple[int | float, Mapping[str, str]]]
"""The current values of an observed instrument, one per label set; empty while they are unknown."""

_declared_specs: dict[str, "InstrumentSpec"] = {}


@dataclass(frozen=True, slots=True, eq=False)
class InstrumentSpec:
    """One instrument. A label with the values None has an open vocabulary, set by the service and never by a client.

    If `seeded` is true, a series for every combination of label values exists from the start. If it is false, the
    code that knows the possible combinations creates the series.
    """

    name: str
    kind: Literal["counter", "histogram", "gauge", "observed counter", "observed sum"]
    unit: str
    meaning: str
    labels: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    buckets: Sequence[float] = ()
    seeded: bool = True

    def __post_init__(self) -> None:
        """Add the row to the table of instruments. Raises ValueError if another one has its name."""
        if _declared_specs.setdefault(self.name, self) is not self:
            raise ValueError(f"the instrument {self.name} is declared twice")

    @property
    def prometheus_name(self) -> str:
        """The metric family's name in the Prometheus text format, without the suffixes of histogram samples."""
        name = self.name.replace(".", "_")
        unit = PROMETHEUS_UNITS.get(self.unit)
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind in ("counter", "observed counter") else name

    def label_combinations(self) -> list[dict[str, str]]:
        """Return every combination of label values; empty if a label's vocabulary is open or `seeded` is false."""
        if not self.seeded or any(values is None for values in self.labels.values()):
            return []
        combinations = product(*(values or () for values in self.labels.values()))
        return [dict(zip(self.labels, values, strict=True)) for values in combinations]


BUILD_INFO = InstrumentSpec(
    "support.build.info",
    "gauge",
    "{build}",
    "Always 1; the labels are the versions in use",
    {"version": None, "python": None},
)


def declared_instruments() -> tuple[InstrumentSpec, ...]:
    """Return the rows of all modules that are imported, by name."""
    return tuple(row for _, row in sorted(_declared_specs.items()))


class Instruments:
    """Records the measurements of one app by row; every series of a closed label vocabulary starts at 0.

    With `exemplars`, histograms keep measurements of sampled spans with their traces: the SDK keeps one of each bucket
    until an export.
    """

    def __init__(self, meter: Meter, *, exemplars: bool = False) -> None:
        self._meter = meter
        self._exemplars = exemplars
        self._counters: dict[InstrumentSpec, Counter] = {}
        self._histograms: dict[InstrumentSpec, Histogram] = {}
        self._series: dict[tuple[object, ...], Series] = {}
        self._observed: dict[InstrumentSpec, Callable[[], Observations]] = {}
        for row in declared_instruments():
            if row.kind in ("counter", "histogram"):
                self._create_instrument(row)
        self.observe(BUILD_INFO, self._build_info)

    def add(self, row: InstrumentSpec, amount: float, labels: Labels = NO_LABELS) -> None:
        self.start_series(row, labels).record(amount)

    def record(self, row: InstrumentSpec, value: float, labels: Labels = NO_LABELS) -> None:
        self.start_series(row, labels).record(value)

    def start_series(self, row: InstrumentSpec, labels: Labels = NO_LABELS) -> "Series":
        """Return a series of a counter or a histogram, which starts at 0 before its first measurement.

        Code that every request runs keeps the series, which spares it the labels.
        """
        key = (row, *labels.items())
        series = self._series.get(key)
        if series is None:
            if row not in self._counters and row not in self._histograms:
                self._create_instrument(row)  # its module was imported later
            series = self._series.setdefault(key, self._create_series(row, dict(labels)))
        return series

    def observe(self, row: InstrumentSpec, read: Callable[[], Observations]) -> None:
        """Create an observed instrument on the app's meter; see the function `observe`."""
        self._observed[row] = read
        observe(self._meter, row, read)

    def totals(
        self, is_wanted: Callable[[InstrumentSpec], bool]
    ) -> Iterator[tuple[InstrumentSpec, list[tuple[Labels, Sequence[float]]]]]:
        """Return the present values of the series of instruments.

        The value of a histogram is the number of its measurements in each bucket; of others it is one number.
        """
        self.flush()
        recorded: dict[InstrumentSpec, list[tuple[Labels, Sequence[float]]]] = {}
        for (row, *_), series in tuple(self._series.items()):
            assert isinstance(row, InstrumentSpec)  # noqa: S101 - the first element of the key
            if is_wanted(row):
                recorded.setdefault(row, []).append((series.labels, tuple(series.totals)))
        yield from recorded.items()
        for row, read in tuple(self._observed.items()):
            if is_wanted(row):
                yield row, [(labels, (value,)) for value, labels in read()]

    def flush(self) -> None:
        """Pass on the measurements of all series. Metric readers call this in their own threads before they collect."""
        for series in tuple(self._series.values()):
            series.flush()

    def _create_instrument(self, row: InstrumentSpec) -> None:
        meter = self._meter
        if row.kind == "counter":
            self._counters[row] = meter.create_counter(row.name, unit=row.unit, description=row.meaning)
        else:
            self._histograms[row] = meter.create_histogram(
                row.name, unit=row.unit, description=row.meaning, explicit_bucket_boundaries_advisory=row.buckets
            )
        for labels in row.label_combinations():
            self.start_series(row, labels)

    def _create_series(self, row: InstrumentSpec, labels: Labels) -> "Series":
        if row.kind == "counter":
            counter = self._counters[row]
            return Series(lambda amount: counter.add(amount, labels), sum, labels)
        histogram = self._histograms[row]
        record = lambda value: histogram.record(value, labels)  # noqa: E731
        return Series(record, HistogramBatch, labels, row.buckets, exemplars=self._exemplars)

    def _build_info(self) -> Observations:
        self.flush()  # readers call observed instruments first, so no measurement is missed
        return [(1, {"version": __version__, "python": platform.python_version()})]


class Series:
    """One series of a counter or a histogram, which collects its measurements for the SDK.

    `measure` passes one measurement on to the SDK, and `combine` makes one of a batch. `totals` has what was passed on
    since the start: the sum, or with `buckets` the number of measurements in each bucket.
    """

    __slots__ = ("_buckets", "_combine", "_exemplars", "_is_known", "_lock", "_measure", "_pending", "labels", "totals")

    def __init__(
        self,
        measure: Callable[[float], None],
        combine: Callable[[list[float]], float],
        labels: Labels = NO_LABELS,
        buckets: Sequence[float] = (),
        *,
        exemplars: bool = False,
    ) -> None:
        self.labels = labels
        self.totals = [0.0] * (len(buckets) + 1)
        self._buckets = buckets
        self._lock = Lock()  # of the totals
        self._pending: deque[float] = deque()
        self._measure = measure
        self._combine = combine
        self._exemplars = exemplars
        self._is_known = False  # to the SDK

    def record(self, amount: float) -> None:
        """Add to a counter, or record a value of a histogram; a full batch is passed on.

        A measurement that the SDK refuses, or that shall have an exemplar, goes to the SDK at once.
        """
        if not 0 <= amount < inf or (self._exemplars and get_current_span().get_span_context().trace_flags.sampled):
            self._measure(amount)
            if 0 <= amount < inf:
                self._count([amount])
            return
        self._pending.append(amount)
        if len(self._pending) >= BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Pass on what was measured, the first time even if it is nothing. Threads may call this beside `record`."""
        amounts = []
        try:
            for _ in range(len(self._pending)):
                amounts.append(self._pending.popleft())  # noqa: PERF401 - keeps what was taken before an IndexError
        except IndexError:  # another thread took the last one
            pass
        if amounts or not self._is_known:
            self._is_known = True
            self._measure(self._combine(amounts))
            self._count(amounts)

    def _count(self, amounts: list[float]) -> None:
        with self._lock:
            if not self._buckets:
                self.totals[0] += sum(amounts)
                return
            for amount in amounts:
                self.totals[bisect_left(self._buckets, amount)] += 1


class HistogramBatch(float):
    """Measurements of one series of a histogram, as one value for the SDK; `aggregation.py` counts each.

    A batch without values creates the series with all counts at 0.
    """

    values: tuple[float, ...]

    def __new__(cls, values: Iterable[float]) -> Self:
        batch = super().__new__(cls)  # 0.0, which the SDK accepts
        batch.values = tuple(values)
        return batch


T = TypeVar("T")


class LastReading(Generic[T]):
    """What a job has last read for gauges: None before the first time, and once it is `max_age` seconds old."""

    def __init__(self, max_age: float = inf) -> None:
        self._max_age = max_age
        self._value: T | None = None
        self._until = -inf  # of the monotonic clock
        self.read_at: datetime | None = None

    @property
    def value(self) -> T | None:
        return self._value if monotonic() < self._until else None

    def store(self, value: T | None) -> None:
        """Store what was read now; None if it could not be read."""
        self._value = value
        self._until = monotonic() + self._max_age
        self.read_at = utc_now()

    def observations(self, by: Callable[[T], Observations]) -> Callable[[], Observations]:
        """Return a function that gives the observations of the value: none while it is unknown."""

        def read() -> Observations:
            value = self.value
            return [] if value is None else by(value)

        return read


def observe(meter: Meter, row: InstrumentSpec, read: Callable[[], Observations]) -> None:
    """Create an instrument that calls `read` for its values at each scrape and each export.

    `read` runs in the metric reader's thread: it must return known values and never block.
    """

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, series) for value, series in read()]

    create = {
        "gauge": meter.create_observable_gauge,
        "observed counter": meter.create_observable_counter,
        "observed sum": meter.create_observable_up_down_counter,
    }[row.kind]
    create(row.name, [callback], unit=row.unit, description=row.meaning)


def known_or_other(value: str, vocabulary: Collection[str]) -> str:
    """Return the value if the vocabulary contains it, else `other`.

    A value from a client, such as a channel, goes through this, so that clients can't create series.
    """
    return value if value in vocabulary else OTHER
