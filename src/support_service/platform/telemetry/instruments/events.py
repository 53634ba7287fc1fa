"""Instruments of events: the outbox, the relay, the consumer, and webhooks."""

from collections.abc import Sequence

from support_service.platform.telemetry.instruments.spec import OTHER, InstrumentSpec

EVENTS_OUT = (
    "support.case.opened.v1",
    "support.case.updated.v1",
    "support.case.closed.v1",
    "support.case.sla-breached.v1",
)
EVENTS_IN = ("fulfillment.shipment.updated.v1", "order.status.changed.v1", "payment.status.changed.v1", OTHER)
# applied: to at least one case; unmatched: no open case refers to its order; failed: retried later; dead: given up.
CONSUMPTIONS = ("applied", "unmatched", "duplicate", "ignored", "failed", "dead")

EVENTS_PUBLISHED = InstrumentSpec(
    "support.events.published",
    "counter",
    "{event}",
    "Events of cases published to the broker; error counts the events of a failed attempt, which is repeated",
    {"type": EVENTS_OUT, "outcome": ("ok", "error")},
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
    {"type": EVENTS_IN, "outcome": CONSUMPTIONS},
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


def webhook_deliveries(endpoints: Sequence[str]) -> InstrumentSpec:
    """Return the counter of deliveries, with a label for each of these endpoints."""
    return InstrumentSpec(
        "support.webhook.deliveries",
        "counter",
        "{delivery}",
        "Attempts to deliver an event to a webhook; retried: will be repeated, failed: no more attempts. The endpoints "
        "are those of `SUPPORT_WEBHOOKS`; other: not configured any more",
        {"endpoint": tuple(dict.fromkeys((*endpoints, OTHER))), "outcome": ("delivered", "retried", "failed")},
    )


WEBHOOK_DELIVERIES = webhook_deliveries(())
WEBHOOK_PENDING = InstrumentSpec(
    "support.webhook.pending", "gauge", "{delivery}", "Webhook deliveries that are still to be made", {}
)
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
