"""The table of all instruments: name, kind, unit, meaning, labels and buckets, one file per domain.

No other module of the service contains a metric name. The Prometheus name is derived from name, unit and kind.
"""

import platform
from collections.abc import Callable, Sequence
from types import ModuleType

from opentelemetry.metrics import Meter

from support_service import __version__
from support_service.core.domain.case_vocabulary import CHANNELS
from support_service.platform.telemetry.batches import BatchedCounter, BatchedHistogram, MeasurementBuffer
from support_service.platform.telemetry.instruments import (
    access,
    attachments,
    cases,
    events,
    http,
    probe,
    process,
    stores,
    timeline,
)
from support_service.platform.telemetry.instruments.spec import (
    OTHER,
    InstrumentSpec,
    Observations,
    known_or_other,
    observe,
)

__all__ = [
    "INSTRUMENTS",
    "OTHER",
    "PROBE_INSTRUMENTS",
    "InstrumentSpec",
    "Instruments",
    "Observations",
    "known_or_other",
    "observe",
]


def _rows(*modules: ModuleType) -> tuple[InstrumentSpec, ...]:
    """Return the instruments of some modules, in the order of their definition."""
    return tuple(row for module in modules for row in vars(module).values() if isinstance(row, InstrumentSpec))


INSTRUMENTS = _rows(timeline, attachments, cases, http, stores, events, access, process)
PROBE_INSTRUMENTS = _rows(probe)


class Instruments:
    """The instruments of one app, created once; every series of a closed label vocabulary starts at 0.

    `channels` of cases and endpoints of `webhooks` have metric labels of their own. With `exemplars`, histograms keep
    measurements of sampled spans with their traces.
    """

    def __init__(
        self,
        meter: Meter,
        channels: Sequence[str] = CHANNELS,
        webhooks: Sequence[str] = (),
        *,
        exemplars: bool = False,
    ) -> None:
        self._meter = meter
        self._exemplars = exemplars
        self._batches = MeasurementBuffer()
        self.timeline_collect = self._histogram(timeline.TIMELINE_COLLECT)
        self.timeline_read = self._histogram(timeline.TIMELINE_READ)
        self.timeline_cache_events = self._counter(timeline.TIMELINE_CACHE_EVENTS)
        self.timeline_collection_failures = self._counter(timeline.TIMELINE_COLLECTION_FAILURES)
        self.timeline_source = self._histogram(timeline.TIMELINE_SOURCE)
        self.attachment_stored = self._counter(attachments.ATTACHMENT_STORED)
        self.attachment_rejected = self._counter(attachments.ATTACHMENT_REJECTED)
        self.attachment_offloaded = self._counter(attachments.ATTACHMENT_OFFLOADED)
        self.attachment_offloaded_bytes = self._counter(attachments.ATTACHMENT_OFFLOADED_BYTES)
        self.attachment_offload = self._histogram(attachments.ATTACHMENT_OFFLOAD)
        self.attachment_deleted = self._counter(attachments.ATTACHMENT_DELETED)
        self.attachment_sweep_repairs = self._counter(attachments.ATTACHMENT_SWEEP_REPAIRS)
        self.attachment_unreadable = self._counter(attachments.ATTACHMENT_UNREADABLE)
        self.attachment_scrubbed = self._counter(attachments.ATTACHMENT_SCRUBBED)
        self.ticket_created = self._counter(cases.ticket_created(channels))
        self.conversation_added = self._counter(cases.CONVERSATION_ADDED)
        self.ticket_status_changed = self._counter(cases.TICKET_STATUS_CHANGED)
        self.ticket_first_response = self._histogram(cases.TICKET_FIRST_RESPONSE)
        self.ticket_resolution = self._histogram(cases.TICKET_RESOLUTION)
        self.case_cache_events = self._counter(cases.CASE_CACHE_EVENTS)
        self.sla_breached = self._counter(cases.SLA_BREACHED)
        self.sla_used_share = self._histogram(cases.SLA_USED_SHARE)
        self.http_server_duration = self._histogram(http.HTTP_SERVER_DURATION)
        self.http_client_duration = self._histogram(http.HTTP_CLIENT_DURATION)
        self.db_operation = self._histogram(stores.DB_OPERATION)
        self.events_published = self._counter(events.EVENTS_PUBLISHED)
        self.events_relay_lag = self._histogram(events.EVENTS_RELAY_LAG)
        self.events_consumed = self._counter(events.EVENTS_CONSUMED)
        self.events_delivery_lag = self._histogram(events.EVENTS_DELIVERY_LAG)
        self.webhook_deliveries = self._counter(events.webhook_deliveries(webhooks))
        self.stream_sent = self._counter(events.STREAM_SENT)
        self.stream_replayed = self._counter(events.STREAM_REPLAYED)
        self.stream_resynced = self._counter(events.STREAM_RESYNCED)
        self.stream_closed = self._counter(events.STREAM_CLOSED)
        self.stream_lag = self._histogram(events.STREAM_LAG)
        self.access_authentications = self._counter(access.ACCESS_AUTHENTICATIONS)
        self.connection_cut = self._counter(http.CONNECTION_CUT)
        self.request_received = self._counter(http.REQUEST_RECEIVED)
        self.request_turned_away = self._counter(http.REQUEST_TURNED_AWAY)
        self.event_loop_lag = self._histogram(process.EVENT_LOOP_LAG)
        self.observe(process.BUILD_INFO, self._build_info)

    def observe(self, row: InstrumentSpec, read: Callable[[], Observations]) -> None:
        """Create an observed instrument on the app's meter; see the function `observe`."""
        observe(self._meter, row, read)

    def _counter(self, row: InstrumentSpec) -> BatchedCounter:
        counter = self._meter.create_counter(row.name, unit=row.unit, description=row.meaning)
        batched = BatchedCounter(counter, self._batches)
        for labels in row.series():
            batched.expect(labels)
        return batched

    def _histogram(self, row: InstrumentSpec) -> BatchedHistogram:
        histogram = self._meter.create_histogram(
            row.name, unit=row.unit, description=row.meaning, explicit_bucket_boundaries_advisory=row.buckets
        )
        batched = BatchedHistogram(histogram, self._batches, exemplars=self._exemplars)
        for labels in row.series():
            batched.expect(labels)
        return batched

    def _build_info(self) -> Observations:
        self._batches.flush()  # readers call observed instruments first, so no measurement is missed
        return [(1, {"version": __version__, "python": platform.python_version()})]
