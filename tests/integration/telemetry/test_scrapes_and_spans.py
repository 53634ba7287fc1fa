"""A live scrape is what promtool accepts, and operations of real databases have spans."""

import asyncio
import subprocess

import pytest

from support_service.platform.telemetry.telemetry import TelemetryTimings
from tests.conftest import both_databases
from tests.support.calls import open_case, read_timeline, upload
from tests.support.timings import patient_timings

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
# The OpenTelemetry instrumentation inherits from aiohttp's Application, which aiohttp warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class _Instrumented:DeprecationWarning")


async def test_promtool_accepts_a_live_scrape(client, promtool):
    """`promtool check metrics` reports nothing."""
    case = await open_case(client, initialMessage={"authorType": "bot", "message": "Hi"})
    await upload(client, case)
    await read_timeline(client, case)
    async with client.get("/metrics") as response:
        text = await response.text()
    command = [promtool, "check", "metrics"]
    done = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@both_databases
async def test_database_operations_have_spans(
    upstream_services, otlp_receiver, make_client, redis, backend, monkeypatch
):
    """Operations of a request are children of its span, with their system and name; background jobs have no spans."""
    for name in ("OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS"):
        monkeypatch.setenv(name, "")  # tracing sets it: it is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver.url)
    timings = patient_timings(telemetry=TelemetryTimings(shutdown_timeout=60.0))  # for the last export
    client = await make_client(timings=timings, OTEL_TRACES_EXPORTER="otlp", SUPPORT_REDIS_URL=redis.url)
    case = await open_case(client, context=[{"type": "order", "orderId": "ORD-1"}])
    sent = {"params": {"includeTimeline": "true"}, "headers": {"traceparent": f"00-{TRACE}-{PARENT}-01"}}
    await (await client.get(f"/support/cases/{case['id']}", **sent)).read()
    await client.close()
    spans = [span for span in otlp_receiver.spans if "db.system.name" in span.attributes]
    found = {(span.attributes["db.system.name"], span.attributes["db.operation.name"]) for span in spans}
    assert found >= {(backend, "TRANSACTION"), (backend, "SELECT"), ("redis", "MGET")}
    (request,) = [span for span in otlp_receiver.request_spans if span.parent == PARENT]
    assert {span.parent for span in spans if span.trace == TRACE} <= {span.id for span in otlp_receiver.spans}
    assert request.id in {span.parent for span in spans if span.trace == TRACE}
    assert all(span.parent for span in spans)
