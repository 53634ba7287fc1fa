"""Instruments of the stream of changes that clients keep open."""

from support_service.platform.telemetry.instruments.spec import InstrumentSpec

STREAM_OPEN = InstrumentSpec("support.stream.open", "observed sum", "{stream}", "Open streams of changes", {})
STREAM_SENT = InstrumentSpec("support.stream.sent", "counter", "{event}", "Changes sent to open streams", {})
STREAM_REPLAYED = InstrumentSpec(
    "support.stream.replayed", "counter", "{event}", "Changes that clients had missed, sent when they came back", {}
)
STREAM_RESYNCED = InstrumentSpec(
    "support.stream.resynced",
    "counter",
    "{stream}",
    "Streams whose client was asked to read again: its position was trimmed, is foreign (of another broker), or has "
    "too many changes behind it; restarted: the broker was unavailable when the stream was opened",
    {"reason": ("trimmed", "foreign", "too_many", "restarted")},
)
STREAM_CLOSED = InstrumentSpec(
    "support.stream.closed",
    "counter",
    "{stream}",
    "Ended streams: by the client, slow (it did not read), revoked (its credentials are no longer valid), shutdown, "
    "failed (a defect)",
    {"reason": ("client", "slow", "revoked", "shutdown", "failed")},
)
STREAM_INTERRUPTED = InstrumentSpec(
    "support.stream.interrupted",
    "gauge",
    "s",
    "Time since which the replica has not been able to follow the published events; 0 while it follows them",
    {},
)
STREAM_LAG = InstrumentSpec(
    "support.stream.lag",
    "histogram",
    "s",
    "Time from a change to the moment it is sent to a client; of the oldest change of each write, without replays",
    {},
    (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
