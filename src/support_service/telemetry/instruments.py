"""The table of all instruments: name, kind, unit, meaning, labels and buckets.

No other module of the service contains a metric name. The Prometheus name is derived from name, unit and kind.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from support_service import __version__
from support_service.core import case_vocabulary
from support_service.core.upstream_services import UPSTREAM_SERVICES
from support_service.telemetry import labels
from support_service.telemetry.batches import BatchedCounter, BatchedHistogram, MeasurementBuffer

# From a cached read to a dependency that reaches its deadline. The alert's threshold, 2 s, must be a bucket boundary.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}  # units in braces, and 1, do not appear in a Prometheus name
# From a minute, for a chat, to two weeks, for a complaint.
RESPONSE_TIME_BUCKETS = (60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0, 1_209_600.0)


class _Nothing(float):
    """A placeholder value that creates a histogram series with all counts at 0 and is not itself counted."""


EMPTY_MEASUREMENT = _Nothing(0)


@dataclass(frozen=True, slots=True)
class InstrumentSpec:
    """One instrument. A label with the values None has an open vocabulary, set by the service and never by a client.

    If `seeded` is true, a series for every combination of label values exists from the start. If it is false, the
    code that knows the possible combinations creates the series.
    """

    name: str
    kind: Literal["counter", "histogram", "gauge", "observed counter", "observed sum"]
    unit: str
    meaning: str
    labels: Mapping[str, Sequence[str] | None]
    buckets: Sequence[float] = ()
    seeded: bool = True

    @property
    def prometheus(self) -> str:
        """The metric family's name in the Prometheus text format, without the suffixes of histogram samples."""
        name = self.name.replace(".", "_")
        unit = PROMETHEUS_UNITS.get(self.unit)
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind in ("counter", "observed counter") else name

    def series(self) -> list[dict[str, str]]:
        """Return every combination of label values; empty if a label's vocabulary is open or `seeded` is false."""
        if not self.seeded or any(values is None for values in self.labels.values()):
            return []
        combinations = product(*(values or () for values in self.labels.values()))
        return [dict(zip(self.labels, values, strict=True)) for values in combinations]


TIMELINE_COLLECT = InstrumentSpec(
    "support.timeline.collect",
    "histogram",
    "s",
    "Time to collect a timeline; remote: called a service, cache: did not",
    {"source": labels.TIMELINE_ORIGINS},
    LATENCY_BUCKETS,
)
TIMELINE_READ = InstrumentSpec(
    "support.timeline.read",
    "histogram",
    "s",
    "Time to collect a timeline, by completeness: complete, stale (an older answer replaces a failed service), "
    "partial (no answer of a service)",
    {"completeness": labels.COMPLETENESS},
    LATENCY_BUCKETS,
)
TIMELINE_CACHE_EVENTS = InstrumentSpec(
    "support.timeline.cache_events",
    "counter",
    "{event}",
    "Uses of the timeline cache; error counts failed operations",
    {"event": labels.CACHE_EVENTS},
)
TIMELINE_COLLECTION_FAILURES = InstrumentSpec(
    "support.timeline.collection_failures",
    "counter",
    "{failure}",
    "Failures while collecting: http (no usable response), cache, cache_decode, aggregate (violates the contract)",
    {"stage": labels.FAILURE_STAGES},
)
TIMELINE_SOURCE = InstrumentSpec(
    "support.timeline.source",
    "histogram",
    "s",
    "Time of one call to an upstream service, by outcome",
    {"service": UPSTREAM_SERVICES, "outcome": labels.SOURCE_OUTCOMES},
    LATENCY_BUCKETS,
)
TIMELINE_BREAKER = InstrumentSpec(
    "support.timeline.breaker",
    "observed sum",
    "{breaker}",
    "1 for the current state of a service's circuit breaker, 0 for the others; open rejects calls",
    {"service": UPSTREAM_SERVICES, "state": labels.BREAKER_STATES},
)
TIMELINE_SOURCE_ENABLED = InstrumentSpec(
    "support.timeline.source_enabled",
    "gauge",
    "{source}",
    "1 while an upstream service is configured and not switched off by an override, 0 otherwise",
    {"service": UPSTREAM_SERVICES},
)
ATTACHMENT_STORED = InstrumentSpec(
    "support.attachment.stored",
    "counter",
    "{attachment}",
    "Stored attachments by the content type that the client declared",
    {"content_type": labels.CONTENT_TYPES},
)
ATTACHMENT_BACKLOG = InstrumentSpec(
    "support.attachment.backlog",
    "gauge",
    "By",
    "Bytes on local storage that are neither deleted nor offloaded",
    {},
)
ATTACHMENT_BACKLOG_FILES = InstrumentSpec(
    "support.attachment.backlog_files",
    "gauge",
    "{file}",
    "Files on local storage that are neither deleted nor offloaded",
    {},
)
TICKET_CREATED = InstrumentSpec(
    "support.ticket.created",
    "counter",
    "{ticket}",
    "Cases opened, by channel",
    {"channel": (*case_vocabulary.CHANNELS, labels.OTHER)},
)
CONVERSATION_ADDED = InstrumentSpec(
    "support.conversation.added",
    "counter",
    "{message}",
    "Messages added to cases, including the first one of a case",
    {"author_type": case_vocabulary.AUTHOR_TYPES},
)
TICKET_STATUS_CHANGED = InstrumentSpec(
    "support.ticket.status_changed",
    "counter",
    "1",
    "Changes of a case's status, by new status",
    {"status": case_vocabulary.STATUSES},
)
HTTP_SERVER_DURATION = InstrumentSpec(
    "http.server.request.duration",
    "histogram",
    "s",
    "Time to answer a request; of a download, to its last byte. A request that matches no route, "
    "or that can't be parsed, has the method _OTHER",
    # The conventions also require url.scheme: it is always http here, and clients rely on these four labels.
    {
        "http.request.method": labels.METHODS,
        "http.route": None,
        "http.response.status_code": None,
        "error.type": None,
    },
    # The boundaries that the semantic conventions advise for this instrument, and the alert's threshold of 2 s.
    (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0),
)

HTTP_SERVER_ACTIVE = InstrumentSpec(
    "http.server.active_requests",
    "observed sum",
    "{request}",
    "Requests in progress",
    {"http.request.method": labels.METHODS, "url.scheme": ("http",)},
)
ATTACHMENT_REJECTED = InstrumentSpec(
    "support.attachment.rejected",
    "counter",
    "{upload}",
    "Refused and aborted uploads",
    {"reason": labels.REJECTIONS},
)
ATTACHMENT_UPLOADS = InstrumentSpec(
    "support.attachment.uploads",
    "observed sum",
    "{upload}",
    "Uploads in progress",
    {},
)
ATTACHMENT_BACKLOG_AGE = InstrumentSpec(
    "support.attachment.backlog_age",
    "gauge",
    "s",
    "Age of the oldest file on local storage; 0 if there is none",
    {},
)
ATTACHMENT_DISK_FREE = InstrumentSpec(
    "support.attachment.disk_free",
    "gauge",
    "By",
    "Free bytes on the disk of local storage",
    {},
)
ATTACHMENT_OFFLOADED = InstrumentSpec(
    "support.attachment.offloaded",
    "counter",
    "{file}",
    "Attempts to move a file between storages, by outcome; only moved moves the file",
    {"to": labels.STORAGES, "outcome": labels.OFFLOAD_OUTCOMES},
)
ATTACHMENT_OFFLOADED_BYTES = InstrumentSpec(
    "support.attachment.offloaded_bytes",
    "counter",
    "By",
    "Bytes of the moved files",
    {"to": labels.STORAGES, "outcome": labels.OFFLOAD_OUTCOMES},
)
ATTACHMENT_OFFLOAD = InstrumentSpec(
    "support.attachment.offload",
    "histogram",
    "s",
    "Time to copy a file, read it back and update its row",
    {"to": labels.STORAGES},
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
ATTACHMENT_DELETED = InstrumentSpec(
    "support.attachment.deleted",
    "counter",
    "{file}",
    "Deleted attachments: by a request, by retention, or by an erasure",
    {"reason": labels.DELETIONS},
)
ATTACHMENT_SWEEP_REPAIRS = InstrumentSpec(
    "support.attachment.sweep_repairs",
    "counter",
    "{repair}",
    "Repairs by the sweep, by kind",
    {"kind": labels.REPAIRS},
)
ATTACHMENT_UNREPAIRED = InstrumentSpec(
    "support.attachment.unrepaired",
    "gauge",
    "{file}",
    "Files that the last sweep of this process found missing or with a size other than in their row; "
    "no value before the first sweep",
    {"kind": labels.UNREPAIRED},
)
ATTACHMENT_SCRUBBED = InstrumentSpec(
    "support.attachment.scrubbed",
    "counter",
    "{file}",
    "Stored files that were hashed again; mismatch: the file has changed",
    {"outcome": labels.SCRUBS},
)
TICKET_OPEN = InstrumentSpec(
    "support.ticket.open",
    "gauge",
    "{ticket}",
    "Open and pending cases in the database",
    {"status": case_vocabulary.UNSETTLED, "priority": case_vocabulary.PRIORITIES},
)
TICKET_OLDEST_UNANSWERED = InstrumentSpec(
    "support.ticket.oldest_unanswered",
    "gauge",
    "s",
    "Age of the oldest customer message without an agent's answer, in open and pending cases; 0 if there is none",
    {},
)
TICKET_FIRST_RESPONSE = InstrumentSpec(
    "support.ticket.first_response",
    "histogram",
    "s",
    "Time from a case's opening to the first message of an agent",
    {},
    RESPONSE_TIME_BUCKETS,
)
TICKET_RESOLUTION = InstrumentSpec(
    "support.ticket.resolution",
    "histogram",
    "s",
    "Time from a case's opening until it is resolved, or closed without being resolved",
    {},
    RESPONSE_TIME_BUCKETS,
)
DB_OPERATION = InstrumentSpec(
    "db.client.operation.duration",
    "histogram",
    "s",
    "Time of an operation on the database or on Redis; for a transaction including the wait for a connection",
    {
        "db.system.name": labels.STORES,
        "db.operation.name": labels.DATABASE_OPERATIONS + labels.REDIS_OPERATIONS + labels.BROKER_OPERATIONS,
        "error.type": labels.ERRORS,
    },
    # The boundaries that the semantic conventions advise for this instrument.
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0),
    seeded=False,
)
# The conventions' names of this metric, of process.threads and of process.unix.file_descriptors end in `count`, a
# suffix that Prometheus reserves for histograms and promtool rejects.
DB_CONNECTIONS = InstrumentSpec(
    "db.client.connections",
    "observed sum",
    "{connection}",
    "Connections of a pool, by state",
    {"db.client.connection.pool.name": labels.POOLS, "db.client.connection.state": labels.CONNECTION_STATES},
)
EVENTS_PUBLISHED = InstrumentSpec(
    "support.events.published",
    "counter",
    "{event}",
    "Events of cases published to the broker; error counts the events of a failed attempt, which is repeated",
    {"type": labels.EVENTS_OUT, "outcome": labels.PUBLICATIONS},
)
EVENTS_RELAY_LAG = InstrumentSpec(
    "support.events.relay_lag",
    "histogram",
    "s",
    "Time from a change of a case to its event in the broker, of the oldest event of each batch",
    {},
    (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
EVENTS_CONSUMED = InstrumentSpec(
    "support.events.consumed",
    "counter",
    "{event}",
    "Inbound events by outcome: applied to at least one case, unmatched by any open case, duplicate, ignored (unknown "
    "type), failed (retried later), dead (moved to the dead letters)",
    {"type": labels.EVENTS_IN, "outcome": labels.CONSUMPTIONS},
)
EVENTS_DELIVERY_LAG = InstrumentSpec(
    "support.events.delivery_lag",
    "histogram",
    "s",
    "Time from an inbound event, by the clock of its service, to its application to cases",
    {},
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0),
)
EVENTS_OUTBOX_PENDING = InstrumentSpec(
    "support.events.outbox_pending", "gauge", "{event}", "Events that are committed and not published yet", {}
)
EVENTS_OUTBOX_OLDEST = InstrumentSpec(
    "support.events.outbox_oldest",
    "gauge",
    "s",
    "Age of the oldest unpublished event; 0 if there is none",
    {},
)
EVENTS_STREAM_LAG = InstrumentSpec(
    "support.events.stream_lag", "gauge", "{event}", "Events of other services that wait, or are in work", {}
)
EVENTS_DEAD_LETTERS = InstrumentSpec(
    "support.events.dead_letters",
    "gauge",
    "{event}",
    "Inbound events in the dead letters",
    {},
)
WEBHOOK_DELIVERIES = InstrumentSpec(
    "support.webhook.deliveries",
    "counter",
    "{delivery}",
    "Attempts to deliver an event to a webhook; retried: will be repeated, failed: no more attempts",
    {"outcome": labels.WEBHOOK_OUTCOMES},
)
WEBHOOK_PENDING = InstrumentSpec(
    "support.webhook.pending", "gauge", "{delivery}", "Webhook deliveries that are still to be made", {}
)
ACCESS_AUTHENTICATIONS = InstrumentSpec(
    "support.access.authentications",
    "counter",
    "{request}",
    "Authentications of requests by outcome; unavailable: keys or tokens can't be read. No values with "
    "SUPPORT_AUTH=open",
    {"outcome": labels.AUTHENTICATIONS},
)
ACCESS_KEYS_AGE = InstrumentSpec(
    "support.access.keys_age",
    "gauge",
    "s",
    "Time since the keys that verify JWTs were last read, or since the first attempt; 0 without JWTs",
    {},
)
AUDIT_SEALED = InstrumentSpec(
    "support.audit.sealed", "gauge", "{entry}", "Entries of the audit log that have their place in its chain", {}
)
AUDIT_UNSEALED_AGE = InstrumentSpec(
    "support.audit.unsealed_age",
    "gauge",
    "s",
    "Age of the oldest entry of the audit log that is not sealed; 0 if there is none",
    {},
)
EVENT_LOOP_LAG = InstrumentSpec(
    "support.event_loop.lag",
    "histogram",
    "s",
    "Delay of timers of the event loop, which adds to the duration of every request",
    {},
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
CONNECTION_OPEN = InstrumentSpec(
    "support.connection.open", "observed sum", "{connection}", "Connections of clients", {}
)
CONNECTION_CUT = InstrumentSpec(
    "support.connection.cut",
    "counter",
    "{connection}",
    "Refused and closed connections: full (limit reached and no idle connection), share (the same for one address), "
    "idle (closed in favor of a new one), head (headers did not arrive in time), unread (response was not read)",
    {"reason": labels.CONNECTION_CUT_REASONS},
)
REQUEST_TURNED_AWAY = InstrumentSpec(
    "support.request.turned_away",
    "counter",
    "{request}",
    "Requests that admission refused: over the rate limit of their address or principal (429), or because of event "
    "loop lag or too many concurrent requests (503)",
    {"reason": labels.REJECTED_REQUEST_REASONS},
)
BUILD_INFO = InstrumentSpec(
    "support.build.info",
    "gauge",
    "{build}",
    "Always 1; the labels are the versions in use",
    {"version": None, "python": None},
)
PROCESS_CPU = InstrumentSpec("process.cpu.time", "observed counter", "s", "CPU time", {"cpu.mode": labels.CPU_MODES})
PROCESS_MEMORY = InstrumentSpec("process.memory.usage", "observed sum", "By", "Resident memory", {})
PROCESS_THREADS = InstrumentSpec("process.threads", "observed sum", "{thread}", "Threads", {})
PROCESS_FILES = InstrumentSpec(
    "process.unix.file_descriptors", "observed sum", "{file_descriptor}", "Open file descriptors", {}
)
PROCESS_UPTIME = InstrumentSpec("process.uptime", "gauge", "s", "Time since the process started", {})
GC_COLLECTIONS = InstrumentSpec(
    "cpython.gc.collections",
    "observed counter",
    "{collection}",
    "Runs of the garbage collector",
    {"cpython.gc.generation": labels.GENERATIONS},
)

INSTRUMENTS = (
    TIMELINE_COLLECT,
    TIMELINE_READ,
    TIMELINE_CACHE_EVENTS,
    TIMELINE_COLLECTION_FAILURES,
    TIMELINE_SOURCE,
    TIMELINE_BREAKER,
    TIMELINE_SOURCE_ENABLED,
    ATTACHMENT_STORED,
    ATTACHMENT_REJECTED,
    ATTACHMENT_BACKLOG,
    ATTACHMENT_BACKLOG_FILES,
    ATTACHMENT_BACKLOG_AGE,
    ATTACHMENT_DISK_FREE,
    ATTACHMENT_UPLOADS,
    ATTACHMENT_OFFLOADED,
    ATTACHMENT_OFFLOADED_BYTES,
    ATTACHMENT_OFFLOAD,
    ATTACHMENT_DELETED,
    ATTACHMENT_SWEEP_REPAIRS,
    ATTACHMENT_UNREPAIRED,
    ATTACHMENT_SCRUBBED,
    TICKET_CREATED,
    CONVERSATION_ADDED,
    TICKET_STATUS_CHANGED,
    TICKET_OPEN,
    TICKET_OLDEST_UNANSWERED,
    TICKET_FIRST_RESPONSE,
    TICKET_RESOLUTION,
    HTTP_SERVER_DURATION,
    HTTP_SERVER_ACTIVE,
    CONNECTION_OPEN,
    CONNECTION_CUT,
    REQUEST_TURNED_AWAY,
    DB_OPERATION,
    DB_CONNECTIONS,
    EVENTS_PUBLISHED,
    EVENTS_RELAY_LAG,
    EVENTS_CONSUMED,
    EVENTS_DELIVERY_LAG,
    EVENTS_OUTBOX_PENDING,
    EVENTS_OUTBOX_OLDEST,
    EVENTS_STREAM_LAG,
    EVENTS_DEAD_LETTERS,
    WEBHOOK_DELIVERIES,
    WEBHOOK_PENDING,
    ACCESS_AUTHENTICATIONS,
    ACCESS_KEYS_AGE,
    AUDIT_SEALED,
    AUDIT_UNSEALED_AGE,
    EVENT_LOOP_LAG,
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESS_THREADS,
    PROCESS_FILES,
    PROCESS_UPTIME,
    GC_COLLECTIONS,
    BUILD_INFO,
)
PROBE_SUCCESS = InstrumentSpec(
    "support.probe.success", "gauge", "{check}", "1 where the last synthetic check was good, else 0", {}
)
PROBE_STEP = InstrumentSpec(
    "support.probe.step",
    "gauge",
    "s",
    "Duration of each step of the last synthetic check",
    {"step": labels.PROBE_STEPS},
)
PROBE_LAST_SUCCESS = InstrumentSpec(
    "support.probe.last_success_timestamp", "gauge", "s", "When a synthetic check was last good, in Unix time", {}
)
PROBE_INSTRUMENTS = (PROBE_SUCCESS, PROBE_STEP, PROBE_LAST_SUCCESS)
"""Instruments of `support-service probe`, which runs as a separate process."""

Observations = Iterable[tuple[int | float, Mapping[str, str]]]
"""The current values of an observed instrument, one per label set; empty while they are unknown."""


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


class Instruments:
    """The instruments of one app, created once; every series of a closed label vocabulary starts at 0."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._batches = MeasurementBuffer()
        self.timeline_collect = self._histogram(TIMELINE_COLLECT)
        self.timeline_read = self._histogram(TIMELINE_READ)
        self.timeline_cache_events = self._counter(TIMELINE_CACHE_EVENTS)
        self.timeline_collection_failures = self._counter(TIMELINE_COLLECTION_FAILURES)
        self.timeline_source = self._histogram(TIMELINE_SOURCE)
        self.attachment_stored = self._counter(ATTACHMENT_STORED)
        self.attachment_rejected = self._counter(ATTACHMENT_REJECTED)
        self.attachment_offloaded = self._counter(ATTACHMENT_OFFLOADED)
        self.attachment_offloaded_bytes = self._counter(ATTACHMENT_OFFLOADED_BYTES)
        self.attachment_offload = self._histogram(ATTACHMENT_OFFLOAD)
        self.attachment_deleted = self._counter(ATTACHMENT_DELETED)
        self.attachment_sweep_repairs = self._counter(ATTACHMENT_SWEEP_REPAIRS)
        self.attachment_scrubbed = self._counter(ATTACHMENT_SCRUBBED)
        self.ticket_created = self._counter(TICKET_CREATED)
        self.conversation_added = self._counter(CONVERSATION_ADDED)
        self.ticket_status_changed = self._counter(TICKET_STATUS_CHANGED)
        self.ticket_first_response = self._histogram(TICKET_FIRST_RESPONSE)
        self.ticket_resolution = self._histogram(TICKET_RESOLUTION)
        self.http_server_duration = self._histogram(HTTP_SERVER_DURATION)
        self.db_operation = self._histogram(DB_OPERATION)
        self.events_published = self._counter(EVENTS_PUBLISHED)
        self.events_relay_lag = self._histogram(EVENTS_RELAY_LAG)
        self.events_consumed = self._counter(EVENTS_CONSUMED)
        self.events_delivery_lag = self._histogram(EVENTS_DELIVERY_LAG)
        self.webhook_deliveries = self._counter(WEBHOOK_DELIVERIES)
        self.access_authentications = self._counter(ACCESS_AUTHENTICATIONS)
        self.connection_cut = self._counter(CONNECTION_CUT)
        self.request_turned_away = self._counter(REQUEST_TURNED_AWAY)
        self.event_loop_lag = self._histogram(EVENT_LOOP_LAG)
        self.observe(BUILD_INFO, self._build_info)

    def observe(self, row: InstrumentSpec, read: Callable[[], Observations]) -> None:
        """Create an observed instrument on the app's meter; see the function `observe`."""
        observe(self._meter, row, read)

    def _counter(self, row: InstrumentSpec) -> Counter:
        counter = self._meter.create_counter(row.name, unit=row.unit, description=row.meaning)
        for series in row.series():
            counter.add(0, series)
        return BatchedCounter(counter, self._batches)

    def _histogram(self, row: InstrumentSpec) -> Histogram:
        histogram = self._meter.create_histogram(
            row.name, unit=row.unit, description=row.meaning, explicit_bucket_boundaries_advisory=row.buckets
        )
        for series in row.series():
            histogram.record(EMPTY_MEASUREMENT, series)  # provider.ZeroedHistogram turns this into an empty series
        return BatchedHistogram(histogram, self._batches)

    def _build_info(self) -> Observations:
        self._batches.hand_over()  # readers call observed instruments first, so no measurement is missed
        return [(1, {"version": __version__, "python": platform.python_version()})]
