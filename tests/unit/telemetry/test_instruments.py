"""The table of instruments is well formed, and a scrape shows what they measured.

The diff of observability/metrics.md shows a changed name, kind, unit or label.
"""

import pytest
from observability.catalogue import INSTRUMENTS

from support_service.attachments.backlog import ATTACHMENT_BACKLOG
from support_service.core.domain.case_vocabulary import CHANNELS
from support_service.platform.settings.resources import TimelineSettings
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, LastReading, known_or_other
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.timeline.aggregator import TIMELINE_COLLECT
from support_service.timeline.source_client import LATENCY_BUCKETS
from tests.support.each import each_row
from tests.support.scrape import parse


@pytest.fixture
def scrape():
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics, lambda: parse(metrics.render("", "").body.decode())
    metrics.close()


def test_instruments_are_well_formed():
    """Each has a meaning, and histograms alone have buckets, in ascending order. A second one of a name is refused."""
    assert len({row.name for row in INSTRUMENTS}) == len(INSTRUMENTS)
    for row in INSTRUMENTS:
        assert row.meaning, row.name
        assert (row.buckets != ()) == (row.kind == "histogram"), row.name
        assert list(row.buckets) == sorted(row.buckets), row.name
    with pytest.raises(ValueError, match=r"the instrument support\.ticket\.open is declared twice"):
        InstrumentSpec("support.ticket.open", "gauge", "1", "Another one")


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
    instruments.record(TIMELINE_COLLECT, 0.25, {"source": "remote"})
    instruments.record(TIMELINE_COLLECT, 0, {"source": "remote"})
    assert collected("count") == {"cache": 0, "remote": 2}
    assert collected("sum") == {"cache": 0, "remote": 0.25}


def test_alert_threshold_and_default_timeouts_are_bucket_boundaries():
    """Neither the alert at 2 s nor a panel depends on interpolation around the default timeouts."""
    timeline = TimelineSettings()
    assert {2.0, timeline.source_timeout, timeline.deadline} <= {*LATENCY_BUCKETS}


@each_row("value", ["", "EMAIL", "email ", "other", "x" * 1000, "\0", "é"])
def test_value_outside_a_vocabulary_becomes_other(value):
    """The comparison is exact."""
    assert known_or_other(value, CHANNELS) == "other"
    assert known_or_other("email", CHANNELS) == "email"


def test_reading_is_unknown_before_the_first_time_and_when_it_is_old(scrape, monkeypatch):
    """It has no series then, nor when it could not be read; what on-call sees has the time of the last attempt."""
    metrics, samples = scrape
    now = [1000.0]
    monkeypatch.setattr("support_service.platform.telemetry.instruments.monotonic", lambda: now[0])
    reading = LastReading(max_age=60.0)
    Instruments(metrics.meter).observe(ATTACHMENT_BACKLOG, reading.observations(lambda size: [(size, {})]))

    def shown():
        return [value for sample, _, value in samples() if sample == "support_attachment_backlog_bytes"]

    assert (shown(), reading.value, reading.read_at) == ([], None, None)
    reading.store(17)
    now[0] += 59
    assert (shown(), reading.value) == ([17], 17)
    now[0] += 1
    assert (shown(), reading.value) == ([], None)
    reading.store(5)
    assert shown() == [5]
    reading.store(None)
    assert (shown(), reading.value) == ([], None)
    assert reading.read_at is not None
