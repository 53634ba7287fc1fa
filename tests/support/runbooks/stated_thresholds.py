"""What each runbook says about the threshold of its alert."""

from observability import thresholds as t

GIB = "GiB"
# What an entry says about its alert's threshold, made of the constants that the alert uses.
STATED_THRESHOLDS = {
    "support-timeline-latency-high.md": (f"{t.LATENCY_P95:g} s", t.SLOW_FOR, f"{t.LATENCY_READS} ", t.SYMPTOM_WINDOW),
    **dict.fromkeys(
        ("support-redis-failing.md", "support-timeline-cache-errors.md"),
        (f"{t.REDIS_ERROR_SHARE * 100:g} %", f"{t.REDIS_ERRORS} ", t.SYMPTOM_WINDOW, t.CAUSE_FOR),
    ),
    "support-redis-evicting.md": (t.CAUSE_FOR,),
    "support-uploads-refused.md": (
        f"{t.UPLOADS_REFUSED_SHARE * 100:g} %",
        f"{t.UPLOADS_REFUSED} ",
        t.WINDOW,
        t.CAUSE_FOR,
    ),
    "support-database-failing.md": (
        f"{t.DATABASE_ERROR_SHARE * 100:g} %",
        f"{t.DATABASE_ERRORS} ",
        t.SYMPTOM_WINDOW,
        t.DATABASE_FOR,
    ),
    "support-access-refused.md": (f"{t.REFUSED_SHARE * 100:g} %", f"{t.REFUSALS} request", t.WINDOW, t.ACCESS_FOR),
    "support-access-keys-stale.md": (f"{t.KEYS_AGE} s", t.CAUSE_FOR),
    "support-requests-turned-away.md": (
        f"{t.TURNED_AWAY_SHARE * 100:g} %",
        f"{t.TURNED_AWAY} request",
        t.SYMPTOM_WINDOW,
        t.SYMPTOM_FOR,
    ),
    "support-client-errors-high.md": (
        f"{t.CLIENT_ERROR_SHARE * 100:g} %",
        f" {t.CLIENT_ERRORS},",
        t.SYMPTOM_WINDOW,
        t.SYMPTOM_FOR,
    ),
    "support-webhooks-failing.md": (f"{t.WEBHOOK_FAILURES} ", t.WEBHOOK_WINDOW, t.WINDOW, t.SYMPTOM_FOR),
    "support-certificate-expiring.md": (f"{t.CERTIFICATE_DAYS}d", t.SLOW_FOR),
    "support-replica-down.md": (t.REPLICA_DOWN_FOR,),
    "support-replica-not-ready.md": (t.NOT_READY_FOR,),
    "support-ingress-failing.md": (t.INGRESS_FOR,),
    "support-restart-loop.md": (f"{t.RESTARTS} ", t.RESTART_WINDOW),
    "support-replica-saturated.md": (
        f"{t.MEMORY_SHARE * 100:g} %",
        f"{t.SATURATED_SHARE * 100:g} %",
        t.SYMPTOM_FOR,
    ),
    "support-clock-offset.md": (f"{t.CLOCK_OFFSET} s", t.SYMPTOM_FOR),
    "support-metrics-missing.md": (t.METRICS_MISSING_FOR,),
    "support-probe-flapping.md": (
        f"{t.PROBE_SHARE * 100:g} %",
        t.PROBE_WINDOW,
        t.PROBE_RECENT,
        t.PROBE_FLAPPING_FOR,
    ),
    "support-no-traffic.md": (f"{t.NO_TRAFFIC_EXPECTED} request", t.NO_TRAFFIC_WINDOW, t.CAUSE_FOR),
    "support-timeline-cache-miss-surge.md": (
        f"{t.MISS_SHARE * 100:g} %",
        f"{t.MISS_SURGE:g}",
        f"{t.MISS_READS} ",
        t.SYMPTOM_WINDOW,
    ),
    "support-timeline-collection-failures.md": (f"{t.FAILURES} ", t.SYMPTOM_WINDOW, t.SYMPTOM_FOR),
    "support-timeline-source-down.md": (
        f"{t.SOURCE_DOWN_SHARE * 100:g} %",
        f"{t.SOURCE_CALLS} ",
        t.SOURCE_WINDOW,
        t.CAUSE_FOR,
    ),
    "support-attachment-backlog-high.md": (
        f"{t.BACKLOG_BYTES // t.GIB} {GIB}",
        f"{t.BACKLOG_DISK_SHARE * 100:g} %",
        t.SLOW_FOR,
    ),
    "support-attachment-growth-rapid.md": (f"{t.GROWTH_HORIZON // 3600}h", t.GROWTH_WINDOW, t.GROWTH_FOR),
    "support-attachment-disk-full.md": (f"{t.DISK_FREE // t.GIB} {GIB}", t.CAUSE_FOR),
    "support-attachment-offload-failing.md": (f"{t.OFFLOAD_FAILURES} file", t.OFFLOAD_WINDOW, t.WINDOW),
    "support-attachment-integrity.md": (t.DAMAGE_WINDOW, t.SWEEP_KEPT, t.SWEEP_UNHEARD),
    "support-outbox-stalled.md": (f"{t.OUTBOX_AGE} s", t.SYMPTOM_FOR),
    "support-events-consumer-stalled.md": (f"{t.STREAM_WAITING} event", t.WINDOW, t.EVENTS_FOR),
    "support-stream-lag-high.md": (f"{t.STREAM_LAG_P95:g} s", f"{t.STREAM_INTERRUPTED} s", t.SYMPTOM_FOR),
    "support-sla-breaching.md": (
        f"{t.SLA_BREACHES} ",
        f"{t.SLA_BREACH_SHARE * 100:g} %",
        t.SLA_WINDOW,
        t.WINDOW,
        t.CAUSE_FOR,
    ),
    "support-sla-clock-stalled.md": (f"{t.SLA_UNREPORTED_AGE} s", t.EVENTS_FOR),
    "support-probe-failing.md": (t.PROBE_FOR,),
    "support-probe-missing.md": (t.PROBE_MISSING_FOR,),
    "support-service-down.md": (t.DOWN_FOR,),
    "support-event-loop-lag.md": (
        f"{t.LOOP_LAG_P95:g} s",
        f"{t.LOOP_LAG_LONG:g} s",
        t.LOOP_LAG_LONG_FOR,
        t.SYMPTOM_FOR,
    ),
    "support-audit-unsealed.md": (f"{t.AUDIT_AGE} s", t.SYMPTOM_FOR),
    "support-ticket-traffic-anomaly.md": (
        f"{t.TRAFFIC_SPIKE} ",
        f"{t.TRAFFIC_SILENCE * 100:g} %",
        f"{t.TRAFFIC_SPIKE_FLOOR} ",
        f"{t.TRAFFIC_DAYS} ",
        t.SPIKE_WINDOW,
        t.SILENCE_WINDOW,
    ),
    **{
        f"support-{key}-error-budget-burn-fast.md": (
            f"{t.BURN_FAST * (1 - share) * 100:.3g} %",
            f"{t.BURN_FAST:g} ",
            *t.BURN_FAST_WINDOWS,
            f"{t.BURN_REQUESTS} ",
            t.BURN_FAST_FOR,
        )
        for key, share in (("api", t.OBJECTIVE_API), ("timeline", t.OBJECTIVE_TIMELINE))
    },
    **{
        f"support-{key}-error-budget-burn-slow.md": (
            f"{t.BURN_MEDIUM * (1 - share) * 100:.3g} %",
            f"{t.BURN_SLOW * (1 - share) * 100:.3g} %",
            *t.BURN_MEDIUM_WINDOWS,
            *t.BURN_SLOW_WINDOWS,
            f"{t.BURN_REQUESTS} ",
            t.BURN_SLOW_FOR,
        )
        for key, share in (("api", t.OBJECTIVE_API), ("timeline", t.OBJECTIVE_TIMELINE))
    },
}
