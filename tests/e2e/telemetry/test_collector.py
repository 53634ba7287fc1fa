"""Metrics and spans pass through a real collector, rotel, to an OTLP receiver."""

import sys

import pytest

from tests.support.backends import Collector
from tests.support.calls import eventually, open_case
from tests.support.servers import MissingServer

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="rotel has no wheel for Python 3.14")

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT_SPAN = "b7ad6b7169203331"
READ = "/support/cases/{case_id}"


@pytest.fixture
async def collector(servers, otlp_receiver, tmp_path):
    """A collector that forwards to the OTLP receiver."""
    try:
        collector = Collector(tmp_path / "collector", otlp_receiver.url)
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    yield collector
    collector.close()


@pytest.fixture
def variables(collector):
    """Settings of a service that exports everything to the collector at short intervals."""
    return {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }


async def test_metrics_arrive_with_the_service_resource(serve, variables, session, port, otlp_receiver, workload):
    """Metrics leave the collector with service name, version, instance and environment."""
    async with serve(**variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        await workload(session)
        await eventually(
            lambda: {"support.ticket.created", "http.server.request.duration"} <= otlp_receiver.metrics.keys()
        )
    resource = otlp_receiver.metrics["support.ticket.created"]
    assert resource["service.name"] == "support-service"
    assert resource["deployment.environment.name"] == "tests"
    assert resource["service.version"]
    assert resource["service.instance.id"]


def request_spans_of(otlp_receiver):
    """Return the spans of the client's trace, without spans of database operations."""
    return [span for span in otlp_receiver.request_spans if span.trace == TRACE]


async def read_timeline_in_a_trace(serve, variables, session, port, otlp_receiver):
    """Read a timeline within a client's trace; return the path, the server span and the client spans."""
    async with serve(**variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        case = await open_case(session, context=[{"type": "order", "orderId": "ORD-1"}])
        path = f"/support/cases/{case['id']}"
        headers = {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-01"}
        async with session.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
            assert response.status == 200
        await eventually(lambda: len(request_spans_of(otlp_receiver)) == 5)
    spans = request_spans_of(otlp_receiver)
    (server,) = [span for span in spans if span.kind == "server"]
    return path, server, [span for span in spans if span.kind == "client"]


async def test_request_is_a_server_span_in_the_clients_trace(serve, variables, session, port, otlp_receiver):
    """The server span continues the client's trace, with the stable HTTP conventions."""
    path, server, _ = await read_timeline_in_a_trace(serve, variables, session, port, otlp_receiver)
    assert server.parent == CLIENT_SPAN
    assert server.name == f"GET {READ}"
    assert server.attributes["http.request.method"] == "GET"
    assert server.attributes["http.route"] == READ
    assert server.attributes["http.response.status_code"] == "200"
    assert server.attributes["url.path"] == path
    assert server.attributes.keys().isdisjoint({"http.method", "http.target", "http.status_code"})
    assert server.resource["service.name"] == "support-service"


async def test_upstream_calls_are_client_spans(
    serve, variables, session, port, otlp_receiver, orders, payments, shipments
):
    """Each upstream call is a client span with the stable HTTP conventions, and propagates that span."""
    _, _, calls = await read_timeline_in_a_trace(serve, variables, session, port, otlp_receiver)
    assert len(calls) == 4
    for call in calls:
        assert call.attributes["http.request.method"] == "GET"
        assert call.attributes["http.response.status_code"] in ("200", "404")
        assert "http.method" not in call.attributes
    sent = [*orders.traceparents, *payments.traceparents, *shipments.traceparents]
    assert sorted(sent) == sorted(f"00-{TRACE}-{call.id}-01" for call in calls)


async def test_upstream_spans_are_children_of_the_server_span(serve, variables, session, port, otlp_receiver):
    _, server, calls = await read_timeline_in_a_trace(serve, variables, session, port, otlp_receiver)
    assert [call.parent for call in calls] == [server.id] * 4


async def test_probes_and_scrapes_create_no_spans(serve, variables, session, port, otlp_receiver):
    async with serve(**variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        for path in ("/metrics", "/livez", "/health"):
            await (await session.get(path)).read()
        await open_case(session)
        await eventually(lambda: otlp_receiver.request_spans != [])
        service.stop()
        assert (await service.wait_for_exit())[0] == 0
    assert {span.attributes["url.path"] for span in otlp_receiver.request_spans} == {"/support/cases"}
