"""Tests of alerts: each fires during its fault, alone or with alerts that it implies, and resolves after the repair."""

import re
from collections.abc import Mapping
from typing import Any

from observability import thresholds as t
from observability.alerts.alert import of
from observability.rule_tests import dependency_faults, replica_faults
from observability.rule_tests.notation import REPAIRED, Counter, Fault, Gauge, Restarted, Values, file_of, firing

PROBE = 'support_probe_success{job="support-probe"'
HEALTH = {'up{job="support-service",instance="a"}': 1, 'support_probe_success{job="support-probe"}': 1}
TOLD = REPAIRED - 1


def _reads(complete: Counter, partial: Counter, *, late: bool = False, edge: str = "2.0") -> dict[str, Values]:
    series: dict[str, Values] = {}
    for name, counter in (("complete", complete), ("partial", partial)):
        series[f'support_timeline_read_seconds_count{{completeness="{name}"}}'] = counter
        in_time = Counter(counter.usual, 0) if late else counter
        series[f'support_timeline_read_seconds_bucket{{completeness="{name}",le="{edge}"}}'] = in_time
    return series


def _event(name: str) -> str:
    return f'support_timeline_cache_events_total{{event="{name}"}}'


def _calls(service: str, outcome: str) -> str:
    return f'support_timeline_source_seconds_count{{service="{service}",outcome="{outcome}"}}'


def _failures(stage: str) -> str:
    return f'support_timeline_collection_failures_total{{stage="{stage}"}}'


def _missing(instance: str) -> str:
    return f'support_attachment_unrepaired{{instance="{instance}",kind="missing"}}'


def _moved(outcome: str) -> str:
    return f'support_attachment_offloaded_total{{to="s3",outcome="{outcome}"}}'


def _collected(edge: str) -> str:
    return f'support_timeline_collect_seconds_bucket{{source="remote",le="{edge}"}}'


def _sent(edge: str) -> str:
    return f'support_stream_lag_seconds_bucket{{instance="a",le="{edge}"}}'


def _requests(status: str, job: str = "support-service") -> str:
    labels = f'job="{job}",http_route="/support/cases",http_response_status_code="{status}"'
    return f"http_server_request_duration_seconds_count{{{labels}}}"


STEADY = Counter(60, 60)
FAULTS = {
    "nothing is wrong": Fault((), {}),
    "a service answers after 3 s": Fault(
        ("SupportTimelineLatencyHigh",),
        {
            _collected("1.0"): Counter(60, 0),
            _collected("2.0"): Counter(60, 0),
            _collected("5.0"): STEADY,
            _collected("+Inf"): STEADY,
            'support_timeline_collect_seconds_count{source="remote"}': STEADY,
        },
    ),
    "Redis gives errors": Fault(
        ("SupportTimelineCacheErrors",),
        {_event("hit"): STEADY, _event("miss"): Counter(6, 6), _event("error"): Counter(0, 6)},
    ),
    "nothing is cached": Fault(
        ("SupportTimelineCacheMissSurge",), {_event("hit"): Counter(50, 5), _event("miss"): Counter(10, 55)}
    ),
    "nothing is cached, after a night without a read": Fault(
        ("SupportTimelineCacheMissSurge",),
        {_event("hit"): Counter(50, 5, night=0), _event("miss"): Counter(10, 55, night=0)},
    ),
    "nothing is cached, after a night of the probe's reads alone": Fault(
        ("SupportTimelineCacheMissSurge",),
        {_event("hit"): Counter(50, 5, night=0), _event("miss"): Counter(10, 55, night=2)},
    ),
    "answers can't be read": Fault(
        ('SupportTimelineCollectionFailures{stage="aggregate"}',),
        {_event("hit"): Counter(50, 50), _event("miss"): Counter(10, 10), _failures("aggregate"): Counter(0, 10)},
    ),
    "payments fail": Fault(
        ('SupportTimelineSourceDown{dependency="payment"}',),
        {
            _calls("payment", "ok"): Counter(20, 0),
            _calls("payment", "error"): Counter(0, 5),
            _calls("payment", "open"): Counter(0, 15),
            _calls("order", "ok"): Counter(40, 40),
        },
    ),
    "16 GiB wait": Fault(
        ("SupportAttachmentBacklogHigh",),
        {
            "support_attachment_backlog_bytes": Gauge(t.GIB, 16 * t.GIB),
            "support_attachment_disk_free_bytes": Gauge(99e9, 99e9),
        },
    ),
    "the backlog takes most of a small disk": Fault(
        ("SupportAttachmentBacklogHigh",),
        {
            "support_attachment_backlog_bytes": Gauge(2 * t.GIB, 8 * t.GIB),
            "support_attachment_disk_free_bytes": Gauge(8 * t.GIB, 2 * t.GIB),
        },
    ),
    "200 MiB arrive each minute": Fault(
        ("SupportAttachmentGrowthRapid",),
        {
            "support_attachment_backlog_bytes": Gauge(t.GIB, t.GIB, 200 * 1024**2),
            "support_attachment_disk_free_bytes": Gauge(99e9, 99e9),
        },
    ),
    "100 MiB are left on the disk": Fault(
        ("SupportAttachmentDiskFull",), {"support_attachment_disk_free_bytes": Gauge(9e9, 100 * 1024**2)}
    ),
    "S3 is down": Fault(
        ("SupportAttachmentOffloadFailing",), {_moved("moved"): Counter(5, 0), _moved("failed"): Counter(0, 5)}
    ),
    "a file is missing": Fault(("SupportAttachmentIntegrity",), {_missing("a"): Gauge(0, 1)}),
    "a file is missing, and the service restarts": Fault(
        ("SupportAttachmentIntegrity",), {_missing("a"): Restarted(0, 1, silent=6)}
    ),
    "a file is missing, and the first sweep after a restart fails": Fault(
        ("SupportAttachmentIntegrity",), {_missing("a"): Restarted(0, 1, silent=36)}
    ),
    "a file is missing, and the replica that has swept since restarts": Fault(
        ("SupportAttachmentIntegrity",), {_missing("a"): Gauge(0, 0), _missing("b"): Restarted(0, 1, silent=6)}
    ),
    "a file is missing, and another replica takes the place of the one that knew": Fault(
        ("SupportAttachmentIntegrity",),
        {_missing("a"): Restarted(0, 1, silent=6, returns=False), _missing("b"): Gauge(0, None)},
        over=REPAIRED - 6 + of(t.SWEEP_KEPT) // 60,
    ),
    "a file's hash is another": Fault(
        ("SupportAttachmentIntegrity",),
        {'support_attachment_scrubbed_total{outcome="mismatch"}': Counter(0, 0.1)},
        over=REPAIRED + of(t.DAMAGE_WINDOW) // 60 - 2,
        also_over=("SupportAttachmentIntegrity",),
    ),
    "a download finds its file missing": Fault(
        ("SupportAttachmentIntegrity",),
        {'support_attachment_unreadable_total{storage="local",kind="missing"}': Counter(0, 0.1)},
        over=REPAIRED + of(t.DAMAGE_WINDOW) // 60 - 2,
        also_over=("SupportAttachmentIntegrity",),
    ),
    "nothing is published": Fault(
        ("SupportOutboxStalled",), {"support_events_outbox_oldest_seconds": Gauge(0, 60, 60)}
    ),
    "changes reach streams late": Fault(
        ("SupportStreamLagHigh",),
        {_sent("2.0"): Counter(300, 30), _sent("5.0"): Counter(300, 300), _sent("+Inf"): Counter(300, 300)},
    ),
    "a replica does not follow the events": Fault(
        ("SupportStreamLagHigh",), {"support_stream_interrupted_seconds": Gauge(0, 60, 60)}
    ),
    "the consumer is stuck": Fault(
        ("SupportEventsConsumerStalled",),
        {
            "support_events_stream_lag": Gauge(2, 150, 50),
            'support_events_consumed_total{outcome="applied"}': Counter(50, 0),
        },
    ),
    "no event can be applied": Fault(
        ("SupportEventsConsumerStalled",),
        {
            "support_events_stream_lag": Gauge(2, 150, 50),
            'support_events_consumed_total{outcome="applied"}': Counter(50, 0),
            'support_events_consumed_total{outcome="failed"}': Counter(0, 5),
        },
    ),
    "the consumer is too slow": Fault(
        ("SupportEventsConsumerStalled",),
        {
            "support_events_stream_lag": Gauge(2, 1000, 1000),
            'support_events_consumed_total{outcome="applied"}': Counter(50, 1),
        },
    ),
    "an event is given up": Fault(("SupportEventsDeadLettered",), {"support_events_dead_letters": Gauge(0, 1)}),
    "the probe fails": Fault(("SupportProbeFailing",), {'support_probe_success{job="support-probe"}': Gauge(1, 0)}),
    "the ingress leads elsewhere": Fault(("SupportIngressFailing",), {f'{PROBE},via="ingress"}}': Gauge(1, 0)}),
    "the service fails behind its ingress": Fault(
        ("SupportProbeFailing",), {f"{PROBE}}}": Gauge(1, 0), f'{PROBE},via="ingress"}}': Gauge(1, 0)}
    ),
    "the probe is gone": Fault(
        ("SupportProbeMissing",), {'support_probe_success{job="support-probe"}': Gauge(1, None)}
    ),
    "clocks are breached": Fault(
        ("SupportSlaBreaching",),
        {
            'support_sla_breached_total{target="resolution"}': Counter(0.1, 3),
            'support_sla_used_share_bucket{target="resolution",le="1.0"}': Counter(6, 6),
        },
    ),
    "all clocks are breached, and edges of buckets are named as OTLP does": Fault(
        ("SupportSlaBreaching",),
        {
            'support_sla_breached_total{target="firstResponse"}': Counter(0, 3),
            'support_sla_used_share_bucket{target="firstResponse",le="1"}': Counter(3, 0),
        },
    ),
    "as many clocks are breached as always, of many that end": Fault(
        (),
        {
            'support_sla_breached_total{target="resolution"}': Counter(1, 3),
            'support_sla_used_share_bucket{target="resolution",le="1.0"}': Counter(20, 20),
        },
    ),
    "breaches are not reported": Fault(
        ("SupportSlaClockStalled",), {"support_sla_unreported_age_seconds": Gauge(0, 60, 60)}
    ),
    "the audit log is not sealed": Fault(
        ("SupportAuditUnsealed",), {"support_audit_unsealed_age_seconds": Gauge(1, 60, 60)}
    ),
    "5 % of requests fail": Fault(
        ("SupportApiErrorBudgetBurnFast", "SupportApiErrorBudgetBurnSlow"),
        {_requests("200"): Counter(600, 570), _requests("500"): Counter(0, 30)},
        also_over=("SupportApiErrorBudgetBurnSlow",),
    ),
    "0.8 % of requests fail": Fault(
        ("SupportApiErrorBudgetBurnSlow",),
        {_requests("200"): Counter(595, 595), _requests("500"): Counter(5, 5)},
        also_over=("SupportApiErrorBudgetBurnSlow",),
    ),
    "another service's requests fail": Fault(
        (),
        {
            _requests("200"): Counter(600, 600),
            _requests("200", "order-service"): Counter(600, 300),
            _requests("500", "order-service"): Counter(0, 300),
        },
    ),
    "timelines are partial": Fault(
        ("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
        _reads(Counter(60, 30), Counter(0, 30)),
        also_over=("SupportTimelineErrorBudgetBurnSlow",),
    ),
    "timelines are partial, and edges of buckets are named as OTLP does": Fault(
        ("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
        _reads(Counter(60, 30), Counter(0, 30), edge="2"),
        also_over=("SupportTimelineErrorBudgetBurnSlow",),
    ),
    "a few timelines an hour, many of them partial": Fault(
        ("SupportTimelineErrorBudgetBurnSlow",),
        _reads(Counter(5, 3), Counter(0, 2)),
        also_over=("SupportTimelineErrorBudgetBurnSlow",),
    ),
    "complete timelines come late": Fault(
        ("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
        _reads(STEADY, Counter(), late=True),
        also_over=("SupportTimelineErrorBudgetBurnSlow",),
    ),
}
ALL = FAULTS | replica_faults.FAULTS | dependency_faults.FAULTS


def files(expressions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the test files by name, given the expressions of each group of rules: one file per set of groups.

    The test of a fault checks which alerts fire just before the repair, and which still fire after it. It loads the
    groups that name one of its series: all others have the same values as in the test of a healthy service.
    """
    tests: dict[frozenset[str], list[dict[str, Any]]] = {}
    for name, fault in ALL.items():
        tests.setdefault(_concerned(expressions, fault), []).append(_fault(name, fault))
    return {
        "-".join(["faults", *sorted(own)] if own else ["healthy"]): file_of(found, sorted(own or expressions))
        for own, found in tests.items()
    }


def _concerned(expressions: Mapping[str, str], fault: Fault) -> frozenset[str]:
    """Return the groups with an expression that names one of the fault's series."""
    metrics = {re.escape(series.partition("{")[0]) for series in fault.series}
    return frozenset(
        group for group, text in expressions.items() if any(re.search(rf"\b{each}\b", text) for each in metrics)
    )


def _fault(name: str, fault: Fault) -> dict[str, Any]:
    health = {series: f"{value}x200" for series, value in HEALTH.items()}
    series = health | {series: values.values() for series, values in fault.series.items()}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [firing(f"{TOLD}m", fault.alerts), firing(f"{fault.over}m", fault.also_over)],
    }
