"""W3C trace context in and out, with spans and without; and nothing of it outlives an app."""

import asyncio

import pytest
from aiohttp import web

from support_service.telemetry.component import TelemetryTimings
from tests.support.calls import open_case, upload
from tests.support.timings import patient_timings

TRACE = "0af7651916cd43dd8448eb211c80319c"
# Contrib inherits from aiohttp's Application, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class _Instrumented:DeprecationWarning")
SENT = f"00-{TRACE}-b7ad6b7169203331-01"
MALFORMED = (
    "nonsense",
    f"00-{TRACE}-b7ad6b7169203331",
    f"ff-{TRACE}-b7ad6b7169203331-01",
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.replace('a', 'x')}-b7ad6b7169203331-01",
    "00-" + "f" * 5000,
)


@pytest.fixture
def timings():
    """Time for the last export."""
    return patient_timings(telemetry=TelemetryTimings(shutdown_timeout=60.0))


@pytest.fixture
def traced(upstream_services, monkeypatch):
    """A service with all upstream services; the variables that it sets are taken back."""
    for name in ("OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return upstream_services


@pytest.fixture
def passed_on(orders, payments, shipments):
    """What the three services were sent: the traceparents, in no order."""
    return lambda: [*orders.traceparents, *payments.traceparents, *shipments.traceparents]


async def read(client, **headers):
    """Read a timeline that asks all three services."""
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    path = f"/support/cases/{case['id']}"
    async with client.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
        assert response.status == 200
        assert {source["status"] for source in (await response.json())["timelineSources"].values()} == {"fresh"}


async def test_a_trace_passes_through(traced, client, passed_on):
    """Without an exporter each call to the three services carries the caller's trace on, unchanged."""
    await read(client, traceparent=SENT, tracestate="vendor=1")
    assert passed_on() == [SENT] * 4


async def test_no_trace_is_invented(traced, client, passed_on):
    """Where the caller has no trace, the services are sent none; a request's trace does not leak into the next."""
    await read(client, traceparent=SENT)
    await read(client)
    assert passed_on().count(None) == 4


@pytest.mark.parametrize("value", MALFORMED)
async def test_a_malformed_trace_is_ignored(traced, client, passed_on, value):
    """What is no traceparent is answered as ever, and goes no further."""
    await read(client, traceparent=value)
    assert passed_on() == [None] * 4


async def test_traces_at_once_are_not_mixed(traced, client, passed_on):
    """Requests at once keep their own traces."""
    traces = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 21)]
    await asyncio.gather(*(read(client, traceparent=trace) for trace in traces))
    assert sorted(passed_on()) == sorted(traces * 4)


@pytest.mark.parametrize("exporter", ["otlp", "console"])
async def test_aiohttp_is_left_as_it_was(traced, sink, make_client, exporter, monkeypatch):
    """Tracing one app changes nothing for other applications of the process, nor for an app without it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    application = web.Application
    await make_client(OTEL_TRACES_EXPORTER=exporter)
    assert web.Application is application
    assert type(web.Application()) is application


async def test_two_traced_apps_stay_apart(traced, sink, make_client, monkeypatch):
    """Of two apps in one process each sends the spans of its own requests, once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app=one")
    one = await make_client(OTEL_TRACES_EXPORTER="otlp")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app=two")
    two = await make_client(OTEL_TRACES_EXPORTER="otlp")
    silent = await make_client()
    await open_case(one)
    for client in (two, two, silent):
        await open_case(client)
    for client in (one, two, silent):
        await client.close()  # the last spans go out with the stop
    assert sorted(span.resource["app"] for span in sink.spans) == ["one", "two", "two"]


async def test_a_traced_app_still_passes_traces_on(traced, sink, make_client, passed_on, monkeypatch):
    """With spans too the services are sent the caller's trace, each with a parent of our own."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    await read(client, traceparent=SENT)
    assert {sent.split("-")[1] for sent in passed_on()} == {TRACE}
    assert SENT not in passed_on()


async def test_a_malformed_trace_keeps_the_calls_with_their_request(traced, sink, make_client, passed_on, monkeypatch):
    """With spans a malformed traceparent starts a new trace, which the calls to the services belong to."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    await read(client, traceparent="nonsense")
    assert len({sent.split("-")[1] for sent in passed_on()}) == 1


async def test_only_probes_go_untraced(traced, sink, make_client, monkeypatch):
    """Paths that have a probe's name somewhere are traced; what the operator excludes is not, nor are the probes."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS", "nobody")
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    case = await open_case(client)
    stored = await upload(client, case, filename="metrics")
    paths = ["/support/agents/healthy/workload", stored["uri"]]
    for path in (*paths, "/metrics", "/livez", "/readyz", "/health", "/support/cases/nobody"):
        await (await client.get(path)).read()
    await client.close()
    assert stored["uri"].endswith("/metrics")
    posted = ["/support/cases", f"/support/cases/{case['id']}/attachments"]
    assert sorted(span.attributes["url.path"] for span in sink.spans) == sorted(posted + paths)


async def test_a_query_is_not_in_a_span(traced, sink, make_client, monkeypatch):
    """What people search for is not exported; that there was a query is."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    await (await client.get("/support/cases", params={"q": "s3cr3t", "token": "s3cr3t"})).read()
    await client.close()
    (span,) = sink.spans
    assert span.attributes["url.query"] == "REDACTED"
    assert "s3cr3t" not in str(span.attributes)
