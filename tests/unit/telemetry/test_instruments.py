"""The table of instruments is the contract: names, kinds, units and labels."""

import pytest

from support_service.core.case_vocabulary import CHANNELS
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
        {"http.request.method", "http.route", "http.response.status_code", "error.type"},
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
    "support.attachment.scrubbed": ("counter", "{file}", {"outcome"}),
    "support.ticket.open": ("gauge", "{ticket}", {"status", "priority"}),
    "support.ticket.oldest_unanswered": ("gauge", "s", set()),
    "support.ticket.first_response": ("histogram", "s", set()),
    "support.ticket.resolution": ("histogram", "s", set()),
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
    "support.audit.sealed": ("gauge", "{entry}", set()),
    "support.audit.unsealed_age": ("gauge", "s", set()),
    "support.webhook.deliveries": ("counter", "{delivery}", {"outcome"}),
    "support.webhook.pending": ("gauge", "{delivery}", set()),
    "support.access.authentications": ("counter", "{request}", {"outcome"}),
    "support.access.keys_age": ("gauge", "s", set()),
    "support.event_loop.lag": ("histogram", "s", set()),
    "support.build.info": ("gauge", "{build}", {"version", "python"}),
    "process.cpu.time": ("observed counter", "s", {"cpu.mode"}),
    "process.memory.usage": ("observed sum", "By", set()),
    "process.threads": ("observed sum", "{thread}", set()),
    "process.unix.file_descriptors": ("observed sum", "{file_descriptor}", set()),
    "process.uptime": ("gauge", "s", set()),
    "cpython.gc.collections": ("observed counter", "{collection}", {"cpython.gc.generation"}),
}


@pytest.fixture
def scrape():
    """A provider, and what it exposes."""
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics, lambda: parse(metrics.scrape("", "").body.decode())
    metrics.close()


@pytest.mark.parametrize("row", INSTRUMENTS, ids=lambda row: row.name)
def test_a_row_is_as_the_contract_says(row):
    """Kind, unit and labels of each instrument are those of the contract, and each says what it means."""
    kind, unit, names = CONTRACT[row.name]
    assert (row.kind, set(row.labels)) == (kind, names)
    assert row.unit == (unit or row.unit)
    assert row.meaning
    assert (row.buckets != ()) == (kind == "histogram")
    assert list(row.buckets) == sorted(row.buckets)


def test_the_table_is_whole():
    """Every instrument of the contract is in the table, once."""
    assert [row.name for row in INSTRUMENTS if row.name not in CONTRACT] == []
    assert len(INSTRUMENTS) == len(CONTRACT)


def test_a_gauge_that_knows_nothing_has_no_series(scrape):
    """A gauge shows what is known at the scrape, and nothing while nothing is."""
    metrics, samples = scrape
    known = []
    Instruments(metrics.meter).observe(ATTACHMENT_BACKLOG, lambda: [(known[-1], {})] if known else [])
    name = "support_attachment_backlog_bytes"
    assert [value for sample, _, value in samples() if sample == name] == []
    for size in (0, 17, 5):
        known.append(size)
        assert [value for sample, _, value in samples() if sample == name] == [size]


def test_a_series_at_zero_is_not_a_measurement(scrape):
    """A histogram's series stands at 0 without a count or a sum, and measures from its first value on."""
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


def test_the_threshold_of_the_alert_is_an_edge():
    """2 s, which alerts ask for, is a bucket's edge, so that no quantile is guessed around it."""
    assert 2.0 in LATENCY_BUCKETS


@pytest.mark.parametrize("value", ["", "EMAIL", "email ", "other", "x" * 1000, "\0", "é"])
def test_what_is_not_in_a_vocabulary_is_other(value):
    """A value that the vocabulary does not have becomes `other`, to the letter."""
    assert labels.known_or_other(value, CHANNELS) == "other"
    assert labels.known_or_other("email", CHANNELS) == "email"
