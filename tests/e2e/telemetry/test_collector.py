"""Metrics and spans pass through a real collector, rotel, to an OTLP receiver."""

import sys

import pytest

from tests.support.backends import Collector
from tests.support.calls import eventually, expect_json, open_case

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="rotel has no wheel for Python 3.14")

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT_SPAN = "b7ad6b7169203331"
READ = "/support/cases/{case_id}"


def request_spans_of(otlp_receiver):
    """Return the spans of the client's trace, without spans of database operations."""
    return [span for span in otlp_receiver.request_spans if span.trace == TRACE]


async def test_metrics_and_spans_pass_through_the_collector(
    serve, start, session, port, otlp_receiver, workload, orders, payments, shipments, tmp_path
):
    """They have the resource of the service and the stable HTTP conventions; probes and scrapes have no spans.

    The server span continues the client's trace, and upstream calls are its children, which they propagate.
    """
    collector = start(Collector, tmp_path / "collector", otlp_receiver.url)
    exporters = {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }
    async with serve(**exporters) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        for path in ("/metrics", "/livez", "/health"):
            await (await session.get(path)).read()
        await workload(session)
        for source in (orders, payments, shipments):
            source.traceparents.clear()
        case = await open_case(session, context=[{"type": "order", "orderId": "ORD-2"}])
        path = f"/support/cases/{case['id']}"
        headers = {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-01"}
        await expect_json(session.get(path, params={"includeTimeline": "true"}, headers=headers))
        await eventually(lambda: len(request_spans_of(otlp_receiver)) == 5)
        await eventually(
            lambda: {"support.ticket.created", "http.server.request.duration"} <= otlp_receiver.metrics.keys()
        )
        service.stop()
        assert (await service.wait_for_exit())[0] == 0
    for resource in (otlp_receiver.metrics["support.ticket.created"], otlp_receiver.request_spans[0].resource):
        assert (resource["service.name"], resource["deployment.environment.name"]) == ("support-service", "tests")
        assert resource["service.version"]
        assert resource["service.instance.id"]
    spans = request_spans_of(otlp_receiver)
    (server,) = [span for span in spans if span.kind == "server"]
    calls = [span for span in spans if span.kind == "client"]
    assert (server.parent, server.name) == (CLIENT_SPAN, f"GET {READ}")
    expected = {"http.request.method": "GET", "http.route": READ, "http.response.status_code": "200", "url.path": path}
    assert server.attributes | expected == server.attributes
    assert server.attributes.keys().isdisjoint({"http.method", "http.target", "http.status_code"})
    assert [call.parent for call in calls] == [server.id] * 4
    for call in calls:
        assert call.attributes["http.request.method"] == "GET"
        assert call.attributes["http.response.status_code"] in ("200", "404")
        assert "http.method" not in call.attributes
    sent = [*orders.traceparents, *payments.traceparents, *shipments.traceparents]
    assert sorted(sent) == sorted(f"00-{TRACE}-{call.id}-01" for call in calls)
    served = {span.attributes["url.path"] for span in otlp_receiver.request_spans if span.kind == "server"}
    assert served.isdisjoint({"/metrics", "/livez", "/health", "/readyz"})
