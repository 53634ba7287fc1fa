"""The measurement buffer: no measurement is lost, and every reader sees all of them."""

import threading

from support_service.telemetry.batches import BATCH_SIZE, MeasurementBuffer
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource


def test_full_batch_is_passed_to_the_sdk():
    """Measurements reach the SDK in batches and in order; at most one batch is buffered."""
    received, batches = [], MeasurementBuffer()
    for number in range(2 * BATCH_SIZE + 1):
        batches.enqueue(lambda amount, attributes: received.append((amount, attributes)), number, {"of": "x"})
        assert len(received) == (number + 1) // BATCH_SIZE * BATCH_SIZE
    batches.flush()
    assert received == [(number, {"of": "x"}) for number in range(2 * BATCH_SIZE + 1)]


def test_concurrent_readers_receive_each_measurement_once():
    """Reader threads flush the buffer while measurements arrive; each measurement arrives once."""
    received, batches, done = [], MeasurementBuffer(), threading.Event()

    def read():
        while not done.is_set():
            batches.flush()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(20_000):
        batches.enqueue(lambda amount, _: received.append(amount), number, None)
    done.set()
    for reader in readers:
        reader.join()
    batches.flush()
    assert sorted(received) == list(range(20_000))


def test_scrape_contains_the_latest_measurement():
    """A measurement is in the next scrape, even if it is the only one in the buffer."""
    metrics = Metrics(("prometheus",), build_resource())
    instruments = Instruments(metrics.meter)
    for number in range(1, BATCH_SIZE + 2):
        instruments.ticket_created.add(1, {"channel": "email"})
        instruments.timeline_read.record(0.5, {"completeness": "complete"})
        text = metrics.render("", "").body.decode()
        assert f'support_ticket_created_total{{channel="email"}} {number}.0\n' in text
        assert f'support_timeline_read_seconds_count{{completeness="complete"}} {number}.0\n' in text
    metrics.close()
