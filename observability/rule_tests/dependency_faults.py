"""Tests of alerts on the database, Redis, webhooks, certificates, authentication and refused requests."""

from observability.rule_tests.notation import REPAIRED, Counter, Fault, Gauge, Values

DAY = 86_400
ROUTE = "/support/cases"
ROUTES_ERRORS = f'SupportClientErrorsHigh{{http_route="{ROUTE}"}}'


def _database(error: str = "", instance: str = "a") -> str:
    labels = f'job="support-service",instance="{instance}",db_system_name="postgresql",db_operation_name="SELECT"'
    return f'db_client_operation_duration_seconds_count{{{labels},error_type="{error}"}}'


def _streams(error: str = "") -> str:
    labels = f'job="support-service",db_system_name="redis",db_operation_name="XADD",error_type="{error}"'
    return f"db_client_operation_duration_seconds_count{{{labels}}}"


def _cache(name: str) -> str:
    return f'support_timeline_cache_events_total{{event="{name}"}}'


def _authentications(outcome: str) -> str:
    return f'support_access_authentications_total{{outcome="{outcome}"}}'


def _deliveries(endpoint: str, outcome: str) -> str:
    return f'support_webhook_deliveries_total{{endpoint="{endpoint}",outcome="{outcome}"}}'


def _answers(status: str, route: str = ROUTE) -> str:
    labels = f'job="support-service",http_route="{route}",http_response_status_code="{status}"'
    return f"http_server_request_duration_seconds_count{{{labels}}}"


def _received(a_minute: float) -> dict[str, Values]:
    return {'support_request_received_total{synthetic="other"}': Counter(a_minute, a_minute)}


FAULTS = {
    "PostgreSQL is down for one of two replicas": Fault(
        ('SupportDatabaseFailing{instance="a"}',),
        {
            _database(): Counter(300, 10),
            _database("_OTHER"): Counter(0, 100),
            _database(instance="b"): Counter(300, 300),
            _database("_OTHER", "b"): Counter(0, 0.5),
        },
    ),
    "a few statements of many wait for a lock": Fault(
        ('SupportDatabaseFailing{instance="a"}',),
        {_database(): Counter(3000, 3000), _database("timeout"): Counter(0, 6)},
    ),
    "a few operations of many fail": Fault((), {_database(): Counter(3000, 3000), _database("_OTHER"): Counter(0, 30)}),
    "Redis is down": Fault(
        (
            "SupportTimelineCacheErrors",
            "SupportTimelineCacheMissSurge",
        ),
        {
            _cache("hit"): Counter(40, 0),
            _cache("miss"): Counter(20, 60),
            _cache("error"): Counter(0, 60),
            'support_timeline_collection_failures_total{stage="cache"}': Counter(0, 60),
            _streams(): Counter(60, 0),
            _streams("_OTHER"): Counter(0, 12),
        },
    ),
    "the Redis of events is down": Fault(
        ("SupportRedisFailing",), {_streams(): Counter(60, 0), _streams("timeout"): Counter(0, 4)}
    ),
    "an operation on Redis in fifty fails": Fault((), {_streams(): Counter(98, 98), _streams("_OTHER"): Counter(2, 2)}),
    "the Redis of events may evict": Fault(
        ("SupportRedisEvicting",),
        {
            'support_redis_eviction_policy{server="events",policy="allkeys-lru"}': Gauge(0, 1),
            'support_redis_eviction_policy{server="events",policy="noeviction"}': Gauge(1, 0),
            'support_redis_eviction_policy{server="cache",policy="allkeys-lru"}': Gauge(1, 1),
        },
    ),
    "S3 refuses uploads": Fault(
        ("SupportUploadsRefused",),
        {
            'support_attachment_rejected_total{reason="storage_unavailable"}': Counter(0, 8),
            'support_attachment_stored_total{content_type="image/png"}': Counter(10, 2),
        },
        over=REPAIRED + 8,
    ),
    "one of ten replicas lacks its volume": Fault(
        ("SupportUploadsRefused",),
        {
            'support_attachment_rejected_total{reason="storage_unavailable"}': Counter(0, 3),
            'support_attachment_stored_total{content_type="image/png"}': Counter(30, 27),
        },
        over=REPAIRED + 8,
    ),
    "clients send files that are too large": Fault(
        (),
        {
            'support_attachment_rejected_total{reason="attachment_too_large"}': Counter(0, 8),
            'support_attachment_rejected_total{reason="storage_unavailable"}': Counter(0, 0.5),
            'support_attachment_stored_total{content_type="image/png"}': Counter(10, 2),
        },
    ),
    "a webhook is down": Fault(
        ('SupportWebhooksFailing{endpoint="crm"}',),
        {
            _deliveries("crm", "delivered"): Counter(10, 0),
            _deliveries("crm", "retried"): Counter(0, 2),
            _deliveries("erp", "delivered"): Counter(10, 10),
        },
    ),
    "a webhook refuses one event of many": Fault(
        (), {_deliveries("crm", "delivered"): Counter(10, 10), _deliveries("crm", "retried"): Counter(0, 2)}
    ),
    "a certificate expires in ten days": Fault(
        ('SupportCertificateExpiring{target="payment"}',),
        {
            'support_certificate_expires_seconds{target="payment"}': Gauge(60 * DAY, 10 * DAY),
            'support_certificate_expires_seconds{target="order"}': Gauge(20 * DAY, 20 * DAY),
        },
    ),
    "tokens of all clients are refused": Fault(
        ("SupportAccessRefused",),
        {_authentications("accepted"): Counter(100, 10), _authentications("invalid"): Counter(1, 90)},
    ),
    "the token of one client has expired": Fault(
        (), {_authentications("accepted"): Counter(100, 90), _authentications("expired"): Counter(1, 10)}
    ),
    "nobody sends a token": Fault(
        (), {_authentications("accepted"): Counter(100, 50), _authentications("missing"): Counter(1, 50)}
    ),
    "keys cannot be read": Fault(
        ('SupportAccessKeysStale{instance="a",dependency="keys"}',),
        {'support_access_keys_age_seconds{instance="a"}': Gauge(60, 60, 60)},
    ),
    "the token file cannot be read": Fault(
        ('SupportAccessKeysStale{instance="a",dependency="tokens"}',),
        {'support_access_tokens_age_seconds{instance="a"}': Gauge(1, 60, 60)},
    ),
    "limits refuse most requests": Fault(
        ("SupportRequestsTurnedAway",),
        _received(100) | {'support_request_turned_away_total{reason="address"}': Counter(0.5, 67)},
    ),
    "limits refuse a client": Fault(
        (), _received(1000) | {'support_request_turned_away_total{reason="principal"}': Counter(1, 30)}
    ),
    "most answers are 422": Fault(
        (ROUTES_ERRORS,),
        {
            _answers("201"): Counter(100, 41),
            _answers("422"): Counter(2, 59),
            _answers("200", "/support/macros"): Counter(99, 99),
        },
    ),
    "most answers are 404, 401 and 429": Fault(
        (), {_answers("200"): Counter(100, 30), **{_answers(code): Counter(0, 30) for code in ("404", "401", "429")}}
    ),
}
