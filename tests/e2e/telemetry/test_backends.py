"""One workload in two real backends: what Prometheus scrapes is what an OTLP backend is sent."""

from contextlib import suppress

import pytest

from support_service.telemetry.instruments import INSTRUMENTS
from support_service.telemetry.instruments.attachments import ATTACHMENT_UNREPAIRED
from tests.support.backends import Prometheus
from tests.support.calls import PATIENCE, eventually
from tests.support.servers import MissingServer

OURS = '{__name__=~"(support|http|db|process|cpython)_.+"}'
SDK = {"telemetry_sdk_name", "telemetry_sdk_language", "telemetry_sdk_version"}
RESOURCE = SDK | {"job", "instance", "service_name", "service_version", "service_instance_id"}
LAST = 'http_server_request_duration_seconds_count{http_route="other"}'  # the workload's last request
# These move by themselves, between a scrape and an export too.
RESTLESS = ("process_", "cpython_", "db_", "support_event_loop_lag", "support_ticket_oldest_unanswered")


def canonical(series):
    """A series without the labels that say who sent it, its buckets' edges as numbers."""
    labels = {name: value for name, value in series.items() if name not in RESOURCE}
    if "le" in labels:
        labels["le"] = str(float(labels["le"]))
    return tuple(sorted(labels.items()))


def contents(backend, query=OURS):
    """Every series of ours in a backend."""
    found = backend.query(query)
    series = {canonical(labels): value for labels, value in found}
    assert len(series) == len(found), "a series is there twice"
    return series


def steady(series):
    """The series that stand still while nobody calls; VictoriaMetrics keeps 12 digits of a sum."""
    still = {labels: value for labels, value in series.items() if not dict(labels)["__name__"].startswith(RESTLESS)}
    return {labels: float(f"{value:.9g}") for labels, value in still.items()}


@pytest.fixture
async def both(serve, session, victoria, work, port, tmp_path):
    """The two backends of a service that has worked and is quiet, once both know all of it."""
    exporters = {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": victoria.otlp,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_SERVICE_NAME": "compared",
    }
    try:
        prometheus = Prometheus(tmp_path / "prometheus", f"127.0.0.1:{port}")
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    try:
        async with serve(**exporters) as service:
            await service.answers(f"http://127.0.0.1:{port}")
            await work(session)
            sent = OURS.replace("}", ',service_name="compared"}')

            scraped, exported = {}, {}

            def equal():
                nonlocal scraped, exported
                scraped, exported = contents(prometheus), contents(victoria, sent)
                last = sum(value for _, value in prometheus.query(LAST))
                return last and scraped.keys() == exported.keys() and steady(scraped) == steady(exported)

            with suppress(AssertionError):  # the test shows the difference
                await eventually(equal, 3 * PATIENCE)
            yield scraped, exported
    finally:
        prometheus.close()


async def test_two_backends_have_the_same_series(both):
    """Each series has the same name and labels in both, and those that stand still have the same value."""
    scraped, exported = both
    assert sorted(scraped.keys() - exported.keys()) == []
    assert sorted(exported.keys() - scraped.keys()) == []
    still, sent = steady(scraped), steady(exported)
    assert {labels: (value, sent[labels]) for labels, value in still.items() if value != sent[labels]} == {}
    names = {dict(labels)["__name__"] for labels in scraped}
    for row in INSTRUMENTS:
        if row is ATTACHMENT_UNREPAIRED:
            continue  # the first sweep is minutes away
        sample = f"{row.prometheus}_count" if row.kind == "histogram" else row.prometheus
        assert sample in names
    for name in (
        "support_ticket_created_total",
        "support_attachment_rejected_total",
        "support_attachment_stored_total",
    ):
        assert sum(value for labels, value in still.items() if dict(labels)["__name__"] == name) > 2
