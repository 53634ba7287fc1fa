"""Tests of alerts on replicas, on missing metrics, and on a probe that fails at times."""

from observability import thresholds as t
from observability.alerts.alert import of
from observability.rule_tests.notation import REPAIRED, Counter, Crashing, Fault, Flapping, Gauge, Values

JOB = 'job="support-service",instance="a"'
UP, OTHER_UP = f"up{{{JOB}}}", 'up{job="support-service",instance="b"}'
PROBE = 'support_probe_success{job="support-probe"}'
POOL = f'{JOB},db_client_connection_pool_name="database"'
SATURATED = 'SupportReplicaSaturated{instance="a",resource="%s"}'
READY, OTHER_READY = f"support_replica_ready{{{JOB}}}", 'support_replica_ready{job="support-service",instance="b"}'
NOT_READY = 'SupportReplicaNotReady{instance="a"}'
DOWN = 'SupportReplicaDown{instance="a"}'


def _lag(**late: float) -> dict[str, Values]:
    """Return a loop whose timers are late: how many of 240 a minute take at most each bucket's edge."""
    edges = {"0.01": late.get("fast", 0), "0.1": late.get("usual", 0), "0.25": late.get("slow", 0), "0.5": 240}
    return {
        f'support_event_loop_lag_seconds_bucket{{instance="a",le="{edge}"}}': Counter(240, count)
        for edge, count in (edges | {"+Inf": 240}).items()
    }


FAULTS = {
    "the service is down": Fault(
        ("SupportServiceDown", "SupportProbeFailing"),
        {UP: Gauge(1, 0), PROBE: Gauge(1, 0)},
    ),
    "the service and the probe are gone": Fault(
        ("SupportServiceDown", "SupportProbeMissing"), {UP: Gauge(1, None), PROBE: Gauge(1, None)}
    ),
    "Prometheus cannot reach the service": Fault(("SupportMetricsMissing",), {UP: Gauge(1, 0)}),
    "one of two replicas is down": Fault((DOWN,), {UP: Gauge(1, 0), OTHER_UP: Gauge(1, 1)}),
    "a replica never becomes ready": Fault((NOT_READY,), {READY: Gauge(1, 0)}),
    "a replica is not ready at times": Fault((), {READY: Gauge(1, 1), OTHER_READY: Flapping()}),
    "a replica crashes every three minutes": Fault(
        ('SupportRestartLoop{instance="a"}',),
        {f"process_uptime_seconds{{{JOB}}}": Crashing()},
        over=REPAIRED + of(t.RESTART_WINDOW) // 60 - 2 * t.RESTARTS,
    ),
    "the loop is late": Fault(('SupportEventLoopLag{instance="a"}',), _lag(slow=20)),
    "the loop is a little late for long": Fault(('SupportEventLoopLag{instance="a"}',), _lag(usual=20, slow=240)),
    "the loop is as late as under load": Fault((), _lag(fast=120, usual=240, slow=240)),
    "the memory is nearly used": Fault(
        (SATURATED % "memory",),
        {
            f"process_memory_usage_bytes{{{JOB}}}": Gauge(5e8, 9e8),
            f"process_memory_limit_bytes{{{JOB}}}": Gauge(1e9, 1e9),
        },
    ),
    "files are left open": Fault(
        (SATURATED % "file descriptors",),
        {
            f"process_unix_file_descriptors{{{JOB}}}": Gauge(200, 950),
            f"process_unix_file_descriptor_limit{{{JOB}}}": Gauge(1024, 1024),
        },
    ),
    "all connections to the database are used": Fault(
        (SATURATED % "database connections",),
        {
            f'db_client_connections{{{POOL},db_client_connection_state="used"}}': Gauge(3, 10),
            f"db_client_connection_max{{{POOL}}}": Gauge(10, 10),
        },
    ),
    "most connections to the database are used": Fault(
        (),
        {
            f'db_client_connections{{{POOL},db_client_connection_state="used"}}': Gauge(3, 8),
            f"db_client_connection_max{{{POOL}}}": Gauge(10, 10),
        },
    ),
    "a clock is ten minutes late": Fault(
        ('SupportClockOffset{instance="a"}',), {'support_clock_offset_seconds{instance="a"}': Gauge(0.01, -600)}
    ),
    "a clock is two seconds ahead": Fault((), {'support_clock_offset_seconds{instance="a"}': Gauge(0.01, 2)}),
    "the probe fails at every other run": Fault(("SupportProbeFlapping",), {PROBE: Flapping()}),
}
