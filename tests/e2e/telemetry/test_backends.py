"""One workload in two real backends: the scraped metrics equal the metrics exported over OTLP."""

from contextlib import suppress

import pytest
from observability.catalogue import INSTRUMENTS

from tests.support.backends import Prometheus
from tests.support.calls import GENEROUS_TIMEOUT, eventually

SERVICE_SERIES = '{__name__=~"(support|http|db|process|cpython)_.+"}'
SDK = {"telemetry_sdk_name", "telemetry_sdk_language", "telemetry_sdk_version"}
RESOURCE = SDK | {
    *("job", "instance", "service_name", "service_version", "service_instance_id", "deployment_environment_name")
}
WITH_ENVIRONMENT = "support_build_info * on (job, instance) group_left (deployment_environment_name) target_info"
# Without Redis, HTTPS, webhooks, JWTs and limits of memory; the first reconcile runs minutes after the start.
NOT_CONFIGURED = {
    *("support_access_callers", "http_client_request_duration_seconds_count", "support_attachment_unrepaired"),
    *("support_certificate_expires_seconds", "support_database_number", "support_redis_role"),
    *("support_redis_evicted_keys_total", "support_redis_eviction_policy", "support_redis_memory_limit_bytes"),
    *("support_redis_memory_usage_bytes", "support_s3_calls_total", "support_s3_repeats_total"),
    "support_webhook_overdue_age_seconds",
}
LAST_REQUEST = 'http_server_request_duration_seconds_count{http_route="other"}'  # the workload's last request
# These change without traffic, even between a scrape and an export.
VOLATILE = ("process_", "cpython_", "db_", "support_event_loop_lag", "support_ticket_oldest_unanswered")


def without_resource(series):
    """Return the labels of a series without the labels of the exporter; bucket boundaries become numbers."""
    labels = {name: value for name, value in series.items() if name not in RESOURCE}
    if "le" in labels:
        labels["le"] = str(float(labels["le"]))
    return tuple(sorted(labels.items()))


def read_series(backend, query=SERVICE_SERIES):
    found = backend.query(query)
    series = {without_resource(labels): value for labels, value in found}
    assert len(series) == len(found), "a series is duplicated"
    return series


def stable_series(series):
    """Return the series that are constant without traffic; VictoriaMetrics keeps 12 digits of a sum."""
    stable = {labels: value for labels, value in series.items() if not dict(labels)["__name__"].startswith(VOLATILE)}
    return {labels: float(f"{value:.9g}") for labels, value in stable.items()}


@pytest.fixture
async def scraped_and_exported(start, serve, session, victoria_metrics, workload, port, tmp_path):
    """The series of both backends, once both have the complete workload of an idle service, and the build by target."""
    exporters = {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": victoria_metrics.otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_SERVICE_NAME": "compared",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }
    prometheus = start(Prometheus, tmp_path / "prometheus", f"127.0.0.1:{port}")
    async with serve(**exporters) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        await workload(session)
        exported_query = SERVICE_SERIES.replace("}", ',service_name="compared"}')
        scraped, exported = {}, {}

        def equal():
            nonlocal scraped, exported
            scraped, exported = read_series(prometheus), read_series(victoria_metrics, exported_query)
            last = sum(value for _, value in prometheus.query(LAST_REQUEST))
            return last and scraped.keys() == exported.keys() and stable_series(scraped) == stable_series(exported)

        with suppress(AssertionError):  # the test reports the difference
            await eventually(equal, 3 * GENEROUS_TIMEOUT)
        yield scraped, exported, prometheus.query(WITH_ENVIRONMENT)


@pytest.mark.long
async def test_scraped_and_exported_metrics_are_equal(scraped_and_exported):
    """Each series has the same name and labels in both backends, and the same value unless it is volatile.

    Attributes of the resource are labels of each exported series, and are joined to scraped ones.
    """
    scraped, exported, ((build, _),) = scraped_and_exported
    assert build["deployment_environment_name"] == "tests"
    assert sorted(scraped.keys() - exported.keys()) == []
    assert sorted(exported.keys() - scraped.keys()) == []
    scraped_values, exported_values = stable_series(scraped), stable_series(exported)
    pairs = {labels: (value, exported_values[labels]) for labels, value in scraped_values.items()}
    assert {labels: pair for labels, pair in pairs.items() if pair[0] != pair[1]} == {}
    names = {dict(labels)["__name__"] for labels in scraped}
    samples = {row.prometheus_name + "_count" * (row.kind == "histogram") for row in INSTRUMENTS}
    assert samples - names - {"process_memory_limit_bytes"} == NOT_CONFIGURED  # the machine may have a limit
    for event in ("ticket_created", "attachment_rejected", "attachment_stored"):
        name = f"support_{event}_total"
        assert sum(value for labels, value in scraped_values.items() if dict(labels)["__name__"] == name) > 2
