"""Panels on what the service needs and calls: the database, Redis, webhooks, and certificates of servers."""

from observability import thresholds as t

from grafana.panel import JOB, Panel, Query, Row, rate, series, share

OPERATIONS = "db_client_operation_duration_seconds_count"
DATABASE, REDIS = 'db_system_name!="redis"', 'db_system_name="redis"'
FAILED = 'error_type!=""'

DEPENDENCIES = Row(
    "Dependencies",
    (
        Panel(
            "Support database errors",
            "Share of database operations that fail, by replica; on the right, timeouts a second: a lock, a slow "
            "statement, or no free connection. Normal: 0.",
            (
                Query(
                    share(
                        rate(OPERATIONS, "instance", f"{DATABASE},{FAILED}", t.SYMPTOM_WINDOW),
                        rate(OPERATIONS, "instance", DATABASE, t.SYMPTOM_WINDOW),
                    ),
                    "{{instance}}",
                ),
                Query(
                    rate(OPERATIONS, where=f'{DATABASE},error_type="timeout"') + " or vector(0)",
                    "timeouts",
                    right="ops",
                ),
            ),
            "percentunit",
            t.DATABASE_ERROR_SHARE,
            alerts=("SupportDatabaseFailing",),
            top=1,
        ),
        Panel(
            "Support Redis errors",
            "Share of operations on Redis that fail: those of event streams begin with X. Normal: 0.",
            (
                Query(
                    share(
                        rate(OPERATIONS, "db_operation_name", f"{REDIS},{FAILED}", t.SYMPTOM_WINDOW),
                        rate(OPERATIONS, "db_operation_name", REDIS, t.SYMPTOM_WINDOW),
                    ),
                    "{{db_operation_name}}",
                ),
            ),
            "percentunit",
            t.REDIS_ERROR_SHARE,
            alerts=("SupportRedisFailing",),
            top=1,
        ),
        Panel(
            "Support Redis memory",
            "Used share of Redis's maxmemory; on the right, keys that it evicts. Normal: under 80 %, and nothing is "
            "evicted from the server of events. No data without a maxmemory.",
            (
                Query(
                    "max by (server) (support_redis_memory_usage_bytes{JOB}) / "
                    "(max by (server) (support_redis_memory_limit_bytes{JOB}) > 0)".replace("JOB", JOB),
                    "{{server}}",
                ),
                Query(
                    f"max by (server) (rate({series('support_redis_evicted_keys_total')}[$__rate_interval]))",
                    "evicted: {{server}}",
                    right="ops",
                ),
            ),
            "percentunit",
            alerts=("SupportTimelineCacheErrors", "SupportRedisFailing", "SupportRedisEvicting"),
        ),
        Panel(
            "Support Redis role",
            "The role of each Redis server. Normal: master. replica: after a failover the address leads to the wrong "
            "server, which refuses changes.",
            (Query(f"max by (server, role) ({series('support_redis_role')})", "{{server}}: {{role}}"),),
            "short",
            alerts=("SupportTimelineCacheErrors", "SupportRedisFailing"),
            kind="states",
            words={"1": "yes"},
        ),
        Panel(
            "Support webhook deliveries",
            "Attempts to deliver events by webhook and outcome. Normal: delivered, and a few retried.",
            (
                Query(
                    rate("support_webhook_deliveries_total", "endpoint, outcome") + " > 0",
                    "{{endpoint}} {{outcome}}",
                ),
            ),
            "ops",
            alerts=("SupportWebhooksFailing",),
        ),
        Panel(
            "Support certificates",
            "Time until the certificate of each server expires that the service calls over https.",
            (Query(f"min by (target) ({series('support_certificate_expires_seconds')})", "{{target}}"),),
            "s",
            t.CERTIFICATE_DAYS * 86_400,
            low=True,
            alerts=("SupportCertificateExpiring",),
        ),
    ),
)
