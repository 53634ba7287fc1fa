"""Batches of measurements: no measurement is lost, and every reader sees all of them."""

import threading

import pytest

from support_service.cases.recorder import TICKET_CREATED
from support_service.platform.telemetry.instruments import BATCH_SIZE, Instruments, Series
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.platform.telemetry.stores import DB_OPERATION
from support_service.timeline.aggregator import TIMELINE_READ


def test_full_batch_is_passed_to_the_sdk():
    """Measurements reach the SDK in batches and in order; at most one batch of a series is buffered."""
    received = []
    series = Series(received.extend)
    for number in range(2 * BATCH_SIZE + 1):
        series.append(number)
        assert len(received) == (number + 1) // BATCH_SIZE * BATCH_SIZE
    series.flush()
    assert received == list(range(2 * BATCH_SIZE + 1))


def test_concurrent_readers_receive_each_measurement_once():
    """Reader threads flush a series while measurements arrive; each measurement arrives once."""
    received, done = [], threading.Event()
    series = Series(received.extend)

    def read():
        while not done.is_set():
            series.flush()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(20_000):
        series.append(number)
    done.set()
    for reader in readers:
        reader.join()
    series.flush()
    assert sorted(received) == list(range(20_000))


def test_series_are_kept_apart_and_counted_exactly():
    """Series with other labels are separate; counts, sums and buckets are those of the single measurements."""
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
    assert buckets["0.001"] == 0
    assert buckets["0.005"] == BATCH_SIZE + 10
    assert buckets["+Inf"] == BATCH_SIZE + 11
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
