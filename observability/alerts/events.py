"""Alerts on outgoing and inbound events, and on the probe that tests them end to end."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds

ALERTS = (
    Alert(
        "SupportOutboxStalled",
        f"max(support_events_outbox_oldest_seconds) > {seconds(t.OUTBOX_AGE)}",
        t.EVENTS_FOR,
        "warning",
        "Events of cases are not published: the oldest waits {{ $value | humanizeDuration }}",
        "The oldest event in the outbox has waited {{ $value | humanizeDuration }} "
        f"(limit {t.OUTBOX_AGE} s). Those who listen learn late; nothing is lost.",
        "Support events",
    ),
    Alert(
        "SupportEventsConsumerStalled",
        f"(max(support_events_stream_lag) > {t.STREAM_WAITING}"
        f' unless sum(increase(support_events_consumed_total{{outcome!~"failed|dead"}}[{t.WINDOW}])) > 0)'
        f" or max(support_events_stream_lag) > {t.STREAM_BEHIND}",
        t.EVENTS_FOR,
        "warning",
        "Events of other services are not consumed: {{ $value | humanize }} wait",
        f"{{{{ $value | humanize }}}} events wait in the inbound stream (limit {t.STREAM_WAITING} while none was "
        f"applied in the last {t.WINDOW}, and {t.STREAM_BEHIND} in any case). Cases do not learn of shipments.",
        "Support events",
    ),
    Alert(
        "SupportEventsDeadLettered",
        f"max(support_events_dead_letters) > {t.DEAD_LETTERS}",
        t.AT_ONCE,
        "warning",
        "{{ $value | humanize }} events of other services were given up",
        f"{{{{ $value | humanize }}}} events are dead letters (limit {t.DEAD_LETTERS}): each is a change that no case "
        "has seen until it is replayed.",
        "Support events",
    ),
    Alert(
        "SupportProbeFailing",
        "max(support_probe_success) == 0",
        t.PROBE_FOR,
        "critical",
        "The synthetic check of a whole case fails",
        "The probe, which opens a case and waits for an event to reach its timeline, last ended with "
        f"{{{{ $value }}}} (limit: 1, which is good) and has done so for {t.PROBE_FOR}.",
        "Support probe",
    ),
    Alert(
        "SupportProbeMissing",
        "(count(support_probe_success) or vector(0)) == 0",
        t.PROBE_MISSING_FOR,
        "warning",
        "The synthetic check does not run",
        f"{{{{ $value }}}} probes have answered a scrape in {t.PROBE_MISSING_FOR} (limit: 1 at least). What they would "
        "find stays unseen.",
        "Support probe",
    ),
)
