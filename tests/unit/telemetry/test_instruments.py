"""The table of instruments is a contract: names, kinds, units and labels."""

import pytest

from support_service.core.domain.case_vocabulary import CHANNELS
from support_service.settings.resources import TimelineSettings
from support_service.telemetry import labels
from support_service.telemetry.instruments import INSTRUMENTS, Instruments
from support_service.telemetry.instruments.attachments import ATTACHMENT_BACKLOG
from support_service.telemetry.instruments.timeline import LATENCY_BUCKETS
from support_service.telemetry.provider import Metrics, build_resource
from tests.support.scrape import parse

CONTRACT = {
    "support.timeline.collect": ("histogram", "s", {"source"}),
    "support.timeline.read": ("histogram", "s", {"completeness"}),
    "support.timeline.cache_events": ("counter", "{event}", {"event"}),
    "support.timeline.collection_failures": ("counter", "{failure}", {"stage"}),
    "support.attachment.stored": ("counter", None, {"content_type"}),
    "support.attachment.backlog": ("gauge", "By", set()),
    "support.attachment.backlog_files": ("gauge", "{file}", set()),
    "support.ticket.created": ("counter", "{ticket}", {"channel"}),
    "support.conversation.added": ("counter", None, {"author_type"}),
    "support.ticket.status_changed": ("counter", "1", {"status"}),
    "support.timeline.source": ("histogram", "s", {"service", "outcome"}),
    "support.timeline.breaker": ("observed sum", "{breaker}", {"service", "state"}),
    "support.timeline.source_enabled": ("gauge", "{source}", {"service"}),
    "http.server.request.duration": (
        "histogram",
        "s",
        {"http.request.method", "http.route", "http.response.status_code", "url.scheme", "error.type"},
    ),
    "http.client.request.duration": (
        "histogram",
        "s",
        {"http.request.method", "server.address", "server.port", "http.response.status_code", "error.type"},
    ),
    "http.server.active_requests": ("observed sum", "{request}", {"http.request.method", "url.scheme"}),
    "support.connection.open": ("observed sum", "{connection}", set()),
    "support.connection.cut": ("counter", "{connection}", {"reason"}),
    "support.request.turned_away": ("counter", "{request}", {"reason"}),
    "support.attachment.rejected": ("counter", "{upload}", {"reason"}),
    "support.attachment.uploads": ("observed sum", "{upload}", set()),
    "support.attachment.backlog_age": ("gauge", "s", set()),
    "support.attachment.disk_free": ("gauge", "By", set()),
    "support.attachment.offloaded": ("counter", "{file}", {"to", "outcome"}),
    "support.attachment.offloaded_bytes": ("counter", "By", {"to", "outcome"}),
    "support.attachment.offload": ("histogram", "s", {"to"}),
    "support.attachment.deleted": ("counter", "{file}", {"reason"}),
    "support.attachment.sweep_repairs": ("counter", "{repair}", {"kind"}),
    "support.attachment.unrepaired": ("gauge", "{file}", {"kind"}),
    "support.attachment.unreadable": ("counter", "{read}", {"storage", "kind"}),
    "support.attachment.scrubbed": ("counter", "{file}", {"outcome"}),
    "support.ticket.open": ("gauge", "{ticket}", {"status", "priority"}),
    "support.ticket.oldest_unanswered": ("gauge", "s", set()),
    "support.ticket.first_response": ("histogram", "s", set()),
    "support.ticket.resolution": ("histogram", "s", set()),
    "support.sla.breached": ("counter", "{clock}", {"target"}),
    "support.sla.running": ("gauge", "{clock}", {"target"}),
    "support.sla.oldest_overdue": ("gauge", "s", {"target"}),
    "support.sla.used_share": ("histogram", "1", {"target"}),
    "support.sla.unreported_age": ("gauge", "s", set()),
    "support.case.cache_events": ("counter", "{event}", {"event"}),
    "db.client.operation.duration": ("histogram", "s", {"db.system.name", "db.operation.name", "error.type"}),
    "db.client.connections": (
        "observed sum",
        "{connection}",
        {"db.client.connection.pool.name", "db.client.connection.state"},
    ),
    "support.events.published": ("counter", "{event}", {"type", "outcome"}),
    "support.events.relay_lag": ("histogram", "s", set()),
    "support.events.consumed": ("counter", "{event}", {"type", "outcome"}),
    "support.events.delivery_lag": ("histogram", "s", set()),
    "support.events.outbox_pending": ("gauge", "{event}", set()),
    "support.events.outbox_oldest": ("gauge", "s", set()),
    "support.events.stream_lag": ("gauge", "{event}", set()),
    "support.events.dead_letters": ("gauge", "{event}", set()),
    "support.stream.open": ("observed sum", "{stream}", set()),
    "support.stream.sent": ("counter", "{event}", set()),
    "support.stream.replayed": ("counter", "{event}", set()),
    "support.stream.resynced": ("counter", "{stream}", {"reason"}),
    "support.stream.closed": ("counter", "{stream}", {"reason"}),
    "support.stream.interrupted": ("gauge", "s", set()),
    "support.stream.lag": ("histogram", "s", set()),
    "support.audit.sealed": ("gauge", "{entry}", set()),
    "support.audit.unsealed_age": ("gauge", "s", set()),
    "support.webhook.deliveries": ("counter", "{delivery}", {"endpoint", "outcome"}),
    "support.webhook.pending": ("gauge", "{delivery}", set()),
    "support.access.authentications": ("counter", "{request}", {"outcome"}),
    "support.access.tokens_age": ("gauge", "s", set()),
    "support.access.keys_age": ("gauge", "s", set()),
    "support.event_loop.lag": ("histogram", "s", set()),
    "support.build.info": ("gauge", "{build}", {"version", "python"}),
    "process.cpu.time": ("observed counter", "s", {"cpu.mode"}),
    "process.memory.usage": ("observed sum", "By", set()),
    "process.threads": ("observed sum", "{thread}", set()),
    "process.unix.file_descriptors": ("observed sum", "{file_descriptor}", set()),
    "process.memory.limit": ("observed sum", "By", set()),
    "process.unix.file_descriptor_limit": ("observed sum", "{file_descriptor}", set()),
    "support.replica.ready": ("gauge", "{replica}", set()),
    "support.dependency.status": ("gauge", "{dependency}", {"dependency", "status"}),
    "support.clock.offset": ("gauge", "s", set()),
    "support.certificate.expires": ("gauge", "s", {"target"}),
    "db.client.connection.max": ("observed sum", "{connection}", {"db.client.connection.pool.name"}),
    "db.client.connection.pending_requests": ("observed sum", "{request}", {"db.client.connection.pool.name"}),
    "support.redis.eviction_policy": ("gauge", "{server}", {"server", "policy"}),
    "support.redis.role": ("gauge", "{server}", {"server", "role"}),
    "support.redis.evicted_keys": ("observed counter", "{key}", {"server"}),
    "support.redis.memory_usage": ("gauge", "By", {"server"}),
    "support.redis.memory_limit": ("gauge", "By", {"server"}),
    "support.request.received": ("counter", "{request}", {"synthetic"}),
    "process.uptime": ("gauge", "s", set()),
    "cpython.gc.collections": ("observed counter", "{collection}", {"cpython.gc.generation"}),
}


@pytest.fixture
def scrape():
    """A provider of metrics, and a function that returns its samples."""
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics, lambda: parse(metrics.render("", "").body.decode())
    metrics.close()


@pytest.mark.parametrize("row", INSTRUMENTS, ids=lambda row: row.name)
def test_instrument_matches_the_contract(row):
    """Kind, unit and labels are those of the contract, and each instrument has a meaning."""
    kind, unit, names = CONTRACT[row.name]
    assert (row.kind, set(row.labels)) == (kind, names)
    assert row.unit == (unit or row.unit)
    assert row.meaning
    assert (row.buckets != ()) == (kind == "histogram")
    assert list(row.buckets) == sorted(row.buckets)


def test_every_instrument_of_the_contract_is_in_the_table_once():
    assert [row.name for row in INSTRUMENTS if row.name not in CONTRACT] == []
    assert len(INSTRUMENTS) == len(CONTRACT)


def test_gauge_without_a_value_has_no_series(scrape):
    """A gauge shows the value known at the scrape, and no series while no value is known."""
    metrics, samples = scrape
    known = []
    Instruments(metrics.meter).observe(ATTACHMENT_BACKLOG, lambda: [(known[-1], {})] if known else [])
    name = "support_attachment_backlog_bytes"
    assert [value for sample, _, value in samples() if sample == name] == []
    for size in (0, 17, 5):
        known.append(size)
        assert [value for sample, _, value in samples() if sample == name] == [size]


def test_initial_zero_series_of_a_histogram_counts_no_measurement(scrape):
    """A histogram's series starts with count and sum 0, and counts from its first value on."""
    metrics, samples = scrape
    instruments = Instruments(metrics.meter)

    def collected(part):
        return {
            given["source"]: value
            for sample, given, value in samples()
            if sample == f"support_timeline_collect_seconds_{part}" and given.get("le", "+Inf") == "+Inf"
        }

    assert collected("count") == collected("sum") == collected("bucket") == {"cache": 0, "remote": 0}
    instruments.timeline_collect.record(0.25, {"source": "remote"})
    instruments.timeline_collect.record(0, {"source": "remote"})
    assert collected("count") == {"cache": 0, "remote": 2}
    assert collected("sum") == {"cache": 0, "remote": 0.25}


def test_alert_threshold_and_default_timeouts_are_bucket_boundaries():
    """Neither the alert at 2 s nor a panel depends on interpolation around the default timeouts."""
    timeline = TimelineSettings()
    assert {2.0, timeline.source_timeout, timeline.deadline} <= {*LATENCY_BUCKETS}


@pytest.mark.parametrize("value", ["", "EMAIL", "email ", "other", "x" * 1000, "\0", "é"])
def test_value_outside_a_vocabulary_becomes_other(value):
    """The comparison is exact."""
    assert labels.known_or_other(value, CHANNELS) == "other"
    assert labels.known_or_other("email", CHANNELS) == "email"
