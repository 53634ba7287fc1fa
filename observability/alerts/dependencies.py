"""Alerts on what the service needs and calls: the database, Redis, webhooks, and certificates of servers."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds
from observability.alerts.redis_cause import redis_cause
from observability.alerts.timeline import CACHE_FAILING

W = t.SYMPTOM_WINDOW
OPERATIONS = 'db_client_operation_duration_seconds_count{job="support-service",'
DATABASE = f'{OPERATIONS}db_system_name!="redis"'
STREAMS = f'{OPERATIONS}db_system_name="redis",db_operation_name=~"X.+"'
DELIVERIES = "support_webhook_deliveries_total"


def _database(where: str = "") -> str:
    return f"sum by (instance) (increase({DATABASE}{where}}}[{W}]))"


def _streams(where: str = "") -> str:
    return f"sum(increase({STREAMS}{where}}}[{W}]))"


FAILED, TIMEOUT = ',error_type!=""', ',error_type="timeout"'

ALERTS = (
    Alert(
        "SupportDatabaseFailing",
        ("the database fails", "database lỗi"),
        f"({_database(FAILED)} / {_database()} > {t.DATABASE_ERROR_SHARE}"
        f" and {_database(FAILED)} >= {t.DATABASE_ERRORS})"
        f" or ({_database(FAILED)} / {_database()} and {_database(TIMEOUT)} >= {t.DATABASE_ERRORS})",
        t.DATABASE_FOR,
        "critical",
        "Agents cannot read or change cases: {{ $value | humanizePercentage }} of the database operations of "
        "{{ $labels.instance }} fail",
        "{{ $value | humanizePercentage }} of the database operations of {{ $labels.instance }} fail (limit "
        f"{t.DATABASE_ERROR_SHARE:.0%} and {t.DATABASE_ERRORS} errors, or {t.DATABASE_ERRORS} timeouts, in {W}). "
        "Requests about cases are answered with 503; acknowledged data is not lost.",
        "Support database errors",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportRedisFailing",
        ("the Redis of events fails", "Redis của event lỗi"),
        # Errors of the cache too: it is the same Redis, and SupportTimelineCacheErrors fires.
        f"{_streams(FAILED)} / {_streams()} > {t.REDIS_ERROR_SHARE} and {_streams(FAILED)} >= {t.REDIS_ERRORS}"
        f" unless on () ({CACHE_FAILING})",
        t.CAUSE_FOR,
        "warning",
        f"Redis fails, events of cases are stopped{redis_cause('events')}",
        "Redis errors for {{ $value | humanizePercentage }} of the operations on event streams (limit "
        f"{t.REDIS_ERROR_SHARE:.0%} and {t.REDIS_ERRORS} errors in {W}). No event is published or applied until Redis "
        "works.",
        "Support Redis errors",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportRedisEvicting",
        ("Redis may evict event streams", "Redis có thể loại stream event"),
        'max by (policy) (support_redis_eviction_policy{server="events",policy=~"allkeys.+"}) == 1',
        t.CAUSE_FOR,
        "warning",
        "Redis may evict event streams: its eviction policy is {{ $labels.policy }}",
        "{{ $value }} Redis of event streams has the eviction policy {{ $labels.policy }} (limit 0). When its memory "
        "is full, it deletes streams, and with them events that are not applied yet.",
        "Support Redis memory",
    ),
    Alert(
        "SupportWebhooksFailing",
        ("a webhook receives no events", "một webhook không nhận được event"),
        f'sum by (endpoint) (increase({DELIVERIES}{{outcome=~"retried|failed"}}[{t.WEBHOOK_WINDOW}]))'
        f" >= {t.WEBHOOK_FAILURES}"
        f' unless sum by (endpoint) (increase({DELIVERIES}{{outcome="delivered"}}[{t.WINDOW}])) > 0',
        t.SYMPTOM_FOR,
        "warning",
        "The webhook {{ $labels.endpoint }} receives no events",
        "{{ $value | humanize }} deliveries to the webhook {{ $labels.endpoint }} failed in "
        f"{t.WEBHOOK_WINDOW}, and none succeeded in {t.WINDOW} (limit {t.WEBHOOK_FAILURES} failures). They are "
        "repeated for one day.",
        "Support webhook deliveries",
    ),
    Alert(
        "SupportCertificateExpiring",
        ("a certificate expires soon", "một chứng chỉ sắp hết hạn"),
        f"min by (target) (support_certificate_expires_seconds) < {seconds(t.CERTIFICATE_DAYS * 86_400)}",
        t.SLOW_FOR,
        "warning",
        "The certificate of {{ $labels.target }} expires in {{ $value | humanizeDuration }}",
        "The certificate of the server {{ $labels.target }} expires in {{ $value | humanizeDuration }} (limit "
        f"{t.CERTIFICATE_DAYS} days). Afterwards the service refuses to call it.",
        "Support certificates",
    ),
)
