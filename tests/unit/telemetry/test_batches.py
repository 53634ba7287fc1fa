"""Batches of measurements: no measurement is lost, and every reader sees all of them."""

import threading

import pytest
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from support_service.cases.recorder import TICKET_CREATED
from support_service.platform.telemetry.aggregation import metric_views
from support_service.platform.telemetry.instruments import BATCH_SIZE, HistogramBatch, Instruments, Series
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.platform.telemetry.stores import DB_OPERATION
from support_service.timeline.aggregator import TIMELINE_READ


def test_concurrent_readers_receive_each_measurement_once():
    """At most one batch of a series is buffered, and in order. Reader threads flush while measurements arrive."""
    received, done = [], threading.Event()
    series = Series(received.extend, list)
    for number in range(2 * BATCH_SIZE + 1):
        series.record(number)
        assert len(received) == (number + 1) // BATCH_SIZE * BATCH_SIZE
    series.flush()
    assert received == list(range(2 * BATCH_SIZE + 1))
    received.clear()

    def read():
        while not done.is_set():
            series.flush()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(20_000):
        series.record(number)
    done.set()
    for reader in readers:
        reader.join()
    series.flush()
    assert sorted(received) == list(range(20_000))


def test_series_are_kept_apart_and_counted_exactly():
    """Series with other labels are separate; counts, sums and buckets equal the single measurements."""
    metrics = Metrics(("prometheus",), build_resource())
    instruments = Instruments(metrics.meter)
    for number in range(BATCH_SIZE + 10):
        instruments.add(TICKET_CREATED, 2, {"channel": "email" if number % 2 else "web"})
        instruments.record(DB_OPERATION, 0.003, {"db.system.name": "sqlite", "db.operation.name": "SELECT"})
    labels = {"db.operation.name": "SELECT", "db.system.name": "sqlite"}  # the same series
    instruments.record(DB_OPERATION, 1000.0, labels)
    for refused in (-1.0, float("nan"), float("inf")):
        instruments.record(DB_OPERATION, refused, labels)
        instruments.add(TICKET_CREATED, refused, {"channel": "email"})
    text = metrics.render("", "").body.decode()
    metrics.close()
    assert f'support_ticket_created_total{{channel="email"}} {float(BATCH_SIZE + 10)}\n' in text
    assert f'support_ticket_created_total{{channel="web"}} {float(BATCH_SIZE + 10)}\n' in text
    own = [line for line in text.splitlines() if line.startswith("db_client_operation_duration_seconds_")]
    buckets = {
        line.partition('le="')[2].partition('"')[0]: float(line.split()[-1]) for line in own if "_bucket" in line
    }
    assert [buckets[at] for at in ("0.001", "0.005", "+Inf")] == [0, BATCH_SIZE + 10, BATCH_SIZE + 11]
    total = next(float(line.split()[-1]) for line in own if "_sum" in line)
    assert total == pytest.approx(0.003 * (BATCH_SIZE + 10) + 1000)


def test_scrape_contains_the_latest_measurement():
    """A measurement is in the next scrape, also the only one in the buffer, and the first after a full batch."""
    metrics = Metrics(("prometheus",), build_resource())
    instruments = Instruments(metrics.meter)
    number = 0
    for more in (1, 1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1):
        for _ in range(more):
            instruments.add(TICKET_CREATED, 1, {"channel": "email"})
            instruments.record(TIMELINE_READ, 0.5, {"completeness": "complete"})
        number += more
        text = metrics.render("", "").body.decode()
        assert f'support_ticket_created_total{{channel="email"}} {number}.0\n' in text
        assert f'support_timeline_read_seconds_count{{completeness="complete"}} {number}.0\n' in text
    metrics.close()


@pytest.fixture
def collect_histogram():
    """Return a function that makes a histogram, and a function that collects its points, with a temporality."""
    providers = []

    def create(temporality):
        reader = InMemoryMetricReader(preferred_temporality={Histogram: temporality})
        views, always = metric_views(exemplars=True), AlwaysOnExemplarFilter()
        provider = MeterProvider([reader], views=views, exemplar_filter=always, shutdown_on_exit=False)
        providers.append(provider)

        def collect():
            data = reader.get_metrics_data()
            return list(data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points) if data else []

        return provider.get_meter("a").create_histogram("a", explicit_bucket_boundaries_advisory=[1.0, 2.0]), collect

    yield create
    for provider in providers:
        provider.shutdown()


def test_series_without_a_new_measurement_is_exported_as_it_was(collect_histogram):
    """With the time of the collection, and without the exemplars that an export has sent before."""
    histogram, collect = collect_histogram(AggregationTemporality.CUMULATIVE)
    histogram.record(1.5)
    (first,), (second,) = collect(), collect()
    assert (first.bucket_counts, first.sum, first.count) == ((0, 1, 0), 1.5, 1)
    assert (second.bucket_counts, second.sum, second.count) == ((0, 1, 0), 1.5, 1)
    assert second.start_time_unix_nano == first.start_time_unix_nano < first.time_unix_nano < second.time_unix_nano
    assert ([each.value for each in first.exemplars], second.exemplars) == ([1.5], [])
    histogram.record(HistogramBatch([0.5, 1.0, 9.0]))
    (third,) = collect()
    assert (third.bucket_counts, third.sum, third.count) == ((2, 1, 1), 12.0, 4)


def test_export_of_differences_leaves_out_series_without_a_new_measurement(collect_histogram):
    """With the temporality delta a collection has only what was measured since the one before."""
    histogram, collect = collect_histogram(AggregationTemporality.DELTA)
    for batch in ([0.5, 1.5], [5.0]):
        histogram.record(HistogramBatch(batch))
        assert [(point.count, point.sum) for point in collect()] == [(len(batch), sum(batch))]
        assert collect() == []
