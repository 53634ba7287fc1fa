"""Alerts on outgoing and inbound events, and on the probe that tests them end to end."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds

GOOD = "support_probe_success"
WORST_STEP = (
    "{{ range query (printf `bottomk(1, avg by (step) "
    f'(avg_over_time(support_probe_step_success{{via=~"%s|"}}[{t.PROBE_WINDOW}])) != 1)` $labels.via) }}}}'
    ", mostly at step {{ .Labels.step }}{{ end }}"
)
DIRECT, INGRESS = 'via!="ingress"', 'via="ingress"'


def steps(via: str) -> str:
    """Return text of a template that names each failed step, with the status and the code of its answer."""
    failed = f"max by (step, status, code) (support_probe_step_failure{{{via}}})"
    answer = "{{ with .Labels.status }} with {{ . }}{{ end }}{{ with .Labels.code }} {{ . }}{{ end }}"
    return f"{{{{ range query `{failed}` }}}} {{{{ .Labels.step }}}}{answer}{{{{ end }}}}"


ALERTS = (
    Alert(
        "SupportOutboxStalled",
        ("events are not published", "event không được publish"),
        f"max(support_events_outbox_oldest_seconds) > {seconds(t.OUTBOX_AGE)}",
        t.SYMPTOM_FOR,
        "warning",
        "Case events are not published: the oldest has waited {{ $value | humanizeDuration }}",
        "The oldest event in the outbox has waited {{ $value | humanizeDuration }} "
        f"(limit {t.OUTBOX_AGE} s). Subscribers receive changes late; no event is lost.",
        "Support events",
    ),
    Alert(
        "SupportEventsConsumerStalled",
        ("events of other services are not applied", "event của service khác không được áp dụng"),
        f"(max(support_events_stream_lag) > {t.STREAM_WAITING}"
        f' unless sum(increase(support_events_consumed_total{{outcome!~"failed|dead"}}[{t.WINDOW}])) > 0)'
        f" or max(support_events_stream_lag) > {t.STREAM_BEHIND}",
        t.EVENTS_FOR,
        "warning",
        "Events of other services are not applied: {{ $value | humanize }} are waiting",
        f"{{{{ $value | humanize }}}} events wait in the inbound stream (limit {t.STREAM_WAITING} while none was "
        f"applied in the last {t.WINDOW}, and {t.STREAM_BEHIND} in any case). Cases show old data.",
        "Support events",
    ),
    Alert(
        "SupportEventsDeadLettered",
        ("events of other services failed for good", "event của service khác lỗi hẳn"),
        f"max(support_events_dead_letters) > {t.DEAD_LETTERS}",
        t.AT_ONCE,
        "warning",
        "{{ $value | humanize }} events of other services are dead letters",
        f"{{{{ $value | humanize }}}} events could not be applied (limit {t.DEAD_LETTERS}). Each is a change that "
        "its case does not show until the event is replayed.",
        "Support events",
    ),
    Alert(
        "SupportStreamLagHigh",
        ("open streams show changes late", "luồng thay đổi đến muộn"),
        "max(histogram_quantile(0.95, sum by (instance, le) "
        f"(rate(support_stream_lag_seconds_bucket[{t.WINDOW}])))) > {t.STREAM_LAG_P95:g}"
        f" or max(support_stream_interrupted_seconds) > {seconds(t.STREAM_INTERRUPTED)}",
        t.SYMPTOM_FOR,
        "warning",
        "Open streams show changes late: by {{ $value | humanizeDuration }}",
        "Changes of cases reach open streams {{ $value | humanizeDuration }} after their commit (limit of the 95th "
        f"percentile of a replica: {t.STREAM_LAG_P95:g} s), or a replica has not followed the events for that time "
        f"(limit {t.STREAM_INTERRUPTED} s). Agents work with outdated pages; no change is lost.",
        "Support stream lag",
    ),
    Alert(
        "SupportProbeFailing",
        ("the synthetic check fails", "synthetic check lỗi"),
        f"max by (instance) ({GOOD}{{{DIRECT}}}) == 0",
        t.PROBE_FOR,
        "critical",
        f"The synthetic check of a whole case fails at step{steps(DIRECT)}",
        "The probe opens a case and waits until an event appears in its timeline. Its result has been "
        f"{{{{ $value }}}} for {t.PROBE_FOR} (limit: 1, which means success). Agents most likely cannot do what it "
        "cannot do.",
        "Support probe steps that succeed",
    ),
    Alert(
        "SupportIngressFailing",
        ("the ingress does not lead to the service", "ingress không dẫn tới service"),
        f"max by (instance) ({GOOD}{{{INGRESS}}}) == 0 and on () max({GOOD}{{{DIRECT}}}) == 1",
        t.INGRESS_FOR,
        "critical",
        f"No agent reaches support-service: its ingress fails at step{steps(INGRESS)}",
        "The check through the ingress fails, while the same check directly at the service succeeds. Its result has "
        f"been {{{{ $value }}}} for {t.INGRESS_FOR} (limit: 1, which means success). 404: a host or a path of the "
        "ingress leads elsewhere; 502 to 504: it finds no replica; no status: DNS, TLS or a timeout.",
        "Support probe",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportProbeFlapping",
        ("the synthetic check fails again and again", "synthetic check lúc được lúc không"),
        f"max by (instance, via) (avg_over_time({GOOD}[{t.PROBE_WINDOW}])) < {t.PROBE_SHARE}"
        f" and max by (instance, via) (min_over_time({GOOD}[{t.PROBE_RECENT}])) == 0"
        f" and max by (instance, via) (max_over_time({GOOD}[{t.PROBE_RECENT}])) == 1",
        t.PROBE_FLAPPING_FOR,
        "warning",
        'The synthetic check of a whole case{{ if eq $labels.via "ingress" }} through the ingress{{ end }} fails again '
        f"and again{WORST_STEP}",
        f"{{{{ $value | humanizePercentage }}}} of the runs of the probe in {t.PROBE_WINDOW} were good (limit "
        f"{t.PROBE_SHARE:.0%}). Some agents meet the same failure.",
        "Support probe steps that succeed",
    ),
    Alert(
        "SupportProbeMissing",
        ("the synthetic check does not run", "synthetic check không chạy"),
        "(count(support_probe_success) or vector(0)) == 0",
        t.PROBE_MISSING_FOR,
        "warning",
        "The synthetic check does not run",
        f"{{{{ $value }}}} probes have answered a scrape in {t.PROBE_MISSING_FOR} (limit: at least 1). Failures that "
        "only the probe detects go unnoticed.",
        "Support probe",
    ),
)
