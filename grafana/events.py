"""Panels on outgoing and inbound events, and on the probe that tests them end to end."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, highest, quantile, rate, total

PROBE = 'job=~".*probe.*"'  # the probe is a process of its own

EVENTS = Row(
    "Events",
    (
        Panel(
            "Support events",
            "Age of the oldest unpublished event (the line is its limit); on the right, waiting inbound events and "
            "dead letters. Normal: under 1 s, no dead letters.",
            (
                Query(highest("support_events_outbox_oldest_seconds"), "oldest not published"),
                Query(highest("support_events_stream_lag"), "inbound, waiting", right="short"),
                Query(highest("support_events_dead_letters"), "dead letters", right="short"),
                Query(highest("support_events_outbox_pending"), "outbox, waiting", right="short"),
            ),
            "s",
            t.OUTBOX_AGE,
            alerts=("SupportOutboxStalled", "SupportEventsConsumerStalled", "SupportEventsDeadLettered"),
            width=12,
        ),
        Panel(
            "Support events published",
            "Events of cases by outcome of their publication to the broker. error counts failed attempts; the event "
            "stays in the outbox.",
            (Query(rate("support_events_published_total", "type, outcome"), "{{type}} {{outcome}}"),),
            "ops",
            alerts=("SupportOutboxStalled",),
            width=12,
        ),
        Panel(
            "Support events consumed",
            "Inbound events by outcome. failed: delivered again; dead: moved to the dead letters.",
            (Query(rate("support_events_consumed_total", "outcome"), "{{outcome}}"),),
            "ops",
            alerts=("SupportEventsConsumerStalled", "SupportEventsDeadLettered"),
        ),
        Panel(
            "Support events lag",
            "relay: p99 from a change to its event in the broker. delivery: p95 from the time of an inbound event, by "
            "the clock of its service, to its application to cases.",
            (
                Query(quantile(0.99, "support_events_relay_lag_seconds", window="15m"), "relay p99"),
                Query(quantile(0.95, "support_events_delivery_lag_seconds", window="15m"), "delivery p95"),
            ),
            "s",
        ),
        Panel(
            "Support webhooks",
            "Attempts to deliver an event to a webhook; on the right, pending deliveries.",
            (
                Query(rate("support_webhook_deliveries_total", "outcome"), "{{outcome}}"),
                Query(highest("support_webhook_pending"), "waiting", right="short"),
            ),
            "ops",
        ),
    ),
)
STREAM = Row(
    "Stream of changes",
    (
        Panel(
            "Support stream lag",
            "Time from a change to open streams, without replays (the line is the limit of p95), and how long a "
            "replica has not followed the events; on the right, open streams. Normal: p95 under 0.2 s, and 0 s.",
            (
                Query(quantile(0.5, "support_stream_lag_seconds"), "p50"),
                Query(quantile(0.95, "support_stream_lag_seconds"), "p95"),
                Query(highest("support_stream_interrupted_seconds"), "interrupted"),
                Query(total("support_stream_open"), "open streams", right="short"),
            ),
            "s",
            t.STREAM_LAG_P95,
            alerts=("SupportStreamLagHigh",),
            width=12,
        ),
        Panel(
            "Support stream traffic",
            "Changes sent to open streams, and sent again to clients that came back; streams that were asked to read "
            "again, by reason, and ended streams, by reason.",
            (
                Query(rate("support_stream_sent_total"), "sent"),
                Query(rate("support_stream_replayed_total"), "replayed"),
                Query(rate("support_stream_resynced_total", "reason"), "read again: {{reason}}"),
                Query(rate("support_stream_closed_total", "reason"), "ended: {{reason}}"),
            ),
            "ops",
            alerts=("SupportStreamLagHigh",),
            width=12,
        ),
    ),
)
SYNTHETIC = Row(
    "Probe",
    (
        Panel(
            "Support probe",
            "The last run of the synthetic check, which opens a case and waits until a synthetic event is in its "
            "timeline: directly at the service, and through its ingress.",
            (Query(highest("support_probe_success", "via", job=PROBE), "{{via}}"),),
            "short",
            1,
            low=True,
            alerts=("SupportProbeFailing", "SupportIngressFailing", "SupportProbeMissing"),
            kind="states",
            words={"0": "failed", "1": "good"},
        ),
        Panel(
            "Support probe steps that succeed",
            "Which steps of the last run were good; steps after a failed one may be skipped.",
            (Query(highest("support_probe_step_success", "via, step", job=PROBE), "{{via}} {{step}}"),),
            "short",
            1,
            low=True,
            alerts=("SupportProbeFailing", "SupportProbeFlapping"),
            kind="states",
            words={"0": "failed", "1": "good"},
        ),
        Panel(
            "Support probe steps",
            "Duration of each step of the last run.",
            (Query(highest("support_probe_step_seconds", "via, step", job=PROBE), "{{via}} {{step}}"),),
            "s",
            alerts=("SupportProbeFailing",),
        ),
        Panel(
            "Support probe last success",
            "Time since the last good run.",
            (
                Query(
                    f"time() - {highest('support_probe_last_success_timestamp_seconds', 'via', job=PROBE)}", "{{via}}"
                ),
            ),
            "s",
            alerts=("SupportProbeFailing", "SupportProbeMissing"),
        ),
    ),
)
