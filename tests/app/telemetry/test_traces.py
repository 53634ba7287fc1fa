"""W3C trace context is accepted and propagated, with and without spans, and leaves no global state behind."""

import asyncio

import pytest
from aiohttp import web

from support_service.platform.telemetry.telemetry import TelemetryTimings
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
def traced(tracing_environment, otlp_receiver, make_client, monkeypatch):
    """Start a service that exports its spans."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)

    async def start(**variables):
        return await make_client(**{"OTEL_TRACES_EXPORTER": "otlp"} | variables)

    return start


async def read_timeline(client, **headers):
    """Read a timeline that calls all three services."""
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    path = f"/support/cases/{case['id']}"
    async with client.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
        assert response.status == 200
        assert {source["status"] for source in (await response.json())["timelineSources"].values()} == {"fresh"}


def propagated(sources):
    """Return the traceparents that the upstream services have received since the last call, in no order."""
    found = [parent for service in sources.values() for parent in service.traceparents]
    for service in sources.values():
        service.traceparents.clear()
    return found


async def test_trace_context_is_propagated_unchanged_without_an_exporter(tracing_environment, client, sources):
    """Upstream calls carry the client's traceparent, unless that is invalid. No trace leaks into another request."""
    await read_timeline(client, traceparent=SENT, tracestate="vendor=1")
    assert propagated(sources) == [SENT] * 4
    await read_timeline(client)
    assert propagated(sources) == [None] * 4
    for value in MALFORMED:
        await read_timeline(client, traceparent=value)
        assert propagated(sources) == [None] * 4, value[:60]
    traces = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 21)]
    await asyncio.gather(*(read_timeline(client, traceparent=trace) for trace in traces))
    assert sorted(propagated(sources)) == sorted(traces * 4)


async def test_two_traced_apps_export_their_own_spans(traced, make_client, otlp_receiver, monkeypatch):
    """Each of two apps exports the spans of its own requests, once. Other applications of the process do not change."""
    application = web.Application
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app=one")
    one = await traced()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "app=two")
    two = await traced()
    silent = await make_client()
    await traced(OTEL_TRACES_EXPORTER="console")
    assert web.Application is application
    assert type(web.Application()) is application
    for client in (one, two, two, silent):
        await open_case(client)
    for client in (one, two, silent):
        await client.close()  # closing exports the last spans
    assert sorted(span.resource["app"] for span in otlp_receiver.request_spans) == ["one", "two", "two"]


async def test_malformed_traceparent_starts_one_new_trace(traced, sources):
    """With spans a malformed traceparent starts a new trace, which all upstream calls belong to."""
    await read_timeline(await traced(), traceparent="nonsense")
    assert len({sent.split("-")[1] for sent in propagated(sources)}) == 1


async def test_spans_of_requests(traced, otlp_receiver, monkeypatch):
    """Probes and paths that the operator excludes have none, others that merely contain a probe's name have.

    The scheme is that of the client. A span shows that there was a query, and none of its values.
    """
    monkeypatch.setenv("OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS", "nobody")
    client = await traced(SUPPORT_TRUSTED_PROXIES="127.0.0.1")
    case = await open_case(client)
    stored = await upload(client, case, filename="metrics")
    paths = ["/support/agents/healthy/workload", stored["uri"]]
    for path in (*paths, "/metrics", "/livez", "/readyz", "/health", "/support/cases/nobody"):
        await (await client.get(path)).read()
    https, secret = {"X-Forwarded-Proto": "https"}, {"q": "s3cr3t", "token": "s3cr3t"}
    await (await client.get("/support/cases", params=secret, headers=https)).read()
    await client.close()
    assert stored["uri"].endswith("/metrics")
    paths += ["/support/cases", "/support/cases", f"/support/cases/{case['id']}/attachments"]
    spans = [span.attributes for span in otlp_receiver.request_spans]
    assert sorted(span["url.path"] for span in spans) == sorted(paths)
    (queried,) = [span for span in spans if span["url.scheme"] == "https"]
    assert (queried["url.query"], "s3cr3t" in str(queried)) == ("REDACTED", False)


async def test_spans_are_parents_of_calls_and_histograms_lead_to_them(traced, otlp_receiver, sources):
    """The upstream services get the client's trace id. Exemplars of requests, calls and operations are over OTLP."""
    client = await traced(OTEL_METRICS_EXPORTER="otlp,prometheus")
    await read_timeline(client, traceparent=SENT)
    sent = propagated(sources)
    assert ({each.split("-")[1] for each in sent}, SENT in sent) == ({TRACE}, False)
    async with client.get("/metrics") as response:
        counts = {
            labels["http_route"]: value
            for name, labels, value in parse(await response.text())
            if name == "http_server_request_duration_seconds_count" and value
        }
    assert counts == {"/support/cases": 1, "/support/cases/{case_id}": 1}
    await client.close()  # closing exports the last spans and metrics
    spans = {(span.trace, span.id) for span in otlp_receiver.spans}
    requests = "http.server.request.duration"
    for name in (requests, "support.timeline.source", "support.timeline.collect", "db.client.operation.duration"):
        assert otlp_receiver.exemplars[name], name
        assert {*otlp_receiver.exemplars[name]} <= spans
    assert TRACE in {trace for trace, _ in otlp_receiver.exemplars[requests]}


async def test_without_traces_histograms_have_no_exemplars(traced, otlp_receiver):
    """A trace that only passes through is in no backend that an exemplar could lead to."""
    client = await traced(OTEL_TRACES_EXPORTER=None, OTEL_METRICS_EXPORTER="otlp")
    await read_timeline(client, traceparent=SENT)
    await client.close()
    assert otlp_receiver.metrics.keys() >= {"http.server.request.duration"}
    assert not any(otlp_receiver.exemplars.values())
