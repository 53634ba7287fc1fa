"""Long tests of the rules: a quiet night and a noisy day without an alert, and faults that only hours or days show.

The evaluation interval is long where values change slowly, because each evaluation takes time.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from observability.faults import (
    EVALUATE_EVERY,
    PROBE_SERIES,
    UP_SERIES,
    CounterValues,
    Fault,
    GaugeValues,
    RestartedValues,
    expect_firing,
    promtool_test_file,
)
from observability.signal import GIB
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES

Phases = tuple[tuple[float, int], ...]  # of a counter: its growth a minute, and minutes

DAY_MINUTES = 1440  # minutes
NIGHT_MINUTES = 480  # minutes; longer than every window that an alert on rates needs (6 h)
NOISY_MINUTES = (
    480  # minutes of the noisy day, as long for the same reason; its traffic rises and falls three times as fast
)
BLOCK_MINUTES = 20  # minutes during which a counter grows evenly
RESTART_MINUTE = 300  # the minute of the noisy day at which replica `a` is replaced and its counters start at 0
SLOW_EVALUATION_INTERVAL = (
    "5m"  # evaluation interval of the night, where nothing changes, and of the week, for hourly averages
)
REPLICAS = ("a", "b")
UPTIME = 'process_uptime_seconds{job="support-service"}'
INSTANCE_LABEL = re.compile(r'instance="[^"]*",?|,instance="[^"]*"(?=})')
ANY_ALERT = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing",alertname!="Watchdog"}[1d]))'
LAG_BUCKET_SHARES = tuple(
    (edge, share) for edge, share in (("0.01", 0.9), ("0.1", 0.97), ("0.25", 0.99), ("0.5", 1.0), ("+Inf", 1.0))
)
STREAM_LAG_BUCKET_SHARES = (("1.0", 0.9), ("2.0", 0.97), ("5.0", 1.0), ("+Inf", 1.0))
REQUEST_BUCKET_SHARES = (("0.1", 0.9), ("0.75", 0.96), ("2.5", 1.0), ("+Inf", 1.0))
DURATION_BUCKET_SHARES = tuple(
    (edge, share) for edge, share in (("0.5", 0.9), ("2.0", 0.98), ("5.0", 1.0), ("+Inf", 1.0))
)

# Counters that grow with the traffic, and their growth a minute at the peak of 100 requests a minute.
COUNTER_PACES = {
    'support_timeline_cache_events_total{event="hit"}': 30.0,
    'support_timeline_cache_events_total{event="miss"}': 20.0,
    'support_timeline_cache_events_total{event="write"}': 20.0,
    'support_timeline_collection_failures_total{stage="http"}': 1.0,
    'support_timeline_collection_failures_total{stage="cache"}': 0.3,
    'support_timeline_cache_events_total{event="error"}': 0.3,
    'support_timeline_collect_seconds_count{source="remote"}': 20.0,
    'support_timeline_read_seconds_count{completeness="complete"}': 50.0,
    'support_timeline_read_seconds_bucket{completeness="complete",le="2.0"}': 49.9,
    'support_timeline_read_seconds_count{completeness="partial"}': 0.1,
    'support_timeline_read_seconds_bucket{completeness="partial",le="2.0"}': 0.1,
    'support_attachment_offloaded_total{to="s3",outcome="moved"}': 1.0,
    'support_attachment_offloaded_total{to="s3",outcome="failed"}': 0.2,
    'support_events_consumed_total{outcome="applied"}': 40.0,
    'support_ticket_created_total{channel="email"}': 2.0,
    'support_sla_breached_total{target="firstResponse"}': 0.1,
    'support_sla_used_share_bucket{target="firstResponse",le="1.0"}': 2.0,
}
COUNTER_PACES |= {
    f'db_client_operation_duration_seconds_count{{job="support-service",db_system_name="{system}",'
    f'db_operation_name="{operation}",error_type="{error}"}}': share
    for system, operation, error, share in (
        ("postgresql", "SELECT", "", 300.0),
        ("postgresql", "SELECT", "timeout", 0.5),
        ("postgresql", "SELECT", "_OTHER", 1.0),
        ("redis", "XADD", "", 40.0),
        ("redis", "XADD", "_OTHER", 0.3),
    )
}
COUNTER_PACES |= {
    f'support_access_authentications_total{{outcome="{outcome}"}}': share
    for outcome, share in (("accepted", 95.0), ("expired", 4.0), ("invalid", 1.0), ("missing", 1.0))
}
COUNTER_PACES |= {
    'support_audit_entries_total{action="case.changed"}': 20.0,
    'support_webhook_deliveries_total{endpoint="crm",outcome="delivered"}': 2.0,
    'support_webhook_deliveries_total{endpoint="crm",outcome="retried"}': 0.3,
    'support_request_received_total{synthetic="other"}': 100.0,
    'support_request_turned_away_total{reason="principal"}': 1.0,
}
COUNTER_PACES |= {
    f'support_timeline_source_seconds_count{{service="{service}",outcome="{outcome}"}}': share
    for service in UPSTREAM_SERVICES
    for outcome, share in (("ok", 20.0), ("not_found", 5.0), ("timeout", 1.0), ("error", 1.0))
}
COUNTER_PACES |= {
    f'http_server_request_duration_seconds_count{{job="support-service",http_route="{route}",'
    f'http_response_status_code="{status}"}}': share
    for route, status, share in (
        ("/support/cases", "200", 100.0),
        ("/support/cases", "500", 0.02),
        ("/support/cases", "422", 3.0),
        ("/support/cases", "404", 8.0),
        ("/metrics", "500", 1.0),
    )
}
COUNTER_PACES |= {
    f'support_timeline_collect_seconds_bucket{{source="remote",le="{edge}"}}': 20 * share
    for edge, share in DURATION_BUCKET_SHARES
}
COUNTER_PACES |= {
    f'support_stream_lag_seconds_bucket{{le="{edge}"}}': 240 * share for edge, share in STREAM_LAG_BUCKET_SHARES
}
OPENED = 'job="support-service",http_request_method="POST",http_route="/support/cases",http_response_status_code="201"'
COUNTER_PACES |= {f"http_server_request_duration_seconds_count{{{OPENED}}}": 40.0}
COUNTER_PACES |= {
    f'http_server_request_duration_seconds_bucket{{{OPENED},le="{edge}"}}': 40 * share
    for edge, share in REQUEST_BUCKET_SHARES
}
COUNTER_PACES |= {
    f'support_event_loop_lag_seconds_bucket{{le="{edge}"}}': 240 * share for edge, share in LAG_BUCKET_SHARES
}
QUIET_GAUGES: dict[str, float] = {
    "support_attachment_backlog_bytes": 2 * GIB,
    "support_attachment_disk_free_bytes": 18 * GIB,
    'support_attachment_volume{job="support-service"}': 7,
    'support_dependency_status{job="support-service",dependency="database",status="ok"}': 1,
    "support_events_outbox_oldest_seconds": 0,
    "support_events_stream_lag": 0,
    'support_webhook_overdue_age_seconds{endpoint="crm"}': 0,
    "support_stream_interrupted_seconds": 0,
    "support_events_dead_letters": 0,
    "support_audit_unsealed_age_seconds": 0,
    'support_attachment_unrepaired{kind="missing"}': 0,
    "support_sla_unreported_age_seconds": 0,
    'process_memory_usage_bytes{job="support-service"}': GIB // 2,
    'process_memory_limit_bytes{job="support-service"}': GIB,
    "support_access_keys_age_seconds": 200,
    "support_clock_offset_seconds": 1,
    'support_access_callers{outcome="accepted"}': 30,
    'support_access_callers{outcome="refused"}': 2,
    'support_access_callers{outcome="writing"}': 20,
    'support_access_callers{outcome="forbidden"}': 1,
    'support_certificate_expires_seconds{target="order"}': 30 * 86_400,
}
# A gauge's values in the noisy day: (minutes, value), repeated.
NOISY_GAUGES = {
    'support_webhook_overdue_age_seconds{endpoint="crm"}': ((115, 4), (5, 150)),
    "support_attachment_backlog_bytes": ((50, 2 * GIB), (30, 2 * GIB + 26_214_400), (40, 2 * GIB + 78_643_200)),
    "support_events_outbox_oldest_seconds": ((118, 0), (1, 90), (1, 130)),
    "support_events_stream_lag": ((57, 3), (3, 400)),
    "support_stream_interrupted_seconds": ((110, 0), (5, 150), (5, 310)),
    "support_audit_unsealed_age_seconds": ((115, 1), (1, 290), (4, 350)),
    "support_sla_unreported_age_seconds": ((58, 2), (1, 90), (1, 130)),
}


def quiet_night_test(faults: Mapping[str, Fault]) -> dict[str, Any]:
    """Return the test of a night without requests: counters at 0, gauges at rest."""
    paces, quiet = usual_values(faults)
    counters = [_input_series(name, replica, f"0x{NIGHT_MINUTES}") for name in paces for replica in REPLICAS]
    gauges = [_input_series(name, "a", f"{value}x{NIGHT_MINUTES}") for name, value in quiet.items()]
    gauges.append(_input_series(UPTIME, "a", f"60+60x{NIGHT_MINUTES}"))
    alive = _health_series(f"1x{NIGHT_MINUTES}", f"1x{NIGHT_MINUTES}")
    return _test_without_alerts(
        "a night without a call", NIGHT_MINUTES, counters + gauges + alive, SLOW_EVALUATION_INTERVAL
    )


def usual_values(faults: Mapping[str, Fault]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the growth of every counter and the value of every gauge while nothing is wrong.

    A metric that the tables above do not have has the usual values of the faults that show it.
    """
    tabled = {name.partition("{")[0] for name in (*COUNTER_PACES, *QUIET_GAUGES, PROBE_SERIES, UP_SERIES)}
    paces, gauges = dict(COUNTER_PACES), dict(QUIET_GAUGES)
    for series, values in ((name, each) for fault in faults.values() for name, each in fault.series.items()):
        name = INSTANCE_LABEL.sub("", series).replace("{}", "")
        if name.partition("{")[0] in tabled:
            continue
        if isinstance(values, CounterValues):
            paces[name] = max(values.usual, paces.get(name, 0))
        elif isinstance(values, GaugeValues | RestartedValues) and values.usual is not None:
            gauges.setdefault(name, values.usual)
    return paces, gauges


def noisy_day_test(faults: Mapping[str, Fault]) -> dict[str, Any]:
    """Return the test of a noisy day.

    It has rush hours, single failures, large files, a replica that restarts, and a probe that fails once an hour.
    """
    draw = random.Random(8)
    growths, quiet = usual_values(faults)
    paces = [
        _busyness(draw, block * BLOCK_MINUTES * DAY_MINUTES // NOISY_MINUTES)
        for block in range(NOISY_MINUTES // BLOCK_MINUTES)
    ]
    counters = [
        _input_series(name, replica, _counter_values([pace * share for pace in paces], restarts=replica == "a"))
        for name, share in growths.items()
        for replica in REPLICAS
    ]
    gauges = [
        _input_series(name, "a", _cyclic_values(NOISY_GAUGES.get(name, ((NOISY_MINUTES, value),))))
        for name, value in quiet.items()
    ]
    uptime = f"60+60x{RESTART_MINUTE - 1} 15+60x{NOISY_MINUTES - RESTART_MINUTE}"
    gauges.append(_input_series(UPTIME, "a", uptime))
    alive = _health_series(f"1x{RESTART_MINUTE - 1} 0x1 1x600", _cyclic_values(((56, 1), (4, 0))))
    return _test_without_alerts("a noisy day", NOISY_MINUTES, counters + gauges + alive)


def eight_days_test() -> dict[str, Any]:
    """Return the test of eight days with 120 new cases an hour.

    On the eighth day a spike, then a fifth of the usual, then silence, then usual traffic. Jobs close cases and remove
    files each night. On the last day, scripts close and remove four times as many.
    """
    last = 7 * DAY_MINUTES
    opened = ((2, last + 60), (18, 30), (2, 60), (0.4, 50), (2, 10), (0, 40), (2, 60))  # (cases a minute, minutes)
    anomaly = 'SupportTicketTrafficAnomaly{direction="%s"}'
    silence = anomaly % "silence"
    moments = {59: (), 85: (anomaly % "spike",), 95: (), 200: (), 234: (silence,), 249: (silence, "SupportNoTraffic")}
    # Each night 3,000 cases are closed and 300 files removed; on the last day 12,000 and 1,200 at once.
    moments |= {18: (), 109: ("SupportMassChange",), 130: (), 149: ("SupportMassChange",), 170: ()}
    moments[260] = ()  # at the second evaluation after the requests go on, as it is kept for a while
    nights = ((200, 15), (0, 1425)) * 7
    closed = (*nights, (200, 15), (0, 75), (800, 15), (0, 200))
    removed = tuple((pace / 10, minutes) for pace, minutes in (*nights, (200, 15), (0, 115), (800, 15), (0, 160)))
    # Requests end 225 minutes into the last day, after those for cases, and go on 25 minutes later.
    requests = ((5, last + 225), (0, 25), (5, 60))
    counters = {
        'support_ticket_created_total{channel="email"}': opened,
        'support_request_received_total{synthetic="other"}': requests,
        'support_audit_entries_total{action="case.closed"}': closed,
        'support_audit_entries_total{action="attachment.removed"}': removed,
    }
    at = {last + minute: alerts for minute, alerts in moments.items()}
    return _test_in_phases(["traffic"], [("a flood of cases, then none, then no request", counters, at)])


def slow_days_test() -> dict[str, Any]:
    """Return the test of two days with a route that is always slow, and of another that becomes eight times slower."""
    last = 2 * DAY_MINUTES
    counters = {}
    for route, slow_from in (("/support/views", 0), ("/support/cases", last)):
        labels = f'job="support-service",http_request_method="GET",http_route="{route}"'
        fast, slow = ((12, slow_from), (0, last + 60 - slow_from)), ((12, last + 60),)
        for edge, phases in (("0.1", ((0, last + 60),)), ("0.25", fast), ("1.0", fast), ("2.0", slow), ("+Inf", slow)):
            counters[f'http_server_request_duration_seconds_bucket{{{labels},le="{edge}"}}'] = phases
        counters[f"http_server_request_duration_seconds_count{{{labels}}}"] = slow
    at = {last - 1: (), last + 30: ('SupportApiLatencyHigh{http_route="/support/cases"}',)}
    return _test_in_phases(["service"], [("a route is slow, and another one always is", counters, at)])


def budget_days_test() -> dict[str, Any]:
    """Return the tests of budgets that burn for hours: slowly, and faster after days without a failure."""
    both = ("SupportApiErrorBudgetBurnSlow", "SupportTimelineErrorBudgetBurnSlow")

    def counters(share: float, *phases: tuple[float, int], last: tuple[float, int]) -> dict[str, Phases]:
        """Return requests and reads in phases (a minute, minutes). That share of the last requests fails."""
        http = 'http_server_request_duration_seconds_count{job="support-service",http_route="/support/cases"'
        none = tuple((0.0, minutes) for _, minutes in phases)
        pace, minutes = last
        reads = 'support_timeline_read_seconds_%s{completeness="complete"%s}'
        complete = (*phases, (pace * (1 - 10 * share), minutes))
        return {
            http + ',http_response_status_code="200"}': (*phases, (pace * (1 - share), minutes)),
            http + ',http_response_status_code="500"}': (*none, (pace * share, minutes)),
            reads % ("count", ""): complete,
            reads % ("bucket", ',le="2.0"'): complete,
            'support_timeline_read_seconds_count{completeness="partial"}': (*none, (pace * 10 * share, minutes)),
        }

    return _test_in_phases(
        ["objectives"],
        [
            ("one request in 500 fails, and one timeline in 50", counters(0.002, last=(1 / 6, 480)), {479: both}),
            # Most requests of the three days are in the first hours, and none of them fails.
            (
                "one request in 80 fails for hours, and one timeline in 8",
                counters(0.012, (100, 360), (2, 360), last=(2, 270)),
                {720: (), 989: both},
            ),
        ],
    )


def _test_in_phases(
    groups: Sequence[str], tests: Sequence[tuple[str, Mapping[str, Phases], Mapping[int, tuple[str, ...]]]]
) -> dict[str, Any]:
    """Return tests of hours or days, each with its name, counters by phases, and what fires at which minute.

    They load few groups of rules: evaluating all of them for days takes a minute.
    """
    return promtool_test_file(
        [
            {
                "name": name,
                "interval": "1m",
                "input_series": [
                    *(_input_series(series, "a", _phased_values(phases)) for series, phases in counters.items()),
                    *_health_series(f"1x{8 * DAY_MINUTES}", f"1x{8 * DAY_MINUTES}"),
                ],
                "promql_expr_test": [expect_firing(f"{minute}m", alerts) for minute, alerts in moments.items()],
            }
            for name, counters, moments in tests
        ],
        groups,
        SLOW_EVALUATION_INTERVAL,
    )


def _phased_values(phases: Phases) -> str:
    """Return a counter's values in promtool's notation, from its growth a minute in each phase."""
    parts, at = ["0"], 0.0
    for pace, minutes in phases:
        if minutes:
            parts.append(f"{at + pace:.12g}{pace:+.12g}x{minutes - 1}")
            at += pace * minutes
    return " ".join(parts)


def _test_without_alerts(
    name: str, minutes: int, series: list[dict[str, str]], evaluate_every: str = EVALUATE_EVERY
) -> dict[str, Any]:
    """Return a test in which no alert fires at any time."""
    silent = {"expr": ANY_ALERT, "eval_time": f"{minutes - 1}m", "exp_samples": []}
    test = {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": [silent]}
    return promtool_test_file([test], evaluate_every=evaluate_every)


def _health_series(a: str, probe: str) -> list[dict[str, str]]:
    ups = {
        'up{job="support-service",instance="a"}': a,
        'up{job="support-service",instance="b"}': f"1x{8 * DAY_MINUTES}",
    }
    return [{"series": series, "values": values} for series, values in (ups | {PROBE_SERIES: probe}).items()]


def _input_series(name: str, replica: str, values: str) -> dict[str, str]:
    metric, _, labels = name.partition("{")
    return {"series": f'{metric}{{instance="{replica}"' + (f",{labels}" if labels else "}"), "values": values}


def _busyness(draw: random.Random, minute: int) -> float:
    """Return how busy a part of the day is, from 0.03 at night to 1 at its peak."""
    hour = minute / 60
    return max(0.03, 1 - abs(hour - 14) / 8) * draw.uniform(0.6, 1.0)


def _counter_values(paces: list[float], *, restarts: bool) -> str:
    parts, at = [], 0.0
    for number, pace in enumerate(paces):
        if restarts and number * BLOCK_MINUTES == RESTART_MINUTE:
            at = 0.0
        parts.append(f"{at:.6f}+{pace:.6f}x{BLOCK_MINUTES - 1}")
        at += pace * BLOCK_MINUTES
    return " ".join(parts)


def _cyclic_values(cycle: tuple[tuple[int, float], ...]) -> str:
    length = sum(minutes for minutes, _ in cycle)
    return " ".join(f"{value:.12g}x{minutes - 1}" for _ in range(NOISY_MINUTES // length) for minutes, value in cycle)
