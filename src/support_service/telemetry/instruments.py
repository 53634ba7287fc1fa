"""The table of every instrument: name, kind, unit, what it means, its labels and buckets.

Nothing else in the service spells a metric's name. The Prometheus name follows from name, unit and kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from support_service.telemetry import labels

# From a cached read to a dependency that runs into its deadline; 2 s is the alert's threshold and must be an edge.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


class _Nothing(float):
    """A value that measures nothing: it makes a histogram's series, standing at 0, and is not counted."""


NOTHING = _Nothing(0)


@dataclass(frozen=True, slots=True)
class Row:
    """One instrument. A label whose values are None is closed where it is recorded, and is not known beforehand."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    meaning: str
    labels: Mapping[str, Sequence[str] | None]
    buckets: Sequence[float] = ()

    def series(self) -> list[dict[str, str]]:
        """Every label set of a closed vocabulary; none where a label is open."""
        if any(values is None for values in self.labels.values()):
            return []
        combinations = product(*(values or () for values in self.labels.values()))
        return [dict(zip(self.labels, values, strict=True)) for values in combinations]


TIMELINE_COLLECT = Row(
    "support.timeline.collect",
    "histogram",
    "s",
    "Time to collect a timeline; remote had to ask a service, cache did not",
    {"source": labels.ORIGINS},
    SECONDS,
)
TIMELINE_CACHE_EVENTS = Row(
    "support.timeline.cache_events",
    "counter",
    "{event}",
    "Uses of the timeline cache; error counts every operation that failed",
    {"event": labels.CACHE_EVENTS},
)
TIMELINE_COLLECTION_FAILURES = Row(
    "support.timeline.collection_failures",
    "counter",
    "{failure}",
    "Failures while collecting: http (no usable answer), cache, cache_decode, aggregate (an answer off the contract)",
    {"stage": labels.FAILURE_STAGES},
)
TIMELINE_SOURCE = Row(
    "support.timeline.source",
    "histogram",
    "s",
    "Time of one call to a service behind the timeline, by outcome",
    {"service": labels.SERVICES, "outcome": labels.OUTCOMES},
    SECONDS,
)
ATTACHMENT_STORED = Row(
    "support.attachment.stored",
    "counter",
    "{attachment}",
    "Attachments stored, by the content type their client declared",
    {"content_type": labels.CONTENT_TYPES},
)
ATTACHMENT_BACKLOG = Row(
    "support.attachment.backlog",
    "gauge",
    "By",
    "Bytes on local storage, neither deleted nor moved away",
    {},
)
ATTACHMENT_BACKLOG_FILES = Row(
    "support.attachment.backlog_files",
    "gauge",
    "{file}",
    "Files on local storage, neither deleted nor moved away",
    {},
)
TICKET_CREATED = Row(
    "support.ticket.created",
    "counter",
    "{ticket}",
    "Cases opened, by channel",
    {"channel": labels.CHANNELS},
)
CONVERSATION_ADDED = Row(
    "support.conversation.added",
    "counter",
    "{message}",
    "Messages added to cases, a case's first one included",
    {"author_type": labels.AUTHOR_TYPES},
)
TICKET_STATUS_CHANGED = Row(
    "support.ticket.status_changed",
    "counter",
    "1",
    "Changes of a case's status, by the status it was given",
    {"status": labels.STATUSES},
)
HTTP_SERVER_DURATION = Row(
    "http.server.request.duration",
    "histogram",
    "s",
    "Time to answer a request; of a download, to its last byte",
    {
        "http.request.method": None,
        "http.route": None,
        "http.response.status_code": None,
        "error.type": None,
    },
    # The boundaries that the semantic conventions advise for this instrument, and the alert's 2 s.
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0),
)

TABLE = (
    TIMELINE_COLLECT,
    TIMELINE_CACHE_EVENTS,
    TIMELINE_COLLECTION_FAILURES,
    TIMELINE_SOURCE,
    ATTACHMENT_STORED,
    ATTACHMENT_BACKLOG,
    ATTACHMENT_BACKLOG_FILES,
    TICKET_CREATED,
    CONVERSATION_ADDED,
    TICKET_STATUS_CHANGED,
    HTTP_SERVER_DURATION,
)


class Instruments:
    """The instruments of one app, made once; every series of a closed label set stands at 0 from the start."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.timeline_collect = self._histogram(TIMELINE_COLLECT)
        self.timeline_cache_events = self._counter(TIMELINE_CACHE_EVENTS)
        self.timeline_collection_failures = self._counter(TIMELINE_COLLECTION_FAILURES)
        self.timeline_source = self._histogram(TIMELINE_SOURCE)
        self.attachment_stored = self._counter(ATTACHMENT_STORED)
        self.ticket_created = self._counter(TICKET_CREATED)
        self.conversation_added = self._counter(CONVERSATION_ADDED)
        self.ticket_status_changed = self._counter(TICKET_STATUS_CHANGED)
        self.http_server_duration = self._histogram(HTTP_SERVER_DURATION)

    def observe(self, row: Row, read: Callable[[], int | float | None]) -> None:
        """Make a gauge that reads its value at each scrape; None means unknown, and no series then.

        `read` runs in the scrape's thread: it must return what is known, and never wait.
        """

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            value = read()
            return [] if value is None else [Observation(value)]

        self._meter.create_observable_gauge(row.name, [callback], unit=row.unit, description=row.meaning)

    def _counter(self, row: Row) -> Counter:
        counter = self._meter.create_counter(row.name, unit=row.unit, description=row.meaning)
        for series in row.series():
            counter.add(0, series)
        return counter

    def _histogram(self, row: Row) -> Histogram:
        histogram = self._meter.create_histogram(
            row.name, unit=row.unit, description=row.meaning, explicit_bucket_boundaries_advisory=row.buckets
        )
        for series in row.series():
            histogram.record(NOTHING, series)  # provider.ZeroedHistogram makes the empty series of it
        return histogram
