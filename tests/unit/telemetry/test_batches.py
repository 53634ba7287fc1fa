"""Records that reach the SDK by batches: none is lost, and every reader sees all of them."""

import threading

from support_service.telemetry.batches import BATCH_SIZE, MeasurementBuffer
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource


def test_a_full_batch_is_handed_over():
    """The SDK is told of so many at once, in their order, and nothing waits for more than a batch."""
    told, batches = [], MeasurementBuffer()
    for number in range(2 * BATCH_SIZE + 1):
        batches.enqueue(lambda amount, attributes: told.append((amount, attributes)), number, {"of": "x"})
        assert len(told) == (number + 1) // BATCH_SIZE * BATCH_SIZE
    batches.flush()
    assert told == [(number, {"of": "x"}) for number in range(2 * BATCH_SIZE + 1)]


def test_readers_that_hand_over_meanwhile():
    """Whatever a reader's thread takes while others are told, each record arrives once."""
    told, batches, done = [], MeasurementBuffer(), threading.Event()

    def read():
        while not done.is_set():
            batches.flush()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(20_000):
        batches.enqueue(lambda amount, _: told.append(amount), number, None)
    done.set()
    for reader in readers:
        reader.join()
    batches.flush()
    assert sorted(told) == list(range(20_000))


def test_a_reader_misses_nothing():
    """What was told a moment ago is in the next export, be it one record."""
    metrics = Metrics(("prometheus",), build_resource())
    instruments = Instruments(metrics.meter)
    for number in range(1, BATCH_SIZE + 2):
        instruments.ticket_created.add(1, {"channel": "email"})
        instruments.timeline_read.record(0.5, {"completeness": "complete"})
        text = metrics.scrape("", "").body.decode()
        assert f'support_ticket_created_total{{channel="email"}} {number}.0\n' in text
        assert f'support_timeline_read_seconds_count{{completeness="complete"}} {number}.0\n' in text
    metrics.close()
