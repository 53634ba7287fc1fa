"""W3C trace context is accepted and propagated, with and without spans, and leaves no global state behind."""

import asyncio

import pytest
from aiohttp import web

from support_service.platform.telemetry.telemetry import TelemetryTimings
from tests.conftest import both_databases
from tests.support.calls import open_case, upload
from tests.support.scrape import parse
from tests.support.timings import patient_timings

TRACE = "0af7651916cd43dd8448eb211c80319c"
# The OpenTelemetry instrumentation inherits from aiohttp's Application, which aiohttp warns about.
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
    """Timings with time for the last export."""
    return patient_timings(telemetry=TelemetryTimings(shutdown_timeout=60.0))


@pytest.fixture
def tracing_environment(upstream_services, monkeypatch):
    """A service with all upstream services; variables that tracing sets are restored."""
    for name in ("OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return upstream_services


@pytest.fixture
def propagated(orders, payments, shipments):
    """Return the traceparents that the upstream services received, in no order."""
    return lambda: [*orders.traceparents, *payments.traceparents, *shipments.traceparents]


async def read_timeline(client, **headers):
    """Read a timeline that calls all three services."""
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    path = f"/support/cases/{case['id']}"
    async with client.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
        assert response.status == 200
        assert {source["status"] for source in (await response.json())["timelineSources"].values()} == {"fresh"}


async def test_trace_context_is_propagated_unchanged_without_an_exporter(tracing_environment, client, propagated):
    """Without an exporter each upstream call carries the client's traceparent."""
    await read_timeline(client, traceparent=SENT, tracestate="vendor=1")
    assert propagated() == [SENT] * 4


async def test_request_without_a_trace_propagates_none(tracing_environment, client, propagated):
    """Without a client trace none is sent, and the trace of one request does not leak into the next."""
    await read_timeline(client, traceparent=SENT)
    await read_timeline(client)
    assert propagated().count(None) == 4


@pytest.mark.parametrize("value", MALFORMED)
async def test_malformed_traceparent_is_ignored(tracing_environment, client, propagated, value):
    """A request with an invalid traceparent succeeds, and the value is not propagated."""
    await read_timeline(client, traceparent=value)
    assert propagated() == [None] * 4


async def test_concurrent_requests_keep_their_own_traces(tracing_environment, client, propagated):
    traces = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 21)]
    await asyncio.gather(*(read_timeline(client, traceparent=trace) for trace in traces))
    assert sorted(propagated()) == sorted(traces * 4)


@pytest.mark.parametrize("exporter", ["otlp", "console"])
async def test_tracing_one_app_does_not_change_aiohttp(
    tracing_environment, otlp_receiver, make_client, exporter, monkeypatch
):
    """Tracing one app does not affect other applications of the process."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    application = web.Application
    await make_client(OTEL_TRACES_EXPORTER=exporter)
    assert web.Application is application
    assert type(web.Application()) is application


async def test_two_traced_apps_export_their_own_spans(tracing_environment, otlp_receiver, make_client, monkeypatch):
    """Each of two apps in one process exports the spans of its own requests, once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app=one")
    one = await make_client(OTEL_TRACES_EXPORTER="otlp")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app=two")
    two = await make_client(OTEL_TRACES_EXPORTER="otlp")
    silent = await make_client()
    await open_case(one)
    for client in (two, two, silent):
        await open_case(client)
    for client in (one, two, silent):
        await client.close()  # closing exports the last spans
    assert sorted(span.resource["app"] for span in otlp_receiver.request_spans) == ["one", "two", "two"]


async def test_trace_is_propagated_with_spans_as_parents(
    tracing_environment, otlp_receiver, make_client, propagated, monkeypatch
):
    """With spans the upstream services get the client's trace id, with the service's spans as parents."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    await read_timeline(client, traceparent=SENT)
    assert {sent.split("-")[1] for sent in propagated()} == {TRACE}
    assert SENT not in propagated()


async def test_malformed_traceparent_starts_one_new_trace(
    tracing_environment, otlp_receiver, make_client, propagated, monkeypatch
):
    """With spans a malformed traceparent starts a new trace, which all upstream calls belong to."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    await read_timeline(client, traceparent="nonsense")
    assert len({sent.split("-")[1] for sent in propagated()}) == 1


async def test_only_probes_and_excluded_paths_are_untraced(
    tracing_environment, otlp_receiver, make_client, monkeypatch
):
    """Paths that merely contain a probe's name are traced; probes and paths that the operator excludes are not."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
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
    assert sorted(span.attributes["url.path"] for span in otlp_receiver.request_spans) == sorted(posted + paths)


async def test_scheme_of_a_span_is_that_of_the_client(tracing_environment, otlp_receiver, make_client, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp", SUPPORT_TRUSTED_PROXIES="127.0.0.1")
    for scheme in ("https", "http"):
        await (await client.get("/support/cases", headers={"X-Forwarded-Proto": scheme})).read()
    await client.close()
    assert sorted(span.attributes["url.scheme"] for span in otlp_receiver.request_spans) == ["http", "https"]


async def test_query_values_are_redacted_in_spans(tracing_environment, otlp_receiver, make_client, monkeypatch):
    """A span shows that there was a query, and none of its values."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp")
    await (await client.get("/support/cases", params={"q": "s3cr3t", "token": "s3cr3t"})).read()
    await client.close()
    (span,) = otlp_receiver.request_spans
    assert span.attributes["url.query"] == "REDACTED"
    assert "s3cr3t" not in str(span.attributes)


@both_databases
async def test_database_operations_have_spans(
    tracing_environment, otlp_receiver, make_client, redis, backend, monkeypatch
):
    """Operations of a request are children of its span, with their system and name; background jobs have no spans."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp", SUPPORT_REDIS_URL=redis.url)
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    path = f"/support/cases/{case['id']}"
    params = {"includeTimeline": "true"}
    await (await client.get(path, params=params, headers={"traceparent": SENT})).read()
    await client.close()
    spans = [span for span in otlp_receiver.spans if "db.system.name" in span.attributes]
    found = {(span.attributes["db.system.name"], span.attributes["db.operation.name"]) for span in spans}
    assert found >= {(backend, "TRANSACTION"), (backend, "SELECT"), ("redis", "MGET")}
    (request,) = [span for span in otlp_receiver.request_spans if span.parent == SENT.split("-")[2]]
    assert {span.parent for span in spans if span.trace == TRACE} <= {span.id for span in otlp_receiver.spans}
    assert request.id in {span.parent for span in spans if span.trace == TRACE}
    assert all(span.parent for span in spans)


async def test_histograms_have_exemplars_over_otlp(tracing_environment, otlp_receiver, make_client, monkeypatch):
    """An exemplar leads from a bucket of a histogram to a trace: of requests, their upstream calls and operations."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_TRACES_EXPORTER="otlp", OTEL_METRICS_EXPORTER="otlp,prometheus")
    await read_timeline(client, traceparent=SENT)
    async with client.get("/metrics") as response:
        counts = {
            labels["http_route"]: value
            for name, labels, value in parse(await response.text())
            if name == "http_server_request_duration_seconds_count" and value
        }
    assert counts == {"/support/cases": 1, "/support/cases/{case_id}": 1}
    await client.close()  # closing exports the last spans and metrics
    spans = {(span.trace, span.id) for span in otlp_receiver.spans}
    for name in (
        "http.server.request.duration",
        "support.timeline.source",
        "support.timeline.collect",
        "db.client.operation.duration",
    ):
        assert otlp_receiver.exemplars[name], name
        assert {*otlp_receiver.exemplars[name]} <= spans
    assert TRACE in {trace for trace, _ in otlp_receiver.exemplars["http.server.request.duration"]}


async def test_without_traces_histograms_have_no_exemplars(
    tracing_environment, otlp_receiver, make_client, monkeypatch
):
    """A trace that only passes through is in no backend that an exemplar could lead to."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    client = await make_client(OTEL_METRICS_EXPORTER="otlp")
    await read_timeline(client, traceparent=SENT)
    await client.close()
    assert otlp_receiver.metrics.keys() >= {"http.server.request.duration"}
    assert not any(otlp_receiver.exemplars.values())
