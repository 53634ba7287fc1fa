"""Metrics and spans through a real collector, rotel, to an OTLP receiver behind it."""

import pytest

from tests.support.backends import Collector
from tests.support.calls import eventually, open_case
from tests.support.servers import MissingServer

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
READ = "/support/cases/{case_id}"


@pytest.fixture
async def collector(servers, sink, tmp_path):
    """The collector, which hands on to the sink."""
    try:
        collector = Collector(tmp_path / "collector", sink.url)
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    yield collector
    collector.close()


@pytest.fixture
def variables(collector):
    """A service that sends everything to the collector, and soon."""
    return {
        "OTEL_METRICS_EXPORTER": "prometheus,otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }


async def test_metrics_arrive(serve, variables, session, port, sink, work):
    """Our metrics come out of the collector with the resource that names service, version, instance and environment."""
    async with serve(**variables) as service:
        await service.answers(f"http://127.0.0.1:{port}")
        await work(session)
        await eventually(lambda: {"support.ticket.created", "http.server.request.duration"} <= sink.metrics.keys())
    who = sink.metrics["support.ticket.created"]
    assert who["service.name"] == "support-service"
    assert who["deployment.environment.name"] == "tests"
    assert who["service.version"]
    assert who["service.instance.id"]


async def read_in_a_trace(serve, variables, session, port, sink):
    """The spans that a timeline's read in a caller's trace has given: the server's, and those of the calls."""
    async with serve(**variables) as service:
        await service.answers(f"http://127.0.0.1:{port}")
        case = await open_case(session, context=[{"type": "order", "orderId": "ORD-1"}])
        path = f"/support/cases/{case['id']}"
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        async with session.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
            assert response.status == 200
        await eventually(lambda: len(sink.of_trace(TRACE)) == 5)
    spans = sink.of_trace(TRACE)
    (server,) = [span for span in spans if span.kind == "server"]
    return path, server, [span for span in spans if span.kind == "client"]


async def test_a_request_is_a_server_span(serve, variables, session, port, sink):
    """A request's span continues its caller's trace, with the stable conventions: method, template, path, status."""
    path, server, _ = await read_in_a_trace(serve, variables, session, port, sink)
    assert server.parent == CALLER
    assert server.name == f"GET {READ}"
    assert server.attributes["http.request.method"] == "GET"
    assert server.attributes["http.route"] == READ
    assert server.attributes["http.response.status_code"] == "200"
    assert server.attributes["url.path"] == path
    assert server.attributes.keys().isdisjoint({"http.method", "http.target", "http.status_code"})
    assert server.resource["service.name"] == "support-service"


async def test_calls_to_the_sources_are_client_spans(
    serve, variables, session, port, sink, orders, payments, shipments
):
    """Each call to a source is a client span with the stable conventions, and what it sends on names that span."""
    _, _, calls = await read_in_a_trace(serve, variables, session, port, sink)
    assert len(calls) == 4
    for call in calls:
        assert call.attributes["http.request.method"] == "GET"
        assert call.attributes["http.response.status_code"] in ("200", "404")
        assert "http.method" not in call.attributes
    sent = [*orders.traceparents, *payments.traceparents, *shipments.traceparents]
    assert sorted(sent) == sorted(f"00-{TRACE}-{call.id}-01" for call in calls)


async def test_calls_belong_to_the_request(serve, variables, session, port, sink):
    """The parent of each call's span is the request's span, so that the trace reads from caller to source."""
    _, server, calls = await read_in_a_trace(serve, variables, session, port, sink)
    assert [call.parent for call in calls] == [server.id] * 4


async def test_probes_and_scrapes_give_no_spans(serve, variables, session, port, sink):
    """What comes every few seconds for ever is not traced."""
    async with serve(**variables) as service:
        await service.answers(f"http://127.0.0.1:{port}")
        for path in ("/metrics", "/livez", "/health"):
            await (await session.get(path)).read()
        await open_case(session)
        await eventually(lambda: sink.spans != [])
        service.stop()
        assert (await service.ended())[0] == 0
    assert {span.attributes["url.path"] for span in sink.spans} == {"/support/cases"}
